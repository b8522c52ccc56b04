package failover

import (
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/vrrp"
)

// A promotion that does not come about is taken back: its steps in reverse, its epoch
// in the journal, and the router says that it is a Backup.

// unbegun forgets a plan that still waits for the running one to end, and
// reports whether it was of this purpose.
func (o *Orchestrator) unbegun(p purpose) bool {
	if o.nextRun == nil || o.nextRun.purpose != p {
		return false
	}
	o.nextRun = nil
	return true
}

// undoResults reverses what a promotion that is over did.
func (o *Orchestrator) undoResults(p purpose, r *planRun, w Why) {
	vars := o.vars(o.cfg.Peer, hooks.OnDemote, w.Reason, r.epoch)
	// A fenced peer stays off.
	undo := hooks.Undo(r.plan[r.fence:], r.run.Results()[r.fence:], r.vars, o.cfg.Demote, vars)
	if p == bidUndoing && o.bid.resumes {
		undo = withoutReplication(undo)
	}
	if p == bidUndoing && o.dressed == 0 {
		undo = o.undecided(undo) // nobody ever said that the peer is Active
	}
	o.dropAddress()
	o.yield()
	o.enter(Demoting, w)
	o.startRun(&planRun{
		purpose: p, plan: undo, to: len(undo), role: hooks.Standby, epoch: r.epoch, reason: w.Reason,
		vars: vars,
	})
}

// withoutReplication leaves out what would start the threads of a database that
// followed nobody before.
func withoutReplication(p hooks.Plan) hooks.Plan {
	var q hooks.Plan
	for _, s := range p {
		if _, ok := s.Action.(hooks.Replication); !ok {
			q = append(q, s)
		}
	}
	return q
}

// yield makes the router a Backup that says so: after the address is off.
func (o *Orchestrator) yield() {
	o.role = hooks.Standby
	o.fixAt, o.clash = 0, 0
	if !o.routeYield() {
		return
	}
	bye := o.router.Advertisement()
	bye.Priority = 0
	o.send(bye)
	o.dirty = true
}

// routeYield makes the router a Backup and reports whether it was Active.
func (o *Orchestrator) routeYield() bool {
	if o.router.State() != vrrp.Active {
		return false
	}
	o.route(vrrp.Yield{})
	return true
}

// revert journals that the promotion of epoch did not come about.
func (o *Orchestrator) revert(epoch Epoch) {
	o.epoch = max(o.epoch, epoch)
	if o.activeEpoch == epoch {
		o.activeEpoch = o.previous
	}
	o.appendRecord(hooks.Record{Kind: hooks.Reverted, Epoch: uint64(epoch), Role: hooks.Standby})
}

func (o *Orchestrator) bidUndone() {
	b := o.bid
	o.bid = nil
	if b == nil {
		return
	}
	o.revert(b.epoch)
	// The claim ended the silence in name only, if nobody was heard since.
	o.silent = o.silent || o.lastWord.Before(b.claimed)
	o.notUntil = o.now.Add(failureDelay)
	state := Refused
	if r := b.why.Reason; r == PeerActive || r == StrongerPeer || r == NewerEpoch {
		state = Backup
		o.notUntil = o.now.Add(retryDelay)
	}
	o.enter(state, b.why)
	o.answerBid(b, RolledBack, b.why)
}
