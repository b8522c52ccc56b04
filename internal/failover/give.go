package failover

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
)

// The old node's side of a planned switchover: both check, this node closes up
// to its vip step and says how far its databases are, the new node acquires the
// address and announces it, and only then this node lets go of it. Until then
// everything can be taken back.

const (
	// stopPatience bounds the handover of a daemon that is told to stop.
	stopPatience = 20 * time.Second
	// silencePatience is how long a frozen node waits for a word of the new one.
	// What it said before counts for a while longer, see HandoverLease.
	silencePatience = time.Second
	// endPatience bounds the wait for the new node to finish its plan; the
	// address has moved long before.
	endPatience = 60 * time.Second
	// restartPatience bounds it when the new node's daemon was restarted: meanwhile
	// no other switchover can begin.
	restartPatience = 5 * time.Second
)

type giving struct {
	id       HandoverID
	stage    GiveStage
	cause    Reason // Requested, Forced, Stopping, Unhealthy or Preempting
	sick     string // the health check that wants it, empty: none does
	detail   string
	request  Request
	command  ID         // the operator's, 0: none
	wish     HandoverID // the peer's operator's, zero: none
	epoch    Epoch
	until    mono.Instant // of the move of the address
	check    ID
	checked  bool
	plan     hooks.Plan // as it is to run
	measure  ID
	affirmed mono.Instant // when the clock reading came in that the last Frozen echoed
	stale    mono.Instant // since when the link is down, 0: it is up
	head     *planRun
	why      Why // of the rollback
	timedOut bool
	pos      []Position
	lost     []string      // databases here that are dead
	fencing  map[string]ID // of those, what was asked for
	begun    mono.Instant
	journal  ID   // of the record that the epoch may go to the peer
	closed   bool // only that record is missing
	doneAt   mono.Instant
	tail     hooks.Ending
	answered bool
	look     look
}

func (g *giving) view() *Give {
	return &Give{
		ID: g.id, Stage: g.stage, Epoch: g.epoch, DryRun: g.request.DryRun, Force: g.request.Force, Positions: g.pos,
		Lost: g.lost, Cause: g.cause,
	}
}

func (g *giving) deadline() mono.Instant {
	switch g.stage {
	case GivePreparing, GiveClosing, GiveFrozen:
		return g.until
	case GiveUndoing:
		return max(g.affirmed.Add(HandoverLease+handoverMargin), g.look.at)
	case GiveReleased, GiveRollingBack, GiveDone, GiveFailed:
	}
	return mono.Never
}

// giving reports whether a planned switchover away from this node is under way.
func (o *Orchestrator) giving() bool { return o.give != nil && o.give.stage < GiveDone }

// beginGive starts a planned switchover; whoever asked gets an answer.
func (o *Orchestrator) beginGive(g *giving) {
	g.id = HandoverID{Boot: o.boot, Seq: uint64(o.id())}
	g.epoch, g.begun = o.epoch+1, o.now
	var w Why
	switch {
	case o.state != Active || o.run != nil && o.run.purpose != asserting && o.run.purpose != mending || o.giving():
		w = Why{Reason: Busy, Detail: "this node is " + o.state.String()}
	case o.maintained() && !g.request.Force:
		w = Why{Reason: GateClosed, Gate: o.maintenanceGate()}
	case !o.linkFresh():
		w = Why{Reason: PeerUnreachable}
	case o.unwritable != nil && g.canWait():
		w = o.unjournaled()
	case !o.peer.state.Bids:
		w = Why{Reason: PeerRefused, Detail: o.cfg.Peer + " is " + o.peer.state.State.String()}
	default:
		o.give, g.stage, g.plan = g, GivePreparing, o.cfg.Demote
		o.dirty = true
		if g.cause == DatabaseDown {
			g.checked = true // it would say that the database does not answer
			return
		}
		g.check = o.id()
		o.emit(CheckSteps{
			ID: g.check, Plan: o.cfg.Demote,
			Vars: o.vars(o.cfg.Peer, hooks.OnDemote, g.cause, g.epoch),
		})
		return
	}
	old := o.give
	o.give = g
	o.answerGive(RefusedTo, w)
	o.give = old
}

func (o *Orchestrator) answerGive(out Outcome, w Why) {
	g := o.give
	if g.answered {
		return
	}
	g.answered = true
	if g.command != 0 {
		o.emit(Answer{Command: g.command, Outcome: out, Why: w})
	}
	if g.wish != (HandoverID{}) {
		o.granted = &Grant{ID: g.wish, Outcome: out, Why: w}
	}
	o.dirty = true
}

