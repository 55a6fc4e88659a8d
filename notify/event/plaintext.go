package event

import "github.com/caddy-wechatpay/caddy-wechatpay/storage"

// plaintext is what the one pass over a decrypted resource gathers.
type plaintext struct {
	text [fields]string
	// odd is true when a field has another type than documented, or when one
	// thing was said in two ways that differ.
	odd bool

	amount     Amount
	subs       []Sub
	hasSubs    bool
	parking    bool // parking_info is there
	receiver   bool
	collection bool
	paidAmount int64  // of a payscore order's collection
	received   int64  // of a profit-sharing receiver
	openid     string // of the payer, under the order's own app
}

// parsePlaintext reads a decrypted resource. Errors wrap ErrMalformed.
func parsePlaintext(p *plaintext, data []byte) error {
	s := scan(data)
	defer s.done()
	if err := s.wantObject(); err != nil {
		return err
	}
	// One copy of the plaintext backs all strings that are kept of it.
	source := string(data)
	mark := s.open()
	for initial := true; ; initial = false {
		name, ok := s.member(mark, initial)
		if !ok {
			break
		}
		if f, ok := fieldOf(name); ok {
			s.field(p, f, source)
			continue
		}
		switch string(name) {
		case "amount":
			if s.peek() == isObject {
				s.amount(&p.amount, &p.odd, source)
				break
			}
			s.skip() // null, too: an amount that is no amount
			p.odd = true
		case "sub_orders":
			s.subOrders(p, source)
		case "parking_info":
			p.parking = s.object(p, inParking, source)
		case "receiver":
			p.receiver = s.object(p, inReceiver, source)
		case "collection":
			p.collection = s.object(p, inCollection, source)
		case "payer", "combine_payer_info":
			s.payer(p, source)
		case "scene_info":
			s.expect(&p.odd, isObject)
		case "promotion_detail":
			s.expect(&p.odd, isArray)
		case "trade_type", "bank_type", "attach", "description", "trade_state_desc",
			"trade_state_description", "user_received_account", "user_repaid":
			s.expect(&p.odd, isString)
		default:
			s.skip()
		}
	}
	s.finish()
	return s.err
}

// field reads a string into the plaintext. Anything that is no token (a plate:
// no short text) is odd, null is absent, and a second value that differs from
// the first is odd, too (mchid beside mch_id).
func (s *scanner) field(p *plaintext, f field, source string) {
	value, ok := s.shared(source)
	switch {
	case !ok:
		p.odd = true
		return
	case f == fPlateNumber && isPlate(value), f != fPlateNumber && isToken(value):
	default:
		p.odd = true
		return
	}
	if p.text[f] != "" && value != "" && p.text[f] != value {
		p.odd = true
		return
	}
	if value != "" {
		p.text[f] = value
	}
}

// isPlate says whether value can be a plate (车牌号): short text without control
// characters.
func isPlate(value string) bool {
	if len(value) > maxToken {
		return false
	}
	for i := range len(value) {
		if value[i] < 0x20 || value[i] == 0x7f {
			return false
		}
	}
	return true
}

// shared reads a string and returns it as part of source, which holds the same
// bytes as the data. null is the empty string; ok is false for other types.
func (s *scanner) shared(source string) (value string, ok bool) {
	switch s.peek() {
	case isString:
		at := s.str()
		switch {
		case s.err != nil:
			return "", false
		case at.escaped:
			return string(s.bytes(at)), true
		default:
			return source[at.start:at.end], true
		}
	case isNull:
		s.word()
		return "", true
	default:
		s.skip()
		return "", false
	}
}

// integer reads an amount, exactly. Everything else is odd, null included: an
// amount that is there must be one.
func (s *scanner) integer(into *int64, odd *bool) (known bool) {
	if s.peek() == isNumber {
		value, exact := s.num()
		if exact {
			*into = value
			return true
		}
	} else {
		s.skip()
	}
	*odd = true
	return false
}

// expect skips a value that is documented to be of one type.
func (s *scanner) expect(odd *bool, kind valueKind) {
	if got := s.skip(); got != kind && got != isNull {
		*odd = true
	}
}

// scope is an object of the plaintext that is looked into.
type scope uint8

const (
	inParking scope = iota
	inReceiver
	inCollection
)

// object reads one of those objects. It reports whether there was one; null is
// none, and other types are odd.
func (s *scanner) object(p *plaintext, in scope, source string) bool {
	switch s.peek() {
	case isObject:
	case isNull:
		s.word()
		return false
	default:
		s.skip()
		p.odd = true
		return false
	}
	mark := s.open()
	for initial := true; ; initial = false {
		name, ok := s.member(mark, initial)
		if !ok {
			return true
		}
		switch in {
		case inParking:
			s.parkingMember(p, name, source)
		case inReceiver:
			s.receiverMember(p, name, source)
		case inCollection:
			s.collectionMember(p, name, source)
		}
	}
}

