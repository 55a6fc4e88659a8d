// Package send signs one request with the SDK's credential, sends exactly the
// caller's bytes to the API hosts of the merchant and no other, verifies the
// answer with the SDK's validator, and says what is now known: succeeded,
// rejected, unknown, or that nothing was ever sent.
//
// The SDK's own client is not used on this path: its Request re-sorts the
// query, refuses empty bodies, follows redirects, reads without bound and looks
// at an error status before the signature.
package send
