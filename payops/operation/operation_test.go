package operation

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// TestGroupsGolden holds every operation's group against the golden file.
func TestGroupsGolden(t *testing.T) {
	var got strings.Builder
	for _, o := range All() {
		fmt.Fprintf(&got, "%s %s %s\n", o.Method, o.Path, o.Group)
	}
	golden(t, "testdata/groups.golden", got.String())
	if n := len(All()); n != 992 {
		t.Errorf("%d operations, want 992", n)
	}
}

// TestEveryOperationIsFound turns each template into a concrete path and looks
// it up again.
func TestEveryOperationIsFound(t *testing.T) {
	for _, o := range All() {
		path, want := concrete(o.Path)
		m, ok := Find(o.Method, path)
		if !ok {
			t.Errorf("%s %s: not found", o.Method, path)
			continue
		}
		if m.Path != o.Path && shapeOf(m.Path) != shapeOf(o.Path) {
			t.Errorf("%s %s: found %s", o.Method, o.Path, m.Path)
		}
		if m.Group != o.Group {
			t.Errorf("%s: group %s by lookup, %s in the table", o, m.Group, o.Group)
		}
		if strings.Join(m.Params, ",") != strings.Join(want, ",") {
			t.Errorf("%s: params %q, want %q", o, m.Params, want)
		}
	}
}

func concrete(template string) (path string, params []string) {
	segments := strings.Split(template, "/")
	for i, s := range segments {
		switch {
		case s == "{empty}":
			segments[i] = ""
		case strings.HasPrefix(s, "{"):
			segments[i] = fmt.Sprintf("P%d", i)
			params = append(params, segments[i])
		}
	}
	return strings.Join(segments, "/"), params
}

func shapeOf(template string) string {
	p, _ := concrete(template)
	return p
}

func TestServed(t *testing.T) {
	listed, asked := 0, map[string]bool{}
	for _, o := range All() {
		if _, ok := served[o.String()]; ok {
			listed++
		}
		if o.Multipart && o.Act != ActForward {
			t.Errorf("%s: an upload is passed on", o)
		}
		kind := o.Act == ActCreate || o.Act == ActQuery || o.Act == ActClose || o.Act == ActReverse || o.Act == ActChargeParking
		if (o.Kind != "") != kind {
			t.Errorf("%s: %s of %q", o, o.Act, o.Kind)
		}
		if (o.Number != nil) != (o.Act == ActNumbered || o.Act == ActQueryNumber) {
			t.Errorf("%s: %s with %+v", o, o.Act, o.Number)
		}
		if o.Method == "GET" && (o.Act == ActNumbered || o.Act == ActRefund || o.Act == ActCreate) {
			t.Errorf("%s: %s", o, o.Act)
		}
		if o.Act == ActQueryNumber {
			asked[o.Number.Space] = true
		}
		if o.Shares() && !slices.Contains(o.Number.Content, "transaction_id") {
			t.Errorf("%s names no payment", o)
		}
	}
	if listed != len(served) {
		t.Errorf("%d of %d listed operations are in the table", listed, len(served))
	}
	for space := range asked {
		if !slices.ContainsFunc(All(), func(o *Operation) bool { return o.Act == ActNumbered && o.Number.Space == space }) {
			t.Errorf("nothing makes numbers of %s, which are asked for", space)
		}
	}
}

// TestNumbersGolden holds the table of numbers against the golden file, every
// row of it against the operations, and all money in operations that pay out:
// each has a number or is listed here.
func TestNumbersGolden(t *testing.T) {
	var got strings.Builder
	rows := 0
	for _, o := range All() {
		if o.Number == nil {
			continue
		}
		rows++
		n := o.Number
		fmt.Fprintf(&got, "%s\n\t%s of %s", o, n.Field, n.Space)
		if n.Optional {
			got.WriteString(" (optional)")
		}
		got.WriteByte('\n')
		for _, line := range []struct {
			name  string
			paths []string
		}{{"amounts", n.Amounts}, {"content", n.Content}, {"filled in", n.Fill}} {
			if len(line.paths) > 0 {
				fmt.Fprintf(&got, "\t%s: %s\n", line.name, strings.Join(line.paths, " "))
			}
		}
		for _, path := range slices.Concat(n.Amounts, n.Content, []string{n.Field}) {
			if slices.Contains(o.Request, path) {
				t.Errorf("%s: %s is encrypted, and another text each time", o, path)
			}
			if path == "sub_mchid" {
				t.Errorf("%s: sub_mchid is a part of the number's name", o)
			}
		}
		if o.Act == ActNumbered && n.InPath(o) != strings.HasSuffix(o.Path, "/reverse") {
			t.Errorf("%s: only what is taken back has its number in the path", o)
		}
	}
	if want := len(numbers) + len(numberQueries); rows != want {
		t.Errorf("%d of %d rows are operations", rows, want)
	}
	golden(t, "testdata/numbers.golden", got.String())

	unnumbered := []string{
		"POST /v3/ecommerce/profitsharing/after-sales-orders",   // named by its refund
		"POST /v3/ecommerce/refunds/{refund_id}/return-advance", // named by its refund
	}
	for _, o := range All() {
		if o.Method != "POST" || o.Act != ActForward || o.Group != Refund && o.Group != Transfer && o.Group != ProfitSharing {
			continue
		}
		for _, word := range []string{"/batches", "/transfer-bills", "-bills", "/apply", "/orders", "orders", "-batches", "/refunds", "/reverse", "/transfer", "-advance", "/budget"} {
			if strings.HasSuffix(o.Path, word) && !slices.Contains(unnumbered, o.String()) && !strings.Contains(o.Path, "receipts") {
				t.Errorf("%s moves money under no number", o)
			}
		}
	}
}

