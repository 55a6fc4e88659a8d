package parking

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

// Kept is how long a stay is remembered: longer than its charge is refunded.
const Kept = 400 * 24 * time.Hour

// EntryState is what the gateway knows of an entry (停车入场).
type EntryState string

// The states of an entry. Only Normal and Blocked are WeChat Pay's verified word.
const (
	EntryIntended EntryState = "intended" // the intent row is written, the call may have been sent
	EntryUnknown  EntryState = "unknown"  // the call's outcome is not known
	EntryNormal   EntryState = "NORMAL"
	EntryBlocked  EntryState = "BLOCKED"
)

// Known reports whether WeChat Pay has the entry.
func (s EntryState) Known() bool { return s == EntryNormal || s == EntryBlocked }

// Entry is one car's stay as it was reported. It is the data of the memo
// [Names.Entry].
type Entry struct {
	OutParkingNo string `json:"out_parking_no"`
	ParkingID    string `json:"parking_id,omitempty"` // "" until WeChat Pay has it
	Plate        string `json:"plate_number"`
	PlateColor   string `json:"plate_color"`
	StartTime    string `json:"start_time"` // as it was stated
	ParkingName  string `json:"parking_name"`
	FreeDuration int64  `json:"free_duration"` // seconds

	State       EntryState `json:"state"`
	BlockReason string     `json:"block_reason,omitempty"`
	// StateAt is the state_update_time of the callback that said so; zero while the
	// state is that of the entry call's own answer.
	StateAt time.Time `json:"state_at,omitzero"`

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Same reports whether two entries report the same stay.
func (e *Entry) Same(o *Entry) bool {
	return e.OutParkingNo == o.OutParkingNo && e.Plate == o.Plate && e.PlateColor == o.PlateColor &&
		e.ParkingName == o.ParkingName && e.FreeDuration == o.FreeDuration && sameTime(e.StartTime, o.StartTime)
}

// Update takes in what a callback says of the entry's state. An older
// state_update_time than that of the state is no news; changed is false then.
func (e *Entry) Update(state EntryState, reason string, at, now time.Time) (changed bool) {
	if !state.Known() || at.IsZero() || !e.StateAt.IsZero() && !at.After(e.StateAt) {
		return false
	}
	if state == EntryNormal {
		reason = ""
	}
	e.State, e.BlockReason, e.StateAt, e.UpdatedAt = state, reason, at, now
	return true
}

// Info is the part of a charge's parking_info that must be the entry's.
type Info struct {
	ParkingID, Plate, PlateColor, StartTime, ParkingName string
}

// Matches reports whether a charge's parking_info is the entry's.
func (e *Entry) Matches(i Info) bool {
	return e.ParkingID == i.ParkingID && e.Plate == i.Plate && e.PlateColor == i.PlateColor &&
		e.ParkingName == i.ParkingName && sameTime(e.StartTime, i.StartTime)
}

// sameTime compares moments, however they are spelled.
func sameTime(a, b string) bool {
	if a == b {
		return true
	}
	s, err := time.Parse(time.RFC3339, a)
	if err != nil {
		return false
	}
	t, err := time.Parse(time.RFC3339, b)
	return err == nil && s.Equal(t)
}

// Stay is what hangs on a parking_id: its entry's number, and the one charge of it.
// It is the data of the memo [Names.Stay].
type Stay struct {
	OutParkingNo string `json:"out_parking_no,omitempty"` // "": reported elsewhere
	// Charge is the out_trade_no that the stay is charged under, "" for none.
	// ClaimedAt is when it first was.
	Charge    string    `json:"charge,omitempty"`
	ClaimedAt time.Time `json:"claimed_at,omitzero"`
	// Native is the out_trade_no of the order that was offered in place of a charge,
	// "" for none.
	Native string `json:"native,omitempty"`
}

// Plate is what hangs on a plate: the number of its newest entry, the only one that
// is valid, and of the one before it. It is the data of the memo [Names.Plate].
type Plate struct {
	Newest string `json:"newest"`
	Before string `json:"before,omitempty"`
}

// Names makes the keys of one merchant's memos.
type Names struct{ Mchid, SubMchid string }

// Entry names the memo of an [Entry].
func (n Names) Entry(outParkingNo string) string { return n.name("entry", outParkingNo) }

// Stay names the memo of a [Stay].
func (n Names) Stay(parkingID string) string { return n.name("stay", parkingID) }

// Plate names the memo of a [Plate]; the plate is in it as a digest only.
func (n Names) Plate(number, color string) string {
	sum := sha256.Sum256([]byte(color + "\x00" + number))
	return n.name("plate", hex.EncodeToString(sum[:16]))
}

func (n Names) name(kind, of string) string {
	return "parking/" + kind + "/" + n.Mchid + "/" + n.SubMchid + "/" + of
}

// ErrMemo is returned by Read for data that it has not written.
var ErrMemo = errors.New("parking: a memo cannot be read")

// Read reads a memo's data; nil when there is no memo. Errors: [ErrMemo].
func Read[T Entry | Stay | Plate](m *storage.Memo) (*T, error) {
	if m == nil {
		return nil, nil
	}
	value := new(T)
	if err := json.Unmarshal(m.Data, value); err != nil {
		return nil, ErrMemo
	}
	return value, nil
}

// Write puts a value into the rows of a change, under a key that the change names.
func Write[T Entry | Stay | Plate](rows *storage.Rows, key string, value *T, now time.Time) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMemo, err)
	}
	if rows.Memos == nil {
		rows.Memos = map[string]*storage.Memo{}
	}
	rows.Memos[key] = &storage.Memo{Key: key, Data: data, Expires: now.Add(Kept)}
	return nil
}

// Colors are the colours of plates that WeChat Pay knows.
func Colors() []string { return []string{"BLUE", "GREEN", "YELLOW", "BLACK", "WHITE", "LIMEGREEN"} }

// ValidColor reports whether WeChat Pay knows the colour.
func ValidColor(color string) bool { return slices.Contains(Colors(), color) }

// ValidPlate reports whether s may be a plate: Han characters, capital letters and
// digits without separators (粤B888888), 3 to 12 of them.
func ValidPlate(s string) bool {
	n := 0
	for _, c := range s {
		n++
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 0x4e00 && c <= 0x9fff:
		default:
			return false
		}
	}
	return n >= 3 && n <= 12
}

// ValidID reports whether s may be an out_parking_no or a parking_id: 1 to 64 of
// digits, letters and _-|*@.
func ValidID(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
		case c == '_', c == '-', c == '|', c == '*', c == '@':
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}
