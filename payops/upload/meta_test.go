package upload

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strings"
	"testing"
)

const (
	metaJSON    = `{ "filename":"门店.png" , "sha256":"0e3d" }`
	contentType = "multipart/form-data; boundary=b"
	metaHead    = "Content-Disposition: form-data; name=\"meta\"\r\nContent-Type: application/json\r\n\r\n"
	fileHead    = "Content-Disposition: form-data; name=\"file\"; filename=\"门店 a'b;c.png\"\r\nContent-Type: image/png\r\n\r\n"
	file        = "\x89PNG\r\n\x1a\n\x00--\r\n--c\r\n"
	good        = "--b\r\n" + metaHead + metaJSON + "\r\n--b\r\n" + fileHead + file + "\r\n--b--\r\n"
)

func TestMeta(t *testing.T) {
	var built bytes.Buffer
	w := multipart.NewWriter(&built)
	for _, part := range []struct{ disposition, content string }{
		{`form-data; name="file"; filename="a.png"`, file}, {`form-data; name="meta"`, metaJSON},
	} {
		p, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {part.disposition}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(p, part.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ contentType, body string }{
		"meta first":              {contentType, good},
		"Go's writer, file first": {w.FormDataContentType(), built.String()},
		"quoted boundary":         {`multipart/form-data; boundary="b"`, good},
		"upper-case type":         {`Multipart/Form-Data; BOUNDARY=b`, good},
		"a charset beside it":     {`multipart/form-data; charset=utf-8; boundary=b`, good},
		"no line end at the end":  {contentType, strings.TrimSuffix(good, "\r\n")},
		"no type of the part":     {contentType, strings.Replace(good, "\r\nContent-Type: application/json", "", 1)},
		"no quotes":               {contentType, strings.Replace(good, `"meta"`, `meta`, 1)},
		"lower-case header":       {contentType, strings.Replace(good, `Content-Disposition`, `content-disposition`, 1)},
		"a blob's file name":      {contentType, strings.Replace(good, `"meta"`, `"meta"; filename="blob"`, 1)},
		"binary encoding":         {contentType, strings.Replace(good, "image/png", "image/png\r\nContent-Transfer-Encoding: binary", 1)},
		"no blank after colon":    {contentType, strings.Replace(good, "Disposition: ", "Disposition:", 1)},
		"an empty file":           {contentType, strings.Replace(good, file, "", 1)},
		"semicolon at the end":    {contentType, strings.Replace(good, `"meta"`, `"meta";`, 1)},
		"meta alone":              {contentType, "--b\r\n" + metaHead + metaJSON + "\r\n--b--"},
		"UTF-8 file name too":     {contentType, strings.Replace(good, `c.png"`, `c.png"; filename*=UTF-8''x`, 1)},
		"16 parts":                {contentType, strings.Repeat("--b\r\n"+fileHead+"x\r\n", 15) + "--b\r\n" + metaHead + metaJSON + "\r\n--b--"},
	} {
		got, err := Meta(tc.contentType, []byte(tc.body))
		if err != nil || string(got) != metaJSON {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}

// TestMetaRefuses is the table of bad uploads.
func TestMetaRefuses(t *testing.T) {
	replace := func(old, replacement string) string {
		changed := strings.Replace(good, old, replacement, 1)
		if changed == good {
			t.Fatalf("%q is not in the body", old)
		}
		return changed
	}
	meta := func(json string) string { return replace(metaJSON, json) }
	for name, tc := range map[string]struct {
		contentType, body string
		want              error
	}{
		"no type":                     {"", good, ErrContentType},
		"json":                        {"application/json", good, ErrContentType},
		"mixed":                       {"multipart/mixed; boundary=b", good, ErrContentType},
		"no boundary":                 {"multipart/form-data", good, ErrContentType},
		"empty boundary":              {`multipart/form-data; boundary=""`, good, ErrContentType},
		"two boundaries":              {"multipart/form-data; boundary=b; boundary=c", good, ErrContentType},
		"RFC 2231 boundary":           {"multipart/form-data; boundary*=utf-8''b", good, ErrContentType},
		"continued boundary":          {"multipart/form-data; boundary*0=b", good, ErrContentType},
		"boundary with a line break":  {"multipart/form-data; boundary=\"b\r\n\"", good, ErrContentType},
		"boundary of Chinese":         {`multipart/form-data; boundary="界"`, good, ErrContentType},
		"boundary ends in a blank":    {`multipart/form-data; boundary="b "`, good, ErrContentType},
		"boundary of 71":              {"multipart/form-data; boundary=" + strings.Repeat("b", 71), good, ErrContentType},
		"another boundary":            {"multipart/form-data; boundary=c", good, ErrBody},
		"empty":                       {contentType, "", ErrBody},
		"preamble":                    {contentType, "hello\r\n" + good, ErrBody},
		"line break first":            {contentType, "\r\n" + good, ErrBody},
		"epilogue":                    {contentType, good + "x", ErrBody},
		"epilogue with meta":          {contentType, good + good, ErrBody},
		"no end":                      {contentType, strings.TrimSuffix(good, "--\r\n"), ErrBody},
		"cut in the file":             {contentType, good[:len(good)-12], ErrBody},
		"cut in a header":             {contentType, "--b\r\nContent-Disposition: form-data", ErrBody},
		"end at once":                 {contentType, "--b--\r\n", ErrBody},
		"bare LF":                     {contentType, strings.ReplaceAll(good, "\r\n", "\n"), ErrBody},
		"bare LF after the boundary":  {contentType, replace("--b\r\n", "--b\n"), ErrBody},
		"blank after the boundary":    {contentType, replace("--b\r\n", "--b \r\n"), ErrBody},
		"boundary begins a line":      {contentType, replace("\r\n--c\r\n", "\r\n--bc\r\n"), ErrBody},
		"empty part without its line": {contentType, "--b\r\n" + fileHead + "--b\r\n" + metaHead + metaJSON + "\r\n--b--", ErrBody},
		"no header":                   {contentType, "--b\r\n\r\nx\r\n" + good, ErrBody},
		"no disposition":              {contentType, replace("Content-Disposition: form-data; name=\"file\"; filename=\"门店 a'b;c.png\"\r\n", ""), ErrBody},
		"two dispositions":            {contentType, replace("image/png", "image/png\r\nContent-Disposition: form-data; name=\"meta\""), ErrBody},
		"disposition attachment":      {contentType, replace("form-data; name=\"file\"", "attachment; name=\"file\""), ErrBody},
		"no name":                     {contentType, replace(`name="file"; `, ``), ErrBody},
		"empty name":                  {contentType, replace(`name="file"`, `name=""`), ErrBody},
		"two names":                   {contentType, replace(`name="file"`, `name="file"; name="meta"`), ErrBody},
		"RFC 2231 name":               {contentType, replace(`name="file"`, `name*=utf-8''meta`), ErrBody},
		"continued name":              {contentType, replace(`name="file"`, `name*0=me; name*1=ta`), ErrBody},
		"escaped name":                {contentType, replace(`name="file"`, `name="me\ta"`), ErrBody},
		"unclosed quote":              {contentType, replace(`c.png"`, `c.png`), ErrBody},
		"escaped quote":               {contentType, replace(`c.png"`, `c\".png"`), ErrBody},
		"quote in the middle":         {contentType, replace(`name="file"`, `name=fi"l"e`), ErrBody},
		"no semicolon":                {contentType, replace(`"file";`, `"file"`), ErrBody},
		"two semicolons":              {contentType, replace(`c.png"`, `c.png";;`), ErrBody},
		"line break in a file name":   {contentType, replace(`c.png`, "c\r\nX: y.png"), ErrBody},
		"CR in a file name":           {contentType, replace(`c.png`, "c\r.png"), ErrBody},
		"LF in a file name":           {contentType, replace(`c.png`, "c\n.png"), ErrBody},
		"NUL in a file name":          {contentType, replace(`c.png`, "c\x00.png"), ErrBody},
		"folded header":               {contentType, replace("form-data; ", "form-data;\r\n "), ErrBody},
		"blank before the colon":      {contentType, replace("Disposition:", "Disposition :"), ErrBody},
		"base64":                      {contentType, replace("image/png", "image/png\r\nContent-Transfer-Encoding: base64"), ErrBody},
		"quoted-printable":            {contentType, replace("application/json", "application/json\r\nContent-Transfer-Encoding: quoted-printable"), ErrBody},
		"a header of 9 KiB":           {contentType, replace("image/png", "image/"+strings.Repeat("p", 9<<10)), ErrBody},
		"17 parts":                    {contentType, strings.Repeat("--b\r\n"+fileHead+"x\r\n", 16) + "--b\r\n" + metaHead + metaJSON + "\r\n--b--", ErrBody},
		"no meta":                     {contentType, replace(`"meta"`, `"data"`), ErrMeta},
		"two metas":                   {contentType, replace(`name="file"`, `name="meta"`), ErrMeta},
		"Meta":                        {contentType, replace(`"meta"`, `"Meta"`), ErrMeta},
		"meta and META":               {contentType, replace(`name="file"`, `name="META"`), ErrMeta},
		"meta is empty":               {contentType, meta(""), ErrMeta},
		"meta is a list":              {contentType, meta(`[{}]`), ErrMeta},
		"meta is null":                {contentType, meta(`null`), ErrMeta},
		"meta is text":                {contentType, meta(`"{}"`), ErrMeta},
		"meta is cut":                 {contentType, meta(`{"a":1`), ErrMeta},
		"meta is two objects":         {contentType, meta(`{}{}`), ErrMeta},
		"meta is no UTF-8":            {contentType, meta("{\"a\":\"\xff\"}"), ErrMeta},
		"meta with a byte order mark": {contentType, meta("\ufeff{}"), ErrMeta},
		"meta over 64 KiB":            {contentType, meta(`{"a":"` + strings.Repeat("x", MaxMeta) + `"}`), ErrMeta},
	} {
		if got, err := Meta(tc.contentType, []byte(tc.body)); !errors.Is(err, tc.want) || got != nil {
			t.Errorf("%s: %q %v, want %v", name, got, err, tc.want)
		}
	}
}

// FuzzMeta holds the reader against Go's own: what is accepted here is read
// there in the same way, with one meta part of the same bytes.
func FuzzMeta(f *testing.F) {
	f.Add(contentType, []byte(good))
	f.Add(contentType, []byte("--b\r\n"+fileHead+"--b\r\n"+metaHead+metaJSON+"\r\n--b--"))
	f.Add(`multipart/form-data; boundary="b"`, []byte("--b\r\n"+metaHead+"{}\r\n--b--\r\n"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		before := bytes.Clone(body)
		got, err := Meta(contentType, body)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			return
		}
		_, params, err := mime.ParseMediaType(contentType)
		if err != nil {
			t.Fatal(err)
		}
		metas := 0
		for parts := multipart.NewReader(bytes.NewReader(body), params["boundary"]); ; {
			part, err := parts.NextRawPart()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("another reader fails: %v\n%q", err, body)
			}
			content, err := io.ReadAll(part)
			if err != nil {
				t.Fatalf("another reader fails: %v\n%q", err, body)
			}
			if part.FormName() != "meta" {
				continue
			}
			if metas++; !bytes.Equal(content, got) {
				t.Fatalf("%q, another reader sees %q", got, content)
			}
		}
		if metas != 1 {
			t.Fatalf("another reader sees %d meta parts in %q", metas, body)
		}
	})
}

func BenchmarkMeta(b *testing.B) {
	body := []byte(strings.Replace(good, file, strings.Repeat("\x89PNG\r\n--x", 1<<18), 1))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Meta(contentType, body); err != nil {
			b.Fatal(err)
		}
	}
}
