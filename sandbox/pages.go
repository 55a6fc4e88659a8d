package sandbox

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"rsc.io/qr"
)

//go:embed pages/*.html pages/style.css
var pageFiles embed.FS

// pagePolicy allows the page's own style sheet, pictures and forms, and nothing else.
const pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// maxListed is how many orders the first page shows.
const maxListed = 100

func parsePages() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"yuan":  yuan,
		"short": func(s string) string { return s[:min(len(s), 26)] },
		"lane":  newLaneButton,
	}).ParseFS(pageFiles, "pages/*.html"))
}

// yuan writes fen as yuan, with integers only.
func yuan(fen int64) string {
	sign := ""
	if fen < 0 {
		sign, fen = "-", -fen
	}
	cents := strconv.FormatInt(fen%100, 10)
	if len(cents) < 2 {
		cents = "0" + cents
	}
	return sign + "¥" + strconv.FormatInt(fen/100, 10) + "." + cents
}

type pageServer struct {
	p         *Platform
	templates *template.Template
}

func (p *Platform) pageHandler() http.Handler {
	s := &pageServer{p: p, templates: parsePages()}
	mux := http.NewServeMux()
	mux.Handle("GET /sandbox", http.RedirectHandler("/sandbox/", http.StatusSeeOther))
	mux.HandleFunc("GET /sandbox/{$}", s.index)
	mux.HandleFunc("GET /sandbox/style.css", s.style)
	mux.HandleFunc("GET /sandbox/qr", s.qr)
	mux.HandleFunc("GET /connect/oauth2/authorize", s.authorize)
	mux.HandleFunc("GET /sns/oauth2/access_token", p.exchange(false))
	mux.HandleFunc("GET /sns/jscode2session", p.exchange(true))
	mux.HandleFunc("GET /sandbox/pay", s.find)
	mux.HandleFunc("GET /sandbox/pay/{pr}", s.show)
	mux.HandleFunc("POST /sandbox/pay/{pr}", s.act)
	mux.HandleFunc("GET /sandbox/lane", s.lane)
	mux.HandleFunc("POST /sandbox/lane", s.laneAct)
	p.controlRoutes(mux)
	protection := http.NewCrossOriginProtection()
	return protection.Handler(mux)
}

func (s *pageServer) render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := s.templates.ExecuteTemplate(&b, name, data); err != nil {
		s.p.log.Error("rendering a page failed", "page", name, "error", err)
		http.Error(w, "rendering failed", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the reader may be gone
}

type indexPage struct {
	Orders []pageOrder
	More   int // older orders, not shown
	Mode   KeyMode
	Scale  int64
	Busy   bool
}

// pageOrder is an Order on a page.
type pageOrder struct{ Order }

// busy says whether something will happen to the order by itself.
func (o pageOrder) busy() bool {
	for _, r := range o.Refunds {
		if r.Status == RefundProcessing {
			return true
		}
		for _, c := range r.Callbacks {
			if c.State == Sending {
				return true
			}
		}
	}
	return o.Callback != nil && o.Callback.State == Sending
}

func (s *pageServer) index(w http.ResponseWriter, _ *http.Request) {
	page := indexPage{Mode: s.p.keyMode, Scale: int64(s.p.scale)}
	all := s.p.Orders()
	for i := len(all) - 1; i >= 0; i-- {
		if len(page.Orders) == maxListed {
			page.More = i + 1
			break
		}
		o := pageOrder{all[i]}
		page.Busy = page.Busy || o.busy() || o.State == NotPay || o.State == Accepted
		page.Orders = append(page.Orders, o)
	}
	s.render(w, http.StatusOK, "index.html", page)
}

type payPage struct {
	pageOrder
	Problem string
	Busy    bool
}

func (s *pageServer) show(w http.ResponseWriter, r *http.Request) {
	s.showWith(w, r, http.StatusOK, "")
}

func (s *pageServer) showWith(w http.ResponseWriter, r *http.Request, status int, problem string) {
	o, err := s.p.Order(codeURLPrefix + r.PathValue("pr"))
	if err != nil {
		s.render(w, http.StatusNotFound, "missing.html", nil)
		return
	}
	page := payPage{pageOrder: pageOrder{o}, Problem: problem}
	page.Busy = page.busy()
	s.render(w, status, "pay.html", page)
}

// act is the form of the pay page: pays, or sends a paid order's callback again.
func (s *pageServer) act(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxControlBody)
	if err := r.ParseForm(); err != nil {
		s.showWith(w, r, http.StatusBadRequest, "unreadable form 表单无法读取")
		return
	}
	ref := codeURLPrefix + r.PathValue("pr")
	faults, err := formFaults(r)
	if err == nil {
		if r.PostForm.Get("act") == "send" {
			_, err = s.p.Send(ref, faults)
		} else {
			_, err = s.p.Pay(ref, faults)
		}
	}
	switch {
	case errors.Is(err, ErrNoOrder):
		s.render(w, http.StatusNotFound, "missing.html", nil)
	case err != nil:
		s.showWith(w, r, http.StatusConflict, strings.TrimPrefix(err.Error(), "sandbox: "))
	default:
		http.Redirect(w, r, "/sandbox/pay/"+r.PathValue("pr"), http.StatusSeeOther)
	}
}

