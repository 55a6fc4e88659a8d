package storage

import "testing"

func TestPayerDigest(t *testing.T) {
	one := PayerDigest("wx1", "o-1")
	if len(one) != 32 || one != PayerDigest("wx1", "o-1") {
		t.Error(one)
	}
	for _, other := range []string{PayerDigest("wx2", "o-1"), PayerDigest("wx1", "o-2"), PayerDigest("wx1o", "-1")} {
		if other == one {
			t.Error("two payers are one")
		}
	}
	if PayerDigest("", "o-1") != "" || PayerDigest("wx1", "") != "" {
		t.Error("half a payer is none")
	}
}
