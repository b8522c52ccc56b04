package failover

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// start begins with everything closed, with one exception: a daemon that finds
// its own address with time left on it was gone for less than a lease, and the
// peer cannot have taken over while the kernel answered. It goes on.
func (o *Orchestrator) start(s Started) {
	if o.started {
		return
	}
	o.started, o.boot, o.begun, o.lastWord, o.hearing = true, s.Boot, o.now, o.now, o.now
	o.tellAt, o.measure.at = o.now, o.now
	o.epoch, o.activeEpoch = Epoch(s.Memory.Epoch), Epoch(s.Memory.ActiveEpoch)
	o.attempt, o.journaled = Epoch(s.Memory.Attempt), o.epoch
	o.notUntil = o.now.Add(o.cfg.StartupDelay)
	o.recall(s)
	o.recallDivergence(s.Memory)
	o.board.Recall(s.Checks)
	o.recondone(s.Condoned)
	if s.Overridden {
		o.isolation.forced = o.now
	}
	o.recallHolds(s)
	o.route(vrrp.Startup{})
	wasActive := s.Memory.Role == hooks.Active && o.activeEpoch == o.epoch
	if s.Leftover && (wasActive || o.cutOff(s)) {
		o.role = hooks.Active
		o.forgetDivergence()
		o.emit(Hold{Lease: o.leaseNow()})
		o.lease.progress = o.now
		o.haveAddress(o.now, o.leaseNow())
		o.lease.before, o.lease.lengthBefore = 0, 0 // if this renewal fails, there is only what is left
		if s.Left > 0 {
			o.lease.before, o.lease.lengthBefore = o.now, s.Left
		}
		o.route(vrrp.Claim{})
		o.last = &Transition{Epoch: o.epoch, Role: hooks.Active, Reason: Adopted, Ending: hooks.Completed, Began: time.Duration(o.now)}
		o.enter(Active, Why{Reason: Adopted})
		o.adoptedUnderMaintenance(s.Left)
		if !s.Memory.Finished {
			o.fixAt = o.now // with the address, what came before it in the plan was done
		}
		return
	}
	o.role = hooks.Standby
	o.dropAddress()
	o.enter(Backup, Why{Reason: Starting})
	if c := o.cfg.Demote.Closing(); len(c) > 0 {
		o.startRun(&planRun{
			purpose: closing, plan: c, to: len(c), role: hooks.Standby, epoch: o.epoch, reason: Starting,
			vars: o.vars("", hooks.OnDemote, Starting, o.epoch),
		})
	}
}

// cutOff reports whether the daemon ended between the address of a switchover to
// this node and the word of it. A standby has no address: what is there came with the
// promotion that the journal began, and whatever was written under it is only here.
func (o *Orchestrator) cutOff(s Started) bool {
	if s.Memory.Role != hooks.Active || o.attempt == 0 || o.attempt != o.epoch {
		return false
	}
	o.previous, o.activeEpoch, o.attempt = o.activeEpoch, o.attempt, 0
	o.appendRecord(hooks.Record{Kind: hooks.Acquired, Epoch: uint64(o.activeEpoch), Role: hooks.Active, Planned: true})
	return true
}

// peerView is the latest word of the peer over the link.
type peerView struct {
	known bool
	at    mono.Instant
	state PeerState
}

func (o *Orchestrator) peerSaid(s PeerState) {
	if o.peer.known && s.Boot == o.peer.state.Boot && s.Seq <= o.peer.state.Seq {
		return
	}
	o.heardPeer()
	if o.lease.held && o.peer.known && o.peer.state.Holds && !s.Holds {
		o.announceAnew() // two had it, and clients may know the other
	}
	o.peer = peerView{known: true, at: o.now, state: s}
	o.epoch = max(o.epoch, s.Epoch)
	o.learnMaintenance(&s)
	if s.State == Promoting && o.state != Promoting {
		o.dirty = true // it waits for this answer before it takes the address
	}
	o.learn(s.ActiveEpoch)
	if o.isSource(s) {
		o.noteHeard(s.Positions)
	}
	if o.router.State() == vrrp.Active && s.Holds && s.ActiveEpoch > o.activeEpoch {
		if o.give != nil && o.give.stage >= GiveFrozen && o.give.stage <= GiveUndoing {
			o.release()
			return
		}
		o.stepDown(Why{Reason: NewerEpoch}, hooks.OnDemote)
		return
	}
	o.contestByWord()
}

// isSource reports whether the peer's databases are those that a takeover must not
// fall behind. A takeover that is only on its way changes nothing of that.
func (o *Orchestrator) isSource(s PeerState) bool {
	mine := o.activeEpoch
	if o.claiming() {
		mine = o.previous
	}
	return s.ActiveEpoch > mine || s.State == Active && (o.role == hooks.Standby || o.claiming())
}

// learn notes that the peer was Active in an epoch.
func (o *Orchestrator) learn(e Epoch) {
	o.epoch = max(o.epoch, e)
	if e > o.journaled {
		// Or a restart in the next moments would resume what the peer has now.
		o.appendRecord(hooks.Record{Kind: hooks.Learned, Epoch: uint64(e)})
	}
}

// linkFresh reports whether the peer's latest word counts as said now.
func (o *Orchestrator) linkFresh() bool {
	return o.peer.known && o.now.Sub(o.peer.at) <= LinkPatience && !o.hostSilent()
}

// peerIsActive reports whether the link proves that the peer has the role, or
// is on its way to or from it.
func (o *Orchestrator) peerIsActive() bool {
	if !o.linkFresh() {
		return false
	}
	s := o.peer.state
	return s.Holds || s.State == Active || s.State == Promoting
}

