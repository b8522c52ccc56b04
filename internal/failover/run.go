package failover

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
)

// purpose says on whose behalf a plan runs, and so who is told how it ended.
type purpose uint8

const (
	closing     purpose = iota + 1 // boot: take away what this node must not have
	demoting                       // the demote plan after stepping down
	settling                       // the demote plan of a standby that found its Active
	bidding                        // the promote plan of a takeover
	bidUndoing                     // ... taken back
	giveClosing                    // the demote plan up to its vip step
	giveEnding                     // the demote plan from its vip step
	giveUndoing                    // ... taken back
	taking1                        // the promote plan of a switchover
	takeUndoing                    // ... taken back
	repairing                      // the rest of a promotion that was incomplete
	asserting                      // writes as the role wants them
	mending                        // steps that drifted
)

type planRun struct {
	purpose  purpose
	plan     hooks.Plan
	from, to int
	vars     hooks.Vars
	role     hooks.Role
	epoch    Epoch
	planned  bool
	reason   Reason
	earlier  []hooks.Result // of the same plan's steps before from
	fence    int            // steps in front of the plan that fence the peer
	losses   []hooks.Loss   // of a promotion
	belongs  *Transition    // what this only tidies up after: status goes on to tell of that
	pivot    hooks.StepID   // the vip step that waits for the kernel
	began    mono.Instant
	run      *hooks.Run
	cancel   bool
}

// start makes r the running plan. A running one is cancelled first, and r
// begins when its last step has answered.
func (o *Orchestrator) startRun(r *planRun) {
	if o.run == nil {
		o.beginRun(r)
		return
	}
	o.nextRun = r
	o.cancelRun()
}

// busy reports whether a plan runs that others wait for. A repair of drift is none:
// whatever else there is to do ends it.
func (o *Orchestrator) busy() bool { return o.run != nil && o.run.purpose != mending }

// lastTold returns the transition that status tells of when no drift is repaired.
func (o *Orchestrator) lastTold() *Transition {
	if o.run != nil && o.run.purpose == mending {
		return o.run.belongs
	}
	return o.last
}

func (o *Orchestrator) cancelRun() {
	if o.run == nil || o.run.cancel {
		return
	}
	o.run.cancel = true
	o.order(o.run.run.Cancel(o.now, o.orders[:0]))
	if o.run != nil && o.run.pivot != 0 {
		// The kernel's answer no longer matters: whoever cancels decides about
		// the address.
		o.lease.acquire = 0
		o.pivotEnded(hooks.Cancelled, "")
	}
}

// insistent returns the plan so that no failed step keeps the later ones from
// running: what takes something away from a standby does not depend on the rest.
func insistent(p hooks.Plan) hooks.Plan {
	q := append(hooks.Plan(nil), p...)
	for i := range q {
		q[i].OnError = hooks.Continue
	}
	return q
}

func (o *Orchestrator) beginRun(r *planRun) {
	o.voidCheck()
	o.run, o.nextRun = r, nil
	r.began = o.now
	switch r.purpose {
	case demoting, settling:
		o.tried = o.now
		r.plan = insistent(r.plan.Unwaiting())
		if r.purpose == settling {
			r.plan = r.plan.Silent()
		}
		r.to = len(r.plan)
	case giveEnding:
		o.tried = o.now
		r.plan = insistent(r.plan)
	case closing, asserting, mending:
		r.plan = insistent(r.plan)
	case bidding, bidUndoing, giveClosing, giveUndoing, taking1, takeUndoing, repairing:
	}
	if r.run == nil {
		r.run = hooks.NewRun(r.plan, r.from, r.to, o.awaitsPeer)
		r.run.Patient(o.peerPatience)
		copy(r.run.Results(), r.earlier)
	}
	if r.purpose == repairing {
		o.last.fence = 0
	}
	if r.purpose == asserting && o.last != nil && o.last.Role == r.role && o.last.Epoch == r.epoch {
		r.losses = o.last.Losses // what a promotion lost is said for as long as it lasts
	}
	if r.purpose == asserting && o.fixAt != 0 {
		r.belongs = o.last // what the promotion still lacks is only there
	}
	if r.purpose != giveEnding && r.purpose != repairing {
		from := o.state
		if from == Promoting || from == Demoting {
			from = o.rest
		}
		o.last = &Transition{
			fence: r.fence, From: from,
			Epoch: r.epoch, Role: r.role, Planned: r.planned, Reason: r.reason,
			Running: true, Began: time.Duration(o.now), Losses: r.losses,
		}
		if r.purpose != bidding && r.purpose != taking1 {
			// A promotion's beginning was journaled durably before it came here.
			o.appendRecord(hooks.Record{
				Kind: hooks.Began, Epoch: uint64(r.epoch), Role: r.role, Planned: r.planned, Reason: r.reason.String(),
			})
		}
	}
	o.last.Running = true
	o.dirty = true
	o.order(r.run.Begin(o.now, o.stepID, o.orders[:0]))
}

