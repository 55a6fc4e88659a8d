package storage

import "strconv"

// Fen is an amount of money in fen (分), the hundredth part of a yuan. WeChat
// Pay's APIv3 counts in fen everywhere but in bills. The zero value is no money.
type Fen int64

// String gives the amount in fen with its unit, for people: "100 fen".
func (f Fen) String() string { return strconv.FormatInt(int64(f), 10) + " fen" }

// Money is an amount and the currency it is counted in (ISO 4217, "CNY" where
// WeChat leaves it out).
type Money struct {
	Total    Fen    `json:"total"`
	Currency string `json:"currency"`
}
