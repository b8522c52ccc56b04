package failover

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// Stepping down waits for nothing: the address goes and writes are closed first,
// beside whatever runs; then the demote plan brings the rest in order.

// stepDown lets go of the role at once.
func (o *Orchestrator) stepDown(w Why, on hooks.Occasion) {
	switch {
	case o.bid != nil && o.bid.stage == bidRunning && !o.lease.held:
		o.withdrawBid(w)
		return
	case o.taking() && !o.lease.held:
		o.undoTake(w)
		return
	}
	o.dropAddress()
	if o.hasDatabases() {
		o.emit(CloseWrites{})
	}
	o.yield()
	o.abandon(w)
	active := ""
	if w.Reason == NewerEpoch || w.Reason == StrongerPeer || w.Reason == PeerWrote {
		active = o.cfg.Peer
	}
	o.enter(Demoting, w)
	plan := o.cfg.Demote
	if active == "" {
		plan = o.undecided(plan)
		o.settled = 0
	} else {
		o.settled = max(o.epoch, o.peer.state.ActiveEpoch)
	}
	o.startRun(&planRun{
		purpose: demoting, plan: plan, to: len(plan), role: hooks.Standby, epoch: o.activeEpoch,
		reason: w.Reason, vars: o.vars(active, on, w.Reason, o.activeEpoch),
	})
}

// abandon ends whatever was under way when the role was lost.
func (o *Orchestrator) abandon(w Why) {
	if b := o.bid; b != nil {
		o.bid = nil
		o.answerBid(b, RolledBack, w)
	}
	if g := o.give; g != nil && g.stage < GiveDone {
		g.stage = GiveFailed
		o.answerGive(RolledBack, w)
	}
	if t := o.take; t != nil && t.view.Stage < TakeDone {
		t.view.Stage, t.view.Why = TakeUndone, w
	}
}

// undecided leaves out the steps whose values depend on who is Active, which is
// not known yet. They run when it is.
func (o *Orchestrator) undecided(p hooks.Plan) hooks.Plan {
	var q hooks.Plan
	vars := o.vars("", hooks.OnDemote, Starting, o.epoch)
	for _, s := range p {
		r, ok := s.Action.(hooks.Replication)
		if ok && r.Verb == hooks.FollowPeer || hooks.NamesActive(s.Action, vars) {
			continue
		}
		q = append(q, s)
	}
	return q
}

func (o *Orchestrator) demoteEnded(r *planRun, ending hooks.Ending) {
	if r.vars.Active == o.cfg.Peer && ending != hooks.Interrupted {
		o.dressed = max(o.settled, r.epoch)
	}
	switch {
	case ending != hooks.Completed:
		o.unsettled()
	case r.purpose == settling:
		o.settled, o.settleWait = r.epoch, 0
	}
	if o.role == hooks.Active || o.taking() {
		return // a promotion waited for this plan to end
	}
	if r.purpose == demoting || r.purpose == settling {
		o.enterStandby(Why{Reason: r.reason})
	}
}

// settleMost is the longest time between two attempts to settle.
const settleMost = 5 * time.Minute

// unsettled tries the demotion again later, and ever later: what cannot follow its
// source without an operator does not change by being told so.
func (o *Orchestrator) unsettled() {
	o.settled = 0
	o.settleWait = min(max(2*o.settleWait, failureDelay), settleMost)
	o.settleAt = o.now.Add(o.settleWait)
}

// settleFrom is when the next attempt is due: at once when a database has come back
// since the latest began, because that may be what it lacked. A host that returns
// has its daemon before its databases.
func (o *Orchestrator) settleFrom() mono.Instant {
	if o.returned.After(o.tried) {
		return min(o.settleAt, o.calm.Add(retryDelay))
	}
	return o.settleAt
}

// enterStandby enters Backup, or Fault while something forbids the address, or Conflict
// while its databases differ from the Active's.
func (o *Orchestrator) enterStandby(w Why) {
	if f, faulty := o.fault(); faulty {
		o.enter(Fault, f)
		return
	}
	if c, differs := o.inConflict(); differs {
		o.enter(Conflict, c)
		return
	}
	o.enter(Backup, w)
}