// order carries out what the run wants.
func (o *Orchestrator) order(orders []hooks.Order) {
	o.orders = orders[:0]
	if len(orders) == 0 {
		return
	}
	// A pivot can end at once and bring further orders: work on a copy.
	for _, ord := range append([]hooks.Order(nil), orders...) {
		switch ord := ord.(type) {
		case hooks.CancelStep:
			if o.run == nil || o.run.pivot != ord.ID {
				o.emit(CancelStep{ID: ord.ID})
			}
		case hooks.StartStep:
			if v, ok := ord.Step.Action.(hooks.VIP); ok {
				o.pivot(ord, v)
				continue
			}
			o.dirty = true
			o.emit(StartStep{Order: ord, Vars: o.run.vars})
		}
	}
	if o.run != nil {
		o.last.Steps = append(o.last.Steps[:0:0], o.run.run.Results()...)
	}
}

// pivot carries out the vip step.
func (o *Orchestrator) pivot(ord hooks.StartStep, v hooks.VIP) {
	o.run.pivot = ord.ID
	switch {
	case !v.Acquire:
		was := o.lease.held
		if was {
			o.dropAddress()
		}
		o.pivotEnded(outcomeOf(was), "")
	case o.lease.held:
		o.pivotEnded(hooks.Unchanged, "")
	case o.take != nil && o.run.purpose == taking1 && o.now.After(o.take.affirmed):
		o.pivotEnded(hooks.Failed, "the old node no longer stands by its handover")
	case o.take != nil && o.run.purpose == taking1:
		// The last word before the address: a host that was frozen with its clock
		// would not know how old the one before is.
		o.stillFrozen(&o.take.asked)
	case o.bid != nil && o.run.purpose == bidding && !o.clear():
		// thinkBid goes on when the peer, who may have claimed too, has answered.
		o.dirty = true
	default:
		o.acquire()
	}
}

func outcomeOf(changed bool) hooks.Outcome {
	if changed {
		return hooks.Changed
	}
	return hooks.Unchanged
}

func (o *Orchestrator) pivotEnded(out hooks.Outcome, detail string) {
	if o.run == nil || o.run.pivot == 0 {
		return
	}
	id := o.run.pivot
	o.run.pivot = 0
	o.stepEnded(StepEnded{ID: id, Outcome: out, Detail: detail})
}

func (o *Orchestrator) stepEnded(ev StepEnded) {
	if o.run == nil {
		return
	}
	i := o.run.run.Running()
	if i < 0 {
		return
	}
	o.run.run.Printed(ev.ID, ev.Output)
	orders := o.run.run.Ended(o.now, ev.ID, ev.Outcome, ev.Detail, o.stepID, o.orders[:0])
	if o.run.run.Running() == i {
		return // the answer of an older step
	}
	o.dirty = true
	res := o.run.run.Results()[i]
	o.noteStopped(o.run.plan[i], res)
	o.appendRecord(hooks.Record{Kind: hooks.Stepped, Epoch: uint64(o.run.epoch), Role: o.run.role, Step: res})
	o.order(orders)
	if len(orders) == 0 && o.run != nil {
		o.last.Steps = append(o.last.Steps[:0:0], o.run.run.Results()...)
	}
}

// stepSaid shows how far a step is, here and at the peer.
func (o *Orchestrator) stepSaid(ev StepSaid) {
	if o.run == nil || o.run.run.Running() < 0 {
		return
	}
	o.run.run.Said(ev.ID, ev.Detail)
	o.last.Steps = append(o.last.Steps[:0:0], o.run.run.Results()...)
	o.dirty = true
}

// withoutOutput leaves out what programs printed: the peer needs none of it.
func withoutOutput(steps []hooks.Result) []hooks.Result {
	printed := func(r hooks.Result) bool { return r.Output != "" }
	if !slices.ContainsFunc(steps, printed) {
		return steps
	}
	steps = slices.Clone(steps)
	for i := range steps {
		steps[i].Output = ""
	}
	return steps
}

// noteStopped keeps what this node may tell its peer about stopped units.
func (o *Orchestrator) noteStopped(s hooks.Step, res hooks.Result) {
	u, ok := s.Action.(hooks.Unit)
	if !ok {
		return
	}
	if u.Verb == hooks.StopUnit && res.Outcome.OK() {
		o.stopped[u.Name] = true
	} else {
		delete(o.stopped, u.Name)
	}
}

// thinkRun looks whether the running plan is over, and starts what waited for
// it.
func (o *Orchestrator) thinkRun() {
	if o.run == nil {
		return
	}
	o.order(o.run.run.Continue(o.now, o.stepID, o.orders[:0]))
	o.thinkHeld()
	for o.run != nil && o.run.run.Ending() != hooks.Unfinished {
		r := o.run
		o.run, o.calm = nil, o.now
		o.last.Steps = append(o.last.Steps[:0:0], r.run.Results()...)
		next := o.nextRun
		o.nextRun = nil
		o.runEnded(r, r.run.Ending())
		if next != nil {
			o.beginRun(next)
		} else if o.run == nil {
			o.last.Running = false
		}
	}
}

