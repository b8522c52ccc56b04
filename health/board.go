// Package health is the pure part of health checking: it counts samples into
// verdicts and adds verdicts up to what they mean for the node. Probing is done
// elsewhere.
package health

import "fmt"

// Effect is what a failed check means for the node.
type Effect uint8

// What a failed check means.
const (
	Yield Effect = iota // the role moves, but only to a peer that is healthy and promotable
	Fault               // this node may not hold the address
)

func (e Effect) String() string {
	switch e {
	case Yield:
		return "yield"
	case Fault:
		return "fault"
	}
	return fmt.Sprintf("Effect(%d)", uint8(e))
}

// Check describes one check.
type Check struct {
	Name   string
	Rise   int // consecutive good samples that make it well again, at least 1
	Fall   int // consecutive bad samples that make it fail, at least 1
	Effect Effect
}

// Status is the verdict about one check.
type Status struct {
	Check  Check
	Known  bool // a sample was taken
	OK     bool
	Detail string // of the latest sample
	streak int    // consecutive samples that contradict OK
}

// Board holds the verdict of every check of an instance.
type Board struct{ statuses []Status }

// NewBoard returns a board on which no check has a sample yet.
func NewBoard(checks []Check) *Board {
	b := &Board{statuses: make([]Status, len(checks))}
	for i, c := range checks {
		b.statuses[i].Check = c
	}
	return b
}

// Sample counts one sample and reports whether the verdict of its check
// changed. The first sample of a check decides at once: a node that just
// started has no history to damp.
func (b *Board) Sample(name string, ok bool, detail string) (changed bool) {
	for i := range b.statuses {
		if s := &b.statuses[i]; s.Check.Name == name {
			s.Detail = detail
			return s.sample(ok)
		}
	}
	return false
}

func (s *Status) sample(ok bool) bool {
	if !s.Known {
		s.Known, s.OK = true, ok
		return true
	}
	if ok == s.OK {
		s.streak = 0
		return false
	}
	s.streak++
	need := s.Check.Fall
	if ok {
		need = s.Check.Rise
	}
	if s.streak < need {
		return false
	}
	s.OK, s.streak = ok, 0
	return true
}

// Statuses returns every check's verdict. The caller must not change them.
func (b *Board) Statuses() []Status { return b.statuses }

// Failing returns the first failing check with the given effect. A check
// without a sample does not fail.
func (b *Board) Failing(e Effect) (Status, bool) {
	for _, s := range b.statuses {
		if s.Known && !s.OK && s.Check.Effect == e {
			return s, true
		}
	}
	return Status{}, false
}