func formFaults(r *http.Request) (Faults, error) {
	var f Faults
	for name, into := range map[string]*int{
		"probes": &f.Probes, "forged": &f.Forged, "stale": &f.Stale,
		"duplicates": &f.Duplicates, "concurrent": &f.Concurrent,
	} {
		if text := r.PostForm.Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				return f, errors.New(name + ": want a number")
			}
			*into = n
		}
	}
	if text := r.PostForm.Get("wrong_amount"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return f, errors.New("wrong_amount: want a number of fen")
		}
		f.WrongAmount = n
	}
	f.Lost = r.PostForm.Get("lost") != ""
	return f, nil
}

// find is where a shop's page links to with the code_url, prepay_id or h5_url it has.
func (s *pageServer) find(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	ref := q.Get("code_url") + q.Get("prepay_id") + q.Get("h5_url")
	o, err := s.p.Order(ref)
	if err != nil || ref != o.CodeURL && ref != o.PrepayID && ref != o.H5URL {
		s.render(w, http.StatusNotFound, "missing.html", nil)
		return
	}
	http.Redirect(w, r, "/sandbox/pay/"+o.PR, http.StatusSeeOther)
}

func (s *pageServer) style(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, pageFiles, "pages/style.css")
}

// qr is the code_url of a known order as a PNG, or an SVG with format=svg.
func (s *pageServer) qr(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	ref := q.Get("code_url")
	if ref == "" {
		ref = codeURLPrefix + q.Get("pr")
	}
	o, err := s.p.Order(ref)
	if err != nil || o.CodeURL != ref {
		http.NotFound(w, r)
		return
	}
	code, err := qr.Encode(o.CodeURL, qr.M)
	if err != nil {
		http.Error(w, "not encodable", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if q.Get("format") == "svg" {
		w.Header().Set("Content-Type", "image/svg+xml")
		_, _ = w.Write(svg(code)) // the reader may be gone
		return
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(code.PNG())
}

// svg draws a code with the four modules of margin that scanners need.
func svg(code *qr.Code) []byte {
	var b bytes.Buffer
	side := strconv.Itoa(code.Size + 8)
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ` + side + ` ` + side + `" shape-rendering="crispEdges">`)
	b.WriteString(`<rect width="` + side + `" height="` + side + `" fill="#fff"/><path fill="#000" d="`)
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				b.WriteString("M" + strconv.Itoa(x+4) + " " + strconv.Itoa(y+4) + "h1v1h-1z")
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return b.Bytes()
}
