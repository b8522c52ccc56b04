package sim

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// The witness scenario is the address scenario with a gateway on the network of the
// virtual address, which both nodes ask and of which either can be cut off.

const (
	// witnessSlack is what the bound of an isolation allows beside the lease: three
	// questions without an answer, and what was on its way when the last way was cut.
	witnessSlack = 3*(500*time.Millisecond+200*time.Millisecond) + InFlight
	// takeSlack is how long after the last way to the gateway was cut an answer of it
	// may still carry a takeover: it holds half a second, and one more is on its way.
	takeSlack = time.Second
)

// gateway is the third party. It never fails itself: a cut from both nodes is that.
type gateway struct {
	cut   [2]bool          // between it and a node
	since [2]time.Duration // the cut is there since then, -1: it is not
}

// Witness is one seed of the witness scenario.
func Witness(seed uint64) *World { return witnessOf(seed, Broken{}, witnessTroubles) }

func witnessOf(seed uint64, b Broken, kinds []func(*address)) *World {
	s := addressSetup(seed, b, 0)
	draw := NewWorld(seed, DefaultSetup())
	s.Witness = true
	if draw.side.Float64() < 0.6 {
		s.OnIsolation = failover.ReleaseIsolated
	}
	return playAddress(seed, s, kinds)
}

// witnessTroubles cut nodes off from their gateway, alone and with more.
var witnessTroubles = append([]func(*address){
	(*address).gatewayAway, (*address).gatewayAway, (*address).gatewayAway, (*address).cutOff, (*address).cutOff, (*address).cutOff,
	(*address).cutOff, (*address).partition, (*address).partition, (*address).gatewayDies,
}, allTroubles...)

// away cuts nodes off from the gateway, and puts them back.
func (a *address) away(what string, nodes ...int) {
	set := func(cut bool) func() {
		return func() {
			for _, i := range nodes {
				a.w.gate.set(a.w.now, i, cut)
			}
		}
	}
	a.change(what, set(true), set(false))
}

func (g *gateway) set(now time.Duration, i int, cut bool) {
	if g.cut[i] == cut {
		return
	}
	g.cut[i], g.since[i] = cut, -1
	if cut {
		g.since[i] = now
	}
}

func (a *address) gatewayAway() {
	n := a.active()
	a.away("cut between "+n.label+" and the gateway", n.i)
}

func (a *address) gatewayDies() { a.away("gateway dead", 0, 1) }

// cutOff takes a node off the network: its peer and the gateway.
func (a *address) cutOff() {
	n := a.active()
	a.partition()
	a.away("cut between "+n.label+" and the gateway", n.i)
}

// askWitness is answered by the gateway, or by nobody.
func (n *node) askWitness(e failover.AskWitness) {
	w, g := n.w, &n.w.gate
	yes := !g.cut[n.i] || w.setup.Broken.FalseWitness
	switch {
	case n.kernel.down != "":
		n.answer(soon, failover.Witnessed{ID: e.ID, Detail: n.kernel.down})
	case yes:
		n.answer(w.between(200*time.Microsecond, 2*time.Millisecond), failover.Witnessed{ID: e.ID, Verdict: failover.VerdictYes})
	default:
		n.answer(e.Within, failover.Witnessed{ID: e.ID, Verdict: failover.VerdictNo})
	}
}

// cutSince is since when nothing at all comes to a node: no packet of its peer by any
// path, and no answer of the gateway; -1: something may.
func (w *World) cutSince(i int) time.Duration {
	if !w.setup.Witness || !w.gate.cut[i] {
		return -1
	}
	p := w.nodes[1-i]
	since := w.gate.since[i]
	for path := range w.net.ways {
		if !w.net.ways[path][1-i].cut && !w.net.dark(path) && p.up {
			return -1
		}
	}
	return max(since, w.net.silenced[i])
}

// witnessed is what a witness is for: with on_isolation release, who hears nobody for
// the bound has no address.
func (c *checker) witnessed() {
	w := c.w
	if !w.setup.Witness {
		return
	}
	for i, n := range w.nodes {
		since := w.cutSince(i)
		if since < 0 {
			c.nodes[i].alone = -1
			continue
		}
		if c.nodes[i].alone < 0 {
			c.nodes[i].alone = max(since, w.now-InFlight)
		}
		if w.setup.OnIsolation != failover.ReleaseIsolated || !n.kernel.has || !n.kernel.own() || n.foreign || n.frozen {
			continue // a host that stands still, its kernel too, lets go of nothing
		}
		bound := w.setup.Lease + witnessSlack + w.net.spread
		if !n.runs() {
			bound += w.setup.Lease + expiry
		}
		if from := max(c.nodes[i].alone, c.disturbed, n.awake); w.now-from > bound {
			w.fail("isolation", "%s has the address and hears nobody for %s", n.label, w.now-c.nodes[i].alone)
		}
	}
}

// vouched is the other half: nobody takes the address from silence without its witness.
func (c *checker) vouched(n *node) {
	w := c.w
	if !w.setup.Witness || c.nodes[n.i].began.Planned {
		return
	}
	// A goodbye, or the peer's word over the link, is enough. What a host missed while
	// its clock stood it cannot know.
	if g := &w.gate; g.cut[n.i] && w.now-max(g.since[n.i], n.stood) > takeSlack && w.now-n.heard > takeSlack && !w.net.linked() {
		w.fail("witness", "%s takes the address and its gateway is cut off for %s", n.label, w.now-g.since[n.i])
	}
	w.vouched++
}
