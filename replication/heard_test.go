package replication

import (
	"fmt"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

const second = mono.Instant(time.Second)

func TestHeardMissingSince(t *testing.T) {
	var h Heard
	if _, ok := h.Last(); ok {
		t.Fatal("nothing heard, and there is a last position")
	}
	h.Note(mustPosition(t, "0-1-10"), 1*second)
	h.Note(mustPosition(t, "0-1-10"), 2*second)
	h.Note(mustPosition(t, "0-1-20"), 3*second)
	h.Note(mustPosition(t, "0-1-30"), 4*second)
	for _, tc := range []struct {
		applied string
		since   mono.Instant
		missing bool
	}{
		{"0-1-9", 1 * second, true},
		{"0-1-10", 3 * second, true},
		{"0-1-29", 4 * second, true},
		{"0-1-30", 0, false},
		{"", 1 * second, true},
	} {
		since, missing := h.MissingSince(mustPosition(t, tc.applied))
		if since != tc.since || missing != tc.missing {
			t.Errorf("applied %s: since %v, %v", tc.applied, since, missing)
		}
	}
	h.Settle(mustPosition(t, "0-1-20"))
	if since, ok := h.MissingSince(mustPosition(t, "0-1-20")); !ok || since != 4*second {
		t.Errorf("after settling: %v, %v", since, ok)
	}
	h.Settle(mustPosition(t, "0-1-30"))
	if since, ok := h.MissingSince(mustPosition(t, "0-1-12")); !ok || since != 4*second {
		t.Errorf("applied went back: %v, %v", since, ok)
	}
}

func TestHeardNeverMakesTheMissingLookYounger(t *testing.T) {
	var h Heard
	first := map[int]mono.Instant{}
	for i := 1; i <= 1000; i++ {
		at := mono.Instant(i) * second
		first[i] = at
		h.Note(mustPosition(t, fmt.Sprintf("0-1-%d", i)), at)
	}
	if len(h.pending) > maxPending {
		t.Fatalf("%d positions pending", len(h.pending))
	}
	for applied := 0; applied < 1000; applied++ {
		since, ok := h.MissingSince(mustPosition(t, fmt.Sprintf("0-1-%d", applied)))
		if truth := first[applied+1]; !ok || since.After(truth) {
			t.Fatalf("applied %d: since %v, %v, truth %v", applied, since, ok, truth)
		}
	}
}

func TestHeardTakesTheLatestWord(t *testing.T) {
	var h Heard
	h.Restore(mustPosition(t, "0-1-50"))
	if _, ok := h.At(); ok {
		t.Error("a restored position has an age")
	}
	if _, ok := h.MissingSince(Position{}); ok {
		t.Error("a restored position has a time")
	}
	h.Note(mustPosition(t, "0-1-40"), 5*second)
	h.Restore(mustPosition(t, "0-1-50"))
	if last, _ := h.Last(); last.String() != "0-1-40" {
		t.Errorf("last is %s", last)
	}
	h.Note(mustPosition(t, "0-1-41"), 4*second)
	if at, _ := h.At(); at != 5*second {
		t.Errorf("time went back to %v", at)
	}
}

func TestHeardWrittenSince(t *testing.T) {
	var h Heard
	if _, ok := h.WrittenSince(0); ok {
		t.Error("a rate out of nothing")
	}
	h.Note(mustPosition(t, "0-1-1000"), 10*second)
	if _, ok := h.WrittenSince(11 * second); ok {
		t.Error("a rate out of one reading")
	}
	h.Note(mustPosition(t, "0-1-1100"), 11*second) // 100 a second
	h.Note(mustPosition(t, "0-1-1110"), 12*second)
	if n, ok := h.WrittenSince(12*second + second/2); !ok || n != 50 {
		t.Errorf("%d, %v, want 50 at the highest rate", n, ok)
	}
	if n, ok := h.WrittenSince(12*second + 1); !ok || n != 1 {
		t.Errorf("%d, %v, want 1: rounded up", n, ok)
	}
	if n, _ := h.WrittenSince(0); n != 0 {
		t.Errorf("%d written before the last word", n)
	}
	for i := range 100 {
		h.Note(mustPosition(t, "0-1-1110"), 13*second+mono.Instant(i)*second)
	}
	if n, ok := h.WrittenSince(1000 * second); !ok || n != 0 || len(h.pace) > maxPace {
		t.Errorf("%d, %v with %d readings: an idle source still writes", n, ok, len(h.pace))
	}
}

// TestHeardWrittenSinceBetweenWords: a source is measured every 250 ms, and says
// what it knows every 100 ms and when it knows more.
func TestHeardWrittenSinceBetweenWords(t *testing.T) {
	const ms = second / 1000
	for phase := mono.Instant(0); phase < 100*ms; phase += 10 * ms {
		var h Heard
		at, measured := mono.Instant(0), second-250*ms+phase
		for now := second; now < 6*second; now += 10 * ms {
			if now%(250*ms) == phase {
				measured = now
			} else if now%(100*ms) != 0 {
				continue
			}
			at = now + now%(300*ms)/(100*ms)*ms                             // words take their time
			h.Note(mustPosition(t, fmt.Sprintf("0-1-%d", measured/ms)), at) // 1,000 a second
		}
		if n, ok := h.WrittenSince(at + second); !ok || n < 1000 || n > 1600 {
			t.Errorf("phase %d ms: %d, %v, want 1000 or a little more", phase/ms, n, ok)
		}
	}
}

func TestHeardCopyStaysAsItWas(t *testing.T) {
	var h Heard
	h.Note(mustPosition(t, "0-1-1"), second)
	h.Note(mustPosition(t, "0-1-2"), 2*second)
	before := h
	for i := range 200 {
		h.Note(mustPosition(t, fmt.Sprintf("0-1-%d", 3+i)), mono.Instant(3+i)*second)
		h.Settle(mustPosition(t, fmt.Sprintf("0-1-%d", i)))
	}
	if since, ok := before.MissingSince(mustPosition(t, "0-1-1")); !ok || since != 2*second {
		t.Errorf("copy says %v, %v", since, ok)
	}
}
