package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const maxControlBody = 64 << 10 // bytes

// maxWait bounds GET /sandbox/control/wait.
const maxWait = time.Minute

// controlHelp is GET /sandbox/control.
const controlHelp = `WeChat Pay sandbox: control endpoints (loopback peers only, JSON)
微信支付沙箱控制接口（仅限本机访问，JSON）

"order" is an out_trade_no, a combine_out_trade_no, a sub-order's number,
"mchid:number", a code_url, prepay_id or h5_url. Where callbacks are concerned it
may also be "refund:out_refund_no", "refund:mchid:out_refund_no", "parking:" and an
entry, or the id of a notification. "parking" is a parking_id, an out_parking_no,
"mchid:out_parking_no", or a plate number, whose newest entry is meant.

GET  /sandbox/control/orders                  every order with its callback
GET  /sandbox/control/refunds                 every refund with its callbacks
GET  /sandbox/control/callbacks?order=…       every callback, or one, with its attempts
GET  /sandbox/control/wait?order=…&attempts=1&timeout=10
                                              waits (seconds, at most 60) until that many
                                              attempts have ended; 408 when they have not
POST /sandbox/control/pay                     {"order":"…","faults":{…}}    pay an order
POST /sandbox/control/invoke                  {"params":{…},"faults":{…}}   pay as a page or an app invokes it: "params" is
                                              what it hands to WeChat, signed; 400 when that is wrong
POST /sandbox/control/login                   {"appid":"…","user":"…"}      a code as wx.login and SendAuth give it, for an
                                              openid that stays the same; user: "1" unless named
POST /sandbox/control/send                    {"order":"…","faults":{…}}    send a paid order's callback now
POST /sandbox/control/reorder                 {"orders":["second","first"]} send in this order, one after the other
POST /sandbox/control/refund                  {"refund":"…","status":"SUCCESS"|"ABNORMAL"|"CLOSED","faults":{…}}
                                              ends a refund that is PROCESSING or ABNORMAL, now
POST /sandbox/control/refund-plan             {"status":"CLOSED","count":2,"faults":{…}}
                                              how the next refunds end; PROCESSING: not by themselves
GET  /sandbox/control/plates                  every plate
GET  /sandbox/control/parkings                every entry with its callbacks; charges are among the orders
POST /sandbox/control/plate                   {"plate_number":"粤B888888","plate_color":"BLUE","openid":"…",
                                               "service":"NORMAL"|"PAUSE"|"OUT_SERVICE","state":"BLOCKED","block_reason":"OVERDUE"}
                                              what a car's service is from now on; a car inside flips with it
POST /sandbox/control/parking-flip            {"parking":"…","state":"NORMAL"|"BLOCKED","block_reason":"PAUSE","faults":{…}}
                                              flips a car that is inside; block_reason: PAUSE, OUT_SERVICE, OVERDUE or
                                              EVALUATION_FAILED
POST /sandbox/control/charge                  {"order":"…","state":"success"|"fail"|"advanced"|"paid_back","faults":{…}}
                                              takes a parking charge on, now
POST /sandbox/control/charge-plan             {"state":"advanced","plate_number":"…","count":2,"after_ms":500,"later_ms":9000,"faults":{…}}
                                              how the next charges go on (of a plate, or of any): after_ms until "state",
                                              later_ms until advanced is paid back, or fail succeeds; pending: not by itself
POST /sandbox/control/rotate                  {"key":"certificate"|"public_key","sign_after":"1h","overlap":"24h"}
POST /sandbox/control/share                   {"public_key_percent":20}     of the callbacks, both mode only
POST /sandbox/control/api-faults              {"kind":"…","method":"POST","path":"/v3/pay","count":2,
                                               "code":"NOT_ENOUGH","delay_ms":3000}
POST /sandbox/control/api-faults/clear        {}

faults, all optional:
  probes n         sends with a WECHATPAY/SIGNTEST/ signature
  forged n         sends signed by a stranger's key
  stale n          sends with a timestamp stale_seconds (600) old
  wrong_amount f   one send with f fen added to the (first) amount, rightly signed
  duplicates n     further right sends, one after the other
  concurrent n     this many right sends at the same time
  lost true        no right send until /sandbox/control/send
  coupon f         (pay) f fen of the (first) amount are paid by a coupon

api fault kinds:
  before the effect: error (500), timeout_before, drop_before, refuse (needs "code", a code of WeChat Pay's)
  after the effect:  error_after (500), timeout_after, drop_after, slow (takes "delay_ms"), unsigned,
                     wrong_signature, signtest, tampered, stale_timestamp, stale_certificate
`

