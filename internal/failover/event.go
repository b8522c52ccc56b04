package failover

import (
	"net/netip"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

// ID ties the result of an effect to the effect. 0 means that nobody waits.
type ID uint64

// Event is what can happen to an Orchestrator: one of the types below.
//
//sumtype:decl
type Event interface{ event() }

type (
	// Started is the first event: what was found when the daemon started.
	Started struct {
		Boot   uint64 // random, another at every start of the daemon
		Memory hooks.Memory
		// Positions are what this node remembers of its databases.
		Positions []Remembered
		// Leftover says that the kernel holds the address with a lifetime that
		// is still running: this daemon, restarted, finds its own address.
		Leftover bool
		Left     time.Duration // of that lifetime at least; 0: it may end at once
		// Checks are those whose verdict counts on, as an Orchestrator in whose place
		// this one comes found them by the same clock. Condoned are the names of those
		// that an operator overrode.
		Checks   []health.Status
		Condoned []string
		// Overridden says that an operator had put the role there though nobody was heard.
		Overridden bool
		// BlockLeft and MaintenanceLeft are how much is left of the holds of Memory that
		// end by themselves, by the wall clock.
		BlockLeft, MaintenanceLeft time.Duration
	}
	// Tick says that the time of Deadline has come, or any other time.
	Tick struct{}
	// Advertised is an advertisement that passed every check of the receiver.
	Advertised struct {
		Advertisement vrrp.Advertisement
		Source        netip.Addr // the sender's primary address, whatever the path
		// Epoch is that of the sender's latest promotion, if Proved: the
		// advertisement carries it and is authentic.
		Epoch  Epoch
		Proved bool
	}
	// PeerSaid is a message of the peer over the link, newer than the last one.
	PeerSaid struct{ State PeerState }
	// Measured answers Measure.
	Measured struct {
		ID    ID
		Facts []replication.Facts
	}
	// Probed is one sample of a health check.
	Probed struct {
		Check  string
		OK     bool
		Detail string
	}
	// StepEnded answers StartStep.
	StepEnded struct {
		ID      hooks.StepID
		Outcome hooks.Outcome
		Detail  string
		Output  string // of its program, at most hooks.OutputLimit bytes
	}
	// StepSaid says how far a step is that was started and has not ended.
	StepSaid struct {
		ID     hooks.StepID
		Detail string
	}
	// LinkChanged says whether the interface of the address can be used. Detail
	// says why not: missing, down, without a carrier.
	LinkChanged struct {
		Up     bool
		Detail string
	}
	// AddressLost says that an address which this node did not drop is no longer
	// on the interface.
	AddressLost struct{ Address string }
	// AddressFound says that an address is on the interface.
	AddressFound struct{ Address string }
	// Hearing says whether any heartbeat path is open. Until the first one that says
	// otherwise the node takes it that one is.
	Hearing struct{ Open bool }
	// Held answers Hold. A failed renewal comes back with ID 0.
	Held struct {
		ID  ID
		Err error
	}
	// JournalChanged says whether the journal can be written, and if not, why. Until
	// the first one it can.
	JournalChanged struct{ Err error }
	// Durable answers Append.
	Durable struct {
		ID  ID
		Err error
	}
	// Asked answers AskKernel.
	Asked struct {
		ID      ID
		Address bool // the peer's kernel answers for the virtual address
		Host    bool // the peer's kernel answers for one of its own addresses
		// OnLink says that it does so on the network of the virtual address. Only
		// then does silence of that address mean that it is not there.
		OnLink bool
		// Stranger is the hardware address of a third host that answers for the
		// virtual address, empty if there is none.
		Stranger string
		Err      error // why the question could not be put: then silence means nothing
	}
	// CaughtUp answers CatchUp. Err is nil when every database is there.
	CaughtUp struct {
		ID  ID
		Err error
	}
	// DatabaseFenced answers FenceDatabase. Err is nil only when the process is gone.
	DatabaseFenced struct {
		ID       ID
		Database string
		Err      error
	}
	// Disturbed says that something happened to a database, such as the end of its
	// process: what the latest measurement found may hold no longer.
	Disturbed struct{}
	// Checked answers CheckSteps with what cannot be done, empty when all can.
	Checked struct {
		ID      ID
		Cannot  []string
		Results []hooks.Result
		Labels  []Label // where CheckSteps wants them
	}
	// SwitchoverWanted is an operator's command.
	SwitchoverWanted struct {
		Command ID
		Request Request
	}
	// HoldWanted is an operator's command about a block or the maintenance.
	HoldWanted struct {
		Command ID
		Request HoldRequest
	}
	// Witnessed answers AskWitness. Detail says in words why not, or who answered.
	Witnessed struct {
		ID      ID
		Verdict Verdict
		Detail  string
	}
	// StopWanted asks for a planned leave; Stopped follows as an effect.
	StopWanted struct{}
)

// Request is what an operator wants of a switchover.
type Request struct {
	To      string        // label of the node that is to be Active
	DryRun  bool          // check everything, change nothing
	Force   bool          // go on against the gate
	Reason  string        // why, in the operator's words; needed with Force
	UID     uint32        // who asked
	Timeout time.Duration // until the address has moved
	Preempt bool          // nobody asked: a stronger node wants the role back
}

func (Started) event()          {}
func (Tick) event()             {}
func (Advertised) event()       {}
func (PeerSaid) event()         {}
func (Measured) event()         {}
func (Probed) event()           {}
func (StepEnded) event()        {}
func (StepSaid) event()         {}
func (LinkChanged) event()      {}
func (AddressLost) event()      {}
func (AddressFound) event()     {}
func (Hearing) event()          {}
func (Held) event()             {}
func (JournalChanged) event()   {}
func (Durable) event()          {}
func (Asked) event()            {}
func (CaughtUp) event()         {}
func (Checked) event()          {}
func (DatabaseFenced) event()   {}
func (Disturbed) event()        {}
func (SwitchoverWanted) event() {}
func (HoldWanted) event()       {}
func (StopWanted) event()       {}
func (Witnessed) event()        {}
