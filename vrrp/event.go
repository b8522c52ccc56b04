package vrrp

import (
	"fmt"
	"net/netip"
)

// Event is what can happen to a Router: Startup, Shutdown, Received, Tick,
// Claim or Yield.
//
//sumtype:decl
type Event interface{ event() }

// Startup brings the router from Initialize to Backup.
type Startup struct{}

// Shutdown brings the router to Initialize. An Active one says goodbye with
// priority 0.
type Shutdown struct{}

// Received is an advertisement that Parse accepted from a peer whose TTL and
// address were checked. One for another VRID is ignored.
type Received struct {
	Advertisement Advertisement
	// Source is the sender's primary address, compared with Config.Local when
	// priorities are equal. An owner that hears one peer on several paths gives
	// the same Source for all of them.
	Source netip.Addr
}

// Tick says that time passed. Before the Deadline it does nothing.
type Tick struct{}

// Claim is the owner's decision that a router in Backup becomes Active now.
type Claim struct{}

// Yield brings an Active router to Backup without priority 0: the peer took
// over and said so, or the owner has to step back.
type Yield struct{}

func (Startup) event()  {}
func (Shutdown) event() {}
func (Received) event() {}
func (Tick) event()     {}
func (Claim) event()    {}
func (Yield) event()    {}

// Effect is what the owner of a Router has to do or to know: Send,
// Transition, ActiveDown, Heard or WeakerHeard.
//
//sumtype:decl
type Effect interface{ effect() }

// Send asks for the advertisement to be sent on every path. The receiver of
// the effect must not change Advertisement.Addresses.
type Send struct{ Advertisement Advertisement }

// Transition says that the state changed. At Shutdown it comes before the
// Send: the address has to be off the interface before priority 0 invites the
// peer. At Claim it comes after the Send, as in RFC 9568 §6.4.2.
type Transition struct {
	From, To State
	Reason   Reason
}

// ActiveDown says that the Active_Down_Timer ran out in Backup, or that an
// address owner started. The router stays in Backup, its timer disarmed, until
// an advertisement arms it or the owner claims.
type ActiveDown struct {
	// Preempting is true when a weaker Active was heard within its
	// Active_Down_Interval. Such an offer is repeated about once in every
	// Active_Down_Interval, and once more without Preempting when that Active
	// falls silent.
	Preempting bool
}

// Heard says that a live Active was heard in Backup. Unless it is Weaker, a
// takeover under way has lost its ground.
type Heard struct {
	Priority uint8
	Source   netip.Addr
	Weaker   bool // discarded because Preempt is set; the timer was not reset
}

// WeakerHeard says that another router claims to be Active and has to give
// way to this one; neighbours may have learnt its address, so the owner
// announces again.
type WeakerHeard struct {
	Priority uint8
	Source   netip.Addr
}

func (Send) effect()        {}
func (Transition) effect()  {}
func (ActiveDown) effect()  {}
func (Heard) effect()       {}
func (WeakerHeard) effect() {}

// Reason says why a Transition happened.
type Reason uint8

// The reasons of a Transition.
const (
	ReasonStartup        Reason = iota + 1
	ReasonShutdown              // Shutdown
	ReasonClaimed               // Claim
	ReasonYielded               // Yield
	ReasonHigherPriority        // another Active has a higher priority
	ReasonHigherAddress         // another Active has equal priority and a higher address
)

// String returns r in the form that logs, metrics and the journal use.
func (r Reason) String() string {
	switch r {
	case ReasonStartup:
		return "startup"
	case ReasonShutdown:
		return "shutdown"
	case ReasonClaimed:
		return "claimed"
	case ReasonYielded:
		return "yielded"
	case ReasonHigherPriority:
		return "higher_priority"
	case ReasonHigherAddress:
		return "higher_address"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}
