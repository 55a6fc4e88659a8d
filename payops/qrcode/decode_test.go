package qrcode_test

import (
	"errors"
	"fmt"
)

// decode reads a grid of modules back, as ISO/IEC 18004 has it, without error
// correction: byte mode, versions 2 to 6, level M. It shares nothing with what
// drew the code.
func decode(black [][]bool) (string, error) {
	n := len(black)
	version := (n - 17) / 4
	if version < 2 || version > 6 || n != 17+4*version {
		return "", fmt.Errorf("%d modules on a side", n)
	}
	// Format information, first copy: 5 bits under a mask, then their checksum.
	format := 0
	for _, at := range [][2]int{{0, 8}, {1, 8}, {2, 8}, {3, 8}, {4, 8}} {
		format <<= 1
		if black[8][at[0]] {
			format |= 1
		}
	}
	format ^= 0b10101
	if level := format >> 3; level != 0b00 {
		return "", fmt.Errorf("error correction level %02b, want M (00)", level)
	}
	flip, err := mask(format & 7)
	if err != nil {
		return "", err
	}
	// Codewords run in columns of two, upwards and downwards in turn.
	var bits []bool
	up := true
	for right := n - 1; right > 0; right -= 2 {
		if right == 6 {
			right--
		}
		for i := range n {
			y := i
			if up {
				y = n - 1 - i
			}
			for _, x := range []int{right, right - 1} {
				if !function(x, y, n) {
					bits = append(bits, black[y][x] != flip(x, y))
				}
			}
		}
		up = !up
	}
	words := make([]byte, len(bits)/8)
	for i := range words {
		for _, bit := range bits[8*i : 8*i+8] {
			words[i] <<= 1
			if bit {
				words[i] |= 1
			}
		}
	}
	// Level M: how many blocks of how many data codewords.
	blocks := map[int][2]int{2: {1, 28}, 3: {1, 44}, 4: {2, 32}, 5: {2, 43}, 6: {4, 27}}[version]
	data := make([]byte, 0, blocks[0]*blocks[1])
	for b := range blocks[0] {
		for i := range blocks[1] {
			data = append(data, words[i*blocks[0]+b])
		}
	}
	if data[0]>>4 != 0b0100 {
		return "", errors.New("not byte mode")
	}
	length := int(data[0]&15)<<4 | int(data[1]>>4)
	text := make([]byte, length)
	for i := range text {
		text[i] = data[i+1]<<4 | data[i+2]>>4
	}
	return string(text), nil
}

func mask(pattern int) (func(x, y int) bool, error) {
	switch pattern {
	case 0:
		return func(x, y int) bool { return (x+y)%2 == 0 }, nil
	case 1:
		return func(_, y int) bool { return y%2 == 0 }, nil
	case 2:
		return func(x, _ int) bool { return x%3 == 0 }, nil
	case 3:
		return func(x, y int) bool { return (x+y)%3 == 0 }, nil
	}
	return nil, fmt.Errorf("mask %d", pattern)
}

// function reports whether a module holds no data: finders, timing, format,
// and the one alignment pattern that versions 2 to 6 have.
func function(x, y, n int) bool {
	switch {
	case x < 9 && y < 9, x < 9 && y >= n-8, x >= n-8 && y < 9:
		return true
	case x == 6 || y == 6:
		return true
	}
	center := n - 7
	return x >= center-2 && x <= center+2 && y >= center-2 && y <= center+2
}
