import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * 验签：Standard Webhooks（https://www.standardwebhooks.com）。
 * 网关已经验过微信支付的签名并解密；这里只需确认“这个请求来自我们的网关”。线程安全。
 */
final class Webhook {
    /** 与网关时钟的最大偏差，秒。超出即拒绝，旧请求不能被重放。 */
    private static final long TOLERANCE = 300;
    private static final String PREFIX = "whsec_";

    private final byte[] key;

    /** @param secret 网关 sign 选项中的密钥，形如 {@code whsec_<base64>} */
    Webhook(String secret) {
        if (secret == null || !secret.startsWith(PREFIX)) {
            throw new IllegalArgumentException("the webhook secret begins with " + PREFIX);
        }
        key = Base64.getDecoder().decode(secret.substring(PREFIX.length()));
        if (key.length < 24) {
            throw new IllegalArgumentException("the webhook secret is shorter than 24 bytes");
        }
    }

    /**
     * 检查一次投递的签名。
     *
     * @param body 原始请求体：先解析再拼回去的 JSON 字节不同，验签必然失败
     * @param now 当前 Unix 时间，秒
     * @return null 表示通过，否则是拒绝的原因
     */
    String problem(String id, String timestamp, String signatures, byte[] body, long now) {
        if (id == null || id.isEmpty() || timestamp == null || signatures == null) {
            return "missing Webhook-Id, Webhook-Timestamp or Webhook-Signature";
        }
        if (!timestamp.matches("[0-9]{1,12}") || Math.abs(now - Long.parseLong(timestamp)) > TOLERANCE) {
            return "timestamp is more than five minutes off";
        }
        byte[] expected = sign(id, timestamp, body).getBytes(StandardCharsets.UTF_8);
        // 换密钥期间会有多个签名，以空格分隔，任何一个相符即可。
        for (String given : signatures.split(" ")) {
            // 恒定时间比较，不可用 equals。
            if (MessageDigest.isEqual(expected, given.getBytes(StandardCharsets.UTF_8))) {
                return null;
            }
        }
        return "signature does not match";
    }

    private String sign(String id, String timestamp, byte[] body) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
            return "v1," + Base64.getEncoder().encodeToString(mac.doFinal(body));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // 每个 JDK 都有 HmacSHA256
        }
    }
}
