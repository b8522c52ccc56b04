// Command simctl runs the deterministic simulator over many seeds and prints the
// first failure with its transcript.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/tanist-ha/tanist/test/sim"
)

// gcPercent trades memory for speed: a world is small and gone at once.
const gcPercent = 1600

func main() {
	seeds := flag.Uint64("seeds", 1000, "how many seeds to run")
	first := flag.Uint64("seed", 1, "the first seed")
	scenario := flag.String("scenario", "faults", "plain or faults")
	verbose := flag.Bool("v", false, "print the transcript of every seed")
	routine := flag.Bool("routine", false, "with heartbeats, renewals, gossip and measurements")
	flag.Parse()
	debug.SetGCPercent(gcPercent)
	begun := time.Now()
	total := 0
	for seed := *first; seed < *first+*seeds; seed++ {
		if *verbose {
			fmt.Printf("SEED=%d\n", seed)
			sim.Replay(*scenario, seed, os.Stdout, *routine)
		}
		n, err := sim.Play(*scenario, seed)
		total += n
		if err != nil {
			fmt.Printf("SEED=%d\n%v\n\n", seed, err)
			sim.Replay(*scenario, seed, os.Stdout, *routine)
			fmt.Printf("\n%v\nreplay: go run ./test/sim/simctl -scenario %s -seed %d -seeds 1 -v\n", err, *scenario, seed)
			os.Exit(1)
		}
	}
	took := time.Since(begun)
	fmt.Printf("%d seeds, %d failovers in %s: %.0f failovers a second\n", *seeds, total, took.Round(time.Millisecond), float64(total)/took.Seconds())
}
