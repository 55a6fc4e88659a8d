// Package sensitive encrypts and decrypts single members of a JSON body: those
// that WeChat Pay wants and sends as base64 of RSAES-OAEP with SHA-1 and MGF1
// (RFC 8017 7.1), the way the official SDK's ciphers do.
//
// Only the bytes of the named values change. Every other byte of the body, its
// blanks and the order of its members stay.
//
// Nothing of a value is in an error.
// https://pay.weixin.qq.com/doc/v3/merchant/4013053264
package sensitive
