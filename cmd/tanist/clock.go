package main

// CLOCK_BOOTTIME without a system call for each reading: hundreds of instances
// look at the clock some ten thousand times a second.
//
// The Go runtime reads CLOCK_REALTIME and CLOCK_MONOTONIC in user space.
// CLOCK_BOOTTIME is CLOCK_MONOTONIC and the time that the machine was suspended,
// and the kernel adds a suspend to CLOCK_BOOTTIME and to CLOCK_REALTIME at once.
// So the offset between the first two is known until the other two move against
// each other. A clock that somebody sets moves them as well, and then the offset
// is read again for nothing. It is also read again after trustFor: a clock that is
// set back by as much as a suspend was long hides it for no longer.

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/mono"
)

const (
	// trustFor is how long an offset is good without a look at the kernel's clock.
	trustFor = 10 * time.Millisecond
	// stepLeast is the least movement of the two clocks that makes an offset
	// doubtful, and the longest that reading it may take: the clocks are read one
	// after the other, and a thread can be interrupted in between.
	stepLeast = 20 * time.Microsecond
)

// bootClock reads CLOCK_BOOTTIME, which counts the time that a virtual machine
// was suspended.
func bootClock() mono.Instant {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with this clock
	return mono.Instant(ts.Nano())
}

// runtimeClocks returns a function that reads CLOCK_MONOTONIC, from 0 at the call,
// and by how much CLOCK_REALTIME is ahead of it.
func runtimeClocks() func() (monotonic, ahead time.Duration) {
	epoch := time.Now()
	return func() (monotonic, ahead time.Duration) {
		t := time.Now()
		monotonic = t.Sub(epoch)
		return monotonic, time.Duration(t.UnixNano()-epoch.UnixNano()) - monotonic
	}
}

// bootReader derives CLOCK_BOOTTIME from the clocks of the Go runtime. Its time
// never goes back, and is behind by stepLeast at most. It is safe for concurrent use.
type bootReader struct {
	clocks func() (monotonic, ahead time.Duration)
	boot   func() mono.Instant // CLOCK_BOOTTIME
	known  atomic.Pointer[bootOffset]
}

// bootOffset is not changed, only replaced, and its offset never by an earlier one:
// time that the machine was suspended is not taken back.
type bootOffset struct {
	offset mono.Instant  // CLOCK_BOOTTIME at monotonic time 0, at most stepLeast too early
	ahead  time.Duration // CLOCK_REALTIME less monotonic time
	until  time.Duration // monotonic time at which to look again
}

func newBootReader() *bootReader { return &bootReader{clocks: runtimeClocks(), boot: bootClock} }

func (r *bootReader) now() mono.Instant {
	known := r.known.Load()
	monotonic, ahead := r.clocks()
	if known != nil && monotonic < known.until && (ahead-known.ahead).Abs() < stepLeast {
		return known.offset.Add(monotonic)
	}
	return r.look(monotonic, ahead)
}

// look reads the kernel's clock between two readings of the others. What it
// returns is not before the kernel's clock when it was read. The new offset is good
// for later readings only if nothing came in between.
func (r *bootReader) look(before, ahead time.Duration) mono.Instant {
	boot := r.boot()
	after, aheadAfter := r.clocks()
	next := &bootOffset{offset: boot.Add(-after), ahead: ahead, until: after + trustFor}
	if after-before > stepLeast || (aheadAfter-ahead).Abs() >= stepLeast {
		next.until = 0
	}
	for {
		known := r.known.Load()
		if known != nil {
			next.offset = max(next.offset, known.offset)
		}
		if r.known.CompareAndSwap(known, next) {
			return next.offset.Add(after)
		}
	}
}
