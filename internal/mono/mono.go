// Package mono is the time that the pure packages compute with: an instant on
// one host's CLOCK_BOOTTIME, which counts time spent suspended and never steps.
// It reads no clock; whoever steps a core supplies the instant.
package mono

import (
	"math"
	"time"
)

// Instant is nanoseconds since this host booted (CLOCK_BOOTTIME). Instants of
// different hosts, or of different boots of one host, cannot be compared.
type Instant int64

// Never is later than every instant a clock can give.
const Never Instant = math.MaxInt64

// Add returns i moved by d, held at Never instead of wrapping round.
func (i Instant) Add(d time.Duration) Instant {
	if d > 0 && i > Never-Instant(d) {
		return Never
	}
	return i + Instant(d)
}

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Before reports whether i is earlier than j.
func (i Instant) Before(j Instant) bool { return i < j }

// After reports whether i is later than j.
func (i Instant) After(j Instant) bool { return i > j }

// Earliest returns the earliest of the instants, Never when there is none.
func Earliest(is ...Instant) Instant {
	first := Never
	for _, i := range is {
		first = min(first, i)
	}
	return first
}
