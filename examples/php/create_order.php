<?php
declare(strict_types=1);

// 经网关下一个合单 Native 订单，打印 code_url（做成二维码给用户扫）。
//
//   php create_order.php <合单订单号> <子单1 金额，分> <子单2 金额，分> …
//
// 用的是微信支付自己的路径与报文；签名、验签由网关完成，这里只需一个令牌。

require __DIR__ . '/orders.php';

function setting(string $name): string
{
    $value = getenv($name);
    if ($value === false || $value === '') {
        throw new RuntimeException($name . ' is not set');
    }
    return $value;
}

function create(string $number, array $amounts): string
{
    $mchid = setting('MCHID');
    $lines = [];
    $subs = [];
    foreach ($amounts as $i => $fen) {
        $sub = $number . '-' . ($i + 1);
        $lines[$sub] = ['mchid' => $mchid, 'fen' => (int) $fen];
        $subs[] = [
            'mchid' => $mchid,
            'out_trade_no' => $sub,
            'description' => '示例商品 ' . ($i + 1),
            'attach' => 'example',
            'amount' => ['total_amount' => (int) $fen, 'currency' => 'CNY'],
        ];
    }
    order_create($number, $lines);

    // notify_url 由网关的 merchant 块补上。
    $body = json_encode([
        'combine_appid' => setting('APPID'),
        'combine_mchid' => $mchid,
        'combine_out_trade_no' => $number,
        'sub_orders' => $subs,
    ], JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES);
    $answer = file_get_contents(setting('GATEWAY_URL') . '/v3/combine-transactions/native', false, stream_context_create([
        'http' => [
            'method' => 'POST',
            'header' => [
                'Authorization: Bearer ' . setting('GATEWAY_TOKEN'),
                'Content-Type: application/json',
                'Accept: application/json',
            ],
            'content' => $body,
            'ignore_errors' => true, // 非 2xx 也要读应答
            'follow_location' => 0,
            'timeout' => 30,
        ],
    ]));
    $status = $http_response_header[0] ?? 'no answer';
    $fields = json_decode((string) $answer, true);
    if (!preg_match('{^HTTP/\S+ 200\b}', $status) || !isset($fields['code_url'])) {
        // 结果不明（超时、500）时用同一个订单号重试，绝不能换号：换号可能让用户付两次。
        throw new RuntimeException($status . ' ' . $answer);
    }
    return $fields['code_url'];
}

if ($argc < 4) {
    fwrite(STDERR, "usage: php create_order.php <number> <fen> <fen> …\n");
    exit(2);
}
try {
    echo create($argv[1], array_slice($argv, 2)), "\n";
} catch (Throwable $e) {
    fwrite(STDERR, 'order not created: ' . $e->getMessage() . "\n");
    exit(1);
}
