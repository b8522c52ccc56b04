package failover

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// An operator holds a node back with a block, which is this node's alone, and the
// pair in its place with a maintenance, which both nodes know: a register of which
// the newest version holds. Neither says anything to an operator's force.

// MaintenanceLease is how long the kernel keeps the address under maintenance
// without a word of the daemon: what a package upgrade takes.
const MaintenanceLease = 120 * time.Second

const (
	// shareTime is how long a command waits for the peer to have noted it durably.
	shareTime = 3 * time.Second
	// heldEvery is the shortest time between two lines in the log about a failover
	// that does not happen.
	heldEvery = time.Minute
	// leaseMost bounds what a peer of another release may call the lease of a maintenance.
	leaseMost = time.Hour
)

// HoldKind is which hold a command is about.
type HoldKind uint8

// The holds.
const (
	BlockHold HoldKind = iota
	MaintenanceHold
)

// String returns the kind as log and commands name it.
func (k HoldKind) String() string {
	return nameOf([]string{"block", "maintenance"}, "HoldKind", uint8(k))
}

// HoldRequest is what an operator wants of a hold.
type HoldRequest struct {
	Kind   HoldKind
	On     bool
	Reason string
	UID    uint32
	For    time.Duration // 0: until it is taken back
	// Force lengthens the lease though the peer does not know of the maintenance: a
	// peer that comes back meanwhile does not wait for it.
	Force bool
}

// Maintenance is the register of a node, as it has it durably and tells it the peer.
type Maintenance struct {
	Version uint64
	By      string // label of the node where it was switched
	On      bool
	Expired bool // off, because its time was over
	Reason  string
	UID     uint32
	Lease   time.Duration // of the address while it is on
	Until   mono.Instant  // when it ends, by the clock of the node that says so; 0: when it is taken back
	// Settled says that no address of the node has more than the configured lease any
	// more, and that none will before the peer knows of a newer version.
	Settled bool
}

// same reports whether both are the same switching.
func (m Maintenance) same(other Maintenance) bool {
	return m.Version == other.Version && m.By == other.By && m.Expired == other.Expired
}

// newer reports whether m holds where other is known, too: the higher version, then
// an operator's word before a time that was over, then the label.
func (m Maintenance) newer(other Maintenance) bool {
	switch {
	case m.Version != other.Version:
		return m.Version > other.Version
	case m.Expired != other.Expired:
		return other.Expired
	}
	return m.By > other.By
}

// block is the block of this node.
type block struct {
	on     bool
	reason string
	uid    uint32
	until  mono.Instant // 0: until it is taken back
	at     mono.Instant // since when this daemon knows of it
}

// holdState is everything about holds on this node.
type holdState struct {
	block block

	register  Maintenance // as it holds here; Until by this clock
	forced    bool        // it was switched on here with force
	since     mono.Instant
	durable   bool // the register is in the journal: only then the peer hears of it
	journal   ID   // of the record that is on its way, 0: none is
	retryAt   mono.Instant
	promised  bool          // the peer waits for the long lease
	peerLease time.Duration // what addresses of the peer may have, 0: no more than configured

	commands [2]*holdCommand // by kind
	parted   bool            // the daemon leaves and the address stays
	said     Why             // what did not happen because of it, as the log was told
	saidAt   mono.Instant
}

// holdCommand is an operator's command under way.
type holdCommand struct {
	command ID
	request HoldRequest
	journal ID           // of the record that is on its way, 0: it is durable
	base    Maintenance  // of MaintenanceHold: what it changes
	next    Maintenance  // and into what
	until   mono.Instant // once it is durable: for how long the peer is waited for
}

// maintained reports whether the pair is under maintenance as far as this node knows.
func (o *Orchestrator) maintained() bool { return o.hold.register.On }

// heldReason says who holds and why, without what changes from look to look.
func heldReason(reason string, uid uint32, by string) string {
	if by == "" {
		return fmt.Sprintf("%s (uid %d)", reason, uid)
	}
	return fmt.Sprintf("%s (uid %d on %s)", reason, uid, by)
}

// holds puts into a question for the gate what an operator holds.
func (o *Orchestrator) holds(q *replication.Question) {
	if b := &o.hold.block; b.on {
		q.Block = replication.Hold{On: true, Reason: heldReason(b.reason, b.uid, "")}
	}
	if m := &o.hold.register; m.On {
		q.Maintenance = replication.Hold{On: true, Reason: heldReason(m.Reason, m.UID, m.By)}
	}
}

// heldGate is the part of the gate that an operator holds closed for a cause.
func (o *Orchestrator) heldGate(cause replication.Cause) []replication.Reason {
	q := replication.Question{Cause: cause, Health: replication.HealthGood}
	o.holds(&q)
	return replication.Gate(o.now, replication.Policy{}, q).Reasons
}

// maintenanceGate is what the maintenance alone closes the gate of either node with.
func (o *Orchestrator) maintenanceGate() []replication.Reason {
	for _, r := range o.heldGate(replication.Planned) {
		if r.Code == replication.Maintenance {
			return []replication.Reason{r}
		}
	}
	return nil
}

