package failover

import (
	"math"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// Status is what an instance is, and why, for people and scripts.
type Status struct {
	Instance, Node, Peer string
	Now                  mono.Instant // when this was read
	State                State
	Why                  Why
	Since                time.Duration // how long it has been in this state
	Role                 hooks.Role
	Epoch, ActiveEpoch   Epoch
	Holds                bool
	Gate                 replication.Verdict
	Databases            []replication.Database
	Health               []health.Status
	Condoned             []string // checks that an operator overrode, until they are well again
	Stopped              []string
	Last                 *Transition
	LastAge              time.Duration // since Last began
	PeerKnown            bool          // the peer was heard over the link since the start
	PeerFresh            bool          // and its word counts as said now
	PeerAge              time.Duration
	PeerState            PeerState
	Silent               bool // nobody advertises
	Restored             Restored
	Stays                *Why     // why the role stays though a check wants it to move, nil: none does
	Waiting              Waiting  // for what a transition that is prepared waits
	Unprotected          []string // databases of the source that this node lacks
	Drift                []Drift  // what is not as the role's plan left it
	Labels               []Label  // as the latest check found them
	Block                *HoldStatus
	Maintenance          *HoldStatus
	MaintenanceShared    bool     // the peer has the same register, on or off
	Claimant             string   // who else answers for the held address: the peer's label or a hardware address
	OneWay               []OneWay // signs of life that come through in one direction only
	Wrote                Wrote    // whether the databases took writes since this node's latest promotion
	Divergence           []Divergence
	Witness              *Witnessing // nil: none is configured
	Isolation            Isolation
}

// Status returns the status as of now, as a copy.
func (o *Orchestrator) Status(now mono.Instant) Status {
	if o.started {
		o.now = now
	}
	s := Status{
		Instance: o.cfg.Instance, Node: o.cfg.Node, Peer: o.cfg.Peer,
		Now: now, State: o.state, Why: o.why, Since: now.Sub(o.since), Role: o.role,
		Epoch: o.epoch, ActiveEpoch: o.activeEpoch, Holds: o.lease.held,
		Gate: o.standingGate(), Databases: append([]replication.Database(nil), o.databases...),
		Health:    append([]health.Status(nil), o.board.Statuses()...),
		Condoned:  slices.Clone(o.yielding.condoned),
		PeerKnown: o.peer.known, PeerFresh: o.linkFresh(), PeerState: o.peer.state, Silent: o.silent,
		Restored: o.restored, Unprotected: o.unprotected(), Waiting: o.waiting(),
	}
	s.OneWay, s.Wrote, s.Divergence = o.oneWay(), o.writing.wrote, o.diverged()
	s.Witness, s.Isolation = o.witnessing(), o.isolationView()
	if w, stays := o.stays(); stays {
		s.Stays = &w
	}
	s.Drift, s.Labels = o.drift.list(len(o.drift.strays)), o.drift.labels
	s.Block, s.Maintenance, s.MaintenanceShared = o.blockStatus(), o.maintenanceStatus(), o.sharedWithPeer()
	if o.lease.held {
		s.Claimant = o.guard.claimant
	}
	if o.peer.known {
		s.PeerAge = now.Sub(o.peer.at)
	}
	for _, u := range o.shared {
		if o.stopped[u] {
			s.Stopped = append(s.Stopped, u)
		}
	}
	if o.last != nil {
		t := *o.last
		t.Steps = append([]hooks.Result(nil), o.last.Steps...)
		s.Last, s.LastAge = &t, now.Sub(mono.Instant(t.Began))
	}
	return s
}

// Waiting says for what a transition waits before it goes on; empty: for nothing.
type Waiting struct {
	For  string
	Left uint64 // transactions that have to be applied first
}

func (o *Orchestrator) waiting() Waiting {
	if u, held := o.heldUnit(); held {
		return Waiting{For: o.cfg.Peer + " to stop " + u}
	}
	switch {
	case o.bid != nil && o.bid.stage == bidDraining:
		return Waiting{For: o.cfg.Node + " to apply what was received", Left: o.unapplied()}
	case o.taking() && (o.take.view.Stage == TakePreparing || o.take.view.Stage == TakeCatchingUp) && o.take.view.Left > 0:
		return Waiting{For: o.cfg.Node + " to catch up", Left: o.take.view.Left}
	case o.give == nil || o.give.stage > GiveFrozen:
		return Waiting{}
	}
	if t, known := o.peerTake(); known && t.Left > 0 {
		return Waiting{For: o.cfg.Peer + " to catch up", Left: t.Left}
	}
	if what, long := o.longTransaction(); long && o.give.stage == GivePreparing {
		return Waiting{For: what}
	}
	return Waiting{}
}

// heldUnit returns the unit that is not started before the peer has stopped it.
func (o *Orchestrator) heldUnit() (name string, held bool) {
	if o.run == nil {
		return "", false
	}
	s, held := o.run.run.Held()
	if u, ok := s.Action.(hooks.Unit); held && ok && o.keptBack(s) {
		return u.Name, true
	}
	return "", false
}

// unapplied counts what was received and waits in the relay logs.
func (o *Orchestrator) unapplied() uint64 {
	var left uint64
	for i := range o.databases {
		applied, ok := o.databases[i].Facts.Applied.Get()
		received, known := o.databases[i].Facts.Received()
		if n := applied.Missing(received); ok && known && n < math.MaxUint64-left {
			left += n
		}
	}
	return left
}
