package merchant

import (
	"testing"
	"time"
)

func TestClockSkew(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse("15:04:05.000", text)
		if err != nil {
			t.Fatal(err)
		}
		return v.AddDate(2026, 0, 0)
	}
	for _, row := range []struct {
		name, date, sent, received string
		want                       time.Duration
		nothing                    bool
	}{
		{"in step", "12:00:00", "12:00:00.100", "12:00:00.200", 0, false},
		{"cut to the second", "12:00:00", "12:00:00.950", "12:00:01.050", 0, false},
		{"a slow answer", "12:00:05", "12:00:00.000", "12:00:09.000", 0, false},
		{"ahead", "12:00:00", "12:00:41.500", "12:00:41.600", 40500 * time.Millisecond, false},
		{"behind", "12:10:00", "12:00:00.000", "12:00:00.500", -599500 * time.Millisecond, false},
		{"no date", "", "12:00:00.000", "12:00:00.500", 0, true},
		{"a clock that was set back", "12:00:00", "12:00:00.500", "12:00:00.000", 0, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := new(Merchant)
			if _, _, ok := m.ClockSkew(); ok {
				t.Fatal("known before any answer")
			}
			date := row.date
			if date != "" {
				date = at(date + ".000").UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
			}
			m.SawDate(date, at(row.sent), at(row.received))
			skew, seen, ok := m.ClockSkew()
			if ok == row.nothing || skew != row.want || ok && !seen.Equal(at(row.received)) {
				t.Errorf("%s, %s, %v", skew, seen, ok)
			}
		})
	}
}
