package failover

import (
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
	Stopped              []string
	Last                 *Transition
	LastAge              time.Duration // since Last began
	PeerKnown            bool          // the peer was heard over the link since the start
	PeerFresh            bool          // and its word counts as said now
	PeerAge              time.Duration
	PeerState            PeerState
	Silent               bool // nobody advertises
	Restored             Restored
	Claimant             string // who else answers for the held address: the peer's label or a hardware address
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
		PeerKnown: o.peer.known, PeerFresh: o.linkFresh(), PeerState: o.peer.state, Silent: o.silent,
		Restored: o.restored,
	}
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
