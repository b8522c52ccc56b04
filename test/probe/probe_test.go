package probe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSeen(t *testing.T) {
	const u = time.Millisecond
	c := &Client{
		sent: []time.Duration{1 * u, 2 * u, 3 * u, 4 * u, 50 * u, 51 * u, 52 * u, 0},
		got:  []time.Duration{2 * u, 3 * u, 0, 0, 54 * u, 53 * u, 0, 0},
		by:   []int{0, 0, 0, 0, 1, 1, 0, 0},
	}
	c.count.Store(7)
	for _, tt := range []struct {
		name     string
		from, to time.Duration
		want     Seen
	}{
		{"a takeover", 2500 * time.Microsecond, 54 * u, Seen{Outage: 50 * u, Lost: 3, Probes: 5, Slow: 46 * u, Served: [2]time.Duration{500 * time.Microsecond, 50500 * time.Microsecond}}},
		{"unserved to the end", 53500 * time.Microsecond, 100 * u, Seen{Outage: 46 * u, Served: [2]time.Duration{-1, 500 * time.Microsecond}}},
		{"it began before", 10 * u, 20 * u, Seen{Outage: 17 * u, Served: [2]time.Duration{-1, -1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, c.Seen(tt.from, tt.to)); d != "" {
				t.Error(d)
			}
		})
	}
}
