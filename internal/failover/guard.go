package failover

import (
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// The holder looks now and then whether somebody else answers for the address
// too: the peer's kernel after a daemon that was killed elsewhere, a third host
// with the address configured by hand. It answers as RFC 5227 §2.4 has it, by
// announcing again, and says who it is.

const (
	// guardFirst is when the first look follows an acquisition: the handover between
	// two nodes is over by then.
	guardFirst = time.Second
	// guardEvery is the time between two looks, guardAgain as long as there is
	// another claimant.
	guardEvery = 30 * time.Second
	guardAgain = 2 * time.Second
)

type guard struct {
	id       ID // of the question that is out, 0: none
	at       mono.Instant
	claimant string // who else answers, empty: nobody
	told     mono.Instant
}

func (o *Orchestrator) guardDeadline() mono.Instant {
	if !o.lease.held {
		return mono.Never
	}
	return o.guard.at
}

func (o *Orchestrator) tickGuard() {
	if !o.lease.held || o.now.Before(o.guard.at) {
		return
	}
	g := &o.guard
	g.id, g.at = o.id(), o.now.Add(guardEvery) // also when the answer gets lost
	o.emit(AskKernel{ID: g.id, Within: askLongest})
}

func (o *Orchestrator) guarded(ev Asked) {
	g := &o.guard
	g.id = 0
	if !o.lease.held || ev.Err != nil {
		return
	}
	was := g.claimant
	w := Why{Reason: AddressAnswers, Detail: "the host of " + o.cfg.Peer + " answers for the address too"}
	switch {
	case ev.Address:
		g.claimant = o.cfg.Peer
	case ev.Stranger != "":
		g.claimant = ev.Stranger
		w = Why{Reason: StrangerAnswers, Detail: ev.Stranger + " answers for " + o.cfg.VIP + " too and is not " + o.cfg.Peer}
	default:
		g.claimant = ""
		return
	}
	g.at = o.now.Add(guardAgain)
	o.announceAnew()
	if g.claimant != was || o.now.Sub(g.told) >= restoredEvery {
		g.told = o.now
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: w, Urgent: true})
	}
}
