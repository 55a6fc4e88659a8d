import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.Map;

/**
 * 调用网关。只用 JDK 自带的 HttpURLConnection。
 * 路径与报文都是微信支付自己的；签名、验签由网关完成，这里只需一个令牌。线程安全。
 */
final class Gateway {
    private static final int MAX_ANSWER = 4 << 20; // 字节

    static {
        // 老 JDK 会把失败的 POST 自己再发一次；要不要重发由 settle 决定。
        System.setProperty("sun.net.http.retryPost", "false");
    }

    private Gateway() {
    }

    /** 网关或微信支付的拒绝，形如 {"code":…,"message":…}；或者结果不明。 */
    static final class Refusal extends IOException {
        private static final long serialVersionUID = 1L;

        /** HTTP 状态码；0：没有应答。 */
        final int status;
        /** 微信支付的错误码，如 ORDERPAID；没有则为空。 */
        final String reason;
        /** 网关自己拒绝时所依据的规则，如 refund_total；微信支付拒绝时为空。 */
        final String rule;
        /** 几秒后可以再试；空：没有说。 */
        final String retryAfter;
        /** 结果不明：可能成功了，也可能没有。用同一个单号重试或查询，绝不换号。 */
        final boolean unknown;

        private Refusal(int status, HttpURLConnection answer, String body) {
            super((status + " " + header(answer, "Wechatpay-Gateway-Refused") + " " + body).trim());
            this.status = status;
            this.reason = code(body);
            this.rule = header(answer, "Wechatpay-Gateway-Refused");
            this.retryAfter = header(answer, "Retry-After");
            // 网关会说结果不明；没有应答、应答断在半路、不是网关自己拒绝的 5xx，也都证明不了什么。
            this.unknown = outcomeUnknown(answer) || rule.isEmpty() && (status == 0 || status >= 500);
        }
    }

    /**
     * 一次调用。
     *
     * @param body JSON 请求体；null 表示没有
     * @return 应答的字段；没有应答体（如关单的 204）则为空
     */
    static Map<String, Object> call(String method, String path, String body) throws Refusal {
        HttpURLConnection call = null;
        int status = 0;
        String answer = "";
        try {
            call = (HttpURLConnection) new URL(setting("GATEWAY_URL") + path).openConnection();
            call.setRequestMethod(method);
            call.setInstanceFollowRedirects(false);
            call.setConnectTimeout(5_000);
            call.setReadTimeout(40_000); // 比网关自己的 25 秒长：网关总会说出结果
            call.setRequestProperty("Authorization", "Bearer " + setting("GATEWAY_TOKEN"));
            call.setRequestProperty("Content-Type", "application/json");
            call.setRequestProperty("Accept", "application/json");
            if (body != null) {
                byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
                call.setDoOutput(true);
                call.setFixedLengthStreamingMode(bytes.length);
                try (OutputStream out = call.getOutputStream()) {
                    out.write(bytes);
                }
            }
            int code = call.getResponseCode();
            answer = read(code < 400 ? call.getInputStream() : call.getErrorStream());
            status = code;
        } catch (IOException e) {
            throw new Refusal(0, null, e.getMessage()); // 没有应答，或断在半路
        }
        if (status < 200 || status > 299 || outcomeUnknown(call)) {
            throw new Refusal(status, call, answer);
        }
        if (answer.isEmpty()) {
            return Collections.emptyMap();
        }
        try {
            return Json.object(Json.parse(answer));
        } catch (IllegalArgumentException e) {
            throw new Refusal(0, null, "the answer is not JSON");
        }
    }

    /**
     * 以同样的单号、同样的内容调用，直到结果明确：下单、退款、关单都可以这样重发，不会做两次。
     * 仍不明时抛出，之后继续用这个单号查询或重发。
     */
    static Map<String, Object> settle(String path, String body) throws IOException {
        for (int i = 1; ; i++) {
            try {
                return call("POST", path, body);
            } catch (Refusal e) {
                if (!e.unknown || i == 3) {
                    throw e;
                }
            }
            try {
                Thread.sleep(1_000);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new IOException("interrupted; the outcome is unknown", e);
            }
        }
    }

    /** 环境变量的值。 */
    static String setting(String name) {
        String value = System.getenv(name);
        if (value == null || value.isEmpty()) {
            throw new IllegalStateException(name + " is not set");
        }
        return value;
    }

    private static boolean outcomeUnknown(HttpURLConnection answer) {
        return header(answer, "Wechatpay-Gateway-Outcome").equals("unknown");
    }

    private static String header(HttpURLConnection answer, String name) {
        String value = answer == null ? null : answer.getHeaderField(name);
        return value == null ? "" : value;
    }

    private static String code(String body) {
        try {
            Object code = Json.object(Json.parse(body)).get("code");
            return code instanceof String ? (String) code : "";
        } catch (IllegalArgumentException e) {
            return "";
        }
    }

    private static String read(InputStream in) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        byte[] buffer = new byte[8192];
        for (int n; in != null && (n = in.read(buffer)) >= 0; ) {
            out.write(buffer, 0, n);
            if (out.size() > MAX_ANSWER) {
                throw new IOException("answer too large");
            }
        }
        return new String(out.toByteArray(), StandardCharsets.UTF_8);
    }
}
