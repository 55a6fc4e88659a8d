// Package qrcode draws an order's code_url as a QR code, PNG or SVG, for users
// to scan. It is pure: the same code_url and size give the same picture.
//
// Codes are of error correction level M, 15 % of the picture may be lost, with
// the quiet zone of four modules that ISO/IEC 18004 asks for. Only weixin://
// URLs become codes, so nobody can have a link of their own drawn.
package qrcode
