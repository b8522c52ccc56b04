package vrrp

import "time"

// Centiseconds is the unit of intervals on the wire, 12 bits of it: 1..4095,
// which is 10 ms to 40.95 s. Version 2 counts in whole seconds, 100 of them each.
type Centiseconds uint16

const (
	centisecond = 10 * time.Millisecond
	// MaxInterval is the longest interval that a version 3 advertisement can carry.
	MaxInterval Centiseconds = 1<<12 - 1
	// MaxIntervalV2 is the longest of version 2, 255 s.
	MaxIntervalV2 Centiseconds = 255 * secondInterval

	secondInterval Centiseconds = 100
)

// Duration returns c as a time.Duration.
func (c Centiseconds) Duration() time.Duration { return time.Duration(c) * centisecond }

// SkewTime returns version 3's Skew_Time, ((256 - priority) * interval) / 256 (RFC 9568 §6.1),
// rounded down to a nanosecond; no interval overflows it. Whole centiseconds
// would make every skew 0 at short intervals, and ties of the timers with it.
func SkewTime(priority uint8, interval time.Duration) time.Duration {
	steps, ns := 256-int64(priority), interval.Nanoseconds()
	return time.Duration(ns/256*steps + ns%256*steps/256)
}

// ActiveDownInterval returns version 3's Active_Down_Interval, 3 * interval + SkewTime (RFC 9568 §6.1).
func ActiveDownInterval(priority uint8, interval time.Duration) time.Duration {
	return 3*interval + SkewTime(priority, interval)
}