// golden compares a text with a file, line by line.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	if len(gotLines) != len(wantLines) {
		t.Fatalf("%d lines, golden has %d", len(gotLines), len(wantLines))
	}
	for i := range gotLines {
		if gotLines[i] != wantLines[i] {
			t.Errorf("got  %s\nwant %s", gotLines[i], wantLines[i])
		}
	}
}

func TestNamedGroups(t *testing.T) {
	for _, tc := range []struct {
		method, path string
		group        Group
	}{
		{"POST", "/v3/pay/transactions/native", Pay},
		{"POST", "/v3/pay/transactions/jsapi", Pay},
		{"POST", "/v3/pay/transactions/codepay", Pay},
		{"POST", "/v3/pay/transactions/exposure", Other},
		{"POST", "/v3/pay/partner/transactions/native", Partner},
		{"POST", "/v3/combine-transactions/h5", Combine},
		{"GET", "/v3/pay/transactions/out-trade-no/N12345", Query},
		{"GET", "/v3/pay/partner/transactions/id/42", Query},
		{"GET", "/v3/combine-transactions/out-trade-no/N1", Query},
		{"GET", "/v3/refund/domestic/refunds/R1", Query},
		{"GET", "/v3/ecommerce/refunds/id/5", Query},
		{"GET", "/v3/vehicle/transactions/out-trade-no/N12345", Query},
		{"POST", "/v3/pay/transactions/out-trade-no/N12345/close", Close},
		{"POST", "/v3/combine-transactions/out-trade-no/N1/close", Close},
		{"POST", "/v3/pay/transactions/out-trade-no/N12345/reverse", Refund},
		{"POST", "/v3/refund/domestic/refunds", Refund},
		{"POST", "/v3/refund/domestic/refunds/5/apply-abnormal-refund", Refund},
		{"POST", "/v3/ecommerce/refunds/apply", Refund},
		{"GET", "/v3/bill/tradebill", Bill},
		{"GET", "/v3/billdownload/file", Bill},
		{"POST", "/v3/vehicle/transactions/parking", Parking},
		{"POST", "/v3/vehicle/parking/parkings", Parking},
		{"POST", "/v3/profitsharing/orders", ProfitSharing},
		{"GET", "/v3/profitsharing/orders/O1", ProfitSharing},
		{"POST", "/v3/transfer/batches", Transfer},
		{"POST", "/v3/fund-app/mch-transfer/transfer-bills", Transfer},
		{"POST", "/v3/merchant/media/upload", Media},
		{"GET", "/v3/certificates", Crypto},
		{"POST", "/v3/papay/pay/transactions/apply", Other},
		{"POST", "/v3/new-tax-control-fapiao/fapiao-applications/F1/reverse", Other},
	} {
		m, ok := Find(tc.method, tc.path)
		if !ok || m.Group != tc.group {
			t.Errorf("%s %s: %v, want %s", tc.method, tc.path, m.Operation, tc.group)
		}
	}
}

func TestPathTricksNameNothing(t *testing.T) {
	for _, path := range []string{
		"", "/", "v3/certificates", "//v3/certificates", "/v3//certificates", "/v3/certificates/",
		"/v3/./certificates", "/v3/x/../certificates", "/V3/certificates", "/v3/%63ertificates",
		"/v3/pay/transactions/out-trade-no/", "/v3/pay/transactions/out-trade-no/.", "/v3/pay/transactions/out-trade-no/..",
		"/v3/pay/transactions/out-trade-no/%2e%2e", "/v3/pay/transactions/out-trade-no/a%2fb", "/v3/pay/transactions/out-trade-no/a%5Cb",
		"/v3/pay/transactions/out-trade-no/a%252fb", "/v3/pay/transactions/out-trade-no/a%00b", "/v3/pay/transactions/out-trade-no/a%0ab",
		"/v3/pay/transactions/out-trade-no/%", "/v3/pay/transactions/out-trade-no/%zz", "/v3/pay/transactions/out-trade-no//close",
		"/v3/pay/transactions/out-trade-no/N12345/close/",
		"/v3/certificates" + strings.Repeat("/a", 40),
		"https://api.mch.weixin.qq.com/v3/certificates", "*",
	} {
		for _, method := range []string{"GET", "POST"} {
			if m, ok := Find(method, path); ok {
				t.Errorf("%s %q names %s", method, path, m.Operation)
			}
		}
	}
	if m, ok := Find("GET", "/v3/pay/transactions/out-trade-no/a%7Cb"); !ok || m.Param() != "a|b" {
		t.Errorf("an escaped bar: %v %v", m, ok)
	}
	if _, ok := Find("get", "/v3/certificates"); ok {
		t.Error("methods are case-sensitive")
	}
}

