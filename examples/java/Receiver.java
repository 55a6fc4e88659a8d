import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Paths;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Executors;

/**
 * 接收网关投递的支付结果。只有本店已经记下这笔支付，才回答 200 {"code":"SUCCESS"}；
 * 其他任何情况都不是 200，网关会按计划再次投递。
 *
 * <pre>java Receiver 127.0.0.1 8080</pre>
 */
public final class Receiver {
    private static final int MAX_BODY = 2 << 20; // 字节

    private final Webhook webhook;
    private final Orders orders;

    private Receiver(Webhook webhook, Orders orders) {
        this.webhook = webhook;
        this.orders = orders;
    }

    public static void main(String[] args) throws IOException {
        Receiver receiver = new Receiver(
                new Webhook(System.getenv("GATEWAY_WEBHOOK_SECRET")),
                new Orders(Paths.get(System.getenv("ORDERS_DIR"))));
        HttpServer server = HttpServer.create(new InetSocketAddress(args[0], Integer.parseInt(args[1])), 0);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.createContext("/", receiver::handle);
        server.start();
    }

    private void handle(HttpExchange exchange) {
        int status;
        String problem;
        try {
            boolean post = exchange.getRequestMethod().equals("POST");
            problem = post ? receive(exchange) : "POST only";
            status = problem == null ? 200 : post ? 401 : 405;
        } catch (Exception e) {
            problem = "not processed";
            status = 500;
            log("delivery failed: " + e.getMessage()); // 不记请求体：里面有 openid
        }
        String answer = problem == null
                ? "{\"code\":\"SUCCESS\"}"
                : "{\"code\":\"FAIL\",\"message\":" + Json.quote(problem) + "}";
        byte[] bytes = answer.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        try {
            exchange.sendResponseHeaders(status, bytes.length);
            exchange.getResponseBody().write(bytes);
        } catch (IOException e) {
            log("answer not sent: " + e.getMessage()); // 网关会再投递，Webhook-Id 不变
        } finally {
            exchange.close();
        }
    }

    /** @return null 表示已经处理，否则是拒绝的原因；抛异常表示没有处理成 */
    private String receive(HttpExchange exchange) throws IOException {
        Headers headers = exchange.getRequestHeaders();
        byte[] body = readAll(exchange.getRequestBody());
        String id = headers.getFirst("Webhook-Id");
        String problem = webhook.problem(id, headers.getFirst("Webhook-Timestamp"),
                headers.getFirst("Webhook-Signature"), body, System.currentTimeMillis() / 1000);
        if (problem != null) {
            log("delivery refused: " + problem);
            return problem;
        }
        String kind = headers.getFirst("Wechatpay-Gateway-Kind");
        if (!"payment".equals(kind) && !"combine".equals(kind)) {
            // 不认识的不能答 SUCCESS。退款等事件写好处理后再接，或在 deliver 路由里分给别的程序。
            throw new IOException("no handler for this kind of event");
        }
        Map<String, Object> event = Json.object(Json.parse(new String(body, StandardCharsets.UTF_8)));
        Map<String, Object> resource = Json.object(event.get("resource")); // 网关已解密
        Object combine = resource.get("combine_out_trade_no");
        String number = (String) (combine != null ? combine : resource.get("out_trade_no"));

        orders.once(number, id, order -> {
            if (!paidLines(resource).equals(Orders.lines(order))) {
                throw new IOException("amounts differ from the order");
            }
            if (order.getProperty("paid").equals("false")) {
                order.setProperty("paid", "true");
                // 发货：与 Webhook-Id 在同一步里落盘。
                int shipments = Integer.parseInt(order.getProperty("shipments"));
                order.setProperty("shipments", Integer.toString(shipments + 1));
            }
        });
        return null;
    }

    /** 通知里每个（子）单付了多少，与 Orders.lines 同形。普通订单就是只有一个子单。 */
    private static Map<String, String> paidLines(Map<String, Object> resource) throws IOException {
        Object subs = resource.containsKey("sub_orders")
                ? resource.get("sub_orders") : Collections.singletonList(resource);
        Map<String, String> lines = new TreeMap<>();
        for (Object item : (List<?>) subs) {
            Map<String, Object> sub = Json.object(item);
            Map<String, Object> amount = Json.object(sub.get("amount"));
            // 合单的金额字段叫 total_amount，普通订单叫 total。
            Object fen = amount.containsKey("total_amount") ? amount.get("total_amount") : amount.get("total");
            Object currency = amount.get("currency");
            if (!"SUCCESS".equals(sub.get("trade_state")) || !(fen instanceof Long)
                    || currency != null && !"CNY".equals(currency)) {
                throw new IOException("not a payment in CNY");
            }
            lines.put((String) sub.get("out_trade_no"), sub.get("mchid") + ":" + fen);
        }
        return lines;
    }

    private static byte[] readAll(InputStream in) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        byte[] buffer = new byte[8192];
        for (int n; (n = in.read(buffer)) >= 0; ) {
            out.write(buffer, 0, n);
            if (out.size() > MAX_BODY) {
                throw new IOException("body too large");
            }
        }
        return out.toByteArray();
    }

    private static void log(String line) {
        System.err.println("wechatpay " + line);
    }
}
