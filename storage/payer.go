package storage

import (
	"crypto/sha256"
	"encoding/hex"
)

// PayerDigest stands for a payer (支付者) wherever one is remembered: the openid
// itself is never stored. It is "" unless both the appid and the openid that was
// issued for it are known.
func PayerDigest(appid, openid string) string {
	if appid == "" || openid == "" {
		return ""
	}
	var buffer [192]byte // of any appid and openid there is
	text := append(buffer[:0], "payer\x00"...)
	text = append(append(append(text, appid...), 0), openid...)
	sum := sha256.Sum256(text)
	var digest [32]byte
	hex.Encode(digest[:], sum[:16])
	return string(digest[:])
}