// refuseGive ends a switchover that changed nothing.
func (o *Orchestrator) refuseGive(w Why) {
	g := o.give
	g.stage = GiveFailed
	switch {
	case g.cause == Unhealthy:
		o.kept(g, w, failureDelay)
	case g.cause != DatabaseDown || !w.same(o.deadSaid):
		o.emit(Note{State: o.state, Epoch: o.epoch, Why: w, Gate: w.Gate})
	}
	if g.cause == DatabaseDown {
		o.deadSaid = w // it is tried again every few seconds
	}
	out := RefusedTo
	if w.Reason == TimedOut {
		out = TimedOutBack
	}
	o.answerGive(out, w)
}

func (o *Orchestrator) giveChecked(ev Checked) {
	g := o.give
	if g == nil || g.stage != GivePreparing || ev.ID != g.check {
		return
	}
	cannot, plan := ev.refusal(o.cfg.Demote, insists(g.request.Force, g.cause))
	if cannot != "" {
		o.refuseGive(Why{Reason: StepFailed, Detail: o.cfg.Node + ": " + cannot})
		return
	}
	g.checked, g.plan = true, plan
}

// peerTake returns the new node's view of the running switchover.
func (o *Orchestrator) peerTake() (Take, bool) {
	if o.give == nil || !o.peer.known || o.peer.state.Take == nil || o.peer.state.Take.ID != o.give.id {
		return Take{}, false
	}
	return *o.peer.state.Take, true
}

// thinkGive goes on with what the new node says.
func (o *Orchestrator) thinkGive() {
	g := o.give
	if g == nil || g.stage >= GiveDone {
		return
	}
	t, known := o.peerTake()
	o.watchLink(g)
	switch g.stage {
	case GivePreparing:
		o.thinkPrepare(g, t, known)
	case GiveFrozen, GiveUndoing:
		switch {
		case known && (t.Stage == TakeAcquired || t.Stage == TakeDone):
			o.release()
		case known && (t.Stage == TakeUndone || t.Stage == TakeRefused):
			o.rollBack(t.Why)
		case g.stage == GiveFrozen && !known && o.linkFresh():
			o.withdraw(Why{Reason: Withdrawn, Detail: o.cfg.Peer + " was restarted and knows nothing of it"}, false)
		case g.stage == GiveFrozen && o.now.Sub(o.peer.at) > silencePatience:
			o.withdraw(Why{Reason: PeerUnreachable}, false)
		case g.stage == GiveFrozen && len(o.stillLost(g.lost)) < len(g.lost):
			// With what never left it.
			o.withdraw(Why{Reason: Withdrawn, Detail: "the database is back: " + listed(g.lost)}, false)
		}
	case GiveReleased:
		tailOver := g.tail != hooks.Unfinished
		switch {
		case !tailOver:
		case known && t.Stage == TakeDone:
			o.finishGive(t.OK)
		case known && t.Stage == TakeUndone: // it lost the role at once
			o.finishGive(false)
		case !known && o.promotedAnew(g):
			o.finishGive(true)
		case !known && o.linkFresh() && o.now.Sub(g.doneAt) > restartPatience:
			o.finishGive(false) // it goes on with its plan by itself
		case o.now.Sub(g.doneAt) > endPatience, g.stale != 0 && o.now.Sub(g.stale) > HandoverLease:
			o.finishGive(false)
		}
	case GiveClosing, GiveRollingBack, GiveDone, GiveFailed:
	}
}

// promotedAnew reports whether the new node's daemon was restarted after it had the
// address, knows nothing of the handover any more, and finished its promotion. It
// begins with that right after its start.
func (o *Orchestrator) promotedAnew(g *giving) bool {
	p := o.peer.state
	return o.linkFresh() && o.now.Sub(g.doneAt) > HandoverLease &&
		p.State == Active && p.Holds && p.ActiveEpoch == g.epoch &&
		!slices.ContainsFunc(p.Steps, func(r hooks.Result) bool { return !r.Outcome.OK() && r.Outcome != hooks.Pending })
}

func (o *Orchestrator) watchLink(g *giving) {
	switch {
	case o.linkFresh():
		g.stale = 0
	case g.stale == 0:
		g.stale = o.now
	}
}

