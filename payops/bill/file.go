package bill

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha1" // what WeChat Pay digests bills with; the digest itself is signed
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/caddy-wechatpay/caddy-wechatpay/payops/send"
)

const (
	// maxRatio is how many bytes a compressed one may become. Bills come to about
	// ten, rows that are all alike to less than a hundred; gzip can make a thousand.
	maxRatio = 200
	// ratioFrom is the size in bytes from which the ratio counts.
	ratioFrom = 1 << 20
)

// File is a bill whose digest is the one that WeChat Pay signed. It lies in a
// temporary file that nobody else can open, and that is gone when it is closed.
type File struct {
	size    int64
	file    *os.File
	path    string // "" when it has no name any more
	free    func()
	closing sync.Once
	err     error
}

// Size returns the size of the bill in bytes.
func (f *File) Size() int64 { return f.size }

// Reader returns the bill from its beginning. Readers are independent of each
// other and end with the file.
func (f *File) Reader() *io.SectionReader { return io.NewSectionReader(f.file, 0, f.size) }

// Close removes the file. It can be called more than once.
func (f *File) Close() error {
	f.closing.Do(func() {
		f.err = f.file.Close()
		if f.path != "" {
			f.err = errors.Join(f.err, os.Remove(f.path))
		}
		if f.free != nil {
			f.free()
		}
	})
	return f.err
}

// create makes a temporary file. Where the system allows, it loses its name at
// once: a process that dies leaves nothing behind.
func (c *Client) create() (*File, error) {
	file, err := os.CreateTemp(c.dir, "wechatpay-bill-*")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDisk, err)
	}
	f := &File{file: file}
	if os.Remove(file.Name()) != nil {
		f.path = file.Name()
	}
	return f, nil
}

// store writes a download to a file and returns it when its digest is right.
func (c *Client) store(res send.Result, want [sha1.Size]byte) (*File, error) {
	f, err := c.create()
	if err != nil {
		return nil, err
	}
	if err := c.write(f, res, want); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (c *Client) write(f *File, res send.Result, want [sha1.Size]byte) error {
	if res.Length > c.maxSize {
		return ErrTooLarge
	}
	raw := &counted{r: res.Stream}
	source := bufio.NewReader(raw)
	var content io.Reader = source
	// The first bytes say whether it is compressed, whatever its headers say: no
	// bill begins like a gzip file.
	if magic, err := source.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(source)
		if err != nil {
			return ErrIncomplete
		}
		content = z
	}
	digest := sha1.New()
	buf := make([]byte, 64<<10)
	for {
		n, err := content.Read(buf)
		f.size += int64(n)
		switch {
		case f.size > c.maxSize || raw.n > c.maxSize:
			return ErrTooLarge
		case f.size > ratioFrom && f.size/maxRatio > raw.n:
			return ErrBomb
		}
		digest.Write(buf[:n])
		if _, err := f.file.Write(buf[:n]); err != nil {
			return fmt.Errorf("%w: %w", ErrDisk, err)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return ErrIncomplete
		}
	}
	switch {
	case res.Length >= 0 && raw.n != res.Length:
		return ErrIncomplete
	case !bytes.Equal(digest.Sum(nil), want[:]):
		return ErrDigest
	}
	return nil
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
