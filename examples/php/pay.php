<?php
declare(strict_types=1);

// 收款、查询、退款、关单：每个子命令就是一个流程，抄走需要的函数即可。金额都是分（整数）。
//
//   php pay.php native <订单号> <分>                     下单，打印 code_url（做成二维码给用户扫）
//   php pay.php jsapi  <订单号> <分> <openid>            下单，打印调起支付的参数，原样交给页面
//   php pay.php query  <订单号>                          打印 trade_state
//   php pay.php refund <订单号> <退款单号> <分> <订单总额，分>  申请退款，打印 status
//   php pay.php refund-query <退款单号>                  打印 status
//   php pay.php close  <订单号>                          关单
//
// 拒绝时打印原因，退出码 1；结果不明时退出码 3：用同样的参数再来一次，绝不换号。

require __DIR__ . '/gateway.php';

/** Native 下单。appid、mchid、notify_url 由网关的 merchant 块补上。 */
function pay_native(string $number, int $fen): string
{
    return gateway_settle('POST', '/v3/pay/transactions/native', [
        'out_trade_no' => $number,
        'description' => '示例商品',
        'amount' => ['total' => $fen, 'currency' => 'CNY'],
    ])['code_url'];
}

/**
 * 公众号页面里的 JSAPI 下单（小程序把 way 换成 miniprogram，App 换成 app 且不用 openid）。
 * 返回的参数已由网关用商户私钥签好：页面原样交给 WeixinJSBridge 的 getBrandWCPayRequest。
 */
function pay_jsapi(string $number, int $fen, string $openid): array
{
    return gateway_settle('POST', '/gateway/checkout', [
        'way' => 'jsapi',
        'out_trade_no' => $number,
        'description' => '示例商品',
        'amount' => ['total' => $fen, 'currency' => 'CNY'],
        'openid' => $openid,
    ])['invoke'];
}

/** 查询订单。没等到通知时用它；网关会顺便把结果记进账本。 */
function pay_query(string $number): string
{
    return gateway_call('GET', order_path_of($number) . '?mchid=' . setting('MCHID'))['trade_state'];
}

/**
 * 申请退款。返回 PROCESSING 只是受理；SUCCESS 以退款通知或查询为准。
 * 部分退款每次用一个新的退款单号，且相隔一分钟；失败或不明时用原退款单号。
 */
function pay_refund(string $number, string $refundNumber, int $fen, int $total): string
{
    return gateway_settle('POST', '/v3/refund/domestic/refunds', [
        'out_trade_no' => $number,
        'out_refund_no' => $refundNumber,
        'reason' => '商品已售完',
        'amount' => ['refund' => $fen, 'total' => $total, 'currency' => 'CNY'],
    ])['status'];
}

function pay_refund_query(string $refundNumber): string
{
    return gateway_call('GET', '/v3/refund/domestic/refunds/' . rawurlencode($refundNumber))['status'];
}

/** 关单。用户还可能正在付款：先关单成功，再用新的订单号重新下单。 */
function pay_close(string $number): string
{
    gateway_settle('POST', order_path_of($number) . '/close', ['mchid' => setting('MCHID')]);
    return 'CLOSED';
}

function order_path_of(string $number): string
{
    return '/v3/pay/transactions/out-trade-no/' . rawurlencode($number);
}

/** 命令行里的金额：只收整数。 */
function fen(string $text): int
{
    if (!preg_match('/^[1-9][0-9]{0,9}$/D', $text)) {
        throw new InvalidArgumentException('an amount is a whole number of fen');
    }
    return (int) $text;
}

function main(array $args): string
{
    $wanted = ['native' => 2, 'jsapi' => 3, 'query' => 1, 'refund' => 4, 'refund-query' => 1, 'close' => 1];
    $flow = array_shift($args);
    if (!isset($wanted[$flow]) || count($args) !== $wanted[$flow]) {
        throw new InvalidArgumentException('usage: php pay.php native|jsapi|query|refund|refund-query|close …, see the file');
    }
    switch ($flow) {
        case 'native':
            return pay_native($args[0], fen($args[1]));
        case 'jsapi':
            return json_encode(pay_jsapi($args[0], fen($args[1]), $args[2]), JSON_UNESCAPED_SLASHES);
        case 'query':
            return pay_query($args[0]);
        case 'refund':
            return pay_refund($args[0], $args[1], fen($args[2]), fen($args[3]));
        case 'refund-query':
            return pay_refund_query($args[0]);
        default:
            return pay_close($args[0]);
    }
}

try {
    echo main(array_slice($argv, 1)), "\n";
} catch (GatewayRefusal $e) {
    $hint = $e->unknown ? 'outcome unknown, try again with the same numbers: ' : 'refused: ';
    fwrite(STDERR, $hint . $e->getMessage() . ($e->retryAfter > 0 ? ' (retry after ' . $e->retryAfter . ' s)' : '') . "\n");
    exit($e->unknown ? 3 : 1);
} catch (InvalidArgumentException $e) {
    fwrite(STDERR, $e->getMessage() . "\n");
    exit(2);
}