func (o *Orchestrator) thinkPrepare(g *giving, t Take, known bool) {
	switch {
	case g.stale != 0 && o.now.Sub(g.stale) > HandoverLease:
		o.refuseGive(Why{Reason: PeerUnreachable})
	case known && t.Stage == TakeRefused:
		o.refuseGive(t.Why)
	case !known || t.Stage != TakePrepared || !g.checked:
	case g.request.DryRun:
		g.stage = GiveDone
		o.answerGive(Done, Why{Reason: g.cause})
	case len(g.lost) > 0 && len(o.stillLost(g.lost)) == 0:
		o.refuseGive(Why{Reason: Withdrawn, Detail: "the database is back: " + listed(g.lost)})
	case !o.fencedLost(g), o.run != nil: // what puts drift right ends by itself
	default:
		o.closeUpInTime(g)
	}
}

// closeUpInTime closes up when no transaction runs that would have to be killed, if
// an operator is there to choose otherwise.
func (o *Orchestrator) closeUpInTime(g *giving) {
	what, long := o.longTransaction()
	switch {
	case !long, g.cause != Requested && g.cause != Preempting:
		o.closeUp(g)
	case o.now.Sub(g.begun) > prepareTime:
		o.refuseGive(Why{Reason: LongTransaction, Detail: what})
	}
}

// closeUp runs the demote plan up to its vip step.
func (o *Orchestrator) closeUp(g *giving) {
	g.stage = GiveClosing
	o.leaseChanged()
	if g.request.Force {
		o.appendRecord(hooks.Record{
			Kind: hooks.Override, Epoch: uint64(o.activeEpoch), Role: hooks.Standby, Reason: g.request.Reason, UID: g.request.UID,
		})
	}
	// From Frozen on the peer may act without a further word. A crash must not
	// make this node believe that it still is the latest Active.
	g.journal = o.id()
	o.journaled = max(o.journaled, g.epoch)
	o.emit(Append{ID: g.journal, Record: hooks.Record{
		Kind: hooks.Learned, Instance: o.cfg.Instance, Epoch: uint64(g.epoch), Planned: true,
	}})
	o.enter(Demoting, Why{Reason: g.cause, Check: g.sick, Detail: g.detail})
	g.head = &planRun{
		purpose: giveClosing, plan: g.plan, to: o.cfg.Demote.Pivot(), role: hooks.Standby,
		// Taken back, this demotion never was: its records carry the epoch it ends.
		epoch: o.activeEpoch, planned: true, reason: g.cause, vars: o.vars(o.cfg.Peer, hooks.OnDemote, g.cause, g.epoch),
	}
	o.startRun(g.head)
}

func (o *Orchestrator) giveClosed(r *planRun, ending hooks.Ending) {
	g := o.give
	if g == nil || g.stage != GiveClosing || g.head != r {
		return
	}
	if ending != hooks.Completed {
		w := g.why
		if ending == hooks.Aborted {
			w = Why{Reason: StepFailed, Detail: failedStep(r)}
		}
		o.rollBack(w)
		return
	}
	if !o.hasDatabases() {
		o.freeze()
		return
	}
	g.measure = o.measureNow()
}

// giveMeasured takes the positions that the closed databases ended at.
func (o *Orchestrator) giveMeasured(id ID) {
	g := o.give
	if g == nil || g.stage != GiveClosing || id != g.measure || id == 0 {
		return
	}
	g.measure = 0
	if db, ok := o.frozen(); !ok {
		o.rollBack(Why{Reason: StepFailed, Detail: "the position of database " + db + " is not known, or it still takes writes"})
		return
	}
	g.pos, g.lost = o.measure.positions, o.stillLost(g.lost)
	o.freeze()
}

func (o *Orchestrator) freeze() {
	if o.give.journal != 0 {
		o.give.closed = true
		return
	}
	o.give.stage = GiveFrozen
	o.dirty = true
}

func (o *Orchestrator) giveDurable(ev Durable) {
	g := o.give
	if g == nil || g.stage != GiveClosing || ev.ID == 0 || ev.ID != g.journal {
		return
	}
	g.journal = 0
	switch {
	case ev.Err != nil && g.canWait():
		o.stopClosing(Why{Reason: JournalFailed, Detail: ev.Err.Error()})
	case g.closed:
		o.freeze()
	}
}

// canWait reports whether a handover may as well come later. One that cannot goes on
// without the journal, as every demotion does: the disk that fails may be why.
func (g *giving) canWait() bool { return g.cause == Requested || g.cause == Preempting }

// unjournaled says that this node's journal cannot be written.
func (o *Orchestrator) unjournaled() Why {
	return Why{Reason: JournalFailed, Detail: o.cfg.Node + ": " + o.unwritable.Error()}
}

