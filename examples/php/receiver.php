<?php
declare(strict_types=1);

// 接收网关投递的支付结果。只有本店已经记下这笔支付，才回答 200 {"code":"SUCCESS"}；
// 其他任何情况都不是 200，网关会按计划再次投递。

// 先设为失败：display_errors 打开时，PHP 出致命错误默认仍是 200，网关会误以为成功。
http_response_code(500);

require __DIR__ . '/webhook.php';
require __DIR__ . '/orders.php';

// 警告也当作异常：写不进文件的通知不算处理过。
set_error_handler(function ($severity, $message, $file, $line) {
    throw new ErrorException($message, 0, $severity, $file, $line);
});

try {
    list($status, $answer) = receive($_SERVER, (string) file_get_contents('php://input'));
} catch (Throwable $e) {
    error_log('wechatpay delivery failed: ' . $e->getMessage()); // 不记请求体：里面有 openid
    list($status, $answer) = [500, ['code' => 'FAIL', 'message' => 'not processed']];
}
header('Content-Type: application/json');
http_response_code($status);
echo json_encode($answer);

/** @return array HTTP 状态码与应答 */
function receive(array $server, string $body): array
{
    if ($server['REQUEST_METHOD'] !== 'POST') {
        return [405, ['code' => 'FAIL', 'message' => 'POST only']];
    }
    $problem = webhook_problem((string) getenv('GATEWAY_WEBHOOK_SECRET'), $server, $body, time());
    if ($problem !== '') {
        error_log('wechatpay delivery refused: ' . $problem);
        return [401, ['code' => 'FAIL', 'message' => $problem]];
    }
    $event = json_decode($body, true);
    if (!is_array($event) || !is_array($event['resource'] ?? null)) {
        throw new RuntimeException('not an envelope');
    }
    $kind = $server['HTTP_WECHATPAY_GATEWAY_KIND'] ?? '';
    if ($kind !== 'payment' && $kind !== 'combine') {
        // 不认识的不能答 SUCCESS。退款等事件写好处理后再接，或在 deliver 路由里分给别的程序。
        throw new RuntimeException('no handler for this kind of event');
    }
    $resource = $event['resource']; // 网关已解密，字节就是微信支付的明文
    $number = $resource['combine_out_trade_no'] ?? $resource['out_trade_no'] ?? '';

    order_once($number, $server['HTTP_WEBHOOK_ID'], function (array $order) use ($resource) {
        if (paid_lines($resource) !== sorted($order['lines'])) {
            throw new RuntimeException('amounts differ from the order');
        }
        if (!$order['paid']) {
            $order['paid'] = true;
            $order['shipments']++; // 发货：与 Webhook-Id 在同一步里落盘
        }
        return $order;
    });
    return [200, ['code' => 'SUCCESS']];
}

/** 通知里每个（子）单付了多少，与订单里的 lines 同形。普通订单就是只有一个子单。 */
function paid_lines(array $resource): array
{
    $lines = [];
    foreach ($resource['sub_orders'] ?? [$resource] as $sub) {
        // 合单的金额字段叫 total_amount，普通订单叫 total。
        $fen = $sub['amount']['total_amount'] ?? $sub['amount']['total'] ?? null;
        if (($sub['trade_state'] ?? '') !== 'SUCCESS' || ($sub['amount']['currency'] ?? 'CNY') !== 'CNY' || !is_int($fen)) {
            throw new RuntimeException('not a payment in CNY');
        }
        $lines[$sub['out_trade_no']] = ['mchid' => $sub['mchid'], 'fen' => $fen];
    }
    return sorted($lines);
}

function sorted(array $lines): array
{
    ksort($lines, SORT_STRING);
    return $lines;
}
