package failover

import (
	"math"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

// The new node's side of a planned switchover. It acts only while the old node
// stands by its word: every statement of the old node echoes this node's clock,
// and counts for HandoverLease from there.

// prepareTime bounds catching up before anything is closed; a replica that does
// not come near its source in this time is no candidate.
const prepareTime = 10 * time.Second

type taking struct {
	view     Take
	give     Give // the latest of the old node
	affirmed mono.Instant
	opening  mono.Instant // when the plan came to opening the writes, 0: not yet
	asked    mono.Instant // when the plan came to the address, 0: not yet
	measure  ID
	patient  bool // the next measurement may open the gate
	check    ID
	checked  bool
	plan     hooks.Plan // as it is to run
	ready    bool       // gate and first catching up
	catch    ID
	began    mono.Instant // when this node began to check
	caught   mono.Instant // when the running catching up began
	losses   []hooks.Loss
	journal  ID
}

// reason says why the role comes here.
func (t *taking) reason() Reason {
	switch c := t.give.Cause; {
	case len(t.give.Lost) > 0:
		return DatabaseDown
	case c == Forced, c == Preempting, c == Stopping, c == Unhealthy, c == DatabaseDown:
		return c
	}
	return Requested // also what an older release or a newer one does not say
}

// taking reports whether a planned switchover to this node is under way.
func (o *Orchestrator) taking() bool {
	return o.take != nil && o.take.view.Stage != TakeRefused && o.take.view.Stage < TakeDone ||
		o.take != nil && o.take.view.Stage == TakeUndoing
}

// peerGive returns the old node's view of a switchover, if it has one.
func (o *Orchestrator) peerGive() (Give, bool) {
	if !o.linkFresh() || o.peer.state.Give == nil {
		return Give{}, false
	}
	return *o.peer.state.Give, true
}

// thinkTake goes on with what the old node says.
func (o *Orchestrator) thinkTake() {
	g, said := o.peerGive()
	t := o.take
	if said && g.Stage == GivePreparing && (t == nil || t.view.ID != g.ID) && !o.taking() {
		o.beginTake(g)
		return
	}
	if !o.taking() {
		return
	}
	same := said && g.ID == t.view.ID
	if same {
		t.give = g
		if g.Stage == GiveFrozen && o.echoed(0) {
			t.affirmed = max(t.affirmed, o.peer.state.Echo.Add(HandoverLease))
		}
	}
	switch t.view.Stage {
	case TakePreparing, TakePrepared:
		w, unfit := o.unfitToTake()
		switch {
		case unfit:
			o.refuseTake(w)
		case same && g.Stage == GiveFrozen && t.view.Stage == TakePrepared:
			o.catchUpTo(g)
		case o.linkFresh() && !same, same && g.Stage >= GiveUndoing, !o.linkFresh() && o.now.Sub(o.peer.at) > HandoverLease:
			o.refuseTake(Why{Reason: Withdrawn})
		case t.patient && !o.hasDatabases():
			o.takeGate()
		}
	case TakeCatchingUp, TakePromoting:
		w, unfit := o.unfitToTake()
		switch {
		case o.lease.held:
		case unfit:
			o.undoTake(w)
		case o.linkFresh() && !same, same && g.Stage >= GiveUndoing:
			o.undoTake(Why{Reason: Withdrawn})
		case o.now.After(t.affirmed):
			o.undoTake(Why{Reason: PeerUnreachable, Detail: "the old node no longer stands by its handover"})
		case t.asked != 0 && o.lease.acquire == 0 && o.stillFrozen(&t.asked):
			o.acquire()
		}
	case TakeRefused, TakeAcquired, TakeDone, TakeUndoing, TakeUndone:
	}
}

// stillFrozen reports whether the old node said, after being asked, that it
// stands by its handover; the first call asks. The lease alone is not enough: the
// clock of a host that was frozen may not have counted the time.
func (o *Orchestrator) stillFrozen(asked *mono.Instant) bool {
	if *asked == 0 {
		*asked, o.dirty = o.now, true
	}
	g, said := o.peerGive()
	return said && g.ID == o.take.view.ID && g.Stage == GiveFrozen && o.echoed(*asked) &&
		!o.now.After(o.take.affirmed)
}

func (o *Orchestrator) beginTake(g Give) {
	o.take = &taking{view: Take{ID: g.ID, Stage: TakePreparing}, give: g, began: o.now}
	o.dirty = true
	if !o.mayTake() {
		o.refuseTake(Why{Reason: Busy, Detail: o.cfg.Node + " is " + o.state.String()})
		return
	}
	if o.unwritable != nil {
		o.refuseTake(o.unjournaled())
		return
	}
	t := o.take
	t.check = o.id()
	o.emit(CheckSteps{ID: t.check, Plan: o.cfg.Promote, Vars: o.vars(o.cfg.Node, hooks.OnPromote, Requested, g.Epoch)})
	if !o.hasDatabases() {
		o.takeGate()
		return
	}
	t.measure = o.measureNow()
}

// lostInTake returns the databases whose source is dead in the switchover to this
// node that is under way.
func (o *Orchestrator) lostInTake() []string {
	if !o.taking() {
		return nil
	}
	return o.take.give.Lost
}

// noteLeft counts what catching up has before it.
func (o *Orchestrator) noteLeft() {
	t := o.take
	if t == nil || t.view.Stage != TakePreparing && t.view.Stage != TakeCatchingUp {
		return
	}
	targets := o.peer.state.Positions
	if t.view.Stage == TakeCatchingUp {
		targets = t.give.Positions
	}
	var left uint64
	for _, p := range targets {
		i := o.place(p.Database)
		if i < 0 {
			continue
		}
		if applied, ok := o.databases[i].Facts.Applied.Get(); ok {
			if n := applied.Missing(p.Executed); n < math.MaxUint64-left {
				left += n
			}
		}
	}
	o.dirty = o.dirty || left != t.view.Left
	t.view.Left = left
}

func (o *Orchestrator) mayTake() bool {
	busy := o.run != nil && o.run.purpose != closing && o.run.purpose != settling && o.run.purpose != mending
	return o.role == hooks.Standby && o.router.State() == vrrp.Backup && !busy && o.bid == nil && !o.giving() && o.bids()
}

func (o *Orchestrator) refuseTake(w Why) {
	o.take.view.Stage, o.take.view.Why = TakeRefused, w
	o.dirty = true
}

func (o *Orchestrator) takeMeasured(id ID) {
	o.noteLeft()
	t := o.take
	if t == nil || t.view.Stage != TakePreparing || !t.patient && (id == 0 || id != t.measure) {
		return
	}
	o.takeGate()
}

// takeGate asks the gate, again for a while if it lacks no more than an answer.
func (o *Orchestrator) takeGate() {
	t := o.take
	t.measure, t.patient = 0, false
	if verdict := o.plannedGate(); !verdict.Open && !t.give.Force {
		if passing(verdict.Reasons) && o.now.Sub(t.began) < gatePatience {
			t.patient = true
			return
		}
		o.refuseTake(Why{Reason: GateClosed, Gate: verdict.Reasons})
		return
	}
	if !o.hasDatabases() {
		t.ready = true
		o.takePrepared()
		return
	}
	o.approach()
}

// gatePatience is for how long a switchover waits for a database that did not answer,
// and for the first sample of a health check: servers stall for a second now and then.
const gatePatience = 3 * time.Second

// passing reports whether a gate may be closed for want of an answer alone.
func passing(reasons []replication.Reason) bool {
	for _, r := range reasons {
		if r.Code != replication.Unreachable && r.Code != replication.NotKnown {
			return false
		}
	}
	return true
}

// approach catches up with where the source is now. It goes on writing.
func (o *Orchestrator) approach() {
	t := o.take
	t.catch, t.caught = o.id(), o.now
	o.emit(CatchUp{ID: t.catch, Targets: o.peer.state.Positions, Until: t.began.Add(min(prepareTime, o.cfg.DrainTimeout))})
}

// near is how long catching up may have taken when the source is asked to close:
// about as long it will be closed for it.
// When it does not come so near in time, nearEnough has to do. The source stays
// closed for closedTime at most while this node catches up.
const (
	closedTime = 5 * time.Second
	near       = 100 * time.Millisecond
	nearEnough = time.Second
)

func (o *Orchestrator) takeChecked(ev Checked) {
	t := o.take
	if t == nil || t.view.Stage != TakePreparing || ev.ID != t.check {
		return
	}
	cannot, plan := ev.refusal(o.cfg.Promote, insists(t.give.Force, t.give.Cause))
	if cannot != "" {
		o.refuseTake(Why{Reason: StepFailed, Detail: o.cfg.Node + ": " + cannot})
		return
	}
	t.checked, t.plan = true, plan
	o.takePrepared()
}

func (o *Orchestrator) takePrepared() {
	if t := o.take; t.ready && t.checked {
		t.view.Stage = TakePrepared
		o.dirty = true
	}
}

// catchUpTo waits for the exact positions that the old node's databases ended at.
func (o *Orchestrator) catchUpTo(g Give) {
	t := o.take
	t.view.Stage = TakeCatchingUp
	o.dirty = true
	if !o.hasDatabases() {
		o.journalTake()
		return
	}
	t.catch = o.id()
	o.emit(CatchUp{ID: t.catch, Targets: g.Positions, Until: o.now.Add(min(closedTime, o.cfg.DrainTimeout))})
}

func (o *Orchestrator) takeCaughtUp(ev CaughtUp) {
	t := o.take
	if t == nil || ev.ID == 0 || ev.ID != t.catch {
		return
	}
	t.catch = 0
	failed := ev.Err != nil && !t.give.Force
	switch t.view.Stage {
	case TakePreparing:
		if failed {
			o.refuseTake(Why{Reason: CatchUpFailed, Detail: ev.Err.Error()})
			return
		}
		took := o.now.Sub(t.caught)
		switch {
		case took <= near, t.give.Force:
		case o.now.Sub(t.began) < prepareTime/2:
			o.approach()
			return
		case took > nearEnough:
			o.refuseTake(Why{Reason: CatchUpFailed, Detail: "the replica does not come closer to its source than " + took.Round(100*time.Millisecond).String()})
			return
		}
		t.ready = true
		o.takePrepared()
	case TakeCatchingUp:
		if failed {
			o.undoTake(Why{Reason: CatchUpFailed, Detail: ev.Err.Error()})
			return
		}
		o.journalTake()
	case TakePrepared, TakeRefused, TakePromoting, TakeAcquired, TakeDone, TakeUndoing, TakeUndone:
	}
}

func (o *Orchestrator) journalTake() {
	t := o.take
	t.journal, t.view.Left = o.id(), 0
	if len(t.give.Lost) > 0 {
		t.losses = o.losses(t.give.Lost)
	}
	o.emit(Append{ID: t.journal, Positions: o.remembered(), Record: hooks.Record{
		Kind: hooks.Began, Instance: o.cfg.Instance, Epoch: uint64(t.give.Epoch), Role: hooks.Active,
		Planned: true, Lossy: len(t.give.Lost) > 0, Reason: t.reason().String(),
	}})
	o.journalLosses(t.give.Epoch, t.losses)
}

func (o *Orchestrator) takeDurable(ev Durable) {
	t := o.take
	if t == nil || ev.ID == 0 || ev.ID != t.journal || t.view.Stage != TakeCatchingUp {
		return
	}
	t.journal = 0
	if ev.Err != nil {
		o.undoTake(Why{Reason: JournalFailed, Detail: ev.Err.Error()})
		return
	}
	t.view.Stage = TakePromoting
	o.enter(Promoting, Why{Reason: t.reason(), Detail: listed(t.give.Lost)})
	// The role counts from here, the epoch from the address: until then the old
	// node is Active and may take everything back.
	o.startRun(&planRun{
		purpose: taking1, plan: t.plan, to: len(t.plan), role: hooks.Active, epoch: t.give.Epoch,
		planned: true, reason: t.reason(), vars: o.vars(o.cfg.Node, hooks.OnPromote, t.reason(), t.give.Epoch), losses: t.losses,
	})
}

// takeAcquired is told when the address came to this node.
func (o *Orchestrator) takeAcquired() {
	if t := o.take; t != nil && t.view.Stage == TakePromoting {
		t.view.Stage = TakeAcquired
		o.appendRecord(hooks.Record{Kind: hooks.Acquired, Epoch: uint64(t.give.Epoch), Role: hooks.Active, Planned: true})
		if t.give.Force {
			o.condone()
		}
		o.promoted(t.give.Epoch)
	}
}

func (o *Orchestrator) takeRunEnded(r *planRun, ending hooks.Ending) {
	t := o.take
	switch {
	case t == nil || t.view.Stage == TakeUndone || t.view.Stage == TakeRefused: // that one is a later switchover
		o.closeTransition(r, ending)
	case t.view.Stage == TakeAcquired:
		o.promotionEnded(r, ending)
		t.view.Stage, t.view.OK = TakeDone, o.fixAt == 0
		o.dirty = true
	default:
		o.closeTransition(r, ending)
		if t.view.Stage == TakePromoting {
			t.view.Why = Why{Reason: StepFailed, Detail: failedStep(r)}
			t.view.Stage = TakeUndoing
		}
		o.undoResults(takeUndoing, r, t.view.Why)
	}
}

// undoTake takes back what this node did for a switchover before it had the
// address.
func (o *Orchestrator) undoTake(w Why) {
	t := o.take
	promoting := t.view.Stage == TakePromoting
	t.view.Why = w
	if !promoting || o.unbegun(taking1) {
		if t.journal != 0 || promoting {
			t.journal = 0
			o.revert(t.give.Epoch)
		}
		t.view.Stage = TakeUndone
		o.enterStandby(w)
		o.dirty = true
		return
	}
	t.view.Stage = TakeUndoing
	o.dropAddress()
	o.enter(Demoting, w)
	o.cancelRun() // takeRunEnded goes on when its last step has answered
}

func (o *Orchestrator) takeUndone() {
	if o.take == nil || o.take.view.Stage != TakeUndoing {
		return
	}
	o.revert(o.take.give.Epoch)
	o.take.view.Stage = TakeUndone
	o.dirty = true
	o.enterStandby(o.take.view.Why)
}
