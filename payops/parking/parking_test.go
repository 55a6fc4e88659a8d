package parking

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var charged = storage.Order{
	Key: storage.OrderKey{Mchid: "1900000001", SubMchid: "1900000109", Number: "P1"}, Kind: storage.OrderParking,
	Amount: storage.Money{Total: 800, Currency: "CNY"}, ParkingID: "5K01",
}

const answer = `{"sub_mchid":"1900000109","out_trade_no":"P1","trade_state":"ACCEPTED","amount":{"total":800,"currency":"CNY"},"parking_info":{"parking_id":"5K01"}}`

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		old, new string
		want     Outcome
	}{
		{"", "", Accepted}, {"ACCEPTED", "SUCCESS", Paid}, {"ACCEPTED", "PAY_FAIL", Failed}, {"ACCEPTED", "REFUND", Refunded}, {`,"currency":"CNY"`, "", Accepted},
		{"ACCEPTED", "accepted", Unknown}, {"ACCEPTED", "", Unknown}, {"800", "801", Unknown}, {"800", "800.0", Unknown}, {"800", "8e2", Unknown}, {"800", `"800"`, Unknown},
		{"CNY", "HKD", Unknown}, {`"P1"`, `"P2"`, Unknown}, {"5K01", "5K02", Unknown}, {"1900000109", "1900000108", Unknown}, {"parking_info", "info", Unknown},
		{answer, "", Unknown}, {answer, "[]", Unknown}, {answer, "null", Unknown},
	} {
		body := strings.Replace(answer, tc.old, tc.new, 1)
		if got, _ := Judge([]byte(body), charged); got != tc.want {
			t.Errorf("%s: %s, want %s", body, got, tc.want)
		}
	}
	basic := charged
	basic.Kind = storage.OrderBasic
	if got, _ := Judge([]byte(answer), basic); got != Unknown {
		t.Error("an order of another kind:", got)
	}
}

// FuzzJudge: nothing opens a barrier that does not name the charge.
func FuzzJudge(f *testing.F) {
	f.Add([]byte(answer))
	f.Fuzz(func(t *testing.T, body []byte) {
		if got, _ := Judge(body, charged); got != Unknown && !strings.Contains(string(body), "P1") && !strings.Contains(string(body), `\u`) {
			t.Errorf("%q: %s", body, got)
		}
	})
}

func TestOpens(t *testing.T) {
	for _, o := range []Outcome{Accepted, Paid, Failed, Refunded, Rejected, Unreachable, Blocked, OtherOrder, Unknown, ""} {
		if OnAccepted.Opens(o) != (o == Accepted || o == Paid) || OnSuccess.Opens(o) != (o == Paid) {
			t.Error(o)
		}
		if o.NotAccepted() != (o == Rejected || o == Unreachable || o == Blocked) {
			t.Error(o)
		}
	}
}

func TestPlates(t *testing.T) {
	for plate, ok := range map[string]bool{
		"粤B888888": true, "京AD12345": true, "粤Z1234港": true, "WJ粤12345": true, "粤B-8888": false, "粤B·8888": false, "粤B 8888": false, "粤b8888": false, "": false, "粤B": false,
		"粤B88888888888": false, "粤B８８": false, "粤B\x00\x00": false, "\xff\xff\xff": false,
	} {
		if ValidPlate(plate) != ok {
			t.Errorf("%q", plate)
		}
	}
	for _, color := range Colors() {
		if !ValidColor(color) || ValidColor(strings.ToLower(color)) {
			t.Error(color)
		}
	}
	if ValidColor("") || ValidID("") || ValidID("a/b") || ValidID(strings.Repeat("a", 65)) || !ValidID("5K82_-|*@") {
		t.Error("too much or too little")
	}
}

func TestSameStay(t *testing.T) {
	e := Entry{OutParkingNo: "A", ParkingID: "5K", Plate: "粤B1", PlateColor: "BLUE", StartTime: "2026-11-22T08:00:00+08:00", ParkingName: "P"}
	info := Info{"5K", "粤B1", "BLUE", "2026-11-22T00:00:00Z", "P"}
	if !e.Matches(info) {
		t.Error("the same moment in another zone")
	}
	for _, wrong := range []string{"", "2026-11-22T08:00:01+08:00", "2026-11-22 08:00:00"} {
		i := info
		i.StartTime = wrong
		if e.Matches(i) {
			t.Error(wrong)
		}
	}
	if e.Update(EntryIntended, "", time.Now(), time.Now()) || e.Update(EntryNormal, "", time.Time{}, time.Now()) {
		t.Error("no state, no time")
	}
	if n := (Names{Mchid: "1"}).Plate("粤B888888", "BLUE"); strings.Contains(n, "888888") {
		t.Error("a plate in a key:", n)
	}
}

// TestFlights: who comes while a call runs joins it, who comes later starts anew.
func TestFlights(t *testing.T) {
	var flights Flights[int]
	hold := make(chan struct{})
	first, started, same := flights.Join("a", "x", func() int { <-hold; return 1 })
	if !started || !same {
		t.Fatal(started, same)
	}
	if joined, started, same := flights.Join("a", "x", func() int { t.Error("twice"); return 2 }); joined != first || started || !same {
		t.Error(started, same)
	}
	if _, started, same := flights.Join("a", "y", func() int { t.Error("twice"); return 2 }); started || same {
		t.Error(started, same)
	}
	other, started, _ := flights.Join("b", "x", func() int { return 3 })
	if <-other.Done(); !started || other.Value() != 3 {
		t.Error(other.Value())
	}
	close(hold)
	if <-first.Done(); first.Value() != 1 {
		t.Error(first.Value())
	}
	if again, started, _ := flights.Join("a", "y", func() int { return 4 }); !started || again == first {
		t.Error("the name is still taken")
	}
	flights.Wait()
}