// payer reads the openid under the order's own app. It decides nothing: what is
// not the text it should be is passed over.
func (s *scanner) payer(p *plaintext, source string) {
	if s.peek() != isObject {
		s.expect(&p.odd, isObject)
		return
	}
	mark := s.open()
	for initial := true; ; initial = false {
		name, ok := s.member(mark, initial)
		if !ok {
			return
		}
		switch string(name) {
		case "openid", "sp_openid":
			if value, ok := s.shared(source); ok && isToken(value) {
				p.openid = value
			}
		default:
			s.skip()
		}
	}
}

func (s *scanner) parkingMember(p *plaintext, name []byte, source string) {
	switch string(name) {
	case "parking_id":
		s.field(p, fParkingID, source)
	case "out_parking_no":
		s.field(p, fOutParkingNo, source)
	case "plate_number":
		s.field(p, fPlateNumber, source)
	case "plate_color":
		s.field(p, fPlateColor, source)
	default:
		s.skip()
	}
}

func (s *scanner) receiverMember(p *plaintext, name []byte, source string) {
	switch string(name) {
	case "type":
		s.field(p, fReceiverType, source)
	case "account":
		s.field(p, fReceiverAccount, source)
	case "amount":
		s.integer(&p.received, &p.odd)
	default:
		s.skip()
	}
}

func (s *scanner) collectionMember(p *plaintext, name []byte, source string) {
	switch string(name) {
	case "state":
		s.field(p, fCollectionState, source)
	case "paid_amount":
		s.integer(&p.paidAmount, &p.odd)
	default:
		s.skip()
	}
}

// amount reads the amount object of a payment, a refund or a sub-order.
func (s *scanner) amount(a *Amount, odd *bool, source string) {
	mark := s.open()
	for initial := true; ; initial = false {
		name, ok := s.member(mark, initial)
		if !ok {
			return
		}
		switch string(name) {
		case "total", "total_amount":
			if a.TotalKnown {
				*odd = true // both names: which one is meant?
			}
			a.TotalKnown = s.fen(&a.Total, odd)
		case "refund":
			a.RefundKnown = s.fen(&a.Refund, odd)
		case "currency":
			a.Currency = s.shareToken(odd, source)
		case "payer_currency":
			s.expect(odd, isString)
		case "payer_total", "payer_amount", "payer_refund", "discount_total", "discount_refund",
			"settlement_total", "settlement_refund", "refund_fee":
			s.expect(odd, isNumber)
		default:
			s.skip()
		}
	}
}

func (s *scanner) fen(into *storage.Fen, odd *bool) bool {
	var value int64
	known := s.integer(&value, odd)
	*into = storage.Fen(value)
	return known
}

func (s *scanner) shareToken(odd *bool, source string) string {
	value, ok := s.shared(source)
	if !ok || !isToken(value) {
		*odd = true
		return ""
	}
	return value
}

// subOrders reads sub_orders.
func (s *scanner) subOrders(p *plaintext, source string) {
	p.hasSubs = true
	if s.peek() != isArray {
		s.skip()
		p.odd = true
		return
	}
	s.open()
	for initial := true; s.element(initial); initial = false {
		if s.peek() != isObject {
			s.skip()
			p.odd = true
			continue
		}
		p.subs = append(p.subs, s.subOrder(p, source))
	}
}

// subOrder reads one sub-order through the fields of a plaintext.
func (s *scanner) subOrder(p *plaintext, source string) Sub {
	var sub Sub
	mark := s.open()
	for initial := true; ; initial = false {
		name, ok := s.member(mark, initial)
		if !ok {
			return sub
		}
		switch string(name) {
		case "mchid":
			sub.Mchid = s.shareToken(&p.odd, source)
		case "sub_mchid":
			sub.SubMchid = s.shareToken(&p.odd, source)
		case "out_trade_no":
			sub.OutTradeNo = s.shareToken(&p.odd, source)
		case "transaction_id":
			sub.TransactionID = s.shareToken(&p.odd, source)
		case "trade_state":
			sub.State = s.shareToken(&p.odd, source)
		case "amount":
			if s.peek() == isObject {
				s.amount(&sub.Amount, &p.odd, source)
				break
			}
			s.skip()
			p.odd = true
		case "success_time":
			when := s.shareToken(&p.odd, source)
			p.text[fSuccessTime] = max(p.text[fSuccessTime], when)
		case "trade_type", "bank_type", "attach":
			s.expect(&p.odd, isString)
		default:
			s.skip()
		}
	}
}
