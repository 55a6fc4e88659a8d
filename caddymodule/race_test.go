//go:build race

package caddymodule

// raceDetector tells tests that measure time that the code runs many times
// slower than it does.
const raceDetector = true
