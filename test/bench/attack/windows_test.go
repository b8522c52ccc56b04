package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLateIn(t *testing.T) {
	const ms = time.Millisecond
	start := time.Unix(1000, 0)
	var stamps []time.Time
	for _, at := range []int{0, 99, 205, 300, 560, 601} {
		stamps = append(stamps, start.Add(time.Duration(at)*ms))
	}
	for _, tt := range []struct {
		name     string
		from, to int
		want     []time.Duration
	}{
		{"all", 0, 1000, []time.Duration{0, 0, 5 * ms, 0, 160 * ms, 60 * ms, 1 * ms}},
		{"due in it and come behind it", 390, 401, []time.Duration{160 * ms}},
		{"come in it and due before it", 401, 470, nil},
		{"its end is the next one's", 100, 200, []time.Duration{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := window{start.Add(time.Duration(tt.from) * ms), start.Add(time.Duration(tt.to) * ms), start}
			if diff := cmp.Diff(tt.want, lateIn(w, stamps)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestChecksum is the example of RFC 1071, section 3.
func TestChecksum(t *testing.T) {
	if got := checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("checksum %#x", got)
	}
}
