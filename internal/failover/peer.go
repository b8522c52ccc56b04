package failover

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// Position is how far one database is.
type Position struct {
	Database string
	Executed replication.Position
	// SemiSync is what it says of semi-sync as a source; zero unless commits wait
	// for a replica, as of facts that are fresh.
	SemiSync replication.SemiSync
	// Beat is how far it counted in the heartbeat table, zero where it has none.
	Beat replication.Beat
	// Binlog and Applied are told by an Active of a MariaDB, of which Executed does
	// not say who wrote what; empty where they are not told.
	Binlog  replication.BinlogState
	Applied replication.Position
}

// history returns what the peer's word tells of the transactions that it has.
func (p Position) history() replication.History {
	h := replication.History{Flavor: p.Executed.Flavor(), Executed: replication.Known(p.Executed)}
	if h.Flavor == replication.FlavorMariaDB {
		h.Executed = replication.Unknown[replication.Position]()
		if !p.Binlog.Equal(replication.BinlogState{}) {
			h.BinlogState, h.Applied = replication.Known(p.Binlog), replication.Known(p.Applied)
		}
	}
	return h
}

// PeerState is what a node tells its peer about an instance, several times a
// second and whenever it changes. It is the whole conversation: a switchover is
// two nodes that read each other's state and act on it, so a message lost,
// doubled or late does no harm.
type PeerState struct {
	Boot uint64 // of the sender's daemon
	Seq  uint64 // grows with every message of one boot
	// Stamp is the sender's clock; Echo the newest Stamp that it has read from
	// the addressee. An addressee that sees its own clock in Echo knows how old
	// the statement is at most, without trusting the sender's clock.
	Stamp, Echo mono.Instant

	State       State
	Why         Why
	Epoch       Epoch // highest that the node knows of
	ActiveEpoch Epoch // of its latest promotion, 0 when it never was Active
	Holds       bool  // it has the address
	Bids        bool  // it would take the role if it fell to it
	Hears       bool  // it hears our advertisements, or our link
	Sources     Sources
	Gate        []replication.Reason // why it could not be promoted now; empty: it could
	Positions   []Position
	Stopped     []string // units that its demotion stopped, checked
	Steps       []hooks.Result
	Drift       []Drift // at most 16, Since by the sender's clock
	Labels      []Label // at most 16

	Give *Give
	Take *Take
	Wish *Wish
	// Granted answers the peer's Wish of that ID.
	Granted *Grant
	// Maintenance is the register as this node has it durably, nil before the first.
	Maintenance *Maintenance

	// HearsHeartbeat and HearsLink are Hears apart: our advertisements, our link.
	HearsHeartbeat, HearsLink Sense
	// Wrote says whether its databases took writes since its latest promotion.
	Wrote Wrote
}

// Sources says whether the databases of a node replicate from anywhere.
type Sources uint8

// Whether the databases of a node replicate.
const (
	SourcesUnknown Sources = iota
	NoDatabases
	AllSources  // none of them is a replica
	AllReplicas // each of them is
	MixedSources
)

// String returns it as the link between the nodes names it.
func (s Sources) String() string {
	return nameOf([]string{"unknown", "no_databases", "all_sources", "all_replicas", "mixed"}, "Sources", uint8(s))
}

// HandoverID names one planned switchover.
type HandoverID struct{ Boot, Seq uint64 }

// GiveStage is how far the old node is with a planned switchover.
type GiveStage uint8

// How far the old node is.
const (
	GivePreparing GiveStage = iota + 1 // both check, nothing is changed
	GiveClosing                        // its plan runs up to the vip step
	GiveFrozen                         // writes are closed, Positions are final, it still has the address
	GiveUndoing                        // it wants back what it gave and waits for the peer to let go
	GiveRollingBack
	GiveReleased // the address is off, the rest of its plan runs
	GiveDone
	GiveFailed // rolled back, or never begun
)

// String returns the stage as the link between the nodes names it.
func (s GiveStage) String() string {
	return nameOf([]string{
		"none", "preparing", "closing", "frozen", "undoing", "rolling_back", "released", "done", "failed",
	}, "GiveStage", uint8(s))
}

// Give is a planned switchover as the old node sees it.
type Give struct {
	ID        HandoverID
	Stage     GiveStage
	Epoch     Epoch // the epoch the new node will have
	DryRun    bool
	Force     bool
	Positions []Position
	Lost      []string // databases of the old node that are dead: what was received of them has to do
	Cause     Reason   // why the old node gives the role away
}

// TakeStage is how far the new node is with a planned switchover.
type TakeStage uint8

// How far the new node is.
const (
	TakePreparing TakeStage = iota + 1
	TakePrepared
	TakeRefused // nothing was changed
	TakeCatchingUp
	TakePromoting
	TakeAcquired // it has the address and announced it
	TakeDone
	TakeUndoing
	TakeUndone // everything on the new node is as it was
)

// String returns the stage as the link between the nodes names it.
func (s TakeStage) String() string {
	return nameOf([]string{
		"none", "preparing", "prepared", "refused", "catching_up", "promoting", "acquired", "done", "undoing", "undone",
	}, "TakeStage", uint8(s))
}

// nameOf names a value, of one without a name its type and number.
func nameOf(names []string, of string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%s(%d)", of, v)
}

// Take is a planned switchover as the new node sees it.
type Take struct {
	ID    HandoverID
	Stage TakeStage
	Why   Why
	OK    bool // TakeDone: every step of the plan went well
	// Left counts the transactions that the new node still has to apply, as of its
	// latest look, while it catches up.
	Left uint64
}

// Wish is an operator's switchover command given to the node that is not
// Active.
type Wish struct {
	ID      HandoverID
	Request Request
}

// Grant is the Active's answer to a Wish, once it is known.
type Grant struct {
	ID      HandoverID
	Outcome Outcome
	Why     Why
}

// Times of the link between the two nodes.
const (
	// TellInterval is how often a node tells its state when nothing changes.
	TellInterval = 100 * time.Millisecond
	// LinkPatience is how old the peer's latest word may be to count as said now.
	LinkPatience = 500 * time.Millisecond
	// HandoverLease is for how long a frozen old node stands by its word: the
	// new node acts on it only within this time of its own clock, the old one
	// takes nothing back before it has passed since the word was sent.
	HandoverLease = 2 * time.Second
	// handoverMargin covers effects that the new node began just in time.
	handoverMargin = 500 * time.Millisecond
)
