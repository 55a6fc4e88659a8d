<?php
declare(strict_types=1);

// 经网关下一个合单 Native 订单，打印 code_url（做成二维码给用户扫）。
//
//   php create_order.php <合单订单号> <子单1 金额，分> <子单2 金额，分> …
//
// 用的是微信支付自己的路径与报文；签名、验签由网关完成，这里只需一个令牌。

require __DIR__ . '/gateway.php';
require __DIR__ . '/orders.php';

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

    // notify_url 由网关的 merchant 块补上。结果不明时用同一个订单号重发，绝不能换号：换号可能让用户付两次。
    return gateway_settle('POST', '/v3/combine-transactions/native', [
        'combine_appid' => setting('APPID'),
        'combine_mchid' => $mchid,
        'combine_out_trade_no' => $number,
        'sub_orders' => $subs,
    ])['code_url'];
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
