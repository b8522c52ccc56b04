package main

import (
	"testing"
	"time"
)

// The answer with the shortest way counts, until one contradicts those before it.
func TestClockOffset(t *testing.T) {
	const ms = time.Millisecond
	var c clockOffset
	if s, known := c.best(); known {
		t.Errorf("known before the first answer: %v", s)
	}
	for _, test := range []struct {
		name string
		note clockSample
		want clockSample
	}{
		{"the first", clockSample{5 * ms, 10 * ms}, clockSample{5 * ms, 10 * ms}},
		{"a longer way", clockSample{25 * ms, 30 * ms}, clockSample{5 * ms, 10 * ms}},
		{"a shorter one", clockSample{2 * ms, ms}, clockSample{2 * ms, ms}},
		{"the clock was set", clockSample{3 * time.Second, 20 * ms}, clockSample{3 * time.Second, 20 * ms}},
		{"and set back", clockSample{2 * ms, 40 * ms}, clockSample{2 * ms, 40 * ms}},
	} {
		c.note(test.note)
		if s, known := c.best(); !known || s != test.want {
			t.Errorf("%s: %v, want %v", test.name, s, test.want)
		}
	}
	for i := range clockSamples {
		c.note(clockSample{time.Duration(i) * ms, 50 * ms})
	}
	if s, _ := c.best(); s != (clockSample{0, 50 * ms}) || len(c.samples) != clockSamples {
		t.Errorf("an answer of long ago counts: %v of %v", s, c.samples)
	}
	c.forget()
	if s, known := c.best(); known {
		t.Errorf("known of a peer that is gone: %v", s)
	}
}
