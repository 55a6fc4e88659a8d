// Package reconcile compares a day's trade bill of WeChat Pay's with the ledger
// (对账), both ways: what was paid and refunded there and is not known here, what
// is known here and missing there, and what differs. [Compare] depends on nothing
// but its input; the [Report] holds numbers and amounts, and no personal data.
package reconcile
