package merchant

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // to show that it is refused
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func certKey(t *testing.T, spec certSpec) Key {
	t.Helper()
	key, err := certificateKey(spec.make())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicKey(id string, key *rsa.PrivateKey) Key {
	return Key{Serial: id, Kind: KindPublicKey, public: &key.PublicKey}
}

func atBase() time.Time { return baseTime }

func TestLookupSpellings(t *testing.T) {
	cert := certKey(t, certSpec{serial: "0A0BCD"})
	set := newKeySet(atBase, []Key{publicKey(testKeyID, nextKey())}, []Key{cert})
	if cert.Serial != "0A0BCD" {
		t.Fatalf("the certificate's serial is spelled %q", cert.Serial)
	}
	for _, serial := range []string{"0A0BCD", "A0BCD", "a0bcd", "0a0bcd", "000000000A0BCD", strings.Repeat("0", maxSerial-5) + "A0bCd"} {
		if key, err := set.Lookup(serial, baseTime); err != nil || key.Serial != cert.Serial || key.Kind != KindCertificate {
			t.Errorf("%q: %v, %v", serial, key.Serial, err)
		}
	}
	if key, err := set.Lookup(testKeyID, baseTime); err != nil || key.Kind != KindPublicKey {
		t.Errorf("public key: %v", err)
	}
	for _, serial := range []string{
		"", "0", "00", "A0BC", "A0BCD0", "0xA0BCD", " A0BCD", "A0BCD ", "A0BCD\x00", "A0:BC:D", "-A0BCD", "+A0BCD", "Ａ0BCD",
		"../../etc/passwd", "null", strings.Repeat("0", maxSerial) + "A0BCD", strings.Repeat("F", 10240), strings.Repeat("\x00", 40),
		"PUB_KEY_ID_", strings.ToLower(testKeyID), testKeyID + "0", "0" + testKeyID, strings.TrimSuffix(testKeyID, "1"), testKeyID + "\n",
		strings.TrimPrefix(testKeyID, publicKeyIDPrefix),
	} {
		if key, err := set.Lookup(serial, baseTime); !errors.Is(err, ErrUnknownSerial) || key.Serial != "" {
			t.Errorf("%.40q: %v, %v", serial, key.Serial, err)
		}
	}
}

func TestLookupDates(t *testing.T) {
	notBefore, notAfter := baseTime, baseTime.Add(time.Hour)
	set := newKeySet(atBase, nil, []Key{certKey(t, certSpec{notBefore: notBefore, notAfter: notAfter})})
	for _, row := range []struct {
		at   time.Time
		want error
	}{
		{notBefore.Add(-time.Nanosecond), ErrKeyNotYetValid},
		{notBefore, nil},
		{notAfter, nil},
		{notAfter.Add(time.Nanosecond), ErrKeyExpired},
		{time.Time{}, ErrKeyNotYetValid},
		{time.Unix(1<<40, 0), ErrKeyExpired},
	} {
		key, err := set.Lookup(serialOf(1), row.at)
		if !errors.Is(err, row.want) || (err != nil && key.Serial != "") {
			t.Errorf("%v: %v, want %v", row.at, err, row.want)
		}
	}
	public := newKeySet(atBase, []Key{publicKey(testKeyID, nextKey())}, nil)
	for _, at := range []time.Time{{}, baseTime, time.Unix(1<<40, 0)} {
		if _, err := public.Lookup(testKeyID, at); err != nil {
			t.Errorf("a public key at %v: %v", at, err)
		}
	}
}

func TestPreferred(t *testing.T) {
	at := baseTime
	now := func() time.Time { return at }
	old := certKey(t, certSpec{serial: serialOf(1), notBefore: baseTime.Add(-100 * time.Hour), notAfter: baseTime.Add(time.Hour)})
	current := certKey(t, certSpec{serial: serialOf(2), notBefore: baseTime.Add(-time.Hour)})
	future := certKey(t, certSpec{serial: serialOf(3), notBefore: baseTime.Add(time.Hour)})
	certs := newKeySet(now, nil, []Key{old, future, current})
	if key, ok := certs.Preferred(); !ok || key.Serial != serialOf(2) {
		t.Errorf("among certificates: %v", key.Serial)
	}
	at = baseTime.Add(2 * time.Hour)
	if key, ok := certs.Preferred(); !ok || key.Serial != serialOf(3) {
		t.Errorf("two hours later: %v", key.Serial)
	}
	at = baseTime.Add(100 * 365 * 24 * time.Hour)
	if key, ok := certs.Preferred(); ok {
		t.Errorf("an expired certificate is preferred: %v", key.Serial)
	}
	both := newKeySet(now, []Key{publicKey(testKeyID, platformKey()), publicKey(testKeyID2, nextKey())}, []Key{current})
	if key, ok := both.Preferred(); !ok || key.Serial != testKeyID2 {
		t.Errorf("among public keys: %v", key.Serial)
	}
	if all := both.All(); len(all) != 3 || both.Len() != 3 || all[2].Kind != KindCertificate {
		t.Errorf("All: %d keys", len(all))
	}
	for _, empty := range []*KeySet{nil, {}, newKeySet(now, nil, nil)} {
		if _, ok := empty.Preferred(); ok || empty.Len() != 0 || len(empty.All()) != 0 {
			t.Error("an empty set has keys")
		}
		if _, err := empty.Lookup(testKeyID, baseTime); !errors.Is(err, ErrUnknownSerial) {
			t.Errorf("an empty set: %v", err)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	set := newKeySet(atBase, []Key{publicKey(testKeyID, nextKey())}, []Key{certKey(t, certSpec{})})
	for _, serial := range []string{serialOf(1), testKeyID, strings.ToLower(serialOf(1)), "00" + serialOf(1), "unknown", strings.Repeat("F", 40)} {
		if n := testing.AllocsPerRun(100, func() { _, _ = set.Lookup(serial, baseTime) }); n != 0 {
			t.Errorf("Lookup(%q) allocates %v times", serial, n)
		}
	}
}

// TestLookupProperty: a set finds what was put in under any spelling of its
// number, and nothing else.
func TestLookupProperty(t *testing.T) {
	platform := publicKey("", platformKey()).public
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfNDistinct(rapid.SliceOfN(rapid.Byte(), 1, 20), 1, 8, func(b []byte) string {
			return new(big.Int).SetBytes(b).String()
		}).Draw(t, "serials")
		var certs []Key
		held := make(map[string]bool)
		for _, number := range numbers {
			n := new(big.Int).SetBytes(number)
			if n.Sign() == 0 {
				continue
			}
			held[n.String()] = true
			certs = append(certs, Key{
				Serial: strings.ToUpper(hex.EncodeToString(n.Bytes())), Kind: KindCertificate,
				NotBefore: baseTime, NotAfter: baseTime, public: platform,
			})
		}
		set := newKeySet(atBase, nil, certs)
		for _, key := range certs {
			spelled := []byte(strings.Repeat("0", rapid.IntRange(0, 8).Draw(t, "zeros")) + key.Serial)
			for i := range spelled {
				if rapid.Bool().Draw(t, "lower") {
					spelled[i] = strings.ToLower(string(spelled[i]))[0]
				}
			}
			if got, err := set.Lookup(string(spelled), baseTime); err != nil || got.Serial != key.Serial {
				t.Fatalf("%q: %q, %v", spelled, got.Serial, err)
			}
		}
		other := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "other")
		n := new(big.Int).SetBytes(other)
		if _, err := set.Lookup(hex.EncodeToString(other), baseTime); (err == nil) != held[n.String()] {
			t.Fatalf("%x: held %v, %v", other, held[n.String()], err)
		}
	})
}