// closeTransition journals the end of a transition and returns how it ended: not
// well when any step did not, also one that could not keep the rest from running.
func (o *Orchestrator) closeTransition(r *planRun, ending hooks.Ending) hooks.Ending {
	if r.role == hooks.Active && o.fixAt != 0 {
		ending = hooks.Aborted // what the promotion still lacks, it still lacks
	}
	if ending == hooks.Completed {
		for _, res := range r.run.Results() {
			if !res.Outcome.OK() && res.Outcome != hooks.Pending {
				ending = hooks.Aborted
			}
		}
	}
	o.last.Ending, o.last.Duration = ending, time.Duration(o.now)-o.last.Began
	o.appendRecord(hooks.Record{
		Kind: hooks.Ended, Epoch: uint64(r.epoch), Role: r.role, Planned: r.planned,
		Ending: ending, Duration: o.last.Duration,
	})
	over := *o.last
	over.Steps = nil
	o.emit(Note{
		State: o.state, Epoch: r.epoch, Why: Why{Reason: r.reason}, Steps: o.last.Steps, Over: &over, Urgent: ending != hooks.Completed,
	})
	return ending
}

func (o *Orchestrator) runEnded(r *planRun, ending hooks.Ending) {
	o.dirty = true
	o.measure.at = min(o.measure.at, o.now) // what the plan changed is news
	switch r.purpose {
	case closing, demoting, settling:
		o.demoteEnded(r, o.closeTransition(r, ending))
	case bidding:
		o.bidRunEnded(r, ending)
	case bidUndoing:
		o.closeTransition(r, ending)
		o.bidUndone()
	case giveClosing:
		o.giveClosed(r, ending)
	case giveEnding:
		o.giveEnded(o.closeTransition(r, ending))
	case giveUndoing:
		o.giveUndone(o.closeTransition(r, ending))
	case taking1:
		o.takeRunEnded(r, ending)
	case takeUndoing:
		o.closeTransition(r, ending)
		o.takeUndone()
	case repairing:
		o.repaired(o.closeTransition(r, ending))
	case asserting:
		o.closeTransition(r, ending)
		o.assertAt = o.now.Add(retryDelay)
		if r.belongs != nil && (o.fixAt != 0 || !slices.ContainsFunc(r.run.Results(), func(res hooks.Result) bool { return !res.Outcome.OK() })) {
			o.last = r.belongs
		}
	case mending:
		o.closeTransition(r, ending)
		if r.belongs != nil {
			o.last = r.belongs
		}
		o.mended(r)
	}
}

// awaitsPeer says whether a step has to wait for the other node: a unit that the
// peer stops must not run on both, nor may both take writes.
func (o *Orchestrator) awaitsPeer(s hooks.Step) bool {
	if w, ok := s.Action.(hooks.Writes); ok && w.Open && o.run != nil && o.run.purpose == taking1 {
		return !o.stillFrozen(&o.take.opening)
	}
	if o.run == nil || o.run.role != hooks.Active || o.run.purpose == giveUndoing {
		return false // an undone handover starts this node's own unit, stopped a moment ago
	}
	return o.keptBack(s)
}

// keptBack reports whether a step starts a unit that may still run on the peer.
func (o *Orchestrator) keptBack(s hooks.Step) bool {
	u, ok := s.Action.(hooks.Unit)
	return ok && (u.Verb == hooks.StartUnit || u.Verb == hooks.RestartUnit) &&
		contains(o.shared, u.Name) && !o.peerDead() && !o.peerStopped(u.Name)
}

// peerPatience is how long the peer may take before it stops a unit: what it
// waits for first is part of its plan.
func (o *Orchestrator) peerPatience(s hooks.Step) time.Duration {
	if u, ok := s.Action.(hooks.Unit); ok && o.keptBack(s) {
		return o.cfg.Demote.StopsWithin(u.Name)
	}
	return 0
}

// thinkHeld fails a step that waits for a peer that nobody can ask: the service
// goes on without it, and thinkRepair comes back to it. A daemon that was
// restarted in between gives the link the same time to come up.
func (o *Orchestrator) thinkHeld() {
	s, held := o.run.run.Held()
	heard := o.peer.at
	if o.run.purpose == repairing {
		heard = max(heard, o.begun)
	}
	if held && o.awaitsPeer(s) && o.keptBack(s) && !o.linkFresh() && o.now.Sub(heard) > HandoverLease {
		o.order(o.run.run.Refuse(o.now, "the daemon of "+o.cfg.Peer+" does not say that it stopped the unit", o.stepID, o.orders[:0]))
	}
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}
