package vrrp

import (
	"math"
	"math/big"
	"testing"
	"time"
)

func TestTimers(t *testing.T) {
	for _, tt := range []struct {
		priority   uint8
		interval   time.Duration
		skew, down time.Duration
	}{
		{254, time.Second, 7812500, 3007812500},
		{100, time.Second, 609375 * time.Microsecond, 3609375 * time.Microsecond},
		{1, time.Second, 996093750, 3996093750},
		{255, time.Second, 3906250, 3003906250},
		{0, time.Second, time.Second, 4 * time.Second},
		{253, 250 * time.Millisecond, 2929687, 752929687}, // 2929687.5 ns
		{254, 10 * time.Millisecond, 78125, 30078125},
		{255, 10 * time.Millisecond, 39062, 30039062}, // 39062.5 ns
		{1, 40950 * time.Millisecond, 40790039062, 163640039062},
		{254, 100, 0, 300},
	} {
		if got := SkewTime(tt.priority, tt.interval); got != tt.skew {
			t.Errorf("SkewTime(%d, %v) = %d, want %d", tt.priority, tt.interval, got, tt.skew)
		}
		if got := ActiveDownInterval(tt.priority, tt.interval); got != tt.down {
			t.Errorf("ActiveDownInterval(%d, %v) = %d, want %d", tt.priority, tt.interval, got, tt.down)
		}
	}
}

// TestVersionTimers is RFC 9568 §6.1 beside RFC 3768 §6.1, whose Skew_Time does
// not know the interval.
func TestVersionTimers(t *testing.T) {
	for _, tt := range []struct {
		version    Version
		priority   uint8
		interval   time.Duration
		skew, down time.Duration
	}{
		{Version3, 100, 5 * time.Second, 3046875 * time.Microsecond, 18046875 * time.Microsecond},
		{0, 100, 5 * time.Second, 3046875 * time.Microsecond, 18046875 * time.Microsecond},
		{Version2, 100, 5 * time.Second, 609375 * time.Microsecond, 15609375 * time.Microsecond},
		{Version2, 254, time.Second, 7812500, 3007812500},
		{Version2, 1, 255 * time.Second, 996093750, 765996093750},
	} {
		if got := tt.version.SkewTime(tt.priority, tt.interval); got != tt.skew {
			t.Errorf("version %v: SkewTime(%d, %v) = %v, want %v", tt.version, tt.priority, tt.interval, got, tt.skew)
		}
		if got := tt.version.ActiveDownInterval(tt.priority, tt.interval); got != tt.down {
			t.Errorf("version %v: ActiveDownInterval(%d, %v) = %v, want %v", tt.version, tt.priority, tt.interval, got, tt.down)
		}
	}
}

// TestSkewTimeIsExact compares with arithmetic that cannot overflow.
func TestSkewTimeIsExact(t *testing.T) {
	intervals := []time.Duration{1, 255, 256, 257, math.MaxInt64}
	for c := Centiseconds(1); c <= MaxInterval; c += 13 {
		intervals = append(intervals, c.Duration())
	}
	for _, interval := range intervals {
		for p := range 256 {
			want := big.NewInt(int64(256 - p))
			want.Mul(want, big.NewInt(int64(interval))).Rsh(want, 8)
			if got := SkewTime(uint8(p), interval); got != time.Duration(want.Int64()) {
				t.Fatalf("SkewTime(%d, %d) = %d, want %v", p, interval, got, want)
			}
		}
	}
}

func TestCentiseconds(t *testing.T) {
	if got := MaxInterval.Duration(); got != 40950*time.Millisecond {
		t.Errorf("MaxInterval is %v", got)
	}
	if got := Centiseconds(math.MaxUint16).Duration(); got != 655350*time.Millisecond {
		t.Errorf("65535 centiseconds are %v", got)
	}
}
