// Package bill fetches WeChat Pay's bills and reads them: the trade bill (交易账单)
// and the fund flow bill (资金账单) of one day.
//
//   - [Client.Fetch] applies for a bill, downloads it while its link lives, and
//     hands it out only when its digest is the one WeChat Pay signed: a [File].
//   - [Trades] and [Flows] read the records of a bill one by one, to the fen, and
//     hold the summary row at its end against what they summed up.
//
// A file whose digest or length is wrong is never handed out, and records count
// for nothing until the last of them has come without an error: what breaks in
// the middle was wrong from its beginning.
//
// Bills are of Beijing days, and are to be had from ten o'clock of the next day
// (Beijing time) for three months.
// https://pay.weixin.qq.com/doc/v3/merchant/4012556692
package bill
