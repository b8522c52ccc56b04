package hooks

import (
	"fmt"
	"time"
)

// DefaultTimeout bounds a step that names no timeout of its own.
const DefaultTimeout = 30 * time.Second

// OnError says what a failed step does to the rest of its plan.
type OnError uint8

// What follows a failed step.
const (
	Abort    OnError = iota // the steps after it do not run
	Continue                // the failure is recorded and the next step runs
)

func (o OnError) String() string {
	switch o {
	case Abort:
		return "abort"
	case Continue:
		return "continue"
	}
	return fmt.Sprintf("OnError(%d)", uint8(o))
}

// Step is one entry of a plan. Action holds templates as they stand in the
// configuration; Expand fills them in for one transition.
type Step struct {
	Name    string // unique within its plan, shown to the operator
	Timeout time.Duration
	OnError OnError
	Drift   OnDrift
	Action  Action
}

// Action is what a step does: one of the types below.
//
//sumtype:decl
type Action interface {
	// Kind is the word of the configuration file.
	Kind() string
	action()
}

// VIP acquires or releases the virtual addresses: the pivot of its plan.
type VIP struct{ Acquire bool }

// Writes opens or closes every database of the instance.
type Writes struct{ Open bool }

// ReplicationVerb is what a replication step does.
type ReplicationVerb uint8

// What a replication step does.
const (
	// StopReplication applies what was received, then stops the threads.
	StopReplication ReplicationVerb = iota
	// NoReplication leaves replication as it is.
	NoReplication
	// StartReplication starts the threads again as they were configured: how a
	// promotion that did not come about takes its StopReplication back.
	StartReplication
	// FollowPeer makes the databases replicas of the peer's. It has no reverse: it
	// stands behind the vip step of a demotion, where nothing is taken back any more.
	FollowPeer
	// ResetReplication stops as StopReplication does and removes the channels, so
	// that none comes back with a restart of its database; what they were set to is
	// in the step's detail. FollowPeer is the way back, not its reverse: the peer
	// may not be the source again yet.
	ResetReplication
)

func (v ReplicationVerb) String() string {
	switch v {
	case StopReplication:
		return "stop"
	case NoReplication:
		return "none"
	case StartReplication:
		return "start"
	case FollowPeer:
		return "follow"
	case ResetReplication:
		return "reset"
	}
	return fmt.Sprintf("ReplicationVerb(%d)", uint8(v))
}

// Replication acts on the replica threads of every database of the instance.
type Replication struct{ Verb ReplicationVerb }

// UnitVerb is what a unit step does.
type UnitVerb uint8

// What a unit step does.
const (
	StartUnit UnitVerb = iota
	StopUnit
	RestartUnit
	ReloadUnit
	EnableUnit
	DisableUnit
)

func (v UnitVerb) String() string {
	switch v {
	case StartUnit:
		return "start"
	case StopUnit:
		return "stop"
	case RestartUnit:
		return "restart"
	case ReloadUnit:
		return "reload"
	case EnableUnit:
		return "enable"
	case DisableUnit:
		return "disable"
	}
	return fmt.Sprintf("UnitVerb(%d)", uint8(v))
}

// Unit acts on one systemd unit; it is done when the unit's processes say so.
type Unit struct {
	Verb UnitVerb
	Name string // with its suffix: lsyncd.service
}

// YAML sets one key of somebody else's file and leaves every other byte.
type YAML struct {
	File  string
	Key   string // path of mapping keys joined by dots: a.b.c; see SplitKey
	Value string
}

// Exec runs a program in a process group of its own; its exit status decides.
type Exec struct {
	Command []string
	Verify  []string          // optional: exit status 0 means the step is done
	User    string            // optional: account to run as
	Env     map[string]string // added to a minimal environment
	// Keepalived appends the arguments that keepalived gives a notify program:
	// INSTANCE, the instance's name, the state, the priority. Expand does it.
	Keepalived bool
}

func (VIP) action()         {}
func (Writes) action()      {}
func (Replication) action() {}
func (Unit) action()        {}
func (YAML) action()        {}
func (Exec) action()        {}

// Kind returns "vip".
func (VIP) Kind() string { return "vip" }

// Kind returns "writes".
func (Writes) Kind() string { return "writes" }

// Kind returns "replication".
func (Replication) Kind() string { return "replication" }

// Kind returns "unit".
func (Unit) Kind() string { return "unit" }

// Kind returns "yaml".
func (YAML) Kind() string { return "yaml" }

// Kind returns "exec".
func (Exec) Kind() string { return "exec" }

// Title names an action in a line: `unit stop lsyncd.service`.
func Title(a Action) string {
	switch a := a.(type) {
	case VIP:
		if a.Acquire {
			return "vip acquire"
		}
		return "vip release"
	case Writes:
		if a.Open {
			return "writes open"
		}
		return "writes close"
	case Replication:
		return "replication " + a.Verb.String()
	case Unit:
		return "unit " + a.Verb.String() + " " + a.Name
	case YAML:
		return "yaml " + a.Key
	case Exec:
		if len(a.Command) > 0 {
			return "exec " + a.Command[0]
		}
		return "exec"
	case JSON:
		return a.title()
	case Line:
		return a.title()
	case Link:
		return a.title()
	case Notify:
		return a.title()
	case Wait:
		return a.title()
	}
	return a.Kind()
}

// Plan is an ordered list of steps with exactly one vip step, its pivot.
type Plan []Step

// Pivot returns the index of the vip step, or -1.
func (p Plan) Pivot() int {
	for i, s := range p {
		if _, ok := s.Action.(VIP); ok {
			return i
		}
	}
	return -1
}

// DefaultPromote is the plan of an instance that names none.
func DefaultPromote() Plan {
	return Plan{
		{Name: "replication stop", Timeout: DefaultTimeout, Action: Replication{Verb: StopReplication}},
		{Name: "writes open", Timeout: DefaultTimeout, Action: Writes{Open: true}},
		{Name: "vip acquire", Timeout: DefaultTimeout, Action: VIP{Acquire: true}},
	}
}

// DefaultDemote is the plan of an instance that names none.
func DefaultDemote() Plan {
	return Plan{
		{Name: "writes close", Timeout: DefaultTimeout, Action: Writes{}},
		{Name: "vip release", Timeout: DefaultTimeout, Action: VIP{}},
	}
}

// Units returns the names of the units on which the plan performs verb.
func (p Plan) Units(verb UnitVerb) []string {
	var names []string
	for _, s := range p {
		if u, ok := s.Action.(Unit); ok && u.Verb == verb {
			names = append(names, u.Name)
		}
	}
	return names
}
