package sim

import (
	"strings"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// A fence of the simulator: steps that fail at random, and of which the first may
// power the peer off. Somebody switches it on again.

const fenceName = "fence "

// fence returns a plan of n steps.
func fence(n int, timeout time.Duration) hooks.Plan {
	var p hooks.Plan
	for _, name := range []string{"power", "port"}[:n] {
		p = append(p, hooks.Step{
			Name: fenceName + name, Timeout: timeout, Action: hooks.Exec{Command: []string{"/usr/local/bin/fence", name}},
		})
	}
	return p
}

// drawFence draws whether there is one, and what becomes of it.
func (w *World) drawFence(s *Setup) {
	if !w.chance(0.3) {
		return
	}
	s.Fence = fence(1+w.rng.IntN(2), w.between(50*time.Millisecond, 2*time.Second))
	s.FenceRequired, s.FenceOff = w.chance(0.5), w.chance(0.4)
	if w.chance(0.7) {
		s.FenceFails = 0.5 * w.rng.Float64()
	}
}

// fenceTime is how long a fence may keep a promotion.
func (s *Setup) fenceTime() time.Duration {
	var d time.Duration
	for _, f := range s.Fence {
		d += f.Timeout + hooks.CancelGrace
	}
	return d
}

// fences is told that a step of the fence went well.
func (n *node) fences() {
	w, p := n.w, n.peer()
	w.check.nodes[n.i].fences++
	if !w.setup.FenceOff || w.check.nodes[n.i].fences > 1 || !p.up {
		return
	}
	w.say(p.i, "fenced: power cut")
	p.powerOff()
	w.lastFence = w.now
	w.schedule(w.between(time.Second, 3*time.Second), item{kind: kPower, node: uint8(p.i)})
}

// isFence reports whether a step is one of a fence.
func isFence(s hooks.Step) bool { return strings.HasPrefix(s.Name, fenceName) }

// fenced is about a takeover behind a required fence: every step of it went well,
// or the peer itself had just said that it has nothing.
func (c *checker) fenced(n *node) {
	w := c.w
	if !w.setup.FenceRequired || len(w.setup.Fence) == 0 {
		return
	}
	if c.nodes[n.i].fences == len(w.setup.Fence) {
		w.fenced++
		return
	}
	if said := n.claimedAt.Sub(n.word); n.word == 0 || n.peerHeld || said > failover.LinkPatience {
		w.fail("fence", "%s takes over behind %d of %d steps of its fence, its peer said something %s before",
			n.label, c.nodes[n.i].fences, len(w.setup.Fence), said)
	}
}
