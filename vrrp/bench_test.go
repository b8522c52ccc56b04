package vrrp

import (
	"testing"
	"time"
)

// BenchmarkStep is one advertisement interval of a Backup and of an Active.
// The one allocation is the effect.
func BenchmarkStep(b *testing.B) {
	b.Run("backup hears", func(b *testing.B) {
		r, ev := routerFor(b), Event(heardFrom(200, 100, highest))
		r.Step(startedAt, Startup{}, nil)
		benchmarkSteps(b, r, ev)
	})
	b.Run("active advertises", func(b *testing.B) {
		r := routerFor(b)
		r.Step(startedAt, Startup{}, nil)
		r.Step(startedAt, Claim{}, nil)
		benchmarkSteps(b, r, Tick{})
	})
}

func routerFor(b *testing.B) *Router {
	b.Helper()
	r, err := New(testConfig())
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func benchmarkSteps(b *testing.B, r *Router, ev Event) {
	b.Helper()
	b.ReportAllocs()
	now, out := startedAt, make([]Effect, 0, 4)
	for b.Loop() {
		now = now.Add(time.Second)
		if out = r.Step(now, ev, out[:0]); len(out) != 1 {
			b.Fatalf("effects %v", out)
		}
	}
}

func BenchmarkAppendTo(b *testing.B) {
	for _, g := range append(handwritten(), capturedGoldens(b)[7]) {
		b.Run(g.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 2048)
			for b.Loop() {
				if _, err := g.want.AppendTo(buf, g.src, g.dst, g.form); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, g := range append(handwritten(), capturedGoldens(b)[7]) {
		b.Run(g.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Parse(g.payload, g.src, g.dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAllocations holds what the benchmarks show: a goal of 255 instances at
// 10 ms leaves no room for garbage.
func TestAllocations(t *testing.T) {
	g := handwritten()[3]
	buf := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() { _, _ = g.want.AppendTo(buf, g.src, g.dst, g.form) }); n != 0 {
		t.Errorf("AppendTo allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = Parse(g.payload, g.src, g.dst) }); n > 1 {
		t.Errorf("Parse allocates %v times, want the list of addresses alone", n)
	}
	r := routerIn(t, testConfig(), Backup)
	ev, out := Event(heardFrom(200, 100, highest)), make([]Effect, 0, 4)
	if n := testing.AllocsPerRun(100, func() { out = r.Step(startedAt, ev, out[:0]) }); n > 1 {
		t.Errorf("Step allocates %v times, want the effect alone", n)
	}
}
