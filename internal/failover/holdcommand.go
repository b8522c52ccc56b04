package failover

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// An operator's command about a hold is answered when it is in the journal, and a
// maintenance when the peer has it in its own, or cannot be told.

func (o *Orchestrator) holdWanted(ev HoldWanted) {
	r := ev.Request
	c := &holdCommand{command: ev.Command, request: r}
	switch {
	case r.Kind > MaintenanceHold:
		o.refuse(ev.Command, Why{Reason: Busy, Detail: "no such hold"})
		return
	case o.stopping:
		o.refuse(ev.Command, Why{Reason: Stopping})
		return
	case o.hold.commands[r.Kind] != nil:
		o.refuse(ev.Command, Why{Reason: Busy, Detail: "another command about the " + r.Kind.String() + " is under way"})
		return
	case !r.On && r.Kind == BlockHold && !o.hold.block.on:
		o.emit(Answer{Command: ev.Command, Outcome: Done, Why: Why{Reason: Unblocked, Detail: o.cfg.Node + " was not blocked"}})
		return
	case !r.On && r.Kind == MaintenanceHold && !o.maintained():
		o.emit(Answer{Command: ev.Command, Outcome: Done, Why: Why{Reason: MaintenanceOver, Detail: "there was no maintenance"}})
		return
	}
	o.hold.commands[r.Kind] = c
	o.journalHold(c)
}

// journalHold writes down what the command makes of the hold.
func (o *Orchestrator) journalHold(c *holdCommand) {
	c.journal = o.id()
	r := c.request
	if r.Kind == BlockHold {
		o.emit(Append{ID: c.journal, Record: o.blockRecord(r)})
		return
	}
	c.base = o.hold.register
	c.next = Maintenance{
		Version: o.hold.register.Version + 1, By: o.cfg.Node, On: r.On, Reason: r.Reason, UID: r.UID,
	}
	if r.On {
		c.next.Lease = o.cfg.MaintenanceLease
		if r.For > 0 {
			c.next.Until = o.now.Add(r.For)
		}
	}
	o.emit(Append{ID: c.journal, Record: o.maintenanceRecord(c.next, r.On && r.Force)})
}

func (o *Orchestrator) blockRecord(r HoldRequest) hooks.Record {
	rec := hooks.Record{
		Kind: hooks.Blocking, Instance: o.cfg.Instance, Epoch: uint64(o.epoch), Reason: r.Reason, UID: r.UID,
		Hold: hooks.Hold{On: r.On},
	}
	if r.On {
		rec.Hold.For = r.For
	}
	return rec
}

// commanded goes on when the record is durable, or is not.
func (o *Orchestrator) commanded(c *holdCommand, err error) {
	h, r := &o.hold, c.request
	switch {
	case err != nil:
		// It may come to the disk all the same: what holds follows it.
		h.commands[r.Kind] = nil
		o.restoreHold(r.Kind)
		o.refuse(c.command, Why{Reason: JournalFailed, Detail: err.Error()})
	case r.Kind == BlockHold:
		h.commands[r.Kind] = nil
		o.blocked(c)
	case !c.base.same(h.register):
		o.journalHold(c) // the peer was faster, and an operator's latest word counts
	default:
		o.adopt(c.next, true)
		h.forced = r.On && r.Force
		o.leaseChanged()
		c.until = o.now
		if o.linkFresh() {
			c.until = o.now.Add(shareTime)
		}
		o.tickHoldCommands()
	}
}

// restoreHold journals what holds, behind a record that was refused.
func (o *Orchestrator) restoreHold(k HoldKind) {
	if k == MaintenanceHold {
		o.hold.durable, o.hold.journal, o.hold.retryAt = false, 0, 0
		return // persistHold does
	}
	b := &o.hold.block
	r := HoldRequest{Kind: k, On: b.on, Reason: b.reason, UID: b.uid}
	if b.on && b.until != 0 {
		r.For = max(b.until.Sub(o.now), 1)
	}
	rec := o.blockRecord(r)
	o.appendRecord(rec)
}

// blocked applies a block that is durable, or its end.
func (o *Orchestrator) blocked(c *holdCommand) {
	r := c.request
	if !r.On {
		o.hold.block = block{}
		o.noteHold(Why{Reason: Unblocked, Detail: heldReason("taken back", r.UID, "")})
		o.emit(Answer{Command: c.command, Outcome: Done, Why: Why{Reason: Unblocked}})
		return
	}
	b := block{on: true, reason: r.Reason, uid: r.UID, at: o.now}
	if r.For > 0 {
		b.until = o.now.Add(r.For)
	}
	o.hold.block = b
	w := Why{Reason: Blocked, Detail: heldReason(r.Reason, r.UID, "")}
	o.noteHold(w)
	if o.role == hooks.Active {
		w.Detail = o.cfg.Node + " is " + o.state.String() + " and stays so: a restart of its daemon within the lease keeps it, " +
			"but once it lets go it is not promoted again, not even if nobody else is"
	} else {
		w.Detail = o.cfg.Node + " is not promoted before it is unblocked"
	}
	o.emit(Answer{Command: c.command, Outcome: Done, Why: w})
}

// tickHoldCommands answers a maintenance once the peer has it, or cannot be told.
func (o *Orchestrator) tickHoldCommands() {
	c := o.hold.commands[MaintenanceHold]
	if c == nil || c.journal != 0 {
		return
	}
	shared := o.sharedWithPeer() && c.next.same(o.hold.register)
	if !shared && o.now.Before(c.until) {
		return
	}
	o.hold.commands[MaintenanceHold] = nil
	o.emit(Answer{Command: c.command, Outcome: Done, Why: o.maintenanceAnswer(c, shared)})
}

// sharedWithPeer reports whether the peer has the register durably.
func (o *Orchestrator) sharedWithPeer() bool {
	p := o.peer.state.Maintenance
	return o.linkFresh() && p != nil && p.same(o.hold.register)
}

// maintenanceAnswer says on whom the maintenance holds and what it does to the lease.
func (o *Orchestrator) maintenanceAnswer(c *holdCommand, shared bool) Why {
	w := Why{Reason: InMaintenance}
	if !c.request.On {
		w.Reason = MaintenanceOver
	}
	switch lease := o.leaseNow(); {
	case !c.next.same(o.hold.register):
		w.Detail = "and was switched again meanwhile: see `tanist status`"
	case shared && c.request.On:
		w.Detail = "on both nodes; the address outlives a daemon by " + lease.String()
	case shared:
		w.Detail = "on both nodes"
	case c.request.On && c.request.Force:
		w.Detail = o.unshared() + ": the address outlives a daemon by " + lease.String() +
			" as you forced it, and a peer that is back meanwhile does not wait for that"
	case c.request.On && lease > o.cfg.Lease:
		w.Detail = o.unshared() + ", which knows of an earlier one: the address outlives a daemon by " + lease.String()
	case c.request.On:
		w.Detail = o.unshared() + ": the address outlives a daemon by the configured " + lease.String() +
			" only, until it is told"
	default:
		w.Detail = o.unshared() + ": it is told when it is back"
	}
	return w
}

func (o *Orchestrator) unshared() string {
	if !o.linkFresh() {
		return "on this node only: " + o.cfg.Peer + " cannot be told now"
	}
	return "on this node only: " + o.cfg.Peer + " does not say within " + shareTime.Round(time.Second).String() + " that it has noted it"
}