// thinkStandby brings a standby in line with the Active it hears: its labels and
// files name the peer, what its plan stops is stopped.
func (o *Orchestrator) thinkStandby() {
	if o.role != hooks.Standby || o.run != nil || o.bid != nil || o.taking() || o.stopping ||
		o.give != nil && o.give.stage < GiveDone || o.router.State() != vrrp.Backup {
		return
	}
	epoch, active := o.activePeer()
	if !active {
		if !o.silent && (o.state == Refused || o.state == Conflict) {
			o.enterStandby(Why{Reason: PeerActive})
		}
		o.thinkUnattested()
		return
	}
	c, differs := o.inConflict()
	switch {
	case o.state == Conflict && differs && o.why.same(c):
	case differs && o.state != Fault:
		o.enterStandby(c)
	case o.state != Backup && o.state != Fault || o.why.Detail == unattested || o.why.Reason != PeerActive && o.why.Reason != HandedOver &&
		o.why.Reason != Unhealthy && o.why.Reason != LinkDown && o.why.Reason != Isolated:
		o.enterStandby(Why{Reason: PeerActive})
	}
	if o.settled >= epoch || o.now.Before(o.settleFrom()) {
		return
	}
	o.startRun(&planRun{
		purpose: settling, plan: o.cfg.Demote, to: len(o.cfg.Demote), role: hooks.Standby, epoch: epoch,
		reason: Settling, vars: o.vars(o.cfg.Peer, hooks.OnDemote, Settling, epoch),
	})
}

// thinkRepair tries the rest of an incomplete promotion again, from the first
// step that failed. One that the peer keeps back is not tried but asked about: a
// host that was switched off meanwhile runs nothing any more.
func (o *Orchestrator) thinkRepair() {
	if o.fixAt == 0 || o.now.Before(o.fixAt) || o.state != Active || o.busy() || o.nextRun != nil {
		return
	}
	plan, earlier := o.fixFrom()
	from := plan.Pivot() + 1
	for from < len(plan) && earlier != nil && earlier[from].Outcome.OK() {
		from++
	}
	if from < len(plan) && o.keptBack(plan[from]) {
		o.askGone()
		return
	}
	o.fixAt, o.goneAsk = 0, 0
	o.startRun(&planRun{
		purpose: repairing, plan: plan, from: from, to: len(plan), earlier: earlier,
		role: hooks.Active, epoch: o.activeEpoch, reason: o.why.Reason,
		vars: o.vars(o.cfg.Node, hooks.OnPromote, o.why.Reason, o.activeEpoch),
	})
}

// askGone asks the kernel of a peer that does not speak whether its host runs.
func (o *Orchestrator) askGone() {
	if !o.linkFresh() && !o.now.Before(o.goneNext) {
		o.goneAsk, o.goneNext = o.id(), o.now.Add(failureDelay)
		o.emit(AskKernel{ID: o.goneAsk, Within: o.askWithin()})
	}
}

// fixFrom returns the plan of an incomplete promotion and the results that its steps
// had. After a restart there are none, and nobody is told again.
func (o *Orchestrator) fixFrom() (hooks.Plan, []hooks.Result) {
	silent := o.cfg.Promote.Silent()
	t := o.lastTold()
	if t == nil {
		return silent, nil
	}
	steps := t.Steps[min(t.fence, len(t.Steps)):]
	same := func(r hooks.Result, s hooks.Step) bool { return r.Name == s.Name }
	for _, p := range []hooks.Plan{o.cfg.Promote, silent} {
		if slices.EqualFunc(steps, p, same) {
			return p, steps
		}
	}
	return silent, nil
}

func (o *Orchestrator) repaired(ending hooks.Ending) {
	if ending != hooks.Completed {
		o.fixAt = o.now.Add(failureDelay)
		return
	}
	o.enter(Active, Why{Reason: o.why.Reason})
}

// thinkStop ends the daemon's role: handed over if the peer can take it, else
// dropped.
func (o *Orchestrator) thinkStop() {
	if !o.stopping || o.parts() {
		return
	}
	switch {
	case o.role == hooks.Active && o.state == Active && !o.giving() && !o.offered && o.peerCanTake():
		o.offered = true
		o.beginGive(&giving{cause: Stopping, until: o.now.Add(stopPatience)})
	case o.role == hooks.Active && o.state == Active && !o.offered && o.peerMayTakeYet():
	case o.role == hooks.Active && !o.giving() && (o.run == nil || o.run.role == hooks.Active && o.run.purpose != giveUndoing):
		w := Why{Reason: Stopping}
		if o.linkFresh() && !o.offered {
			w.Gate = o.peer.state.Gate // why it was not handed over
		}
		o.stepDown(w, hooks.OnStop)
	}
	if o.role == hooks.Standby && o.run == nil && o.bid == nil && !o.giving() && !o.taking() {
		o.emit(Stopped{})
	}
}

// leavePatience is how long a node that is told to leave waits for a peer that
// spoke a moment ago and cannot take the role just now: a gate closes and opens
// with the load.
const leavePatience = 3 * time.Second

func (o *Orchestrator) peerMayTakeYet() bool {
	return o.peer.known && o.peer.state.Bids && o.now.Sub(o.peer.at) < leavePatience && o.now.Sub(o.stopAt) < leavePatience
}

func (o *Orchestrator) peerCanTake() bool {
	p := o.peer.state
	return o.linkFresh() && p.Bids && !p.Holds && onlyUnfit(p.Gate)
}
