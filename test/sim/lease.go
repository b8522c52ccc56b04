package sim

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// I2 and I8: the address is there only as long as a loop that makes progress
// says so, and a loop that was away drops it before anything else. Both are held
// by the host's own clock, whatever clock the daemon was shown.

// proof is what a checker knows of a daemon's progress.
type proof struct {
	progress mono.Instant  // the last advertisement, or the wish for the address
	patience time.Duration // how long after one of its advertisements the peer waits
}

func (c *checker) prove(n *node) { c.proofs[n.i].progress = n.clock() }

func newProof(cfg failover.Config) proof {
	return proof{patience: vrrp.ActiveDownInterval(cfg.PeerPriority, cfg.Router.Interval.Duration())}
}

// late reports whether the daemon is about to wake with the address later than
// its peer has to wait.
func (c *checker) late(n *node, ev failover.Event) bool {
	p := &c.proofs[n.i]
	if !n.kernel.has || n.kernel.planted || n.foreign {
		return false
	}
	if _, ok := ev.(failover.Started); ok { // it adopts the address or drops it
		p.progress = n.clock()
		return false
	}
	return n.clock().Sub(p.progress) > p.patience && n.kernel.holds()
}

// woke is I8: a late loop drops the address before it says or does anything.
func (c *checker) woke(n *node, effects []failover.Effect) {
	for _, e := range effects {
		switch e.(type) {
		case failover.Drop:
			return
		case failover.Hold, failover.Send, failover.Announce, failover.StartStep, failover.Tell:
			c.w.fail("I8", "%s wakes with the address %s after its last advertisement and does not drop it first: %T",
				n.label, n.clock().Sub(c.proofs[n.i].progress), e)
			return
		case failover.CloseWrites, failover.Append, failover.CancelStep, failover.Measure, failover.CatchUp,
			failover.CheckSteps, failover.CancelCheck, failover.AskKernel, failover.AskWitness, failover.FenceDatabase, failover.Remember, failover.Answer, failover.Note, failover.Stopped:
		}
	}
	c.w.fail("I8", "%s wakes with the address %s after its last advertisement and does not drop it",
		n.label, n.clock().Sub(c.proofs[n.i].progress))
}

// renews is I2 of a renewal: it follows a proof of progress.
func (c *checker) renews(n *node, e failover.Hold) {
	p := &c.proofs[n.i]
	c.lengthens(n, e)
	switch {
	case e.ID != 0:
		p.progress = n.clock()
	case n.clock().Sub(p.progress) > p.patience:
		c.w.fail("I2", "%s renews the address %s after its last advertisement", n.label, n.clock().Sub(p.progress))
	}
}

// leases is I2 of a daemon that does nothing: its address goes by itself.
func (c *checker) leases() {
	w := c.w
	for _, n := range w.nodes {
		if n.kernel.has && !n.kernel.planted && !n.foreign && w.now-n.ran > max(n.kernel.lease, w.setup.Lease)+expiry+leaseSlack && !n.frozen && n.kernel.holds() {
			w.fail("I2", "%s still has the address %s after its daemon did anything", n.label, w.now-n.ran)
		}
	}
}

// leaseSlack covers clocks that run slower than the world's.
const leaseSlack = 50 * time.Millisecond
