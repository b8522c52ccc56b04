package sim

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/health"
)

// flapMost is how often a check that flaps may move the address: away and back until
// it is taken for one that flaps. Here it is never well for as long as it is held back.
const flapMost = 2*health.FlapFalls - 1

// TestFlappingMovesLittle lets a check of one node fail and be well again for half an
// hour, at all speeds, on a pair whose stronger node wants the role back as soon as
// it is well. Nothing else happens.
func TestFlappingMovesLittle(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		w, moves, changes := flapping(seed, int(seed%2), false)
		if w.Failure() != nil || moves > flapMost {
			t.Fatalf("SEED=%d %d moves, %v", seed, moves, w.Failure())
		}
		if moves < 2 || changes < 10*flapMost {
			t.Fatalf("SEED=%d %d moves, %d changes: this tests nothing", seed, moves, changes)
		}
	}
}

// TestFlappingBothYields is the same of a check of effect yield on both nodes, each
// at its own speed: the role moves only to a node on which it does not flap.
func TestFlappingBothYields(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		if w, moves, _ := flapping(seed, 1, true); w.Failure() != nil || moves > 2*flapMost {
			t.Fatalf("SEED=%d %d moves, %v", seed, moves, w.Failure())
		}
	}
}

const flapFor = 30 * time.Minute

// flapping plays half an hour in which check i of the stronger node, or of both,
// flaps, and counts how often the address moved and the check of one node changed.
func flapping(seed uint64, i int, both bool) (w *World, moves, changes int) {
	s := DefaultSetup()
	s.Databases, s.Promote, s.Demote = 0, promote()[2:3], demote()[1:2]
	s.Preempt = true
	s.Checks = []health.Check{
		{Name: "gateway", Rise: 2, Fall: 3, Effect: health.Fault},
		{Name: "disk", Rise: 2, Fall: 3, Effect: health.Yield},
	}
	w = NewWorld(seed, s)
	for n := range w.nodes {
		w.schedule(0, item{kind: kStart, node: uint8(n)})
	}
	slowest := [...]time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second}[seed%3]
	flap := func(n *node) {
		var change func()
		change = func() {
			changes++
			n.becomes(i, !n.sick.failing[i])
			w.schedule(w.illFor(500*time.Millisecond, slowest), item{kind: kScript, do: change})
		}
		w.schedule(10*time.Second, item{kind: kScript, do: change})
	}
	flap(w.nodes[0])
	if both {
		flap(w.nodes[1])
	}
	w.Run(flapFor)
	return w, w.takeovers - 1, changes
}
