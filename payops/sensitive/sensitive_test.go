package sensitive

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"
	"github.com/wechatpay-apiv3/wechatpay-go/utils"
)

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func mustList(t testing.TB, list string) []Path {
	t.Helper()
	paths, err := ParseList(list)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func sealed(t testing.TB, text string) string {
	t.Helper()
	s, err := utils.EncryptOAEPWithPublicKey(text, &testKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseList(t *testing.T) {
	if paths := mustList(t, " a , b.c\t,d[].e,f[] ,g-h_1.0"); len(paths) != 5 || paths[1].String() != "b.c" || paths[2].String() != "d[].e" {
		t.Error(paths)
	}
	mustList(t, strings.TrimSuffix(strings.Repeat("a.", 16), "."))
	for _, bad := range []string{
		"", ",", "a,", ",a", "a,,b", ".", "a.", ".a", "a..b", "[]", "a.[]", "[].a", "a[", "a]", "a[0]", "a[][]", "a[]b", "a b",
		"a.*", "a|b", "a#", "#", "@this", "a@reverse", "a\\.b", "a\"", "姓名", "a\x00", "a\r\nb", "a:b", "a;b", "{a}", "auto,*", "a,a", "a, a",
		strings.TrimSuffix(strings.Repeat("a.", 17), "."), strings.Repeat("a", 65), strings.Repeat("x", MaxList+1),
		strings.TrimSuffix(manyPaths(33), ","),
	} {
		if paths, err := ParseList(bad); !errors.Is(err, ErrList) {
			t.Errorf("%.40q: %v %v", bad, paths, err)
		}
	}
	mustList(t, strings.TrimSuffix(manyPaths(32), ","))
}

func manyPaths(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "p%d,", i)
	}
	return b.String()
}

// TestRoundTrip: what is named changes, and nothing else, in either direction.
func TestRoundTrip(t *testing.T) {
	const body = " {\n\t\"name\" : \"张三 <&>\\u4e8c\\\"\", \"n\":1.0, \"receivers\" : [ {\"name\":\"A\",\"x\":[1e2]}, {\"other\":1}, {\"name\":\"\"}, {\"na\\u006de\":\"B\"} ],\"list\":[\"p\", \"q\"], \"deep\":{\"name\":\"D\"}, \"last\":null }\n"
	for _, list := range []string{"name", "receivers[].name", "list[]", "deep.name", "deep.name,name,list[],receivers[].name", "receivers[].name,name"} {
		paths := mustList(t, list)
		out, err := Encrypt([]byte(body), paths, true, &testKey().PublicKey)
		if err != nil {
			t.Errorf("%s: %v", list, err)
			continue
		}
		back, done, err := Decrypt(out, paths, false, testKey())
		if err != nil || len(done) != len(paths) {
			t.Errorf("%s: %v %v", list, done, err)
		}
		var want, got any
		if json.Unmarshal([]byte(body), &want) != nil || json.Unmarshal(back, &got) != nil || !reflect.DeepEqual(want, got) {
			t.Errorf("%s:\n%s\nwant\n%s", list, back, body)
		}
		for _, p := range paths { // by another reader
			value := gjson.GetBytes(out, strings.ReplaceAll(p.String(), "[]", ".0"))
			if plain, err := utils.DecryptOAEP(value.Str, testKey()); err != nil || plain != gjson.Get(body, strings.ReplaceAll(p.String(), "[]", ".0")).Str {
				t.Errorf("%s: %v", p, err)
			}
		}
		// With every changed value put back, the bytes are the same.
		if list == "deep.name" {
			if plain := strings.Replace(string(out), gjson.GetBytes(out, "deep.name").Raw, `"D"`, 1); plain != body {
				t.Errorf("%s\nwant\n%s", plain, body)
			}
		}
	}
}

func TestEncryptRefuses(t *testing.T) {
	key := &testKey().PublicKey
	for name, tc := range map[string]struct {
		body, list string
		strict     error // what a list says
		auto       error // what the table's paths say
	}{
		"absent":                   {`{"a":"x"}`, "b", ErrAbsent, nil},
		"absent in depth":          {`{"a":{"c":"x"}}`, "a.b", ErrAbsent, nil},
		"another case":             {`{"Name":"x"}`, "name", ErrAbsent, nil},
		"through a string":         {`{"a":"x"}`, "a.b", ErrAbsent, nil},
		"through null":             {`{"a":null}`, "a.b", ErrAbsent, nil},
		"a list without []":        {`{"a":[{"b":"x"}]}`, "a.b", ErrAbsent, nil},
		"an index":                 {`{"a":["x"]}`, "a.0", ErrAbsent, nil},
		"[] of an object":          {`{"a":{"b":"x"}}`, "a[].b", ErrAbsent, nil},
		"[] of an empty list":      {`{"a":[]}`, "a[].b", ErrAbsent, nil},
		"a list of lists":          {`{"a":[["x"]]}`, "a[]", ErrNotText, nil},
		"a number":                 {`{"a":1}`, "a", ErrNotText, nil},
		"null":                     {`{"a":null}`, "a", ErrNotText, nil},
		"true":                     {`{"a":true}`, "a", ErrNotText, nil},
		"an object":                {`{"a":{}}`, "a", ErrNotText, nil},
		"a list":                   {`{"a":["x"]}`, "a", ErrNotText, nil},
		"one of two is no string":  {`{"a":[{"b":""},{"b":2}]}`, "a[].b", ErrNotText, nil},
		"no object":                {`["x"]`, "a", ErrAbsent, nil},
		"215 bytes":                {`{"a":"` + strings.Repeat("x", 215) + `"}`, "a", ErrTooLong, ErrTooLong},
		"72 characters of 3 bytes": {`{"a":"` + strings.Repeat("张", 72) + `"}`, "a", ErrTooLong, ErrTooLong},
		"encrypted already":        {`{"a":"` + sealed(t, "x") + `"}`, "a", ErrEncrypted, ErrEncrypted},
		"looks encrypted":          {`{"a":"` + base64.StdEncoding.EncodeToString(make([]byte, 256)) + `"}`, "a", ErrEncrypted, ErrEncrypted},
		"513 values":               {`{"a":[` + strings.Repeat(`"x",`, 512) + `"x"]}`, "a[]", ErrTooMany, ErrTooMany},
	} {
		before := tc.body
		for _, strict := range []bool{true, false} {
			want := tc.auto
			if strict {
				want = tc.strict
			}
			out, err := Encrypt([]byte(tc.body), mustList(t, tc.list), strict, key)
			if !errors.Is(err, want) || want != nil && out != nil || want == nil && string(out) != before {
				t.Errorf("%s, strict %v: %q %v", name, strict, out, err)
			}
			if err != nil && strings.Contains(err.Error(), "xx") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, body := range map[string]string{
		"214 bytes": `{"a":"` + strings.Repeat("x", 214) + `"}`, "71 characters": `{"a":"` + strings.Repeat("张", 71) + `"}`,
		"base64 of 255 bytes": `{"a":"` + base64.StdEncoding.EncodeToString(make([]byte, 100)) + `"}`,
	} {
		if _, err := Encrypt([]byte(body), mustList(t, "a"), true, key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecryptRefuses(t *testing.T) {
	good, foreign := sealed(t, "张三"), base64.StdEncoding.EncodeToString(append([]byte{0}, make([]byte, 255)...))
	binary := sealed(t, "\xff\xfe")
	for name, tc := range map[string]struct {
		body, list   string
		strict, auto error
		opened       int // values, when it is no error
	}{
		"absent":                 {`{"a":"x"}`, "b", nil, nil, 0},
		"empty":                  {`{"a":""}`, "a", nil, nil, 0},
		"a number":               {`{"a":1}`, "a", nil, nil, 0},
		"plain":                  {`{"a":"x"}`, "a", ErrUndecryptable, nil, 0},
		"masked":                 {`{"a":"138****0000"}`, "a", ErrUndecryptable, nil, 0},
		"for another key":        {`{"a":"` + foreign + `"}`, "a", ErrUndecryptable, ErrUndecryptable, 0},
		"one of two for another": {`{"a":"` + good + `","b":"` + foreign + `"}`, "a,b", ErrUndecryptable, ErrUndecryptable, 0},
		"no UTF-8":               {`{"a":"` + binary + `"}`, "a", ErrUndecryptable, ErrUndecryptable, 0},
		"cut":                    {`{"a":"` + good[:340] + `"}`, "a", ErrUndecryptable, nil, 0},
		"good":                   {`{"a":"` + good + `"}`, "a", nil, nil, 1},
		"good and absent":        {`{"a":"` + good + `"}`, "a,b", nil, nil, 1},
		"twice the same member":  {`{"a":"` + good + `","a":"` + good + `"}`, "a", nil, nil, 2},
	} {
		for _, strict := range []bool{true, false} {
			want := tc.auto
			if strict {
				want = tc.strict
			}
			out, done, err := Decrypt([]byte(tc.body), mustList(t, tc.list), strict, testKey())
			if !errors.Is(err, want) || strings.Count(string(out), "张三") != tc.opened && want == nil || want != nil && (out != nil || done != nil) {
				t.Errorf("%s, strict %v: %q %v %v", name, strict, out, done, err)
			}
		}
	}
}

func TestEncrypted(t *testing.T) {
	body := []byte(`{"a":"x","b":[{"c":"` + sealed(t, "x") + `"}]}`)
	if Encrypted(body, mustList(t, "a"), 256) || !Encrypted(body, mustList(t, "a,b[].c"), 256) || Encrypted(body, mustList(t, "b[].c"), 512) {
		t.Error("not what it looks like")
	}
}

// FuzzEncrypt: any valid body and any list give valid JSON that decrypts to the
// same values, or an error.
func FuzzEncrypt(f *testing.F) {
	f.Add([]byte(`{"a":{"b":"x"},"c":["y",{"d":"z"}]}`), "a.b,c[].d", true)
	f.Add([]byte(` {"\u0061":"x"} `), "a", false)
	f.Fuzz(func(t *testing.T, body []byte, list string, strict bool) {
		paths, err := ParseList(list)
		if err != nil || !json.Valid(body) || len(body) > 4096 {
			return
		}
		out, err := Encrypt(body, paths, strict, &testKey().PublicKey)
		if err != nil {
			return
		}
		back, _, err := Decrypt(out, paths, false, testKey())
		if err != nil {
			if errors.Is(err, ErrUndecryptable) { // a string of broken surrogates is no UTF-8 once read
				return
			}
			t.Fatalf("%q: %v", out, err)
		}
		var want, got any
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(back, &got); err != nil {
			t.Fatalf("%q: %v", back, err)
		}
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("%q became %q", body, back)
		}
	})
}

func BenchmarkEncrypt(b *testing.B) {
	body := []byte(`{"contact_info":{"name":"张三","mobile":"13800000000"},"pad":"` + strings.Repeat("x", 4096) + `"}`)
	paths := mustList(b, "contact_info.name,contact_info.mobile")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encrypt(body, paths, true, &testKey().PublicKey); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecrypt(b *testing.B) {
	body := []byte(`{"data":[{"payer_phone":"` + sealed(b, "13800000000") + `"}]}`)
	paths := mustList(b, "data[].payer_phone")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Decrypt(body, paths, false, testKey()); err != nil {
			b.Fatal(err)
		}
	}
}
