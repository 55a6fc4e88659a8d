// Package operation knows every operation of WeChat Pay's APIv3: its method and
// path template, the one group a caller needs to be allowed, and what the gateway
// does for it beyond passing it on (served.go, numbered.go). [Find] matches what the table knows,
// [Unlisted] what it does not.
//
// The table is embedded (operations.txt, 992 operations) and read once. Paths
// are matched on their raw, still escaped text by a trie: what has a dot
// segment, an encoded slash, an empty segment or a doubled encoding matches
// nothing, so it can never reach a path that is signed.
package operation

//go:generate go run ./internal/generate -in $OPERATIONS_JSONL -out operations.txt
