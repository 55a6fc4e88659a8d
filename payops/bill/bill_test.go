package bill

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// all collects a bill, or the error that makes all of it count for nothing.
func all[T any](seq func(func(T, error) bool)) (out []T, err error) {
	for record, err := range seq {
		if err != nil {
			return nil, err
		}
		out = append(out, record)
	}
	return out, nil
}

func fixture(t testing.TB, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestGolden reads bills of every kind, byte by byte too.
func TestGolden(t *testing.T) {
	for _, name := range []string{"trade_all", "trade_success", "trade_refund", "trade_early", "fundflow"} {
		t.Run(name, func(t *testing.T) {
			text := fixture(t, name+".csv")
			read := func(r io.Reader) string {
				var out struct {
					Totals  any
					Records any
				}
				var err, totalsErr error
				if name == "fundflow" {
					out.Records, err = all(Flows(r))
					out.Totals, totalsErr = CheckFlows(strings.NewReader(text))
				} else {
					out.Records, err = all(Trades(r))
					out.Totals, totalsErr = CheckTrades(strings.NewReader(text))
				}
				if err := errors.Join(err, totalsErr); err != nil {
					t.Fatal(err)
				}
				content, err := json.MarshalIndent(out, "", "\t")
				if err != nil {
					t.Fatal(err)
				}
				return string(content) + "\n"
			}
			have, golden := read(strings.NewReader(text)), filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(golden, []byte(have), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := fixture(t, name+".json"); have != want {
				t.Errorf("have\n%s\nwant\n%s", have, want)
			}
			if bytewise := read(iotest.OneByteReader(strings.NewReader(text))); bytewise != have {
				t.Errorf("byte by byte:\n%s", bytewise)
			}
		})
	}
}

// TestFreeText: what merchants write into names never moves an amount.
func TestFreeText(t *testing.T) {
	text := fixture(t, "trade_success.csv")
	const goods, attach = "图书 <1>", "a,b"
	for name, tc := range map[string]struct {
		goods, attach       string
		haveGoods, haveNote string
		joined              bool
	}{
		"commas and quotes":   {`a,b,"c",`, `",`, `a,b,"c",`, `",`, false},
		"a line feed":         {"a\nb", "c\n`d", "a\nb", "c\n`d", false},
		"a tick at the start": {"`a", "`b", "`a", "`b", false},
		"a separator":         {"a,`b", "c", "a,`b,`c", "", true},
		"a row's end":         {"a,`b,`9.99000,`0.60%,`99.00,`", "c", "a,`b,`9.99000,`0.60%,`99.00,`,`c", "", true},
		"nothing":             {"", "", "", "", false},
		"a formula":           {"=1+1", "@x", "=1+1", "@x", false},
		"no control picture":  {"\x00\x7f", "\u2028", "\x00\x7f", "\u2028", false},
	} {
		changed := strings.Replace(text, "`"+goods+",`"+attach, "`"+tc.goods+",`"+tc.attach, 1)
		if changed == text {
			t.Fatal("nothing changed")
		}
		rows, err := all(Trades(strings.NewReader(changed)))
		if err != nil || len(rows) != 1 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r := rows[0]
		if r.Goods != tc.haveGoods || r.Attach != tc.haveNote || r.GoodsAndAttach != tc.joined || r.Total != 100 || r.Settlement != 70 || r.Fee != 1000 || r.Rate != "0.60%" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestRefused: one change makes a bill that is refused, with the error that says
// what is wrong.
func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name, file, old, new string
		want                 error
		column               string
	}{
		{"a wrong count", "trade_all", "`4,`1234568.59", "`5,`1234568.59", ErrTotals, "总交易单数"},
		{"no count", "trade_all", "总交易单数,", "单数,", ErrColumns, "总交易单数"},
		{"a fen more in all", "trade_all", "`1234568.59", "`1234568.60", ErrTotals, "应结订单总金额"},
		{"refunds", "trade_all", "`0.36,`0.10,", "`0.37,`0.10,", ErrTotals, "退款总金额"},
		{"coupons", "trade_all", "`0.36,`0.10,", "`0.36,`0.11,", ErrTotals, "充值券退款总金额"},
		{"fees", "trade_all", "`7407.40790", "`7407.40791", ErrTotals, "手续费总金额"},
		{"orders", "trade_all", "`1234568.89", "`1234568.88", ErrTotals, "订单总金额"},
		{"asked", "trade_all", "`0.51", "`0.50", ErrTotals, "申请退款总金额"},
		{"a fen more in a row", "trade_all", "`1.00,`0.00,`\r", "`1.01,`0.00,`\r", ErrTotals, "订单总金额"},
		{"half a fen", "trade_all", "`1.00,`0.00,`\r", "`1.005,`0.00,`\r", ErrAmount, "订单金额"},
		{"half a fen in all", "trade_all", "`0.51", "`0.505", ErrAmount, "申请退款总金额"},
		{"a grouped amount", "trade_all", "`1234567.89,`0.00,`", "`1,234,567.89,`0.00,`", ErrAmount, "应结订单金额"},
		{"a sign", "trade_all", "`CNY,`0.70", "`CNY,`+0.70", ErrAmount, "应结订单金额"},
		{"an exponent", "trade_all", "`CNY,`0.70", "`CNY,`7e-1", ErrAmount, "应结订单金额"},
		{"no amount", "trade_all", "`CNY,`0.70", "`CNY,`", ErrAmount, "应结订单金额"},
		{"a full-width digit", "trade_all", "`CNY,`0.70", "`CNY,`０.70", ErrAmount, "应结订单金额"},
		{"a space", "trade_all", "`CNY,`0.70", "`CNY,`0.70 ", ErrAmount, "应结订单金额"},
		{"beyond all numbers", "trade_all", "`CNY,`0.70", "`CNY,`99999999999999.00", ErrAmount, "应结订单金额"},
		{"a fee beyond its unit", "trade_all", "`-0.00210", "`-0.002101", ErrAmount, "手续费"},
		{"a column less", "trade_all", "订单金额,申请退款金额", "申请退款金额", ErrColumns, "订单金额"},
		{"half of the refund columns", "trade_all", "微信退款单号,", "别的单号,", ErrColumns, "微信退款单号"},
		{"half of the refund times", "trade_refund", "退款成功时间", "时间", ErrColumns, "退款成功时间"},
		{"two forms at once", "trade_all", "应结订单金额", "总金额", ErrColumns, "应结订单金额"},
		{"a column twice", "trade_all", "设备号", "商户号", ErrColumns, "商户号"},
		{"a column and its early name", "trade_all", "设备号", "子商户号", ErrColumns, "特约商户号"},
		{"a total twice", "trade_all", "总交易单数,应结", "订单总金额,应结", ErrTotals, "订单总金额"},
		{"the same total twice", "trade_all", "退款总金额,充值", "总交易单数,充值", ErrColumns, "总交易单数"},
		{"a total less", "trade_all", "订单总金额,申请退款总金额", "别的,申请退款总金额", ErrColumns, "订单总金额"},
		{"a value less", "trade_all", "`NATIVE,", "", ErrRow, ""},
		{"a value too many", "trade_all", "`NATIVE,", "`NATIVE,`NATIVE,", ErrAmount, "应结订单金额"},
		{"a separator in the device", "trade_all", "`POS-1,", "`POS,`1,", ErrAmount, "应结订单金额"},
		{"a total's value less", "trade_all", "`4,", "", ErrRow, ""},
		{"a total's value too many", "trade_all", "`4,", "`4,`4,", ErrRow, ""},
		{"totals without ticks", "trade_all", "`4,", "4,", ErrRow, ""},
		{"a line end within a value", "trade_all", "cup", "cu\r\np", ErrRow, ""},
		{"an empty line", "trade_all", "\r\n`2026-11-21 23", "\r\n\r\n`2026-11-21 23", ErrRow, ""},
		{"another day's form", "trade_all", "2026-11-21 10:00:00", "2026/11/21 10:00:00", ErrRow, "交易时间"},
		{"no such time", "trade_all", "2026-11-21 10:00:00", "2026-11-31 10:00:00", ErrRow, "交易时间"},
		{"a short time", "trade_all", "2026-11-21 09:59:59", "2026-11-21 9:59:59", ErrRow, "交易时间"},
		{"a longer time", "trade_all", "2026-11-21 09:59:59", "2026-11-21 09:59:59.5", ErrRow, "交易时间"},
		{"no merchant", "trade_all", "`1900000001,`0,", "`,`0,", ErrRow, ""},
		{"no transaction", "trade_all", "4200000008202611210000000001", "", ErrRow, ""},
		{"no order", "trade_all", "N20261121-1", "", ErrRow, ""},
		{"no state", "trade_all", "`SUCCESS", "`", ErrRow, ""},
		{"no currency", "trade_all", "`CNY", "`", ErrRow, ""},
		{"a refund without a number", "trade_all", "50300000012026112100000000001", "0", ErrRow, ""},
		{"a refund among payments", "trade_success", "`SUCCESS", "`REFUND", ErrRow, ""},
		{"GBK", "trade_all", "图书", "\xcd\xbc\xca\xe9", ErrEncoding, ""},
		{"GBK in the header", "trade_all", "交易时间", "\xbd\xbb\xd2\xd7\xca\xb1\xbc\xe4", ErrEncoding, ""},
		{"half a character", "trade_all", "图书", "图\xe4\xb9", ErrEncoding, ""},
		{"a surrogate", "trade_all", "图书", "\xed\xa0\x80", ErrEncoding, ""},
		{"rows behind the end", "trade_all", "`0.51\r\n", "`0.51\r\n`x\r\n", ErrRow, ""},
		{"a bill behind a bill", "trade_all", "`0.51\r\n", "`0.51\r\n交易时间\r\n", ErrRow, ""},
		{"another side", "fundflow", "收入,`0.70", "退回,`0.70", ErrRow, ""},
		{"a negative flow", "fundflow", "收入,`0.70", "收入,`-0.70", ErrRow, ""},
		{"the wrong side", "fundflow", "收入,`0.70", "支出,`0.70", ErrTotals, "收入笔数"},
		{"flow count", "fundflow", "`2.0", "`2.5", ErrAmount, "资金流水总笔数"},
		{"flow expense", "fundflow", "`1.0,`0.72", "`1.0,`0.71", ErrTotals, "支出金额"},
		{"no amounts", "fundflow", "收支金额(元)", "收支金额", ErrColumns, "收支金额(元)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := fixture(t, tc.file+".csv")
			changed := strings.Replace(text, tc.old, tc.new, 1)
			if changed == text {
				t.Fatal("nothing changed")
			}
			err := check(tc.file, changed)
			var where *ParseError
			if !errors.Is(err, tc.want) || !errors.As(err, &where) || where.Column != tc.column || where.Line == 0 {
				t.Errorf("%v, want %v at %q", err, tc.want, tc.column)
			}
		})
	}
}

// check reads a bill to its end.
func check(file, text string) error {
	var err error
	if strings.HasPrefix(file, "fundflow") {
		_, err = CheckFlows(strings.NewReader(text))
	} else {
		_, err = CheckTrades(strings.NewReader(text))
	}
	return err
}

// TestTruncated: no part of a bill is a bill. What only the last line end is
// missing from is whole.
func TestTruncated(t *testing.T) {
	for _, name := range []string{"trade_all", "trade_success", "trade_refund", "trade_early", "fundflow"} {
		text := fixture(t, name+".csv")
		whole := strings.TrimRight(text, "\r\n")
		for n := range len(whole) {
			err := check(name, text[:n])
			// 1.00 without its decimals is the same amount.
			if err == nil && strings.Trim(whole[n:], ".0") != "" {
				t.Fatalf("%s: %d of %d bytes pass", name, n, len(text))
			}
		}
		for n := len(whole); n <= len(text); n++ {
			// A lone carriage return is no line end, and no part of an amount.
			if err := check(name, text[:n]); (err == nil) != (n != len(whole)+1) {
				t.Errorf("%s: %d of %d: %v", name, n, len(text), err)
			}
		}
	}
}

// TestBytes: a byte that is changed, lost or doubled anywhere makes a bill that
// is refused, or one that says the same about money.
func TestBytes(t *testing.T) {
	for _, name := range []string{"trade_all", "trade_refund", "trade_early", "fundflow"} {
		text := []byte(fixture(t, name+".csv"))
		want := money(name, string(text))
		if want == "" {
			t.Fatal(name)
		}
		for i := range text {
			for k, with := range [][]byte{nil, {text[i], text[i]}, {'0'}, {'9'}, {'`'}, {','}, {'\n'}, {0xff}, {'.'}} {
				if k > 0 && (i+k)%3 != 0 {
					continue // a third of them at each byte
				}
				changed := append(append(bytes.Clone(text[:i]), with...), text[i+1:]...)
				if have := money(name, string(changed)); have != "" && have != want {
					t.Fatalf("%s: byte %d (%q) as %q passes with other money\n%s\n%s", name, i, text[i], with, have, want)
				}
			}
		}
	}
}

// money says what a bill says about money, "" when it is refused. Two errors at
// once are beyond what a summary row can find, so it is the totals that count.
func money(name, text string) string {
	var totals any
	var err error
	if name == "fundflow" {
		totals, err = CheckFlows(strings.NewReader(text))
	} else {
		totals, err = CheckTrades(strings.NewReader(text))
	}
	if err != nil {
		return ""
	}
	content, err := json.Marshal(totals)
	if err != nil {
		return ""
	}
	return string(content)
}

func TestExtraColumns(t *testing.T) {
	text := fixture(t, "trade_success.csv")
	text = strings.Replace(text, "费率备注\r\n", "费率备注,新列\r\n", 1)
	text = strings.Replace(text, "`1.00,`\r\n总", "`1.00,`,`new\r\n总", 1)
	text = strings.Replace(text, ",订单总金额\r\n", ",新总额,订单总金额\r\n", 1)
	text = strings.Replace(text, ",`1.00\r\n", ",`anything,`1.00\r\n", 1)
	rows, err := all(Trades(strings.NewReader(text)))
	if err != nil || len(rows) != 1 || rows[0].Total != 100 {
		t.Errorf("%+v %v", rows, err)
	}
}

// TestOtherOrder: columns are found by their names.
func TestOtherOrder(t *testing.T) {
	const text = "订单金额,手续费,代金券金额,应结订单金额,货币种类,交易状态,商户订单号,微信订单号,特约商户号,商户号,交易时间\n" +
		"`1.00,`0,`0.1,`0.9,`CNY,`SUCCESS,`N1,`42,`0,`19,`2026-11-21 00:00:00\n" +
		"订单总金额,手续费总金额,应结订单总金额,总交易单数\n`1,`0,`0.9,`1"
	rows, err := all(Trades(strings.NewReader(text)))
	if err != nil || len(rows) != 1 || rows[0].Total != 100 || rows[0].Coupon != 10 || rows[0].Mchid != "19" || rows[0].OutTradeNo != "N1" {
		t.Errorf("%+v %v", rows, err)
	}
}

func TestEmptyBill(t *testing.T) {
	text := fixture(t, "trade_success.csv")
	head, _, _ := strings.Cut(text, "\r\n")
	empty := head + "\r\n总交易单数,应结订单总金额,手续费总金额,订单总金额\r\n`0,`0.00,`0.00000,`0.00\r\n"
	if totals, err := CheckTrades(strings.NewReader(empty)); err != nil || totals != (TradeTotals{}) {
		t.Error(totals, err)
	}
	for _, text := range []string{"", "\ufeff", "\r\n", head, head + "\r\n"} {
		if err := check("trade", text); err == nil {
			t.Errorf("%q passes", text)
		}
	}
}

func TestReaderFails(t *testing.T) {
	broken := errors.New("broken")
	text := fixture(t, "trade_all.csv")
	for _, n := range []int{0, 1, 100, len(text) / 2, len(text)} {
		_, err := CheckTrades(io.MultiReader(strings.NewReader(text[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Errorf("%d: %v", n, err)
		}
	}
	if err := check("trade", strings.Repeat("交", maxLine)); !errors.Is(err, ErrRow) {
		t.Error(err)
	}
	if err := check("trade", text[:strings.Index(text, "`2026")+5]+strings.Repeat("x", 2*maxLine)); !errors.Is(err, ErrRow) {
		t.Error(err)
	}
}

// TestStopsEarly: who has seen enough reads no further.
func TestStopsEarly(t *testing.T) {
	text := fixture(t, "trade_all.csv")
	end := strings.Index(text, "总交易单数")
	for record, err := range Trades(io.MultiReader(strings.NewReader(text[:end]), iotest.ErrReader(errors.New("read on")))) {
		if err != nil || record.Total != 100 {
			t.Fatal(record, err)
		}
		break
	}
}

func TestAmounts(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "0.0": 0, "0.00": 0, "-0.00": 0, "1": 100, "1.5": 150, "0.01": 1, "-0.01": -1, "1.0100000": 101,
		"9999999999999.99": 999999999999999, "-9999999999999.99": -999999999999999, "007.10": 710,
	} {
		if n, ok := parseYuan(text, fenDecimals); !ok || n != want {
			t.Errorf("%q: %d %v", text, n, ok)
		}
	}
	for _, text := range []string{
		"", "-", ".", "0.", ".5", "0.001", "0.019", "1.2.3", "--1", "+1", "1-", "1,0", " 1", "1 ", "1e2", "0x1", "NaN", "Inf", "１",
		"10000000000000", "0.00000000000000000", "1.0a", "-.5",
	} {
		if n, ok := parseYuan(text, fenDecimals); ok {
			t.Errorf("%q: %d", text, n)
		}
	}
	for n, want := range map[storage.Fen]string{0: "0.00", 1: "0.01", -1: "-0.01", 10: "0.10", 100: "1.00", -12345: "-123.45", -1 << 63: "-92233720368547758.08"} {
		if have := Yuan(n); have != want {
			t.Errorf("%d: %s", n, have)
		}
	}
	var f Fee
	if err := f.UnmarshalText([]byte("-0.00210")); err != nil || f != -210 || f.String() != "-0.00210" {
		t.Error(f, err)
	}
	if err := f.UnmarshalText([]byte("0.000001")); !errors.Is(err, ErrAmount) {
		t.Error(err)
	}
	up, down := sum{total: 1<<63 - 2}, sum{total: -1<<63 + 1}
	up.add(1)
	down.add(-1)
	if up.over || down.over || up.total != 1<<63-1 || down.total != -1<<63 {
		t.Error(up, down)
	}
	up.add(1)
	down.add(-1)
	if !up.over || !down.over {
		t.Error(up, down)
	}
}

// BenchmarkTrades reads a bill of 10,000 rows.
func BenchmarkTrades(b *testing.B) {
	text := fixture(b, "trade_success.csv")
	head, rest, _ := strings.Cut(text, "\r\n")
	row, _, _ := strings.Cut(rest, "\r\n")
	const rows = 10_000
	text = head + "\r\n" + strings.Repeat(row+"\r\n", rows) + "总交易单数,应结订单总金额,手续费总金额,订单总金额\r\n`10000,`7000.00,`100.00000,`10000.00\r\n"
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if totals, err := CheckTrades(strings.NewReader(text)); err != nil || totals.Rows != rows {
			b.Fatal(totals, err)
		}
	}
}

// FuzzParse: whatever the bytes are, a bill is refused or its rows add up to its
// summary.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"trade_all", "trade_success", "trade_refund", "trade_early", "fundflow"} {
		f.Add(fixture(f, name+".csv"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := all(Trades(strings.NewReader(text)))
		totals, again := CheckTrades(iotest.HalfReader(strings.NewReader(text)))
		if (err == nil) != (again == nil) || err != nil && (rows != nil || err.Error() != again.Error()) {
			t.Fatalf("%v, and %v", err, again)
		}
		if err == nil {
			var have TradeTotals
			for _, r := range rows {
				if r.OutTradeNo == "" || r.TransactionID == "" || r.Time.IsZero() {
					t.Fatalf("%+v", r)
				}
				have.Rows++
				have.Settlement += r.Settlement
				have.Refund += r.Refund
				have.CouponRefund += r.CouponRefund
				have.Fee += r.Fee
			}
			totals.Total, totals.RefundAsked = 0, 0 // derived in the early form
			if have != totals {
				t.Fatalf("%+v, want %+v", have, totals)
			}
		}
		flows, err := all(Flows(strings.NewReader(text)))
		if totals, again := CheckFlows(strings.NewReader(text)); (err == nil) != (again == nil) || err == nil && int64(len(flows)) != totals.Rows {
			t.Fatalf("%v, and %v", err, again)
		}
	})
}
