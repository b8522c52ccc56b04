package hooks

import (
	"fmt"
	"time"
)

// Role is what a transition makes of a node.
type Role uint8

// The roles.
const (
	NoRole  Role = iota
	Standby      // demoted: no address, writes closed
	Active       // promoted
)

// String returns the role as status and journal name it, for good.
func (r Role) String() string {
	names := [...]string{"none", "standby", "active"}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// RecordKind says what a Record is about.
type RecordKind uint8

// What a Record is about.
const (
	Began       RecordKind = iota + 1 // a transition begins
	Stepped                           // one of its steps ended
	Ended                             // the transition ended; Ending says how
	Override                          // an operator overrode the gate
	Reverted                          // the promotion of this epoch did not come about
	Learned                           // the other node is Active in this epoch
	Acquired                          // the address came with the planned promotion of this epoch
	Missed                            // what the promotion of this epoch may have left behind of one database
	Strayed                           // what a step left is no longer so; Step says what is the case
	Mended                            // and is so again
	Notified                          // what became of the notice of a notify step
	Blocking                          // an operator's block of this node, as Hold has it from now on
	Maintaining                       // the pair's maintenance, as Hold has it from now on
	Leasing                           // what the nodes know of each other's leases under maintenance
	Parted                            // the daemon ended under maintenance and left the address where it is
	Adopted                           // the next one found it there and goes on
	Commanded                         // an operator told this node to do something
	Diverged                          // one database of this standby has what the Active's lacks; Loss counts and names it
	Reconciled                        // and it does not any more
)

// String returns the kind as the journal names it, for good.
func (k RecordKind) String() string {
	names := [...]string{"", "began", "stepped", "ended", "override", "reverted", "learned", "acquired", "missed", "strayed", "mended", "notified", "block", "maintenance", "lease", "left", "adopted", "commanded", "diverged", "reconciled"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("RecordKind(%d)", uint8(k))
}

// Record is one entry of the journal. The adapter that stores it adds the date.
type Record struct {
	Kind     RecordKind
	Instance string
	Epoch    uint64 // of the transition; for a demotion, the epoch it ends or follows
	Role     Role   // where the transition leads
	Planned  bool
	Lossy    bool          // Began: the other node's databases may have more than this one's
	Reason   string        // Began: the cause; Override, Blocking, Maintaining, Commanded: the operator's words
	Step     Result        // Stepped, Strayed, Mended; Notified: how the delivery ended
	Ending   Ending        // Ended
	Duration time.Duration // Ended: of the whole transition
	UID      uint32        // Override, Blocking, Maintaining, Commanded: who
	Loss     Loss          // Missed, Diverged, Reconciled
	Attempts uint32        // Notified: how often the notice was tried
	Hold     Hold          // Blocking, Maintaining, Leasing
	// Command is what was wanted, in the words of the command line, Arguments the rest
	// of it. It was journaled before anything was done, and says not what came of it.
	Command, Arguments string // Commanded
}

// Loss is what a promotion may have left behind of one database, whose source was
// lost.
type Loss struct {
	Database      string
	Proved        uint64 // transactions that the source is known to have had and this node lacks
	ProvedKnown   bool
	AtMost        uint64 // an estimate of Proved and what the source wrote after its last word
	AtMostKnown   bool
	HeardAge      time.Duration // how old that word was
	HeardAgeKnown bool          // false: it is from before this host or daemon started, or there was none
	Transactions  string        // those proved, in the server's notation; can be cut short
	SemiSync      bool          // AtMost is no estimate: the source waited for this node's acknowledgements
}

// Memory is what a node remembers of one instance over a restart.
type Memory struct {
	Epoch       uint64 // highest seen in any record
	ActiveEpoch uint64 // epoch of the last promotion that was not taken back, 0: none
	previous    uint64 // ActiveEpoch before that one
	// Attempt is the epoch of a planned promotion that began, and of which it is
	// not known whether the address came: 0 when there is none. This node had all
	// that the other one had when that gave the role away.
	Attempt  uint64
	Role     Role // where the last transition led
	Finished bool // and whether it ended as Completed

	Block, Maintenance Holding
	// Promised says that the peer waits for the lease of a maintenance before it takes
	// this node's address.
	Promised bool
	// PeerLease is the longest lease that the peer's addresses may have beyond the
	// configured one, 0: none.
	PeerLease time.Duration

	// Found is what databases were found to have that the Active's lacked; Differs says
	// what of it counts. It is never changed in place.
	Found []Difference
}

func (m Memory) promoted(epoch uint64) Memory {
	if epoch > m.ActiveEpoch {
		m.previous, m.ActiveEpoch = m.ActiveEpoch, epoch
	}
	if epoch >= m.Attempt {
		m.Attempt = 0
	}
	return m
}

// Fold adds one record to what earlier ones said.
func (m Memory) Fold(r Record) Memory {
	m.Epoch = max(m.Epoch, r.Epoch)
	switch r.Kind {
	case Began:
		m.Role, m.Finished = r.Role, false
		// A planned promotion is nothing before it has the address: until then
		// the other node is Active and may take it back. An unplanned one was let
		// through the gate when it was journaled, and may be gone on with.
		switch {
		case r.Role == Active && !r.Planned:
			m = m.promoted(r.Epoch)
		case r.Role == Active && r.Epoch > m.ActiveEpoch && !r.Lossy:
			m.Attempt = r.Epoch
		}
	case Acquired:
		m = m.promoted(r.Epoch)
	case Ended:
		if r.Role == m.Role {
			m.Finished = r.Ending == Completed
		}
	case Reverted:
		if r.Epoch == m.Attempt {
			m.Attempt = 0
		}
		m.Role, m.Finished = Standby, false
		if r.Epoch == m.ActiveEpoch {
			m.ActiveEpoch = m.previous
		}
	case Blocking, Maintaining, Leasing:
		m = m.hold(r)
	case Diverged, Reconciled:
		m = m.differ(r)
	case Stepped, Override, Learned, Missed, Strayed, Mended, Notified, Parted, Adopted, Commanded:
	}
	return m
}