// heldBack returns why this node does not even bid. A node that was Active last and
// goes on with what it had moves nothing: maintenance lets it.
func (o *Orchestrator) heldBack() (Why, bool) {
	cause := replication.SourceLost
	switch {
	case !o.hold.block.on && !o.maintained():
		return Why{}, false
	case o.resumes():
		cause = replication.Resume
	case o.sources() == SourcesUnknown && !o.hold.block.on:
		return Why{}, false // the databases have to be looked at first
	}
	if g := o.heldGate(cause); len(g) > 0 {
		return Why{Reason: GateClosed, Gate: g}, true
	}
	return Why{}, false
}

// stayHeld says loudly, and again, that nobody takes the role because an operator
// holds it.
func (o *Orchestrator) stayHeld(w Why) {
	if o.state != Refused || !o.why.same(w) {
		o.enter(Refused, w) // the log has it
		o.hold.said, o.hold.saidAt = w, o.now
		return
	}
	o.sayHeld(w)
}

// sayHeld tells the log what does not happen because of a hold.
func (o *Orchestrator) sayHeld(w Why) {
	h := &o.hold
	if w.same(h.said) && o.now.Sub(h.saidAt) < heldEvery {
		return
	}
	h.said, h.saidAt = w, o.now
	o.emit(Note{State: o.state, Epoch: o.epoch, Why: w, Gate: w.Gate, Urgent: true})
}

// inPlace returns why an Active that has a fault keeps the address all the same:
// nobody else would take it. Who hears nobody for longer than the peer waits does not
// know that.
func (o *Orchestrator) inPlace() (Why, bool) {
	_, cut := o.mustRelease()
	if !o.maintained() || o.role != hooks.Active || !o.lease.held || cut {
		return Why{}, false
	}
	w, faulty := o.fault()
	if !faulty {
		return Why{}, false
	}
	detail := w.Reason.String() + ": " + w.Detail
	return Why{Reason: InMaintenance, Check: w.Check, Detail: detail, Gate: o.maintenanceGate()}, true
}

// staysInPlace reports whether it does, and tells the log.
func (o *Orchestrator) staysInPlace() bool {
	w, stays := o.inPlace()
	if stays {
		o.sayHeld(w)
	}
	return stays
}

// recallHolds takes in what the journal has.
func (o *Orchestrator) recallHolds(s Started) {
	h, m := &o.hold, s.Memory
	if b := m.Block; b.On {
		h.block = block{on: true, reason: b.Reason, uid: b.UID, at: o.now, until: o.ending(b.Hold, s.BlockLeft)}
	}
	r := m.Maintenance
	h.register = Maintenance{
		Version: r.Version, By: r.By, On: r.On, Expired: r.Expired, Reason: r.Reason, UID: r.UID, Lease: r.Lease,
	}
	if r.On {
		h.register.Until = o.ending(r.Hold, s.MaintenanceLeft)
	}
	h.forced = r.On && r.Forced && r.By == o.cfg.Node
	h.since, h.durable, h.promised, h.peerLease = o.now, true, m.Promised, m.PeerLease
	if r.On {
		h.peerLease = max(h.peerLease, r.Lease)
	}
}

// ending is when a hold of the journal ends; at once if its time is over.
func (o *Orchestrator) ending(h hooks.Hold, left time.Duration) mono.Instant {
	if h.For <= 0 {
		return 0
	}
	return o.now.Add(max(0, left))
}

// tickHold ends what is over.
func (o *Orchestrator) tickHold() {
	h := &o.hold
	if b := &h.block; b.on && b.until != 0 && !o.now.Before(b.until) {
		h.block = block{}
		o.appendRecord(hooks.Record{
			Kind: hooks.Blocking, Epoch: uint64(o.epoch), Reason: b.reason, UID: b.uid, Hold: hooks.Hold{Expired: true},
		})
		o.noteHold(Why{Reason: Unblocked, Detail: "its time is over"})
	}
	if m := h.register; m.On && m.Until != 0 && !o.now.Before(m.Until) {
		o.adopt(Maintenance{Version: m.Version + 1, By: o.cfg.Node, Expired: true, Reason: m.Reason, UID: m.UID}, false)
	}
	o.persistHold()
	o.tickHoldCommands()
}

func (o *Orchestrator) holdDeadline() mono.Instant {
	h, at := &o.hold, mono.Never
	if h.block.on && h.block.until != 0 {
		at = min(at, h.block.until)
	}
	if h.register.On && h.register.Until != 0 {
		at = min(at, h.register.Until)
	}
	for _, c := range h.commands {
		if c != nil && c.journal == 0 {
			at = min(at, c.until)
		}
	}
	return at
}

// noteHold tells the log that a hold changed, and the gate with it.
func (o *Orchestrator) noteHold(w Why) {
	o.gateSaid = gateSaid{}
	o.dirty = true
	o.emit(Note{State: o.state, Epoch: o.epoch, Why: w, Urgent: true})
}