// echoed reports whether the peer's latest word was said after since, an instant
// of this node's own clock. An echo from the future is one of an earlier boot.
func (o *Orchestrator) echoed(since mono.Instant) bool {
	e := o.peer.state.Echo
	return !e.Before(since) && !e.After(o.now)
}

func (o *Orchestrator) peerStopped(unit string) bool {
	// A node that left said its last word for good.
	return (o.linkFresh() || o.peer.known && !o.peer.state.Bids) && !o.peer.state.Holds && o.peer.state.ActiveEpoch < o.activeEpoch &&
		contains(o.peer.state.Stopped, unit)
}

// peerDead reports whether the peer's kernel was found silent and nothing was
// heard of the peer since.
func (o *Orchestrator) peerDead() bool {
	return o.bid != nil && o.bid.dead || o.gone != 0 && o.gone.After(o.lastWord)
}

// tell sends the state to the peer: at once when something changed that it
// waits for, otherwise at the interval.
func (o *Orchestrator) tell() {
	if !o.dirty && o.now.Before(o.tellAt) {
		return
	}
	// All instances of a daemon speak at the same instants, in one message.
	o.dirty, o.tellAt = false, o.now.Add(TellInterval-time.Duration(o.now)%TellInterval)
	o.told++
	if o.give != nil && o.give.stage == GiveFrozen {
		// The word is worth no more than the clock reading that it echoes.
		o.give.affirmed = o.peer.at
	}
	o.emit(Tell{State: o.peerState()})
}

func (o *Orchestrator) peerState() PeerState {
	s := PeerState{
		Boot: o.boot, Seq: o.told, Stamp: o.now, State: o.state, Why: o.why,
		Epoch: o.epoch, ActiveEpoch: o.heldEpoch(), Holds: o.lease.held,
		Bids: o.bids(), Hears: o.linkFresh() || !o.silent, Sources: o.toldSources(),
		Gate: o.toldGate(), Positions: o.measure.positions, Granted: o.granted, Maintenance: o.toldMaintenance(),
		HearsHeartbeat: senseOf(o.advertises()), HearsLink: senseOf(o.hearsLink()), Wrote: o.writing.wrote,
	}
	if o.peer.known {
		s.Echo = o.peer.state.Stamp
	}
	s.Drift, s.Labels = o.drift.told, o.drift.labels
	for _, u := range o.shared {
		if o.stopped[u] {
			s.Stopped = append(s.Stopped, u)
		}
	}
	if o.last != nil {
		s.Steps = withoutOutput(o.last.Steps) // never changed in place
	}
	if o.give != nil {
		s.Give = o.give.view()
	}
	if o.take != nil {
		t := o.take.view
		s.Take = &t
	}
	if o.wish != nil {
		w := o.wish.wish
		s.Wish = &w
	}
	return s
}

// heldEpoch is the epoch of the latest promotion that got the address: one that
// is still on its way, or being taken back, does not count against a holder. A
// switchover that a restart cut off counts: a node that gave the role away and
// took it back has a newer one.
func (o *Orchestrator) heldEpoch() Epoch {
	if o.claiming() {
		return o.previous
	}
	return max(o.activeEpoch, o.attempt)
}

// claiming reports whether a bid is on its way to the address, or being taken back.
func (o *Orchestrator) claiming() bool {
	return o.bid != nil && !o.bid.before(bidRunning) && !o.lease.held
}

// refusedPatience is how long a node that is refused stands in the way of a
// peer that could take over.
const refusedPatience = 3 * time.Second

// bids reports whether this node would take the role if it fell to it.
func (o *Orchestrator) bids() bool {
	if o.stopping || o.state == Refused && o.now.Sub(o.since) > refusedPatience {
		return false
	}
	_, faulty := o.fault()
	return !faulty
}

// thinkEpoch gives an Active a new epoch when its standby turns out to have been
// Active in the same or a newer one, while they could not speak: who has the role has the
// newest epoch, or later comparisons go wrong.
func (o *Orchestrator) thinkEpoch() {
	p := o.peer.state
	if o.state != Active || o.run != nil || o.giving() || !o.linkFresh() || p.ActiveEpoch < o.activeEpoch ||
		p.Holds || p.State != Backup && p.State != Refused && p.State != Fault && p.State != Conflict {
		return
	}
	o.renumber()
	o.emit(Note{State: o.state, Epoch: o.epoch, Why: Why{
		Reason: Renumbered, Detail: o.cfg.Peer + " was Active in a later epoch: what it wrote then is only there",
	}, Urgent: true})
}

// renumber goes on as Active under an epoch that is newer than any known.
func (o *Orchestrator) renumber() {
	o.previous, o.activeEpoch = o.activeEpoch, max(o.epoch, o.peer.state.ActiveEpoch)+1
	o.epoch = o.activeEpoch
	r := hooks.Record{Kind: hooks.Began, Epoch: uint64(o.epoch), Role: hooks.Active, Reason: Renumbered.String()}
	o.appendRecord(r)
	if o.fixAt == 0 {
		r.Kind, r.Ending = hooks.Ended, hooks.Completed
		o.appendRecord(r)
	}
	o.dirty = true
}

func (o *Orchestrator) durable(ev Durable) {
	o.holdDurable(ev)
	o.bidDurable(ev)
	o.giveDurable(ev)
	o.takeDurable(ev)
}

func (o *Orchestrator) caughtUp(ev CaughtUp) {
	o.bidCaughtUp(ev)
	o.takeCaughtUp(ev)
}

func (o *Orchestrator) checked(ev Checked) {
	o.giveChecked(ev)
	o.takeChecked(ev)
	o.standingChecked(ev)
}
