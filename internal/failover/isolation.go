package failover

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
)

// A node is isolated when it hears nobody: not the peer's daemon by either sign, not
// the peer's kernel, not the witness. Then clients are most likely cut off from it as
// well, and the peer, if it lives, sees what an Active that died looks like.

// IsolationPolicy is what an isolated Active does.
type IsolationPolicy uint8

// What an isolated Active does.
const (
	HoldIsolated    IsolationPolicy = iota // it stays as it is, and says so
	ReleaseIsolated                        // it drops the address and closes writes
)

// String returns the policy as the configuration names it.
func (p IsolationPolicy) String() string {
	return nameOf([]string{"hold", "release"}, "IsolationPolicy", uint8(p))
}

const (
	// isolationParts is into how many parts the bound is divided by questions.
	isolationParts = 8
	// isolationMost is the longest time from one question to the next.
	isolationMost = 500 * time.Millisecond
	// isolatedAsks is how many questions in a row nobody must have answered: a bound
	// that went by while the loop was away proves nothing.
	isolatedAsks = 3
)

// isolation is what is known of it.
type isolation struct {
	kernel ID           // of the question to the peer's kernel that is out, 0: none
	lived  mono.Instant // when the peer's kernel last answered one of those
	since  mono.Instant // isolated since then, 0: not
	forced mono.Instant // when an operator put the role here whoever is silent, 0: never
}

// Isolation is the same for status.
type Isolation struct {
	Policy   IsolationPolicy
	Isolated bool
	Since    mono.Instant
	// Overridden says that an operator forced the role onto this node, and that nobody
	// was heard since: the policy does not take it away.
	Overridden bool
}

func (o *Orchestrator) isolationView() Isolation {
	i := &o.isolation
	return Isolation{Policy: o.cfg.OnIsolation, Isolated: i.since != 0, Since: i.since, Overridden: o.forcedAlone()}
}

// forcedAlone reports whether an operator forced the role onto this node and nobody was
// heard since.
func (o *Orchestrator) forcedAlone() bool {
	return o.isolation.forced != 0 && !o.contact().After(o.isolation.forced)
}

// isolationBound is how long after the last sign of anybody a node is isolated: as
// long as its own address would last without its daemon, and the peer waits for that.
func (o *Orchestrator) isolationBound() time.Duration {
	if !o.hold.promised {
		return o.cfg.Lease
	}
	return o.leaseNow()
}

func (o *Orchestrator) isolationAsks() time.Duration {
	return min(o.isolationBound()/isolationParts, isolationMost)
}

// askIsolated asks the kernel of a peer that is silent, beside the witness.
func (o *Orchestrator) askIsolated() {
	o.isolation.kernel = o.id()
	o.emit(AskKernel{ID: o.isolation.kernel, Within: askLongest})
}

func (o *Orchestrator) askedIsolated(ev Asked) {
	o.isolation.kernel = 0
	if ev.Host || ev.Address {
		o.isolation.lived = o.now
	}
}

// contact is when anybody was last heard.
func (o *Orchestrator) contact() mono.Instant {
	return max(o.lastWord, o.aliveLast, o.isolation.lived, o.witness.yes)
}

// lonely reports whether nobody was heard for so long that a question without an answer
// counts.
func (o *Orchestrator) lonely(now mono.Instant) bool {
	return o.cfg.Witness != "" && now.Sub(o.contact()) > min(o.isolationBound(), LinkPatience)
}

// thinkIsolation finds whether this node hears anybody, and tells when that changes.
func (o *Orchestrator) thinkIsolation() {
	i := &o.isolation
	if o.cfg.Witness == "" {
		return
	}
	if o.woke == o.now || !o.lonely(o.now) {
		o.witness.noes = 0 // what was asked before proves nothing any more
	}
	switch cut := o.now.Sub(o.contact()) > o.isolationBound() && (o.witness.noes >= isolatedAsks || i.since != 0); {
	case cut && i.since == 0:
		i.since, o.dirty = o.now, true
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: o.isolatedWhy(), Urgent: true})
	case !cut && i.since != 0:
		detail := fmt.Sprintf("over, after %s", o.now.Sub(i.since).Round(time.Second))
		i.since, o.dirty = 0, true
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: Why{Reason: Isolated, Detail: detail}})
	}
}

func (o *Orchestrator) isolatedWhy() Why {
	what := "the address stays: on_isolation is hold"
	switch {
	case o.cfg.OnIsolation == ReleaseIsolated && o.forcedAlone():
		what = "the address stays: an operator forced it"
	case o.cfg.OnIsolation == ReleaseIsolated:
		what = "no address on this node: on_isolation is release"
	case o.role != hooks.Active:
		what = "no takeover without the witness"
	}
	return Why{Reason: Isolated, Detail: fmt.Sprintf("neither %s nor the witness (%s) answers for %s; %s", o.cfg.Peer, o.cfg.Witness, o.isolationBound(), what)}
}

// mustRelease reports whether this node may not have the address because it is
// isolated.
func (o *Orchestrator) mustRelease() (Why, bool) {
	if o.isolation.since == 0 || o.cfg.OnIsolation != ReleaseIsolated || o.forcedAlone() {
		return Why{}, false
	}
	return o.isolatedWhy(), true
}
