package hooks

// While a role lasts the world should stay as the steps of its plan left it. Which
// steps leave something that can be looked at again, and what follows when it has
// changed, is said here.

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// OnDrift says what follows when the world is no longer as a step left it.
type OnDrift uint8

// What follows drift.
const (
	// DriftDefault is RepairDrift for vip, writes and replication, which are the
	// role itself, and ReportDrift for the rest.
	DriftDefault OnDrift = iota
	ReportDrift          // it is told, and left
	RepairDrift          // it is told, and the step is carried out again
)

func (d OnDrift) String() string {
	switch d {
	case DriftDefault:
		return "default"
	case ReportDrift:
		return "report"
	case RepairDrift:
		return "repair"
	}
	return fmt.Sprintf("OnDrift(%d)", uint8(d))
}

// Repairs reports whether drift of the step is repaired.
func (s Step) Repairs() bool {
	switch s.Drift {
	case ReportDrift:
		return false
	case RepairDrift:
		return true
	case DriftDefault:
	}
	switch s.Action.(type) {
	case VIP, Writes, Replication:
		return true
	case Unit, YAML, Exec, JSON, Line:
	case Link, Notify, Wait:
	}
	return false
}

// Standing reports whether an action leaves something that its check can hold the
// world against as long as the role lasts. A restart, a reload or a program without
// verify leaves nothing; address, writes and replication are watched more closely
// than by a check.
func Standing(a Action) bool {
	switch a := a.(type) {
	case Unit:
		return a.Verb != RestartUnit && a.Verb != ReloadUnit
	case YAML, JSON, Line:
		return true
	case Exec:
		return len(a.Verify) > 0
	case Link:
		return true
	case VIP, Writes, Replication:
	case Notify, Wait:
	}
	return false
}

// Standing returns the steps of a plan that leave something which lasts under v, in
// their order. A step that a later one of the plan overrides is none, nor is one
// whose text says how the role came about, which the world does not tell.
func (p Plan) Standing(v Vars) Plan {
	var q Plan
	for i, s := range p {
		if Standing(s.Action) && !overridden(s.Action, p[i+1:], v) && !namesCause(s.Action, v) {
			q = append(q, s)
		}
	}
	return q
}

// overridden reports whether a later step acts on the same thing.
func overridden(a Action, later Plan, v Vars) bool {
	what, ok := object(a, v)
	if !ok {
		return false
	}
	for _, s := range later {
		if other, ok := object(s.Action, v); ok && other == what {
			return true
		}
	}
	return false
}

// object names what an action acts on, where two steps can act on the same.
func object(a Action, v Vars) (string, bool) {
	a, err := Expand(a, v)
	if err != nil {
		return "", false
	}
	switch a := a.(type) {
	case Unit:
		if a.Verb == EnableUnit || a.Verb == DisableUnit {
			return "file of unit " + a.Name, true
		}
		return "unit " + a.Name, true
	case YAML:
		return "yaml " + a.Key + " of " + a.File, true
	case JSON:
		keys := make([]string, len(a.Set))
		for i, k := range a.Set {
			keys[i] = k.Key
		}
		slices.Sort(keys) // which node's key is set to true is the value
		return "json " + strings.Join(keys, ", ") + " of " + a.File, true
	case Line:
		return "line " + a.Line + " of " + a.File, true
	case Link:
		return "link to " + a.Target + " at " + a.Path, true
	case VIP, Writes, Replication, Exec:
	case Notify, Wait:
	}
	return "", false
}

// namesCause reports whether an action is another one when the role came about
// otherwise, or in another epoch: an Active that gets a newer one runs no plan.
func namesCause(a Action, v Vars) bool {
	other := v
	other.Reason, other.Event, other.Epoch = v.Reason+"?", v.Event+1, v.Epoch+1
	return !same(a, v, other)
}

// NamesActive reports whether what the action does depends on which of the two
// nodes is Active, or on whether that is known.
func NamesActive(a Action, v Vars) bool {
	if _, ok := a.(Notify); ok {
		return false // it tells what is known: one that came late would be worth less
	}
	mine, theirs, nobody := v, v, v
	mine.Active, mine.Standby = v.Node, v.Peer
	theirs.Active, theirs.Standby = v.Peer, v.Node
	nobody.Active, nobody.Standby = "", ""
	return !same(a, mine, theirs) || !same(a, mine, nobody)
}

// same reports whether an action is the same under both; one that cannot be
// expanded is not.
func same(a Action, v, w Vars) bool {
	x, err := Expand(a, v)
	y, err2 := Expand(a, w)
	return err == nil && err2 == nil && reflect.DeepEqual(x, y)
}
