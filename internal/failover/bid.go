package failover

import (
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// A bid is the way of a standby to the role that nobody has: ask the silent
// peer's kernel, apply what was received, ask the gate, journal, and only then
// claim.

type bidStage uint8

const (
	bidAsking    bidStage = iota // AskKernel is out
	bidWaiting                   // for the time of the next question
	bidMeasuring                 // the first look at the databases
	bidDraining                  // CatchUp is out
	bidChecking                  // the measurement that the gate decides on
	bidVouching                  // for the witness
	bidJournaling
	bidRunning
	bidRunUndoing
)

type bid struct {
	stage   bidStage
	wait    ID
	until   mono.Instant // Never while an answer is awaited that always comes
	reason  Reason
	misses  int  // questions in a row that only the host answered
	quiet   int  // and that nobody answered
	dead    bool // the peer's kernel is silent too
	contend bool // against a weaker Active that advertises and is no Tanist
	yields  bool // it asks once more after its claim
	force   bool
	request Request
	command ID           // the operator's, 0: none
	wish    HandoverID   // the peer's operator's, zero: none
	giveUp  mono.Instant // the operator waits until then, 0: nobody does
	epoch   Epoch
	resumes bool // the databases follow nobody, it goes on with what was
	claimed mono.Instant
	asked   mono.Instant // when the latest question was put
	silence mono.Instant // when the peer's kernel was last found without the address, 0: never
	askAt   mono.Instant // the next question of a running plan
	why     Why          // of the undoing
	losses  []hooks.Loss

	unvouched mono.Instant // since when the witness is waited for at the address, 0: it is not
}

func (b *bid) before(s bidStage) bool { return b.stage < s }

// byOperator reports whether an operator asked for it.
func (b *bid) byOperator() bool { return b.command != 0 || b.wish != (HandoverID{}) }

// thinkBid begins, withdraws or refuses a bid.
func (o *Orchestrator) thinkBid() {
	if b := o.bid; b != nil {
		if b.stage >= bidRunUndoing {
			return
		}
		if o.lease.held {
			return
		}
		if o.overtaken() {
			o.withdrawBid(Why{Reason: PeerActive})
		} else if o.groundless() {
			o.withdrawBid(Why{Reason: Elected, Detail: o.cfg.Peer + " is back"})
		} else if o.linkFresh() && (b.stage == bidAsking || b.stage == bidWaiting) {
			o.spokenFor()
		} else if w, faulty := o.fault(); faulty {
			o.withdrawBid(w)
		} else if o.stopping {
			o.withdrawBid(Why{Reason: Stopping})
		} else if b.stage == bidVouching && o.vouched(b) {
			o.bidDecide()
		} else if o.unvouched() {
			o.withdrawBid(o.witnessSilent())
		} else if o.run != nil && o.run.purpose == bidding && o.run.pivot != 0 && o.lease.acquire == 0 && o.clear() {
			o.acquire()
		}
		return
	}
	if !o.mayBid() {
		return
	}
	g := o.ground()
	w, held := o.heldBack()
	switch {
	case g.ok && held:
		o.stayHeld(w)
	case g.ok:
		o.beginBid(&bid{reason: g.reason})
	case g.say && (g.state != Backup || o.state != Backup || g.why.Reason == PeerActive):
		o.enter(g.state, g.why)
	}
}

// overtaken reports whether the peer turned out to have the role that the bid is
// for. From the claim on that takes more than its name: it must have the address.
func (o *Orchestrator) overtaken() bool {
	if !o.bid.before(bidRunning) {
		return o.linkFresh() && (o.peer.state.Holds || o.peer.state.State == Promoting && o.yieldsTo())
	}
	return o.peerIsActive() || !o.silent && !o.bid.force && !o.bid.contend
}

// yieldsTo reports whether the peer goes first when both claim the role at once.
func (o *Orchestrator) yieldsTo() bool {
	if o.cfg.PeerPriority != o.cfg.Router.Priority {
		return o.cfg.PeerPriority > o.cfg.Router.Priority
	}
	return o.cfg.Peer < o.cfg.Node
}

func (o *Orchestrator) mayBid() bool {
	if o.role != hooks.Standby || o.router.State() != vrrp.Backup || !o.silent || o.stopping ||
		o.give != nil && o.give.stage < GiveDone || o.taking() || o.now.Before(o.notUntil) ||
		o.early.id != 0 && !o.linkFresh() {
		return false
	}
	if o.run != nil && o.run.purpose != closing && o.run.purpose != settling && o.run.purpose != demoting && o.run.purpose != mending {
		return false
	}
	if w, faulty := o.fault(); faulty {
		o.enter(Fault, w)
		return false
	}
	if o.deaf {
		o.enter(Refused, Why{Reason: Deaf, Detail: "no heartbeat path is open"})
		return false
	}
	if o.now.Sub(o.hearing) < o.router.ActiveDownInterval() {
		return false // what was not heard before that may have been said
	}
	return !o.awaitsSample()
}

// groundless reports whether the ground of the bid is gone before the claim: a
// peer that was silent when it began speaks, and has a say in who takes the role.
func (o *Orchestrator) groundless() bool {
	b := o.bid
	if !b.before(bidRunning) || b.byOperator() || !o.linkFresh() {
		return false
	}
	return !o.ground().ok
}

// spokenFor goes on without the peer's kernel: its daemon speaks for it.
func (o *Orchestrator) spokenFor() {
	b := o.bid
	if !b.byOperator() {
		b.reason = o.ground().reason
	}
	b.wait = 0
	o.bidMeasure(bidMeasuring)
}

func (o *Orchestrator) beginBid(b *bid) {
	o.bid = b
	b.until = mono.Never
	if b.byOperator() {
		b.giveUp = o.now.Add(b.request.Timeout)
	}
	switch {
	case o.hostSilent():
		b.dead, b.silence = true, o.early.found
	case b.contend: // it lets go when it hears the claim, and is asked for then
	case o.left && !o.proved && !o.peer.known: // others say goodbye and may then be stopped
		b.contend = true
	case o.left && o.now.Sub(o.lastWord) <= goodbyeHolds: // a Tanist takes the address off first
		b.silence = o.lastWord.Add(goodbyeHolds - silenceHolds)
	case !o.linkFresh():
		o.ask()
		return
	}
	o.bidMeasure(bidMeasuring)
}

func (o *Orchestrator) tickBid() {
	b := o.bid
	if b != nil && b.giveUp != 0 && !o.now.Before(b.giveUp) && b.before(bidJournaling) {
		o.outOfTime()
		return
	}
	if b == nil || o.now.Before(b.until) {
		return
	}
	switch b.stage {
	case bidWaiting:
		o.ask()
	case bidAsking:
		o.ask() // the question itself was lost
	case bidMeasuring, bidChecking:
		o.refuseBid(Why{Reason: GateClosed, Gate: o.bidGate().Reasons, Detail: "the databases did not answer"})
	case bidDraining:
		b.wait = 0
		o.bidMeasure(bidChecking)
	case bidVouching:
		o.refuseBid(o.witnessSilent())
	case bidJournaling:
		// The record may be on its way still, and would count after a restart.
		o.appendRecord(hooks.Record{Kind: hooks.Reverted, Epoch: uint64(b.epoch), Role: hooks.Standby})
		o.refuseBid(Why{Reason: JournalFailed, Detail: "no answer"})
	case bidRunning, bidRunUndoing:
		b.until = mono.Never // the tick is all that was wanted
	}
}

// outOfTime ends a bid whose operator waited long enough. Nothing was changed.
func (o *Orchestrator) outOfTime() {
	b := o.bid
	w := Why{Reason: TimedOut, Detail: "before " + o.cfg.Node + " could take over: " + o.why.Reason.String()}
	o.bid = nil
	o.answerBid(b, TimedOutBack, w)
}

func (o *Orchestrator) bidMeasure(next bidStage) {
	b := o.bid
	b.stage = next
	if !o.hasDatabases() {
		o.bidDecide()
		return
	}
	b.wait, b.until = o.measureNow(), o.now.Add(measurePatience)
}

func (o *Orchestrator) bidMeasured(id ID) {
	b := o.bid
	if b == nil || id != b.wait || id == 0 {
		return
	}
	switch b.stage {
	case bidMeasuring:
		if o.resumes() || o.sources() == SourcesUnknown && !b.force {
			o.bidDecide()
			return
		}
		b.stage, b.wait, b.until = bidDraining, o.id(), o.now.Add(o.cfg.DrainTimeout+retryDelay)
		o.enterQuietly(Why{Reason: b.reason, Detail: "applying what was received"})
		o.emit(CatchUp{ID: b.wait, Targets: o.drainTargets(), Until: o.now.Add(o.cfg.DrainTimeout)})
	case bidChecking:
		o.bidDecide()
	case bidAsking, bidWaiting, bidDraining, bidVouching, bidJournaling, bidRunning, bidRunUndoing:
	}
}

// drainTargets are the positions worth waiting for: with the source's host gone,
// only what was received can ever be applied.
func (o *Orchestrator) drainTargets() []Position {
	if o.bid.dead || !o.linkFresh() {
		return nil
	}
	var ps []Position
	for i := range o.databases {
		if p, ok := o.databases[i].Heard.Last(); ok {
			ps = append(ps, Position{Database: o.databases[i].Name, Executed: p})
		}
	}
	return ps
}

// enterQuietly changes why this node is Backup, without leaving it.
func (o *Orchestrator) enterQuietly(w Why) {
	if o.state == Backup {
		o.enter(Backup, w)
	}
}

func (o *Orchestrator) bidCaughtUp(ev CaughtUp) {
	if b := o.bid; b != nil && b.stage == bidDraining && ev.ID == b.wait {
		// The gate judges by what it measures, not by this answer.
		o.bidMeasure(bidChecking)
	}
}

func (o *Orchestrator) bidDecide() {
	b := o.bid
	b.wait = 0
	if verdict := o.bidGate(); !verdict.Open {
		if !b.force {
			o.refuseBid(Why{Reason: GateClosed, Gate: verdict.Reasons})
			return
		}
		o.appendRecord(hooks.Record{
			Kind: hooks.Override, Epoch: uint64(o.epoch + 1), Role: hooks.Active, Reason: b.request.Reason, UID: b.request.UID,
		})
	}
	if !o.vouched(b) {
		o.awaitWitness()
		return
	}
	b.resumes = o.resumes()
	b.epoch = o.epoch + 1
	b.stage, b.wait, b.until = bidJournaling, o.id(), o.now.Add(measurePatience)
	if !b.resumes {
		b.losses = o.losses(nil)
	}
	// Before any thread is touched it is durable how far it was received: the server
	// forgets that.
	o.emit(Append{ID: b.wait, Positions: o.remembered(), Record: hooks.Record{
		Kind: hooks.Began, Instance: o.cfg.Instance, Epoch: uint64(b.epoch), Role: hooks.Active, Reason: b.reason.String(),
	}})
	o.journalLosses(b.epoch, b.losses)
}

func (o *Orchestrator) refuseBid(w Why) {
	b := o.bid
	o.bid = nil
	o.notUntil = o.now.Add(retryDelay)
	o.enter(Refused, w)
	o.answerBid(b, RefusedTo, w)
}

// withdrawBid gives a bid up before the address was acquired.
func (o *Orchestrator) withdrawBid(w Why) {
	b := o.bid
	if b.before(bidRunning) {
		o.bid = nil
		if b.stage == bidJournaling {
			o.revert(b.epoch)
		}
		o.enter(Backup, w)
		o.answerBid(b, RefusedTo, w)
		return
	}
	b.why = w
	b.stage = bidRunUndoing
	o.dropAddress()
	o.yield()
	o.enter(Demoting, w)
	if o.unbegun(bidding) {
		o.bidUndone()
		return
	}
	o.cancelRun() // bidRunEnded goes on when its last step has answered
}

func (o *Orchestrator) answerBid(b *bid, out Outcome, w Why) {
	if b.command != 0 {
		o.emit(Answer{Command: b.command, Outcome: out, Why: w})
	}
	if b.wish != (HandoverID{}) {
		o.granted = &Grant{ID: b.wish, Outcome: out, Why: w}
		o.dirty = true
	}
}

func (o *Orchestrator) bidDurable(ev Durable) {
	b := o.bid
	if b == nil || b.stage != bidJournaling || ev.ID != b.wait {
		return
	}
	b.wait = 0
	if ev.Err != nil {
		o.refuseBid(Why{Reason: JournalFailed, Detail: ev.Err.Error()})
		return
	}
	if o.peerIsActive() || !o.silent && !b.force && !b.contend {
		o.withdrawBid(Why{Reason: PeerActive})
		return
	}
	b.stage, b.until, b.claimed = bidRunning, mono.Never, o.now
	o.yieldOnce()
	o.promoted(b.epoch)
	o.route(vrrp.Claim{})
	o.enter(Promoting, Why{Reason: b.reason})
	fence := o.fencing()
	plan := append(fence, o.cfg.Promote...)
	o.startRun(&planRun{
		purpose: bidding, plan: plan, fence: len(fence), to: len(plan), role: hooks.Active,
		epoch: b.epoch, reason: b.reason, vars: o.vars(o.cfg.Node, hooks.OnPromote, b.reason, b.epoch), losses: b.losses,
	})
}

// promoted notes that this node has the role from now on.
func (o *Orchestrator) promoted(epoch Epoch) {
	o.role, o.previous, o.activeEpoch, o.epoch = hooks.Active, o.activeEpoch, epoch, max(o.epoch, epoch)
	o.silent, o.settled, o.settleWait, o.attempt = false, 0, 0, 0
	o.left = false // the peer may take the role again as soon as this node lets go
	o.stopped = map[string]bool{}
	o.dirty = true
}

func (o *Orchestrator) bidRunEnded(r *planRun, ending hooks.Ending) {
	b := o.bid
	switch {
	case b == nil:
		o.closeTransition(r, ending)
		return
	case b.stage == bidRunning && o.lease.held:
		o.bid = nil
		o.promotionEnded(r, ending)
		out := Done
		if o.fixAt != 0 {
			out = Incomplete
		}
		o.answerBid(b, out, Why{Reason: b.reason})
		return
	case b.stage == bidRunning:
		b.why = Why{Reason: StepFailed, Detail: failedStep(r)}
		if r.fenceFailed() {
			b.why.Reason = FenceFailed
		}
		b.stage = bidRunUndoing
	}
	o.closeTransition(r, ending)
	o.undoResults(bidUndoing, r, b.why)
}

// promotionEnded enters Active. Steps after the address that failed leave the
// promotion incomplete: it is tried again from there.
func (o *Orchestrator) promotionEnded(r *planRun, ending hooks.Ending) {
	o.closeTransition(r, ending)
	if o.last.Ending == hooks.Completed {
		o.enter(Active, Why{Reason: r.reason})
		return
	}
	o.fixAt = o.now.Add(failureDelay)
	o.enter(Active, Why{Reason: r.reason, Detail: "incomplete: " + failedStep(r)})
}

func failedStep(r *planRun) string {
	for _, res := range r.run.Results() {
		switch res.Outcome {
		case hooks.Failed, hooks.TimedOut, hooks.Lost, hooks.Cancelled:
			s := res.Name + " " + res.Outcome.String()
			if res.Detail != "" {
				s += ": " + res.Detail
			}
			return s
		case hooks.Pending, hooks.Running, hooks.Unchanged, hooks.Changed, hooks.Skipped:
		}
	}
	return "the plan was interrupted"
}

// acquired is told when the address came to this node. Until then a promotion can
// be taken back, and the next one has to know what the lost source had.
func (o *Orchestrator) acquired() {
	var final []Position
	forced := false
	if o.take != nil && o.take.view.Stage == TakePromoting {
		final, forced = o.take.give.Positions, o.take.give.Force
	}
	o.beginWriting(final, forced)
	o.forgetHeard()
	o.forgetDivergence()
	if o.bid != nil && o.bid.byOperator() {
		o.condone()
	}
	o.takeAcquired()
}