func TestCertificateKeyRefusals(t *testing.T) {
	for name, spec := range map[string]certSpec{
		"ECDSA":                 {key: curveKey()},
		"1024 bits":             {key: smallKey()},
		"exponent 3":            {key: exponent3()},
		"ends before it begins": {notBefore: baseTime, notAfter: baseTime.Add(-time.Hour)},
	} {
		if key, err := certificateKey(spec.make()); err == nil || key.public != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestVerifyVectors follows the cases that Wycheproof has for RSASSA-PKCS1-v1_5
// with a 2048-bit key and SHA-256, made here with keys whose private half is
// known, so that malformed encodings can be signed for real.
func TestVerifyVectors(t *testing.T) {
	private := platformKey()
	key := publicKey(testKeyID, private)
	message := "1772366400\nEVoLSvkp2Yp1FJ2Q\n{\"id\":\"1\"}\n"
	good := sign(private, message)
	n, size := private.N, private.Size()
	s := new(big.Int).SetBytes(good)
	fill := func(x *big.Int) []byte { return x.FillBytes(make([]byte, size)) }
	// raw applies the private key to an encoded message of the test's making.
	raw := func(encoded []byte) []byte {
		return fill(new(big.Int).Exp(new(big.Int).SetBytes(encoded), private.D, n))
	}
	digest := sha256.Sum256([]byte(message))
	sha256Info, err := hex.DecodeString("3031300d060960864801650304020105000420")
	if err != nil {
		t.Fatal(err)
	}
	// encode is EMSA-PKCS1-v1_5 with everything a forger may vary.
	encode := func(head []byte, padding int, separator []byte, info, hash, tail []byte) []byte {
		em := append([]byte{}, head...)
		for range padding {
			em = append(em, 0xff)
		}
		em = append(em, separator...)
		em = append(append(append(em, info...), hash...), tail...)
		return em
	}
	rest := len(sha256Info) + len(digest)
	full := size - 3 - rest
	noParams, err := hex.DecodeString("302f300b0609608648016503040201" + "0420")
	if err != nil {
		t.Fatal(err)
	}
	sha1Sum := sha1.Sum([]byte(message)) //nolint:gosec // as above
	sha1Sig, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA1, sha1Sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sha512Sum := sha512.Sum512([]byte(message))
	sha512Sig, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA512, sha512Sum[:])
	if err != nil {
		t.Fatal(err)
	}
	pss, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	unhashed, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.Hash(0), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if want := raw(encode([]byte{0, 1}, full, []byte{0}, sha256Info, digest[:], nil)); string(want) != string(good) {
		t.Fatal("the test's encoding is not RFC 8017's")
	}
	flipped := func(bit int) []byte {
		out := append([]byte{}, good...)
		out[bit/8] ^= 1 << (bit % 8)
		return out
	}
	bad := map[string][]byte{
		"empty": {}, "nil": nil, "one byte": {1}, "zero": make([]byte, size), "one": fill(big.NewInt(1)), "two": fill(big.NewInt(2)),
		"n-1": fill(new(big.Int).Sub(n, big.NewInt(1))), "n": fill(n), "n+1": fill(new(big.Int).Add(n, big.NewInt(1))),
		"s+n":              new(big.Int).Add(s, n).Bytes(),
		"s+n in 257 bytes": new(big.Int).Add(s, n).FillBytes(make([]byte, size+1)),
		"n-s":              fill(new(big.Int).Sub(n, s)),
		"255 bytes":        good[:size-1], "255 bytes, the last": good[1:], "257 bytes": append(append([]byte{}, good...), 0),
		"leading zero": append([]byte{0}, good...), "twice": append(append([]byte{}, good...), good...),
		"first bit": flipped(7), "last bit": flipped(8*size - 8), "middle bit": flipped(4 * size),
		"all ones": []byte(strings.Repeat("\xff", size)), "10 KiB": make([]byte, 10<<10),
		"SHA-1": sha1Sig, "SHA-512": sha512Sig, "PSS": pss, "no DigestInfo": unhashed,
		"other key":     sign(nextKey(), message),
		"other message": sign(private, message+"x"), "no last line break": sign(private, strings.TrimSuffix(message, "\n")),
		"type 2":                    raw(encode([]byte{0, 2}, full, []byte{0}, sha256Info, digest[:], nil)),
		"type 0":                    raw(encode([]byte{0, 0}, full, []byte{0}, sha256Info, digest[:], nil)),
		"short padding and garbage": raw(encode([]byte{0, 1}, 8, []byte{0}, sha256Info, digest[:], make([]byte, full-8))),
		"no padding, garbage":       raw(encode([]byte{0, 1}, 0, []byte{0}, sha256Info, digest[:], make([]byte, full))),
		"garbage before the digest": raw(encode([]byte{0, 1}, full-4, []byte{0, 1, 2, 3, 4}, sha256Info, digest[:], nil)),
		"padding of zeros":          raw(encode([]byte{0, 1}, 0, make([]byte, full+1), sha256Info, digest[:], nil)),
		"no NULL parameters":        raw(encode([]byte{0, 1}, full+2, []byte{0}, noParams, digest[:], nil)),
		"one byte off the padding":  raw(encode([]byte{0, 1}, full-1, []byte{0xfe, 0}, sha256Info, digest[:], nil)),
		"ends early":                raw(encode([]byte{0, 1}, full+1, []byte{0}, sha256Info, digest[:31], nil)),
	}
	for name, signature := range bad {
		if err := key.Verify([]byte(message), signature); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := key.Verify([]byte(message), good); err != nil {
		t.Errorf("the good one: %v", err)
	}
	if err := (Key{}).Verify([]byte(message), good); !errors.Is(err, ErrSignature) {
		t.Errorf("the zero key: %v", err)
	}
}

func TestDecodeSignature(t *testing.T) {
	raw := sign(platformKey(), "m")
	text := base64.StdEncoding.EncodeToString(raw)
	if got, err := DecodeSignature(text); err != nil || string(got) != string(raw) {
		t.Fatalf("canonical: %v", err)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	// 256 bytes leave four spare bits in the character before "==".
	at := len(text) - 3
	passed := 0
	for _, c := range alphabet {
		if _, err := DecodeSignature(text[:at] + string(c) + "=="); err == nil {
			passed++
		}
	}
	if passed != 4 { // those whose spare bits are zero, which are other signatures
		t.Errorf("%d of 64 last characters are accepted, want 4", passed)
	}
	for _, bad := range []string{
		"", "=", "====", text + "\n", "\n" + text, text[:76] + "\r\n" + text[76:], " " + text, text + " ", text[:len(text)-2], text[:len(text)-1], text + "=",
		base64.URLEncoding.EncodeToString([]byte{0xfb, 0xff, 0xfe}), "!" + text[1:], "WECHATPAY/SIGNTEST/" + text, text + "\u00a0", text + "\x00",
	} {
		if _, err := DecodeSignature(bad); !errors.Is(err, ErrSignature) {
			t.Errorf("%.30q…: %v", bad, err)
		}
	}
}

func TestVerifier(t *testing.T) {
	cfg := goodConfig()
	cfg.CertificatePEMs = []string{
		certSpec{key: nextKey()}.pem(),
		certSpec{key: nextKey(), serial: serialOf(2), notBefore: baseTime.Add(-2 * time.Hour), notAfter: baseTime.Add(-time.Hour)}.pem(),
	}
	m := wantNew(t, cfg, Deps{})
	v := m.Verifier()
	ctx := context.Background()
	if serial, err := v.GetSerial(ctx); err != nil || serial != testKeyID {
		t.Errorf("GetSerial: %q, %v", serial, err)
	}
	for _, row := range []struct {
		name, serial, signature string
		want                    error
	}{
		{"public key", testKeyID, sign64(platformKey(), "m"), nil},
		{"certificate", serialOf(1), sign64(nextKey(), "m"), nil},
		{"certificate, lower case", strings.ToLower(serialOf(1)), sign64(nextKey(), "m"), nil},
		{"the other's serial", serialOf(1), sign64(platformKey(), "m"), ErrSignature},
		{"expired", serialOf(2), sign64(nextKey(), "m"), ErrKeyExpired},
		{"unknown", serialOf(3), sign64(nextKey(), "m"), ErrUnknownSerial},
		{"probe", testKeyID, "WECHATPAY/SIGNTEST/" + sign64(platformKey(), "m"), ErrSignature},
		{"none", testKeyID, "", ErrSignature},
	} {
		if err := v.Verify(ctx, row.serial, "m", row.signature); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
}

func TestDecrypt(t *testing.T) {
	cfg := goodConfig()
	cfg.APIv3Keys = []string{testAPIv3, testAPIv3b}
	m := wantNew(t, cfg, Deps{})
	const nonce, associatedData, plaintext = "fdasflkja484", "transaction", `{"mchid":"1900000001"}`
	for _, key := range cfg.APIv3Keys {
		for _, data := range []string{"", associatedData} {
			got, err := m.Decrypt([]byte(data), []byte(nonce), seal(key, data, nonce, plaintext))
			if err != nil || string(got) != plaintext {
				t.Errorf("key %.4s…, data %q: %v", key, data, err)
			}
		}
	}
	good := seal(testAPIv3, associatedData, nonce, plaintext)
	if got, err := m.Decrypt([]byte(associatedData), []byte(nonce), seal(testAPIv3, associatedData, nonce, "")); err != nil || len(got) != 0 {
		t.Errorf("empty plaintext: %v", err)
	}
	refuse := func(name string, data, nonce, ciphertext []byte) {
		t.Helper()
		if got, err := m.Decrypt(data, nonce, ciphertext); !errors.Is(err, ErrDecrypt) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for length := range 40 {
		if length != nonceLength {
			refuse("nonce length", []byte(associatedData), make([]byte, length), good)
		}
	}
	refuse("nonce of 1 MiB", []byte(associatedData), make([]byte, 1<<20), good)
	refuse("nil nonce", []byte(associatedData), nil, good)
	for length := range tagLength + 1 {
		refuse("ciphertext length", []byte(associatedData), []byte(nonce), make([]byte, length))
	}
	for i := range good {
		changed := append([]byte{}, good...)
		changed[i] ^= 1
		refuse("changed byte", []byte(associatedData), []byte(nonce), changed)
	}
	refuse("other data", []byte("refund"), []byte(nonce), good)
	refuse("other nonce", []byte(associatedData), []byte("fdasflkja485"), good)
	refuse("other key", []byte(associatedData), []byte(nonce), seal(strings.Repeat("ab", 16), associatedData, nonce, plaintext))
	refuse("cut short", []byte(associatedData), []byte(nonce), good[:len(good)-1])
}
