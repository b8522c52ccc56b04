package sim

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
)

// TestBoundaries ends something at every boundary of every tale.
func TestBoundaries(t *testing.T) {
	all, step := uint64(Boundaries()), uint64(1)
	if testing.Short() {
		step = 10
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a world is small and gone at once
	var next, failed atomic.Uint64
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for number := next.Add(step); number <= all && failed.Load() < 10; number = next.Add(step) {
				w, err := Boundary(number)
				if err == nil {
					err = w.Finish()
				}
				if err != nil {
					failed.Add(1)
					t.Errorf("%v\nreplay: go run ./test/sim/simctl -scenario boundaries -seed %d -seeds 1", err, number)
				}
			}
		})
	}
	wait.Wait()
	count := map[string]int{}
	for _, c := range everyBoundary() {
		count[c.tale.name]++
	}
	t.Logf("%d boundaries: %v", all, count)
	for _, tale := range tales() {
		// A tale in which nothing comes to pass has a few heartbeats.
		if count[tale.name] < 1000 {
			t.Errorf("%s: %d boundaries", tale.name, count[tale.name])
		}
	}
}

// TestBoundariesFire breaks one thing at a time, and some boundary has to tell.
func TestBoundariesFire(t *testing.T) {
	for name, broken := range map[string]Broken{
		"the journal forgets what it said was durable": {ForgetfulDisk: true},
		"a unit goes on after its stop":                {KeepUnit: true},
		"databases stay open":                          {KeepWrites: true},
		"the kernel is believed silent":                {BlindCapture: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range everyBoundary() {
				if tell(c, broken).Finish() != nil {
					return
				}
			}
			t.Error("every boundary is as it should be")
		})
	}
}
