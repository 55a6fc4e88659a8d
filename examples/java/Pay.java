import java.io.IOException;
import java.io.UnsupportedEncodingException;
import java.net.URLEncoder;
import java.util.Map;
import java.util.StringJoiner;

/**
 * 收款、查询、退款、关单：每个子命令就是一个流程，抄走需要的方法即可。金额都是分（整数）。
 *
 * <pre>
 * java Pay native &lt;订单号&gt; &lt;分&gt;                    下单，打印 code_url（做成二维码给用户扫）
 * java Pay jsapi  &lt;订单号&gt; &lt;分&gt; &lt;openid&gt;           下单，打印调起支付的参数，原样交给页面
 * java Pay query  &lt;订单号&gt;                         打印 trade_state
 * java Pay refund &lt;订单号&gt; &lt;退款单号&gt; &lt;分&gt; &lt;订单总额，分&gt; 申请退款，打印 status
 * java Pay refund-query &lt;退款单号&gt;                 打印 status
 * java Pay close  &lt;订单号&gt;                         关单
 * </pre>
 *
 * 拒绝时打印原因，退出码 1；结果不明时退出码 3：用同样的参数再来一次，绝不换号。
 */
public final class Pay {
    private static final String ORDERS = "/v3/pay/transactions/out-trade-no/";
    private static final String REFUNDS = "/v3/refund/domestic/refunds";

    private Pay() {
    }

    /** Native 下单。appid、mchid、notify_url 由网关的 merchant 块补上。 */
    static String payNative(String number, long fen) throws IOException {
        return (String) Gateway.settle("/v3/pay/transactions/native", "{\"out_trade_no\":" + Json.quote(number)
                + ",\"description\":\"示例商品\""
                + ",\"amount\":{\"total\":" + fen + ",\"currency\":\"CNY\"}}").get("code_url");
    }

    /**
     * 公众号页面里的 JSAPI 下单（小程序把 way 换成 miniprogram，App 换成 app 且不用 openid）。
     * 返回的参数已由网关用商户私钥签好：页面原样交给 WeixinJSBridge 的 getBrandWCPayRequest。
     */
    static Map<String, Object> jsapi(String number, long fen, String openid) throws IOException {
        return Json.object(Gateway.settle("/gateway/checkout", "{\"way\":\"jsapi\""
                + ",\"out_trade_no\":" + Json.quote(number)
                + ",\"description\":\"示例商品\""
                + ",\"amount\":{\"total\":" + fen + ",\"currency\":\"CNY\"}"
                + ",\"openid\":" + Json.quote(openid) + "}").get("invoke"));
    }

    /** 查询订单。没等到通知时用它；网关会顺便把结果记进账本。 */
    static String query(String number) throws IOException {
        String path = ORDERS + escape(number) + "?mchid=" + Gateway.setting("MCHID");
        return (String) Gateway.call("GET", path, null).get("trade_state");
    }

    /**
     * 申请退款。返回 PROCESSING 只是受理；SUCCESS 以退款通知或查询为准。
     * 部分退款每次用一个新的退款单号，且相隔一分钟；失败或不明时用原退款单号。
     */
    static String refund(String number, String refundNumber, long fen, long total) throws IOException {
        return (String) Gateway.settle(REFUNDS, "{\"out_trade_no\":" + Json.quote(number)
                + ",\"out_refund_no\":" + Json.quote(refundNumber)
                + ",\"reason\":\"商品已售完\""
                + ",\"amount\":{\"refund\":" + fen + ",\"total\":" + total + ",\"currency\":\"CNY\"}}").get("status");
    }

    static String refundQuery(String refundNumber) throws IOException {
        return (String) Gateway.call("GET", REFUNDS + "/" + escape(refundNumber), null).get("status");
    }

    /** 关单。用户还可能正在付款：先关单成功，再用新的订单号重新下单。 */
    static String close(String number) throws IOException {
        String body = "{\"mchid\":" + Json.quote(Gateway.setting("MCHID")) + "}";
        Gateway.settle(ORDERS + escape(number) + "/close", body);
        return "CLOSED";
    }

    /** 单号里可以有 | 和 *；URLEncoder 是给表单用的，但单号里没有空格，结果相同。 */
    private static String escape(String number) throws UnsupportedEncodingException {
        return URLEncoder.encode(number, "UTF-8");
    }

    /** 命令行里的金额：只收整数。 */
    private static long fen(String text) {
        if (!text.matches("[1-9][0-9]{0,9}")) {
            throw new IllegalArgumentException("an amount is a whole number of fen");
        }
        return Long.parseLong(text);
    }

    /** 调起支付的参数都是字符串。 */
    private static String text(Map<String, Object> fields) {
        StringJoiner out = new StringJoiner(",", "{", "}");
        for (Map.Entry<String, Object> field : fields.entrySet()) {
            out.add(Json.quote(field.getKey()) + ":" + Json.quote((String) field.getValue()));
        }
        return out.toString();
    }

    private static String run(String[] args) throws IOException {
        switch (args.length == 0 ? "" : args[0] + " " + (args.length - 1)) {
            case "native 2":
                return payNative(args[1], fen(args[2]));
            case "jsapi 3":
                return text(jsapi(args[1], fen(args[2]), args[3]));
            case "query 1":
                return query(args[1]);
            case "refund 4":
                return refund(args[1], args[2], fen(args[3]), fen(args[4]));
            case "refund-query 1":
                return refundQuery(args[1]);
            case "close 1":
                return close(args[1]);
            default:
                throw new IllegalArgumentException("usage: java Pay native|jsapi|query|refund|refund-query|close …, see the file");
        }
    }

    public static void main(String[] args) throws IOException {
        try {
            System.out.println(run(args));
        } catch (Gateway.Refusal e) {
            String hint = e.unknown ? "outcome unknown, try again with the same numbers: " : "refused: ";
            System.err.println(hint + e.getMessage()
                    + (e.retryAfter.isEmpty() ? "" : " (retry after " + e.retryAfter + " s)"));
            System.exit(e.unknown ? 3 : 1);
        } catch (IllegalArgumentException e) {
            System.err.println(e.getMessage());
            System.exit(2);
        }
    }
}
