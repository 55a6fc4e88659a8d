<?php
declare(strict_types=1);

// 验签：Standard Webhooks（https://www.standardwebhooks.com）。
// 网关已经验过微信支付的签名并解密；这里只需确认"这个请求来自我们的网关"。

/** 与网关时钟的最大偏差，秒。超出即拒绝，旧请求不能被重放。 */
const WEBHOOK_TOLERANCE = 300;

/**
 * 检查一次投递的签名。
 *
 * @param string $secret  网关 sign 选项中的密钥，形如 whsec_<base64>
 * @param array  $server  $_SERVER
 * @param string $body    原始请求体：先解析再拼回去的 JSON 字节不同，验签必然失败
 * @param int    $now     当前 Unix 时间，秒
 *
 * @return string 空字符串表示通过，否则是拒绝的原因
 */
function webhook_problem(string $secret, array $server, string $body, int $now): string
{
    $id = $server['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $server['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    $signatures = $server['HTTP_WEBHOOK_SIGNATURE'] ?? '';
    if ($id === '' || $timestamp === '' || $signatures === '') {
        return 'missing Webhook-Id, Webhook-Timestamp or Webhook-Signature';
    }
    if (!preg_match('/^[0-9]{1,12}$/D', $timestamp) || abs($now - (int) $timestamp) > WEBHOOK_TOLERANCE) {
        return 'timestamp is more than five minutes off';
    }
    $expected = 'v1,' . base64_encode(
        hash_hmac('sha256', $id . '.' . $timestamp . '.' . $body, webhook_key($secret), true)
    );
    // 换密钥期间会有多个签名，以空格分隔，任何一个相符即可。
    foreach (explode(' ', $signatures) as $given) {
        if (hash_equals($expected, $given)) { // 恒定时间比较，不可用 ==
            return '';
        }
    }
    return 'signature does not match';
}

/** 密钥的字节：去掉 whsec_ 前缀后做 base64 解码。 */
function webhook_key(string $secret): string
{
    $key = strpos($secret, 'whsec_') === 0 ? base64_decode(substr($secret, 6), true) : false;
    if ($key === false || strlen($key) < 24) {
        throw new RuntimeException('GATEWAY_WEBHOOK_SECRET must be whsec_ and the base64 of at least 24 bytes');
    }
    return $key;
}