// adopt makes a register this node's own.
func (o *Orchestrator) adopt(m Maintenance, durable bool) {
	h := &o.hold
	m.Settled = false
	h.register, h.since, h.durable, h.journal = m, o.now, durable, 0
	h.forced, h.retryAt = false, 0
	o.persistHold()
	if m.On {
		h.peerLease = max(h.peerLease, m.Lease)
		o.noteHold(Why{Reason: InMaintenance, Detail: heldReason(m.Reason, m.UID, m.By)})
	} else {
		detail := "switched off on " + m.By
		if m.Expired {
			detail = "its time is over"
		}
		o.noteHold(Why{Reason: MaintenanceOver, Detail: detail})
	}
	o.leaseChanged()
}

// persistHold journals a register that is not durable yet. The peer is told only
// then: what it concludes has to outlive this host.
func (o *Orchestrator) persistHold() {
	h := &o.hold
	if h.durable || h.journal != 0 || o.now.Before(h.retryAt) {
		return
	}
	if c := h.commands[MaintenanceHold]; c != nil && c.journal != 0 {
		return // the journal's last word is to be the one that holds
	}
	h.journal, h.retryAt = o.id(), o.now.Add(retryDelay)
	o.emit(Append{ID: h.journal, Record: o.maintenanceRecord(h.register, h.forced)})
}

func (o *Orchestrator) maintenanceRecord(m Maintenance, forced bool) hooks.Record {
	r := hooks.Record{
		Kind: hooks.Maintaining, Instance: o.cfg.Instance, Epoch: uint64(o.epoch), Reason: m.Reason, UID: m.UID,
		Hold: hooks.Hold{On: m.On, Expired: m.Expired, Version: m.Version, By: m.By, Lease: m.Lease, Forced: forced},
	}
	if m.On && m.Until != 0 {
		r.Hold.For = max(m.Until.Sub(o.now), 1)
	}
	return r
}

func (o *Orchestrator) holdDurable(ev Durable) {
	h := &o.hold
	if ev.ID == 0 {
		return
	}
	if ev.ID == h.journal {
		h.journal = 0
		h.durable = ev.Err == nil
		o.dirty = true
		return
	}
	for _, c := range h.commands {
		if c != nil && c.journal == ev.ID {
			c.journal = 0
			o.commanded(c, ev.Err)
			return
		}
	}
}

// learnMaintenance takes in what the peer says of the maintenance.
func (o *Orchestrator) learnMaintenance(s *PeerState) {
	h := &o.hold
	if s.Maintenance == nil {
		// Of a release that knows none, or its journal is gone: it waits for nothing.
		h.promised = false
		o.leaseChanged()
		return
	}
	m := *s.Maintenance
	m.Until, m.Lease = o.translated(m.Until, s.Stamp), min(max(0, m.Lease), leaseMost)
	if m.newer(h.register) {
		o.adopt(m, false)
	}
	if c := h.commands[MaintenanceHold]; !m.same(h.register) || !h.durable || c != nil && c.journal != 0 {
		return // an older one: it hears of this one; or the journal has another one last
	}
	switch {
	case m.On && !h.promised:
		h.promised = true
		o.journalLease(hooks.Hold{Promised: true})
		o.leaseChanged()
	case !m.On && s.Maintenance.Settled && h.peerLease != 0:
		h.peerLease = 0
		o.journalLease(hooks.Hold{Settled: true})
	}
}

// translated turns an instant of the peer's clock into one of this clock. What is
// over there is over here.
func (o *Orchestrator) translated(at, stamp mono.Instant) mono.Instant {
	if at == 0 {
		return 0
	}
	return o.now.Add(max(0, at.Sub(stamp)))
}

func (o *Orchestrator) journalLease(h hooks.Hold) {
	h.Version, h.By = o.hold.register.Version, o.hold.register.By
	o.appendRecord(hooks.Record{Kind: hooks.Leasing, Epoch: uint64(o.epoch), Hold: h})
}

// toldMaintenance is the register as the peer may know it, nil before the first.
func (o *Orchestrator) toldMaintenance() *Maintenance {
	h := &o.hold
	if h.register.Version == 0 || !h.durable {
		return nil
	}
	m := h.register
	m.Settled = !m.On && o.lease.configured(o.cfg.Lease)
	if m.Settled {
		h.promised = false // what it waited for it waits for no longer
	}
	return &m
}

// leaseNow is the lifetime that the address gets. It is the long one only once the
// peer is known to wait for it, or an operator took that upon himself, and not while a
// handover lets the peer take it without waiting.
func (o *Orchestrator) leaseNow() time.Duration {
	offers := o.give != nil && o.give.stage >= GiveClosing && o.give.stage <= GiveUndoing
	if h := &o.hold; h.register.On && (h.promised || h.forced) && !offers {
		return max(o.cfg.Lease, h.register.Lease)
	}
	return o.cfg.Lease
}

// peerLeaseMost is the longest lifetime that an address of the peer may have.
func (o *Orchestrator) peerLeaseMost() time.Duration { return max(o.cfg.Lease, o.hold.peerLease) }

// leaseChanged renews with the lease that is right now.
func (o *Orchestrator) leaseChanged() {
	if o.lease.held && o.lease.length != o.leaseNow() {
		o.lease.renewAt = o.now
	}
}
