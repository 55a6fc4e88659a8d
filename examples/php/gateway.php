<?php
declare(strict_types=1);

// 调用网关。只用 PHP 自带的 http 流，不需要 curl 扩展。
// 路径与报文都是微信支付自己的；签名、验签由网关完成，这里只需一个令牌。

/** 网关或微信支付的拒绝，形如 {"code":…,"message":…}。 */
class GatewayRefusal extends RuntimeException
{
    /** @var int HTTP 状态码；0：没有应答 */
    public $status;
    /** @var string 微信支付的错误码，如 ORDERPAID；没有则为空 */
    public $reason;
    /** @var string 网关自己拒绝时所依据的规则，如 refund_total；微信支付拒绝时为空 */
    public $rule;
    /** @var int 几秒后可以再试；0：没有说 */
    public $retryAfter;
    /** @var bool 结果不明：可能成功了，也可能没有。用同一个单号重试或查询，绝不换号。 */
    public $unknown;

    public function __construct(int $status, array $headers, string $body)
    {
        $fields = json_decode($body, true);
        $fields = is_array($fields) ? $fields : [];
        $this->status = $status;
        $this->reason = (string) ($fields['code'] ?? '');
        $this->rule = $headers['wechatpay-gateway-refused'] ?? '';
        $this->retryAfter = (int) ($headers['retry-after'] ?? 0);
        // 网关会说结果不明；没有应答、应答断在半路、不是网关自己拒绝的 5xx，也都证明不了什么。
        $this->unknown = outcome_unknown($headers) || $this->rule === '' && ($status === 0 || $status >= 500);
        parent::__construct(trim($status . ' ' . $this->rule . ' ' . $this->reason . ' ' . ($fields['message'] ?? '')));
    }
}

function setting(string $name): string
{
    $value = getenv($name);
    if ($value === false || $value === '') {
        throw new RuntimeException($name . ' is not set');
    }
    return $value;
}

/**
 * 一次调用。
 *
 * @param array|null $body 请求体；null 表示没有
 *
 * @return array 应答的字段；没有应答体（如关单的 204）则为空
 *
 * @throws GatewayRefusal
 */
function gateway_call(string $method, string $path, $body = null): array
{
    $text = $body === null ? '' : json_encode($body, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES);
    if ($text === false) {
        throw new RuntimeException('the body is not UTF-8');
    }
    $answer = @file_get_contents(setting('GATEWAY_URL') . $path, false, stream_context_create(['http' => [
        'method' => $method,
        'header' => [
            'Authorization: Bearer ' . setting('GATEWAY_TOKEN'),
            'Content-Type: application/json',
            'Accept: application/json',
        ],
        'content' => $text,
        'ignore_errors' => true, // 非 2xx 也要读应答
        'follow_location' => 0,
        'timeout' => 40, // 比网关自己的 25 秒长：网关总会说出结果
    ]]));
    list($status, $headers) = answer_headers($http_response_header ?? []);
    $length = $headers['content-length'] ?? null;
    if ($answer === false || $length !== null && strlen($answer) !== (int) $length) {
        throw new GatewayRefusal(0, [], '');
    }
    if ($status < 200 || $status > 299 || outcome_unknown($headers)) {
        throw new GatewayRefusal($status, $headers, $answer);
    }
    if ($answer === '') {
        return [];
    }
    $fields = json_decode($answer, true);
    if (!is_array($fields)) {
        throw new GatewayRefusal(0, [], '');
    }
    return $fields;
}

/**
 * 以同样的单号、同样的内容调用，直到结果明确：下单、退款、关单都可以这样重发，不会做两次。
 * 仍不明时抛出，之后继续用这个单号查询或重发。
 */
function gateway_settle(string $method, string $path, array $body, int $tries = 3): array
{
    for ($i = 1; ; $i++) {
        try {
            return gateway_call($method, $path, $body);
        } catch (GatewayRefusal $e) {
            if (!$e->unknown || $i >= $tries) {
                throw $e;
            }
            sleep(1);
        }
    }
}

function outcome_unknown(array $headers): bool
{
    return ($headers['wechatpay-gateway-outcome'] ?? '') === 'unknown';
}

/** @return array 状态码，和小写的名字对应的值 */
function answer_headers(array $lines): array
{
    $status = 0;
    $headers = [];
    foreach ($lines as $line) {
        if (preg_match('{^HTTP/\S+ ([0-9]{3})\b}', $line, $match)) {
            $status = (int) $match[1]; // 100 Continue 之后还有一个
            $headers = [];
        } elseif (strpos($line, ':') !== false) {
            list($name, $value) = explode(':', $line, 2);
            $headers[strtolower($name)] = trim($value);
        }
    }
    return [$status, $headers];
}
