package qrcode

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strconv"
	"strings"

	"rsc.io/qr"
)

// The size of a picture: pixels on a side, quiet zone included.
const (
	MinSize     = 120
	MaxSize     = 1200
	DefaultSize = 300
)

// maxCodeURL bounds a code_url, in bytes; WeChat's are under 64.
const maxCodeURL = 256

// quiet is the margin on each side, in modules.
const quiet = 4

// Errors of [New] and [ParseSize]; none holds what was given.
var (
	// ErrCodeURL: it is no code_url of WeChat's.
	ErrCodeURL = errors.New("qrcode: not a code_url, which begins with weixin:// and is at most 256 visible ASCII characters")
	// ErrSize: it is no size that pictures come in.
	ErrSize = fmt.Errorf("qrcode: size must be a whole number of pixels from %d to %d", MinSize, MaxSize)
	// ErrFormat: it is neither png nor svg.
	ErrFormat = errors.New("qrcode: format must be png or svg")
)

// Format is a file format of pictures.
type Format string

// The formats.
const (
	PNG Format = "png" // the default
	SVG Format = "svg"
)

// ContentType returns the media type of the format.
func (f Format) ContentType() string {
	if f == SVG {
		return "image/svg+xml"
	}
	return "image/png"
}

// ParseFormat reads a format's name, "" for PNG. The error is [ErrFormat].
func ParseFormat(text string) (Format, error) {
	switch f := Format(text); f {
	case "", PNG:
		return PNG, nil
	case SVG:
		return SVG, nil
	}
	return "", ErrFormat
}

// ParseSize reads a number of pixels, "" for [DefaultSize]. The error is
// [ErrSize].
func ParseSize(text string) (int, error) {
	if text == "" {
		return DefaultSize, nil
	}
	size, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(size) != text || size < MinSize || size > MaxSize {
		return 0, ErrSize
	}
	return size, nil
}

// Code is a code_url as black and white modules.
type Code struct{ code *qr.Code }

// New encodes a code_url. The error is [ErrCodeURL] for anything else.
func New(codeURL string) (Code, error) {
	rest, ok := strings.CutPrefix(codeURL, "weixin://")
	if !ok || rest == "" || len(codeURL) > maxCodeURL || strings.ContainsFunc(codeURL, invisible) {
		return Code{}, ErrCodeURL
	}
	code, err := qr.Encode(codeURL, qr.M)
	if err != nil {
		return Code{}, ErrCodeURL
	}
	return Code{code}, nil
}

func invisible(r rune) bool { return r <= ' ' || r > '~' }

// Draw returns the picture in the format, size pixels on a side; an SVG says so
// and scales. The error is [ErrSize] for a size out of bounds.
func (c Code) Draw(format Format, size int) ([]byte, error) {
	if size < MinSize || size > MaxSize {
		return nil, ErrSize
	}
	if format == SVG {
		return c.svg(size), nil
	}
	return c.png(size)
}

// png draws modules of whole pixels, for sharp edges; what is left over widens
// the quiet zone on all sides.
func (c Code) png(size int) ([]byte, error) {
	scale := size / (c.code.Size + 2*quiet)
	margin := (size - scale*c.code.Size) / 2
	picture := image.NewPaletted(image.Rect(0, 0, size, size), color.Palette{color.White, color.Black})
	for y := range c.code.Size * scale {
		row := picture.Pix[(margin+y)*picture.Stride+margin:]
		for x := range c.code.Size * scale {
			if c.code.Black(x/scale, y/scale) {
				row[x] = 1
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return nil, fmt.Errorf("qrcode: png: %w", err)
	}
	return b.Bytes(), nil
}

// svg draws one path, a run of black modules at a time.
func (c Code) svg(size int) []byte {
	side := strconv.Itoa(c.code.Size + 2*quiet)
	pixels := strconv.Itoa(size)
	var b bytes.Buffer
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" width="` + pixels + `" height="` + pixels +
		`" viewBox="0 0 ` + side + ` ` + side + `" shape-rendering="crispEdges">`)
	b.WriteString(`<path fill="#fff" d="M0 0h` + side + `v` + side + `H0z"/><path fill="#000" d="`)
	for y := range c.code.Size {
		for x := 0; x < c.code.Size; {
			run := 0
			for c.code.Black(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x+quiet, y+quiet, run, run)
			}
			x += run + 1
		}
	}
	b.WriteString(`"/></svg>`)
	return b.Bytes()
}
