package qrcode_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/caddy-wechatpay/caddy-wechatpay/payops/qrcode"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	basicURL   = "weixin://wxpay/bizpayurl?pr=p4lpSuKzz"
	combineURL = "weixin://pay.weixin.qq.com/bizpayurl/up?pr=NwY5Mz9&groupid=00"
)

// TestScan reads the PNG of each size back from its pixels.
func TestScan(t *testing.T) {
	for _, url := range []string{basicURL, combineURL, "weixin://wxpay/bizpayurl?pr=" + strings.Repeat("x", 60)} {
		code, err := New(url)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{MinSize, 121, DefaultSize, 777, MaxSize} {
			data, err := code.Draw(PNG, size)
			if err != nil {
				t.Fatal(err)
			}
			if got := scan(t, data, size); got != url {
				t.Errorf("size %d: scanned %q, want %q", size, got, url)
			}
		}
	}
}

// scan finds the code between its margins and samples the modules' middles.
func scan(t *testing.T, data []byte, size int) string {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if b := picture.Bounds(); b.Dx() != size || b.Dy() != size {
		t.Fatalf("the picture is %v, want %d pixels on a side", b, size)
	}
	black := func(x, y int) bool {
		return color.GrayModel.Convert(picture.At(x, y)).(color.Gray).Y < 128
	}
	left := 0
	for !black(left, left) {
		left++
	}
	// The finder's upper edge is seven modules.
	edge := 0
	for black(left+edge, left) {
		edge++
	}
	scale := edge / 7
	right := size - 1
	for !black(right, left) {
		right--
	}
	n := (right - left + 1) / scale
	if edge%7 != 0 || (right-left+1)%scale != 0 {
		t.Fatalf("modules are not whole pixels: edge %d, code %d", edge, right-left+1)
	}
	if left < 4*scale || size-1-right < 4*scale {
		t.Fatalf("the quiet zone is %d and %d pixels, four modules are %d", left, size-1-right, 4*scale)
	}
	grid := make([][]bool, n)
	for y := range grid {
		grid[y] = make([]bool, n)
		for x := range grid[y] {
			grid[y][x] = black(left+x*scale+scale/2, left+y*scale+scale/2)
		}
	}
	text, err := decode(grid)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestSVG holds the bytes, and that they are XML.
func TestSVG(t *testing.T) {
	code, err := New(basicURL)
	if err != nil {
		t.Fatal(err)
	}
	got, err := code.Draw(SVG, DefaultSize)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "basic.svg")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s; -update writes it:\n%s", golden, got)
	}
	for d := xml.NewDecoder(bytes.NewReader(got)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if other, _ := New(basicURL); !bytes.Equal(must(other.Draw(SVG, DefaultSize)), got) {
		t.Error("drawn again, it is another picture")
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestRefusals(t *testing.T) {
	for _, url := range []string{
		"", "weixin://", "https://example.com/", "WEIXIN://wxpay/x", "weixin:wxpay", "javascript:alert(1)//weixin://",
		" weixin://wxpay/x", "weixin://wxpay/x\n", "weixin://wxpay/支付", "weixin://wxpay/" + strings.Repeat("x", 256),
	} {
		if _, err := New(url); !errors.Is(err, ErrCodeURL) {
			t.Errorf("%q: %v", url, err)
		}
	}
	for text, want := range map[string]int{"": DefaultSize, "120": 120, "1200": 1200} {
		if got, err := ParseSize(text); got != want || err != nil {
			t.Errorf("size %q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"119", "1201", "0300", "+300", "-300", "3e2", "300px", "99999999999999999999", " 300"} {
		if _, err := ParseSize(text); !errors.Is(err, ErrSize) {
			t.Errorf("size %q: %v", text, err)
		}
	}
	for text, want := range map[string]Format{"": PNG, "png": PNG, "svg": SVG} {
		if got, err := ParseFormat(text); got != want || err != nil {
			t.Errorf("format %q: %v, %v", text, got, err)
		}
	}
	if _, err := ParseFormat("gif"); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	code, err := New(basicURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{-1, 0, MinSize - 1, MaxSize + 1} {
		for _, format := range []Format{PNG, SVG} {
			if _, err := code.Draw(format, size); !errors.Is(err, ErrSize) {
				t.Errorf("%s of size %d: %v", format, size, err)
			}
		}
	}
	// The smallest picture of the longest code still has modules.
	long, err := New("weixin://wxpay/" + strings.Repeat("x", 256-15))
	if err != nil {
		t.Fatal(err)
	}
	if picture, err := png.Decode(bytes.NewReader(must(long.Draw(PNG, MinSize)))); err != nil || picture.Bounds().Dx() != MinSize {
		t.Errorf("%v", err)
	}
	if PNG.ContentType() != "image/png" || SVG.ContentType() != "image/svg+xml" {
		t.Error("media types")
	}
}
