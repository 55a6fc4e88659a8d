package badgerstore

import (
	"runtime/debug"
	"time"
)

const (
	trimInterval = 10 * time.Second
	// trimBurst is how many bytes written make a burst.
	trimBurst = 8 << 20
)

// trim gives memory back to the operating system when a burst of writes is over.
// Badger keeps the buffers of its last flushes and compactions, some 200 MiB of
// them, and lets go of one every two seconds once it is idle; but an idle
// process does not collect its garbage, and would look as large as at its peak
// for minutes.
func (c *committer) trim() {
	defer c.wg.Done()
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	var last int64
	burst, quiet := false, 0
	for {
		select {
		case <-c.ended:
			return
		case <-tick.C:
		}
		now := c.written.Load()
		grown := now - last
		last = now
		switch {
		case grown > trimBurst:
			burst, quiet = true, 0
		case burst:
			// Two quiet rounds: Badger's pool of eight is empty by then.
			if quiet++; quiet == 2 {
				burst = false
				debug.FreeOSMemory()
			}
		}
	}
}
