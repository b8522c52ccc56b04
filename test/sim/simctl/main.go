// Command simctl runs the deterministic simulator over many seeds and prints the
// first failure with its transcript.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanist-ha/tanist/test/sim"
)

// A world is small and gone at once: memory is traded for speed, up to a bound.
const (
	memoryMost = 32 << 20 // bytes, for each worker: about what a cache holds
	gcPercent  = -1
)

func main() {
	seeds := flag.Uint64("seeds", 1000, "how many seeds to run")
	first := flag.Uint64("seed", 1, "the first seed")
	scenario := flag.String("scenario", "faults", "plain, faults, address, foreign, maintenance, witness or boundaries")
	verbose := flag.Bool("v", false, "print the transcript of every seed")
	routine := flag.Bool("routine", false, "with heartbeats, renewals, gossip and measurements")
	until := flag.Duration("for", 0, "begin no seed after so long, 0: run them all")
	workers := flag.Int("workers", 1, "how many seeds to run at a time")
	keep := flag.Bool("keep", false, "go on after a failure, print one line for each and no transcript")
	flag.Parse()
	if *scenario == "boundaries" {
		all := uint64(sim.Boundaries())
		if !given("seeds") {
			*seeds = all
		}
		*seeds = min(*seeds, all+1-min(*first, all+1))
		fmt.Printf("boundaries: %d\n", all)
	}
	*workers = max(1, *workers)
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(int64(*workers) * memoryMost)
	r := run{scenario: *scenario, end: *first + *seeds, keep: *keep, fewest: math.MaxUint64, begun: time.Now(), until: *until}
	r.next.Store(*first)
	if *verbose {
		for seed := *first; seed < r.end; seed++ {
			fmt.Printf("SEED=%d\n", seed)
			sim.Replay(*scenario, seed, os.Stdout, *routine)
		}
	}
	var wait sync.WaitGroup
	for range *workers {
		wait.Go(r.work)
	}
	wait.Wait()
	took := time.Since(r.begun)
	if r.failed > 0 && !*keep {
		fmt.Printf("SEED=%d\n%v\n\n", r.fewest, r.err)
		sim.Replay(*scenario, r.fewest, os.Stdout, *routine)
		fmt.Printf("\n%v\nreplay: go run ./test/sim/simctl -scenario %s -seed %d -seeds 1 -v\n", r.err, *scenario, r.fewest)
	}
	r.report(took)
	if r.failed > 0 {
		os.Exit(1)
	}
}

// run is what the workers share: the seed that is next, and what came out.
type run struct {
	scenario string
	end      uint64
	keep     bool
	begun    time.Time
	until    time.Duration
	next     atomic.Uint64
	stop     atomic.Bool

	mu     sync.Mutex
	total  sim.Tally
	ran    uint64
	failed uint64
	fewest uint64 // the smallest seed that failed
	err    error  // of that seed
}

func (r *run) work() {
	var mine sim.Tally
	var ran uint64
	for !r.stop.Load() {
		seed := r.next.Add(1) - 1
		if seed >= r.end || r.until > 0 && time.Since(r.begun) > r.until {
			break
		}
		t, err := sim.Play(r.scenario, seed)
		mine.Add(t)
		ran++
		if err != nil {
			r.fail(seed, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Add(mine)
	r.ran += ran
}

func (r *run) fail(seed uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed++
	if seed < r.fewest {
		r.fewest, r.err = seed, err
	}
	if r.keep {
		fmt.Printf("SEED=%d %v\n", seed, err)
	} else {
		r.stop.Store(true)
	}
}

func (r *run) report(took time.Duration) {
	t := r.total
	fmt.Printf("%s: %d seeds, %d failovers, %s simulated (%d steps) in %s: %.0f failovers a second\n",
		r.scenario, r.ran, t.Failovers, t.Simulated.Round(time.Second), t.Steps, took.Round(time.Millisecond),
		float64(t.Failovers)/took.Seconds())
	if t.Salvaged > 0 {
		fmt.Printf("%d databases died on the active node and were taken over with what was received\n", t.Salvaged)
	}
	if t.Parted+t.Adopted > 0 {
		fmt.Printf("%d daemons left under maintenance with the address, %d found theirs; second holders that an operator took upon himself: %d\n", t.Parted, t.Adopted, t.Alone)
	}
	if t.Rounds > 0 {
		fmt.Printf("healed %d times, one holder after %s at the longest; second holders: %d when every packet got lost, %d whose claims crossed, %d of another router's doing, %d that put back an address\n", t.Rounds, t.Longest, t.Unlucky, t.Races, t.Overrun, t.PutBacks)
		fmt.Printf("addresses: %d put back, %d that somebody put there taken off, %d let go of over a dead link; takeovers behind a required fence: %d; demotions by a health check: %d\n",
			t.Restored, t.Removed, t.Downs, t.Fenced, t.Unhealthy)
	}
	if r.failed > 0 {
		fmt.Printf("%d seeds failed\n", r.failed)
	}
}

// given reports whether a flag was on the command line.
func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}
