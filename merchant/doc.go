// Package merchant holds what one WeChat Pay merchant block stands for: its
// credential, its APIv3 keys, and the set of keys that WeChat Pay signs with.
//
// # A tour
//
//   - [Config] is a merchant block after its placeholders were resolved; [New]
//     judges all of it at once, without network, store or goroutine, and its
//     errors name the option and what to do.
//   - [Merchant] answers the questions of the other packages: [Merchant.Keys]
//     and [Merchant.Decrypt] for callbacks, [Merchant.Credential],
//     [Merchant.Validator] and [Merchant.HTTPClient] for calls.
//   - [KeySet] is an immutable snapshot, found by Wechatpay-Serial: any number
//     of WeChat Pay public keys (微信支付公钥) and platform certificates
//     (微信支付平台证书) side by side, because a migration or a rotation uses
//     both at once.
//   - [Merchant.Start] refreshes platform certificates by timer only. Nothing
//     that a caller sends ever causes a request.
//   - [Secret] and [PrivateKey] cannot print themselves.
//
// A merchant with a sandbox takes every key from there and accepts only keys
// that carry the sandbox's marks; a merchant without one refuses such keys. So
// an event signed by a sandbox never passes a production merchant, whatever
// the configuration says.
package merchant
