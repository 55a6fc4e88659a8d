package demoshop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"rsc.io/qr"
)

const (
	maxAnswer = 64 << 10 // bytes read of an answer
	maxOrders = 100      // kept; the oldest go first
	repeats   = 5        // of "send it again"
	orderLife = 2 * time.Hour
)

// pagePolicy allows the page's own script, style and calls, and nothing else.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// shopOrder is one combine order (合单): two sellers, one payment.
type shopOrder struct {
	Number  string
	CodeURL string
	Items   []item
	Made    time.Time
}

type item struct {
	Name string
	Fen  int64
}

// demoItems is what the shop sells, in fen.
func demoItems() []item {
	return []item{{"龙井茶 Longjing tea", 1990}, {"白瓷杯 porcelain cup", 990}}
}

func (o *shopOrder) Total() (fen int64) {
	for _, i := range o.Items {
		fen += i.Fen
	}
	return fen
}

func (s *Shop) pageHandler() http.Handler {
	page := template.Must(template.New("shop.html").Funcs(template.FuncMap{"yuan": yuan}).ParseFS(assets, "assets/shop.html"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { s.index(w, r, page) })
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"events": s.snapshot()})
	})
	mux.HandleFunc("GET /shop.js", asset("assets/shop.js"))
	mux.HandleFunc("GET /shop.css", asset("assets/shop.css"))
	mux.HandleFunc("POST /shop/order", s.newOrder)
	mux.HandleFunc("POST /shop/again", s.sendAgain)
	return http.NewCrossOriginProtection().Handler(mux)
}

func asset(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeFileFS(w, r, assets, name)
	}
}

// yuan writes fen as yuan, with integers only.
func yuan(fen int64) string { return fmt.Sprintf("¥%d.%02d", fen/100, fen%100) }

type shopPage struct {
	Order   *shopOrder
	QR      template.HTML
	PayURL  string
	Events  []event
	Repeats int
	Problem string
	Note    string
}

// index shows the newest order; the first visit makes one.
func (s *Shop) index(w http.ResponseWriter, r *http.Request, page *template.Template) {
	data := shopPage{Order: s.newest(), Repeats: repeats, Events: s.snapshot()}
	status := http.StatusOK
	if data.Order == nil || s.now().Sub(data.Order.Made) > orderLife {
		o, err := s.place(r.Context())
		if err != nil {
			data.Problem, status = err.Error(), http.StatusBadGateway
		}
		data.Order = o
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("again")); err == nil && n == repeats {
		data.Note = fmt.Sprintf("已请沙箱重复发送 %d 次。Asked the sandbox to send it %d more times.", n, n)
	}
	if data.Order != nil {
		code, err := qr.Encode(data.Order.CodeURL, qr.M)
		if err != nil {
			data.Problem = "the code_url does not fit a QR code"
		} else {
			data.QR = svg(code)
		}
		if s.options.SandboxPay != "" {
			data.PayURL = s.options.SandboxPay + "/sandbox/pay?code_url=" + url.QueryEscape(data.Order.CodeURL)
		}
	}
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		s.log.Error("rendering the page failed", "error", err)
		http.Error(w, "rendering failed", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the reader may be gone
}

func (s *Shop) newest() *shopOrder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orders) == 0 {
		return nil
	}
	return s.orders[len(s.orders)-1]
}

func (s *Shop) newOrder(w http.ResponseWriter, r *http.Request) {
	if _, err := s.place(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// sendAgain asks the sandbox for more of the same callback: the backend is
// still called once.
func (s *Shop) sendAgain(w http.ResponseWriter, r *http.Request) {
	o := s.newest()
	if o == nil || s.options.SandboxPay == "" {
		http.Error(w, "no order, or no sandbox", http.StatusConflict)
		return
	}
	body := map[string]any{"order": s.options.Mchid + ":" + o.Number, "faults": map[string]int{"duplicates": repeats}}
	if _, err := s.call(r.Context(), s.options.SandboxPay+"/sandbox/control/send", "", body); err != nil {
		http.Error(w, "还没有支付？Not paid yet? "+err.Error(), http.StatusConflict)
		return
	}
	http.Redirect(w, r, "/?again="+strconv.Itoa(repeats), http.StatusSeeOther)
}

// place creates a combine Native order through the gateway.
func (s *Shop) place(ctx context.Context) (*shopOrder, error) {
	o := &shopOrder{Number: s.number("C"), Items: demoItems(), Made: s.now()}
	var subs []map[string]any
	for i, it := range o.Items {
		subs = append(subs, map[string]any{
			"mchid": s.options.Mchid, "out_trade_no": s.number("S" + strconv.Itoa(i)),
			"description": it.Name, "attach": "demo",
			"amount": map[string]any{"total_amount": it.Fen, "currency": "CNY"},
		})
	}
	body := map[string]any{
		"combine_appid": s.options.Appid, "combine_mchid": s.options.Mchid,
		"combine_out_trade_no": o.Number, "sub_orders": subs,
	}
	if s.options.NotifyURL != "" {
		body["notify_url"] = s.options.NotifyURL
	}
	answer, err := s.call(ctx, s.options.Gateway+"/v3/combine-transactions/native", s.options.Token, body)
	if err != nil {
		return nil, fmt.Errorf("下单失败 order failed: %w", err)
	}
	var out struct {
		CodeURL string `json:"code_url"`
	}
	if json.Unmarshal(answer, &out) != nil || out.CodeURL == "" {
		return nil, fmt.Errorf("下单失败 order failed: no code_url in the answer")
	}
	o.CodeURL = out.CodeURL
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = append(s.orders, o)
	if len(s.orders) > maxOrders {
		s.orders = s.orders[1:]
	}
	return o, nil
}

// call posts JSON and wants a 2xx.
func (s *Shop) call(ctx context.Context, target, token string, in any) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("demoshop: encode: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("demoshop: request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "caddy-wechatpay-demoshop")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.log.Warn("call failed", "error", err)
		return nil, fmt.Errorf("the other side cannot be reached: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		var refusal struct{ Code, Message string }
		_ = json.Unmarshal(answer, &refusal) // anything but JSON leaves it empty
		return nil, fmt.Errorf("HTTP %d %s %s", resp.StatusCode, refusal.Code, refusal.Message)
	}
	return answer, nil
}

// svg draws a code inline, with the four modules of margin that scanners need.
// Only numbers go into the markup.
func svg(code *qr.Code) template.HTML {
	var b bytes.Buffer
	side := strconv.Itoa(code.Size + 8)
	b.WriteString(`<svg class="qr" viewBox="0 0 ` + side + ` ` + side + `" shape-rendering="crispEdges" role="img" aria-label="QR">`)
	b.WriteString(`<rect width="` + side + `" height="` + side + `" fill="#fff"/><path fill="#000" d="`)
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				b.WriteString("M" + strconv.Itoa(x+4) + " " + strconv.Itoa(y+4) + "h1v1h-1z")
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers and fixed markup only
}