func TestUnlisted(t *testing.T) {
	for _, bad := range []string{
		"", "/", "*", "v3/x", "/v3", "/v3/", "/v2/x", "/V3/x", "/v3//x", "/v3/x/", "/v3/./x", "/v3/../x", "/v3/x/..", "/v3/%2e%2e/x", "/v3/x%2fy", "/v3/x%5cy",
		"/v3/x%", "/v3/x%2", "/v3/x%zz", "/v3/x%00", "/v3/x%0a", "/v3/x%25", "/v3/x%41", "/v3/x%7e", "/v3/x%3b", "/v3/x%3f", "/v3/x%23", "/v3/x%c0%af", "/v3/x%e4%b8%80",
		"/v3/x;y", "/v3/x y", "/v3/x?y", "/v3/x#y", `/v3/x\y`, "/v3/一", "/v3/x\x00", "/v3/x\r\n",
		"/v3/Pay/transactions/native", "/v3/pay/transactions/NATIVE", "/v3/pay/transactions/native", "/v3/pay/transactions/out-trade-no/N1/Close",
		"/v3/Refund/domestic/refunds", "/v3/x" + strings.Repeat("/x", maxSegments),
	} {
		if m, ok := Unlisted("POST", bad, false); ok {
			t.Errorf("%q stands for %s of %s", bad, m, m.Group)
		}
	}
	for _, method := range []string{"", "get", "HEAD", "OPTIONS", "CONNECT", "TRACE", "GET "} {
		if _, ok := Unlisted(method, "/v3/new/thing", false); ok {
			t.Errorf("method %q", method)
		}
	}
	for path, want := range map[string]Group{
		"/v3/new/thing": Other, "/v3/new/thing%7C%20": Other, "/v3/new/a-b_c.d~e|f*g@h:i": Other, "/v3/new/refunds": Refund, "/v3/new/Transfer": Transfer,
		"/v3/new/profitsharing": ProfitSharing, "/v3/new/bills": Bill,
	} {
		m, ok := Unlisted("POST", path, false)
		if !ok || m.Group != want || m.Act != ActForward || m.Number != nil || m.String() != "POST (unlisted)" || m.Kind != "" {
			t.Errorf("%s: %v %v", path, m, ok)
		}
	}
	if m, ok := Unlisted("POST", "/v3/new/upload", true); !ok || m.Group != Media || !m.Multipart {
		t.Error(m, ok)
	}
}

func TestActNames(t *testing.T) {
	for a, want := range map[Act]string{ActReverse: "reverse", ActNumbered: "numbered", ActQueryNumber: "query_number", ActForward: "forward", ActCreate: "create", ActQuery: "query", ActClose: "close", ActDownload: "download", 99: "unknown"} {
		if a.String() != want {
			t.Errorf("%d: %s", a, a)
		}
	}
}

func BenchmarkUnlisted(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Unlisted("POST", "/v3/new-product/things/42", false); !ok {
			b.Fatal("not taken")
		}
	}
}

func TestParseGroup(t *testing.T) {
	for _, g := range Groups() {
		if got, err := ParseGroup(string(g)); err != nil || got != g {
			t.Errorf("%s: %v %v", g, got, err)
		}
	}
	for _, bad := range []string{"", "*", "Pay", "pays"} {
		if _, err := ParseGroup(bad); err == nil {
			t.Errorf("%q is taken for a group", bad)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add("GET", "/v3/pay/transactions/out-trade-no/N12345")
	f.Add("POST", "/v3/pay/transactions/out-trade-no/%2e%2e/close")
	f.Fuzz(func(t *testing.T, method, path string) {
		m, ok := Find(method, path)
		if !ok {
			return
		}
		for _, p := range m.Params {
			if p == "" || p == "." || p == ".." || strings.ContainsAny(p, "/\\%\x00\n\r") {
				t.Fatalf("%q gives parameter %q", path, p)
			}
		}
		if strings.Count(m.Path, "/") != strings.Count(path, "/") {
			t.Fatalf("%q became %s", path, m.Path)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Find("GET", "/v3/pay/transactions/out-trade-no/N1234567"); !ok {
			b.Fatal("not found")
		}
	}
}
