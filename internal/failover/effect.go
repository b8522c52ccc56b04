package failover

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

// Effect is what an Orchestrator wants done: one of the types below. Effects
// are carried out in their order; one that is slow is begun in its place.
//
//sumtype:decl
type Effect interface{ effect() }

type (
	// Send wants an advertisement sent on every path, now. Where advertisements
	// are proved they carry Epoch, that of the sender's latest promotion.
	Send struct {
		Advertisement vrrp.Advertisement
		Epoch         Epoch
	}
	// Hold wants the address on the interface for Lease from now: added, or
	// renewed. Now: it is carried out before the next effect.
	Hold struct {
		ID    ID
		Lease time.Duration
	}
	// Drop wants the address off the interface, now.
	Drop struct{}
	// Announce wants one gratuitous ARP request and one reply for each address.
	Announce struct{}
	// CloseWrites wants every database closed at once, beside any plan and
	// without an answer: the emergency form.
	CloseWrites struct{}
	// Append wants a record in the journal; with an ID, durably, and Durable
	// follows. Positions, if there are any, are remembered before it.
	Append struct {
		ID        ID
		Record    hooks.Record
		Positions []Remembered
	}
	// StartStep wants a step carried out; StepEnded follows under Order.ID.
	StartStep struct {
		Order hooks.StartStep
		Vars  hooks.Vars
	}
	// CancelStep wants a step ended with everything it started.
	CancelStep struct{ ID hooks.StepID }
	// Measure wants the facts of every database, freshly read. The databases that
	// there are may change at any measurement; Relist wants them listed anew first.
	// With Beat, the epoch of an Active, one heartbeat is written beside it into
	// each database that has a table for it, soon or not at all.
	Measure struct {
		ID     ID
		Relist bool
		Beat   Epoch
	}
	// CatchUp wants every database to apply at least what Targets name; one
	// that is not named applies what it received.
	CatchUp struct {
		ID      ID
		Targets []Position
		Until   mono.Instant
	}
	// CheckSteps wants a dry run of a plan. With Each, the bound of one step's check,
	// the labels of its files are wanted too, and CancelCheck may follow.
	CheckSteps struct {
		ID   ID
		Plan hooks.Plan
		Vars hooks.Vars
		Each time.Duration
	}
	// CancelCheck wants a dry run ended with everything it started. Checked follows.
	CancelCheck struct{ ID ID }
	// FenceDatabase wants the process of a database that hangs ended, for certain;
	// DatabaseFenced follows.
	FenceDatabase struct {
		ID       ID
		Database string
	}
	// Remember wants the positions stored in place of those stored before.
	Remember struct{ Positions []Remembered }
	// AskKernel asks the silent peer's kernel who still answers; Asked follows
	// when Within is over.
	AskKernel struct {
		ID     ID
		Within time.Duration
	}
	// AskWitness asks the witness whether this node may have the role; Witnessed
	// follows when it answers, or when Within is over.
	AskWitness struct {
		ID      ID
		Within  time.Duration
		Epoch   Epoch // that the node has, or would take the role with
		Purpose Purpose
	}
	// Tell wants the state sent to the peer, over every path.
	Tell struct{ State PeerState }
	// Answer ends an operator's command.
	Answer struct {
		Command ID
		Outcome Outcome
		Why     Why
	}
	// Note is one line for the log.
	Note struct {
		State  State
		New    bool  // the state changed
		From   State // what it was before, if it changed
		Epoch  Epoch
		Why    Why
		Steps  []hooks.Result // at the end of a transition
		Over   *Transition    // that ended, nil: none did
		Gate   []replication.Reason
		Urgent bool // an operator should look
	}
	// Stopped says that the planned leave is over and the daemon may end.
	Stopped struct{}
)

func (Send) effect()          {}
func (Hold) effect()          {}
func (Drop) effect()          {}
func (Announce) effect()      {}
func (CloseWrites) effect()   {}
func (Append) effect()        {}
func (StartStep) effect()     {}
func (CancelStep) effect()    {}
func (Measure) effect()       {}
func (CatchUp) effect()       {}
func (CheckSteps) effect()    {}
func (CancelCheck) effect()   {}
func (AskKernel) effect()     {}
func (FenceDatabase) effect() {}
func (Remember) effect()      {}
func (Tell) effect()          {}
func (Answer) effect()        {}
func (Note) effect()          {}
func (Stopped) effect()       {}
func (AskWitness) effect()    {}
