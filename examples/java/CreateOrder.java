import java.io.IOException;
import java.nio.file.Paths;
import java.util.Map;
import java.util.TreeMap;

/**
 * 经网关下一个合单 Native 订单，打印 code_url（做成二维码给用户扫）。
 *
 * <pre>java CreateOrder &lt;合单订单号&gt; &lt;子单1 金额，分&gt; &lt;子单2 金额，分&gt; …</pre>
 *
 * 用的是微信支付自己的路径与报文；签名、验签由网关完成，这里只需一个令牌。
 */
public final class CreateOrder {
    private CreateOrder() {
    }

    public static void main(String[] args) throws IOException {
        if (args.length < 3) {
            System.err.println("usage: java CreateOrder <number> <fen> <fen> …");
            System.exit(2);
        }
        String number = args[0];
        String mchid = Gateway.setting("MCHID");
        Map<String, String> lines = new TreeMap<>();
        StringBuilder subs = new StringBuilder();
        for (int i = 1; i < args.length; i++) {
            long fen = Long.parseLong(args[i]);
            String sub = number + "-" + i;
            lines.put(sub, mchid + ":" + fen);
            subs.append(i > 1 ? "," : "")
                    .append("{\"mchid\":").append(Json.quote(mchid))
                    .append(",\"out_trade_no\":").append(Json.quote(sub))
                    .append(",\"description\":").append(Json.quote("示例商品 " + i))
                    .append(",\"attach\":\"example\"")
                    .append(",\"amount\":{\"total_amount\":").append(fen).append(",\"currency\":\"CNY\"}}");
        }
        new Orders(Paths.get(Gateway.setting("ORDERS_DIR"))).create(number, lines);

        // notify_url 由网关的 merchant 块补上。
        String body = "{\"combine_appid\":" + Json.quote(Gateway.setting("APPID"))
                + ",\"combine_mchid\":" + Json.quote(mchid)
                + ",\"combine_out_trade_no\":" + Json.quote(number)
                + ",\"sub_orders\":[" + subs + "]}";
        // 结果不明时用同一个订单号重发，绝不能换号：换号可能让用户付两次。
        System.out.println(Gateway.settle("/v3/combine-transactions/native", body).get("code_url"));
    }
}