// loopbackOnly lets loopback peers through, judged by the connection: no header of
// a proxy is trusted. A request that a proxy has passed on is refused, since a
// proxy on this machine would make everybody a loopback peer.
func loopbackOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.RemoteAddr) || passedOn(r.Header) {
			writeJSON(w, http.StatusForbidden, fail(0, "FORBIDDEN", "loopback peers only 仅限本机访问"))
			return
		}
		next(w, r)
	}
}

// passedOn reports whether a header tells of a proxy (RFC 7239, RFC 9110 7.6.3,
// and the older ways to say so).
func passedOn(h http.Header) bool {
	for name := range h {
		switch {
		case name == "Forwarded", name == "Via", name == "X-Real-Ip", strings.HasPrefix(name, "X-Forwarded-"):
			return true
		}
	}
	return false
}

func isLoopback(remoteAddr string) bool {
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encoding failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the caller may be gone
}

// answer writes the outcome of an act.
func answer(w http.ResponseWriter, v any, err error) {
	if err == nil {
		writeJSON(w, http.StatusOK, v)
		return
	}
	status, code := http.StatusBadRequest, "INVALID_REQUEST"
	switch {
	case errors.Is(err, ErrNoOrder):
		status, code = http.StatusNotFound, "ORDER_NOT_EXIST"
	case errors.Is(err, ErrPaid):
		status, code = http.StatusConflict, "ORDERPAID"
	case errors.Is(err, ErrNoRefund), errors.Is(err, ErrNoParking):
		status, code = http.StatusNotFound, "RESOURCE_NOT_EXISTS"
	case errors.Is(err, ErrParkingState), errors.Is(err, ErrChargeState), errors.Is(err, ErrUnasked),
		errors.Is(err, ErrNotPaid), errors.Is(err, ErrRefundState), errors.Is(err, ErrShut), errors.Is(err, ErrExpired), errors.Is(err, ErrAmbiguous):
		status, code = http.StatusConflict, "CONFLICT"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		status, code = http.StatusRequestTimeout, "TIMEOUT"
	case errors.Is(err, ErrClosed):
		status, code = http.StatusServiceUnavailable, "CLOSED"
	}
	writeJSON(w, status, fail(0, code, err.Error()))
}

// command makes an endpoint of an act on a JSON body of type T.
func command[T any](act func(*http.Request, T) (any, error)) http.HandlerFunc {
	return loopbackOnly(func(w http.ResponseWriter, r *http.Request) {
		// A form of another site cannot send this type without asking first.
		kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		if !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
			writeJSON(w, http.StatusUnsupportedMediaType, fail(0, "INVALID_REQUEST", "want Content-Type application/json"))
			return
		}
		var in T
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil {
			writeJSON(w, http.StatusBadRequest, fail(0, "PARAM_ERROR", "body: "+err.Error()))
			return
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			writeJSON(w, http.StatusBadRequest, fail(0, "PARAM_ERROR", "body: something follows the object"))
			return
		}
		v, err := act(r, in)
		answer(w, v, err)
	})
}

type orderCommand struct {
	Order  string `json:"order"`
	Faults Faults `json:"faults"`
}

type done struct {
	OK bool `json:"ok"`
}

