// Package notify takes WeChat Pay's notifications (回调通知) in and hands them to
// the backend.
//
// The rooms of the package:
//
//   - event    what a notification is: its kind by the shape of its plaintext,
//     its business key, the numbers it names;
//   - receive  the way in: headers, signature, decryption, ledger check, one
//     durable record, the answer to WeChat;
//   - deliver  the way out: claims, attempts, retries, the breaker, dead and
//     parked notifications.
//
// This package itself holds what both ways share: the [Route] that a
// wechatpay_notify handler stands for, the [Deliverer] through which a delivery
// reaches a backend, and the [Observer] that metrics, events and logs hang on.
// None of it knows Caddy.
package notify
