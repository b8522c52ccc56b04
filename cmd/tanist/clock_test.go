package main

import (
	"sync"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// machine is the clocks of a machine that can be suspended and set.
type machine struct {
	running, suspended, set time.Duration
	interrupt               func() // before each reading of CLOCK_BOOTTIME
	looks                   int
}

func (m *machine) clocks() (monotonic, ahead time.Duration) {
	return m.running, m.suspended + m.set
}

func (m *machine) bootTime() mono.Instant { return mono.Instant(m.running + m.suspended) }

func (m *machine) boot() mono.Instant {
	m.looks++
	now := m.bootTime()
	if m.interrupt != nil {
		m.interrupt()
	}
	return now
}

func TestBootReader(t *testing.T) {
	const suspend = 5 * time.Second
	for _, tt := range []struct {
		name   string
		happen func(*machine)
		looks  int           // between one reading and the next
		behind time.Duration // at most
	}{
		{"nothing", func(*machine) {}, 0, 0},
		{"time-passes", func(m *machine) { m.running += trustFor / 2 }, 0, 0},
		{"suspend", func(m *machine) { m.suspended += suspend }, 1, 0},
		{"short-suspend", func(m *machine) { m.suspended += stepLeast }, 1, 0},
		{"clock-set-forward", func(m *machine) { m.set += suspend }, 1, 0},
		{"clock-set-back", func(m *machine) { m.set -= suspend }, 1, 0},
		{"suspend-and-clock-set-back-by-less", func(m *machine) { m.suspended, m.set = suspend, stepLeast-suspend }, 1, 0},
		{"suspend-hidden-by-the-clock", func(m *machine) { m.suspended, m.set, m.running = suspend, -suspend, trustFor }, 1, 0},
		{"interrupted-look", func(m *machine) {
			m.running += trustFor
			m.interrupt = func() { m.running += 3 * time.Millisecond }
		}, 1, 0},
		{"suspend-within-a-look", func(m *machine) {
			m.running += trustFor
			m.interrupt = func() { m.suspended += suspend }
		}, 1, suspend},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{}
			r := &bootReader{clocks: m.clocks, boot: m.boot}
			first := r.now()
			looks := m.looks
			tt.happen(m)
			before := m.bootTime()
			got := r.now()
			if got < first || m.bootTime().Sub(got) > tt.behind || got.After(m.bootTime()) || got < before {
				t.Errorf("read %v, then %v; the kernel's clock was at %v before and %v after", first, got, before, m.bootTime())
			}
			if m.looks-looks != tt.looks {
				t.Errorf("%d looks, want %d", m.looks-looks, tt.looks)
			}
			m.interrupt = nil
			if got := r.now(); m.bootTime().Sub(got) > stepLeast || got.After(m.bootTime()) {
				t.Errorf("the next reading is %v, the kernel's clock at %v", got, m.bootTime())
			}
		})
	}
}

// TestBootReaderBesideTheKernel compares with the kernel's clock, from many
// goroutines.
func TestBootReaderBesideTheKernel(t *testing.T) {
	r := newBootReader()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var last mono.Instant
			for range 50_000 {
				before := bootClock()
				got := r.now()
				after := bootClock()
				if got < last || got < before.Add(-stepLeast) || got > after {
					t.Errorf("read %v after %v, the kernel's clock was at %v before and %v after", got, last, before, after)
					return
				}
				last = got
			}
		})
	}
	wg.Wait()
}

func BenchmarkBootClock(b *testing.B) {
	b.Run("kernel", func(b *testing.B) {
		for b.Loop() {
			bootClock()
		}
	})
	b.Run("reader", func(b *testing.B) {
		r := newBootReader()
		for b.Loop() {
			r.now()
		}
	})
}
