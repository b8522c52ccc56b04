package failover

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// Epoch numbers promotions: each is one more than the highest that either node
// ever said.
type Epoch uint64

// State is what a node is to one instance, as status shows it.
type State uint8

// The states.
const (
	Initialize State = iota
	Backup
	Promoting
	Active
	Demoting
	Fault   // a health check, or the link, forbids this node the address
	Refused // it should take over and may not; Reasons say why
	// Conflict is one of two: the peer's kernel answers for the address though the peer
	// is silent, or this node's databases have what the Active's lack (Diverged).
	Conflict
)

// String returns the state as status, log and the link between the nodes name it.
func (s State) String() string {
	names := [...]string{"initialize", "backup", "promoting", "active", "demoting", "fault", "refused", "conflict"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Reason says why a node is in its state or a transition happened.
type Reason uint8

// The reasons.
const (
	Starting         Reason = iota // the daemon just started
	PeerActive                     // the peer is Active
	PeerSilent                     // no advertisement, nothing over the link
	PeerLeft                       // the peer says it gave the role up
	Elected                        // both are up, nobody is Active, this one is to be
	Adopted                        // restarted with the address still held
	Requested                      // an operator's switchover
	Forced                         // an operator's switchover against the gate
	Preempting                     // a higher priority, and preempt is set
	Stopping                       // the daemon is told to stop
	HandedOver                     // the peer holds the address after a switchover
	StrongerPeer                   // another Active with a higher priority
	NewerEpoch                     // another Active of a newer epoch
	Late                           // the loop woke after the peer's patience
	LeaseLost                      // the address could not be renewed
	Unhealthy                      // a health check failed
	GateClosed                     // the gate refuses
	AddressAnswers                 // the silent peer's kernel still answers for the address
	JournalFailed                  // the journal cannot be written
	StepFailed                     // a step of the plan failed
	CatchUpFailed                  // the replica did not reach the position
	PeerRefused                    // the other node cannot take over
	PeerUnreachable                // the link to the other node is down
	TimedOut                       // the operator's time ran out
	Withdrawn                      // the old node took its handover back
	Busy                           // another transition is under way
	Settling                       // taking over the standby's labels and files
	NotElected                     // both are up, nobody is Active, and neither may be
	Drifted                        // somebody else opened or closed a database's writes
	CannotAsk                      // the peer is silent and its kernel cannot be asked
	Renumbered                     // a newer epoch turned up that nobody holds any more
	LinkDown                       // the interface of the address cannot be used
	AddressTaken                   // somebody else took the address off the interface
	StrangerAnswers                // a third host answers for the address
	FenceFailed                    // a required fence step failed
	Deaf                           // no heartbeat path is open: silence means nothing
	AddressForeign                 // somebody else put the address on this node, which may not have it
	DatabaseDown                   // a database of the Active died or hangs
	DatabasesChanged               // databases were found, or are gone
	LongTransaction                // a transaction runs longer than closing writes would let it
	DataLost                       // a promotion may have left transactions of a lost source behind
	Recovered                      // what kept this node from the role is over
	InMaintenance                  // an operator suspended failover of the pair
	MaintenanceOver                // and it is suspended no longer
	Blocked                        // an operator forbids this node the role
	Unblocked                      // and does so no longer
	OneWayLoss                     // one of the two ways to hear the peer works in one direction only
	Isolated                       // this node hears neither the peer nor its witness
	WitnessSilent                  // the witness does not answer for a takeover
	PeerWrote                      // another Active of the same epoch, whose databases took the writes
	Diverged                       // this node's databases have transactions that the Active's lack
)

// String returns the reason as status, log, journal and the link between the nodes
// name it. A name once stored or sent keeps its meaning.
func (r Reason) String() string {
	names := [...]string{
		"starting", "peer_active", "peer_silent", "peer_left", "elected", "adopted", "requested", "forced", "preempting",
		"stopping", "handed_over", "stronger_peer", "newer_epoch", "late", "lease_lost", "unhealthy", "gate_closed",
		"address_answers", "journal_failed", "step_failed", "catch_up_failed", "peer_refused", "peer_unreachable",
		"timed_out", "withdrawn", "busy", "settling", "not_elected", "drifted", "cannot_ask", "renumbered",
		"link_down", "address_taken", "stranger_answers", "fence_failed", "deaf", "address_found",
		"database_down", "databases_changed", "long_transaction", "data_lost", "recovered",
		"maintenance", "maintenance_over", "blocked", "unblocked",
		"one_way", "isolated", "witness_silent", "peer_wrote", "diverged",
	}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Outcome is how an operator's command ended.
type Outcome uint8

// How a command ended.
const (
	Done         Outcome = iota // it is so
	Incomplete                  // the role moved, but steps after the address failed
	RefusedTo                   // nothing was changed
	RolledBack                  // it failed and everything is as before
	TimedOutBack                // its time ran out and everything is as before
)

// String returns the outcome as commands, status and the link between the nodes name it.
func (o Outcome) String() string {
	names := [...]string{"done", "incomplete", "refused", "rolled_back", "timed_out"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Why is a typed reason with what makes it concrete.
type Why struct {
	Reason Reason
	Gate   []replication.Reason // when Reason is GateClosed or PeerRefused
	Check  string               // the health check behind it, empty: none is
	Detail string
}

// same reports whether both say the same, whatever ages and counts they carry.
func (w Why) same(other Why) bool {
	return w.Reason == other.Reason && w.Check == other.Check && sameGate(w.Gate, other.Gate) &&
		(w.Check != "" || w.Detail == other.Detail) // what a check says changes with every sample
}

func sameGate(a, b []replication.Reason) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		// Details carry ages and counts that change with every look.
		if a[i].Code != b[i].Code || a[i].Database != b[i].Database {
			return false
		}
	}
	return true
}

// Transition is one promotion or demotion, running or ended.
type Transition struct {
	Epoch    Epoch
	Role     hooks.Role
	Planned  bool
	Reason   Reason
	From     State // before it
	Running  bool
	Ending   hooks.Ending
	Began    time.Duration // since boot
	Duration time.Duration
	Steps    []hooks.Result
	Losses   []hooks.Loss // of a promotion that a lost source preceded

	fence int // of Steps, the first ones that are the fence's
}
