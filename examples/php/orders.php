<?php
declare(strict_types=1);

// 本店的订单，每单一个 JSON 文件。换成数据库时只需重写这个文件，写法见 README.md。
//
//   {"lines": {"A-1": {"mchid": "1900000001", "fen": 600}, …},   应收，分（整数，不用浮点数）
//    "paid": false, "shipments": 0, "events": ["<Webhook-Id>", …]}

/** 订单文件的路径；不像订单号的一律拒绝，它会成为文件名。 */
function order_path(string $number): string
{
    $dir = getenv('ORDERS_DIR');
    if ($dir === false || $dir === '') {
        throw new RuntimeException('ORDERS_DIR is not set');
    }
    if (!preg_match('/^[0-9A-Za-z_*|@-]{2,32}$/D', $number)) {
        throw new RuntimeException('not an order number');
    }
    return $dir . '/' . rawurlencode($number) . '.json';
}

/** 先登记再下单：回调可能比下单接口的应答更早到达。 */
function order_create(string $number, array $lines)
{
    order_locked($number, function ($order) use ($lines) {
        if ($order !== null && $order['lines'] !== $lines) {
            throw new RuntimeException('this number is in use by another order');
        }
        return $order ?? ['lines' => $lines, 'paid' => false, 'shipments' => 0, 'events' => []];
    });
}

/**
 * 每个 Webhook-Id 只处理一次：$act 改好的订单与 Webhook-Id 一起落盘，要么都在，要么都不在。
 * $act 抛异常则什么都不记，网关会再次投递。
 *
 * @return bool 本次是否处理；false 表示以前处理过
 */
function order_once(string $number, string $webhookId, callable $act): bool
{
    $acted = false;
    order_locked($number, function ($order) use ($webhookId, $act, &$acted) {
        if ($order === null) {
            throw new RuntimeException('no such order');
        }
        if (in_array($webhookId, $order['events'], true)) {
            return $order;
        }
        $order = $act($order);
        $order['events'][] = $webhookId;
        $acted = true;
        return $order;
    });
    return $acted;
}

/** 持锁读、改、写一个订单。 */
function order_locked(string $number, callable $change)
{
    $path = order_path($number);
    $lock = fopen($path . '.lock', 'c');
    if ($lock === false || !flock($lock, LOCK_EX)) {
        throw new RuntimeException('cannot lock the order');
    }
    try {
        $before = null;
        if (file_exists($path)) {
            $before = json_decode((string) file_get_contents($path), true);
            if (!is_array($before)) {
                throw new RuntimeException('the order file is damaged');
            }
        }
        $after = $change($before);
        if ($after !== $before) {
            order_write($path, $after);
        }
    } finally {
        fclose($lock); // 同时释放锁
    }
}

/** 写临时文件再改名：进程随时被杀，文件也是旧的或新的，不会是半个。 */
function order_write(string $path, array $order)
{
    $file = fopen($path . '.new', 'w');
    $text = json_encode($order, JSON_UNESCAPED_UNICODE) . "\n";
    $written = $file !== false && fwrite($file, $text) === strlen($text) && fflush($file);
    if ($written && function_exists('fsync')) { // PHP 8.1+；之前的版本断电时可能丢，请用数据库
        $written = fsync($file);
    }
    if (!$written || !fclose($file) || !rename($path . '.new', $path)) {
        throw new RuntimeException('cannot write the order');
    }
}