// stopClosing takes back a demotion that did not come to its vip step.
func (o *Orchestrator) stopClosing(w Why) {
	g := o.give
	g.why, g.until = w, mono.Never
	if g.measure != 0 || g.closed {
		g.measure = 0
		o.rollBack(w)
		return
	}
	o.cancelRun()
}

// release lets go of the address: the new node has it.
func (o *Orchestrator) release() {
	g := o.give
	o.dropAddress()
	g.stage = GiveReleased
	o.role = hooks.Standby
	o.fixAt, o.clash, o.silent = 0, 0, false
	o.routeYield()
	o.epoch = max(o.epoch, g.epoch)
	o.settled = g.epoch
	o.enter(Demoting, Why{Reason: HandedOver})
	o.startRun(&planRun{
		purpose: giveEnding, plan: o.cfg.Demote, from: o.cfg.Demote.Pivot(), to: len(o.cfg.Demote),
		earlier: g.head.run.Results(), role: hooks.Standby, epoch: g.epoch, planned: true, reason: g.cause,
		vars: g.head.vars,
	})
}

func (o *Orchestrator) giveEnded(ending hooks.Ending) {
	o.enterStandby(Why{Reason: HandedOver})
	o.dressed = o.settled
	if ending != hooks.Completed {
		o.unsettled()
	}
	if g := o.give; g != nil && g.stage == GiveReleased {
		g.tail, g.doneAt = ending, o.now
	}
}

func (o *Orchestrator) finishGive(peerOK bool) {
	g := o.give
	g.stage = GiveDone
	if peerOK && g.tail == hooks.Completed {
		o.answerGive(Done, Why{Reason: g.cause})
		return
	}
	o.answerGive(Incomplete, Why{Reason: StepFailed, Detail: "the address moved; a later step did not end well, see status on both nodes"})
}

// withdraw takes a handover back that the new node may be acting on: it has to
// let go first, or its time to act has to be over.
func (o *Orchestrator) withdraw(w Why, timedOut bool) {
	g := o.give
	g.stage, g.why, g.timedOut = GiveUndoing, w, timedOut
	o.dirty = true
}

// rollBack opens this node again.
func (o *Orchestrator) rollBack(w Why) {
	g := o.give
	if g.why.Reason == Starting {
		g.why = w
	}
	g.stage = GiveRollingBack
	o.leaseChanged()
	// Before writes are open again: the new node may have journaled its epoch, and
	// what is written from here on makes this one the newer.
	o.epoch = max(o.epoch, g.epoch)
	o.renumber()
	vars := o.vars(o.cfg.Node, hooks.OnPromote, g.why.Reason, o.activeEpoch)
	undo := hooks.Undo(o.cfg.Demote, g.head.run.Results(), g.head.vars, o.cfg.Promote, vars)
	o.startRun(&planRun{
		purpose: giveUndoing, plan: undo, to: len(undo), role: hooks.Active, epoch: o.activeEpoch, planned: true,
		reason: g.why.Reason, vars: vars,
	})
}

func (o *Orchestrator) giveUndone(ending hooks.Ending) {
	g := o.give
	if g == nil || g.stage != GiveRollingBack {
		return
	}
	g.stage = GiveFailed
	why := Why{Reason: g.why.Reason, Gate: g.why.Gate, Check: g.why.Check, Detail: g.why.Detail}
	if g.cause == Unhealthy {
		o.kept(g, why, o.yielding.longer())
	}
	if ending != hooks.Completed {
		o.fixAt = o.now.Add(failureDelay)
	}
	o.enter(Active, Why{Reason: Withdrawn})
	out := RolledBack
	if g.timedOut {
		out = TimedOutBack
	}
	o.answerGive(out, why)
}

func (o *Orchestrator) tickGive() {
	g := o.give
	if g == nil || o.now.Before(g.deadline()) {
		return
	}
	switch g.stage {
	case GivePreparing:
		o.refuseGive(Why{Reason: TimedOut, Detail: "while both nodes checked"})
	case GiveClosing:
		g.timedOut = true
		o.stopClosing(Why{Reason: TimedOut, Detail: "while this node closed"})
	case GiveFrozen:
		o.withdraw(Why{Reason: TimedOut, Detail: "while " + o.cfg.Peer + " took over"}, true)
	case GiveUndoing:
		o.lookFirst()
	case GiveReleased, GiveRollingBack, GiveDone, GiveFailed:
	}
}