// controlRoutes adds the keys and control endpoints.
func (p *Platform) controlRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sandbox/keys/{mchid}", loopbackOnly(func(w http.ResponseWriter, r *http.Request) {
		k, err := p.Keys(r.PathValue("mchid"))
		if err != nil {
			writeJSON(w, http.StatusNotFound, fail(0, "MCH_NOT_EXISTS", err.Error()))
			return
		}
		writeJSON(w, http.StatusOK, k)
	}))
	mux.HandleFunc("GET /sandbox/control", loopbackOnly(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, controlHelp) // the caller may be gone
	}))
	mux.HandleFunc("GET /sandbox/control/orders", loopbackOnly(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, p.Orders())
	}))
	mux.HandleFunc("GET /sandbox/control/refunds", loopbackOnly(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, p.Refunds())
	}))
	mux.HandleFunc("POST /sandbox/control/refund", command(func(_ *http.Request, in struct {
		Refund string       `json:"refund"`
		Status RefundStatus `json:"status"`
		Faults Faults       `json:"faults"`
	}) (any, error) {
		return p.SettleRefund(in.Refund, in.Status, in.Faults)
	}))
	mux.HandleFunc("POST /sandbox/control/refund-plan", command(func(_ *http.Request, in RefundPlan) (any, error) {
		return done{true}, p.PlanRefunds(in)
	}))
	p.parkingRoutes(mux)
	mux.HandleFunc("GET /sandbox/control/callbacks", loopbackOnly(p.serveCallbacks))
	mux.HandleFunc("GET /sandbox/control/wait", loopbackOnly(p.serveWait))
	mux.HandleFunc("POST /sandbox/control/pay", command(func(_ *http.Request, in orderCommand) (any, error) {
		return p.Pay(in.Order, in.Faults)
	}))
	mux.HandleFunc("POST /sandbox/control/invoke", command(func(_ *http.Request, in struct {
		Params map[string]string `json:"params"`
		Faults Faults            `json:"faults"`
	}) (any, error) {
		return p.Invoke(in.Params, in.Faults)
	}))
	mux.HandleFunc("POST /sandbox/control/login", command(func(_ *http.Request, in struct {
		Appid string `json:"appid"`
		User  string `json:"user"`
	}) (any, error) {
		code, err := p.Login(in.Appid, in.User)
		return struct {
			Code   string `json:"code"`
			Openid string `json:"openid"` // what the code will be exchanged for
		}{code, OpenID(in.Appid, in.User)}, err
	}))
	mux.HandleFunc("POST /sandbox/control/send", command(func(_ *http.Request, in orderCommand) (any, error) {
		return p.Send(in.Order, in.Faults)
	}))
	mux.HandleFunc("POST /sandbox/control/reorder", command(func(r *http.Request, in struct {
		Orders []string `json:"orders"`
	}) (any, error) {
		return done{true}, p.SendInOrder(r.Context(), in.Orders...)
	}))
	mux.HandleFunc("POST /sandbox/control/rotate", command(p.rotateCommand))
	mux.HandleFunc("POST /sandbox/control/share", command(func(_ *http.Request, in struct {
		Percent *int `json:"public_key_percent"`
	}) (any, error) {
		if in.Percent == nil {
			return nil, errors.New("sandbox: public_key_percent is required")
		}
		return done{true}, p.SetPublicKeyShare(*in.Percent)
	}))
	mux.HandleFunc("POST /sandbox/control/api-faults", command(func(_ *http.Request, in APIFault) (any, error) {
		return done{true}, p.FailAPI(in)
	}))
	mux.HandleFunc("POST /sandbox/control/api-faults/clear", command(func(_ *http.Request, _ struct{}) (any, error) {
		p.ClearAPIFaults()
		return done{true}, nil
	}))
}

type rotateRequest struct {
	Key       string `json:"key"`
	SignAfter string `json:"sign_after"`
	Overlap   string `json:"overlap"`
}

func (p *Platform) rotateCommand(_ *http.Request, in rotateRequest) (any, error) {
	var rot Rotation
	for _, d := range []struct {
		text string
		into *time.Duration
	}{{in.SignAfter, &rot.SignAfter}, {in.Overlap, &rot.Overlap}} {
		if d.text == "" {
			continue
		}
		parsed, err := time.ParseDuration(d.text)
		if err != nil {
			return nil, errors.New("sandbox: rotation: want durations such as 24h")
		}
		*d.into = parsed
	}
	var serial string
	var err error
	switch in.Key {
	case "certificate":
		serial, err = p.RotateCertificate(rot)
	case "public_key":
		serial, err = p.RotatePublicKey(rot)
	default:
		err = errors.New(`sandbox: rotation: key: want "certificate" or "public_key"`)
	}
	return struct {
		Serial string `json:"wechatpay_serial"`
	}{serial}, err
}

func (p *Platform) serveCallbacks(w http.ResponseWriter, r *http.Request) {
	ref := r.URL.Query().Get("order")
	if ref == "" {
		writeJSON(w, http.StatusOK, p.Callbacks())
		return
	}
	p.mu.Lock()
	c, err := p.callbackLocked(ref)
	var view Callback
	if err == nil {
		view = c.viewLocked()
	}
	p.mu.Unlock()
	answer(w, view, err)
}

func (p *Platform) serveWait(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	attempts, err := intParam(q.Get("attempts"), 1)
	if err != nil {
		answer(w, nil, errors.New("sandbox: attempts: want a number"))
		return
	}
	seconds, err := intParam(q.Get("timeout"), 10)
	if err != nil || seconds < 0 || time.Duration(seconds)*time.Second > maxWait {
		answer(w, nil, errors.New("sandbox: timeout: want 0 to 60 seconds"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	c, err := p.WaitCallback(ctx, q.Get("order"), attempts)
	answer(w, c, err)
}

func intParam(text string, usual int) (int, error) {
	if text == "" {
		return usual, nil
	}
	return strconv.Atoi(text)
}
