// Package event says what a notification is: it parses the envelope (通知报文)
// and the decrypted resource, tells the kind of the event by the shape of the
// plaintext, and derives the business key, the delivery group and the ledger
// orders from it.
//
// The parser is one pass over bytes that came from outside, hand-written for
// one reason: encoding/json matches names case-insensitively and lets the last
// duplicate win, so that two readers of one signed text may see two amounts.
// Here a name is matched exactly, and an object with two names that are equal
// but for case is malformed, wherever it stands. Amounts are integers or
// nothing; no float is ever made of them.
//
// Two different things can be wrong with a notification:
//
//   - it is malformed ([ErrMalformed]): not a JSON object, broken JSON, invalid
//     UTF-8, duplicate names, a resource that cannot be opened. WeChat is told
//     so and nothing is kept;
//   - it is odd: a field has another type than documented. It is kept and
//     delivered with kind [Unknown], so that nothing is lost and nobody takes
//     it for a payment.
//
// Which fields and event types there are follows WeChat Pay's pages of each
// product, collected at https://pay.weixin.qq.com/doc/v3/merchant/4012071382.
package event
