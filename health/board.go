// Package health is the pure part of health checking: it counts samples into
// verdicts and adds verdicts up to what they mean for the node. Probing is done
// elsewhere.
package health

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// Effect is what a failed check means for the node.
type Effect uint8

// What a failed check means.
const (
	Yield Effect = iota // the role moves, but only to a peer that is healthy and promotable
	Fault               // this node may not hold the address
)

var effectNames = [...]string{"yield", "fault"}

func (e Effect) String() string {
	if int(e) < len(effectNames) {
		return effectNames[e]
	}
	return fmt.Sprintf("Effect(%d)", uint8(e))
}

// Verdict is what the samples of a check add up to.
type Verdict uint8

// The verdicts.
const (
	Unknown  Verdict = iota // no sample was taken yet; neither well nor failing
	Well                    // it is well
	Failing                 // it fails
	Flapping                // it is well again after too many changes, and counts as failing for a while
)

var verdictNames = [...]string{"unknown", "well", "failing", "flapping"}

// String returns the verdict as status and metrics name it.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
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
	Check   Check
	Verdict Verdict
	Detail  string // of the latest sample
	// Hold is for how long it has to be well before it counts as well; 0: it does
	// not flap.
	Hold time.Duration
	// Until is when a check that is Flapping counts as well, if it does not fail
	// before; otherwise 0.
	Until mono.Instant

	streak int // consecutive samples that contradict the verdict
	flap   flap
}

// Fails reports whether the check counts as failing: it does, or it flaps.
func (s Status) Fails() bool { return s.Verdict == Failing || s.Verdict == Flapping }

// String returns "name: detail", and of a check that flaps how long it has to be
// well. It does not change with time.
func (s Status) String() string {
	text := s.Check.Name
	if s.Verdict == Flapping {
		text += ": flapping, counts as failing until it was well for " + s.Hold.String()
	}
	if s.Verdict == Unknown {
		return text + ": no sample yet"
	}
	if s.Detail != "" {
		text += ": " + s.Detail
	}
	return text
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

// Recall goes on with what another board found, by the same clock, about checks of
// the same names: verdicts, counts, and what damps those that flap.
func (b *Board) Recall(earlier []Status) {
	for i := range b.statuses {
		for _, s := range earlier {
			if c := b.statuses[i].Check; s.Check.Name == c.Name {
				b.statuses[i] = s
				b.statuses[i].Check = c
			}
		}
	}
}

// Sample counts one sample taken at now. It returns the check's status and
// whether its verdict changed; of a name that is no check, nothing. The first
// sample decides at once: a node that just started has no history to damp.
func (b *Board) Sample(now mono.Instant, name string, ok bool, detail string) (s Status, changed bool) {
	b.Tick(now)
	for i := range b.statuses {
		if s := &b.statuses[i]; s.Check.Name == name {
			s.Detail = detail
			changed := s.sample(now, ok)
			return *s, changed
		}
	}
	return Status{}, false
}

func (s *Status) sample(now mono.Instant, ok bool) (changed bool) {
	good := s.Verdict == Well || s.Verdict == Flapping
	need := s.Check.Fall
	if ok {
		need = s.Check.Rise
	}
	switch {
	case s.Verdict == Unknown:
	case ok == good:
		s.streak = 0
		return false
	default:
		if s.streak++; s.streak < need {
			return false
		}
		if !ok {
			s.Hold = s.flap.fell(now)
		}
	}
	s.streak, s.Until = 0, 0
	switch {
	case !ok:
		s.Verdict = Failing
	case s.Hold > 0:
		s.Verdict, s.Until = Flapping, now.Add(s.Hold)
	default:
		s.Verdict = Well
		s.flap.rose(now)
	}
	return true
}

// Tick ends the holds that are over at now and reports whether there was one.
func (b *Board) Tick(now mono.Instant) (changed bool) {
	for i := range b.statuses {
		if s := &b.statuses[i]; s.Verdict == Flapping && !now.Before(s.Until) {
			s.flap.rose(s.Until)
			s.Verdict, s.Hold, s.Until, changed = Well, 0, 0, true
		}
	}
	return changed
}

// Deadline returns when a hold is over and Tick is wanted, mono.Never for none.
func (b *Board) Deadline() mono.Instant {
	at := mono.Never
	for i := range b.statuses {
		if s := &b.statuses[i]; s.Verdict == Flapping {
			at = min(at, s.Until)
		}
	}
	return at
}

// Statuses returns every check's status. The caller must not change them.
func (b *Board) Statuses() []Status { return b.statuses }

// Failing returns the first check of the given effect that counts as failing, one
// that does before one that flaps.
func (b *Board) Failing(e Effect) (Status, bool) {
	for _, v := range [...]Verdict{Failing, Flapping} {
		for _, s := range b.statuses {
			if s.Verdict == v && s.Check.Effect == e {
				return s, true
			}
		}
	}
	return Status{}, false
}

// Unfit returns every check that counts as failing, whatever its effect.
func (b *Board) Unfit() []Status {
	var unfit []Status
	for _, s := range b.statuses {
		if s.Fails() {
			unfit = append(unfit, s)
		}
	}
	return unfit
}

// Awaits reports whether a check of the given effect has no sample yet.
func (b *Board) Awaits(e Effect) bool {
	for _, s := range b.statuses {
		if s.Verdict == Unknown && s.Check.Effect == e {
			return true
		}
	}
	return false
}

// Unsampled returns the first check that has no sample yet.
func (b *Board) Unsampled() (Status, bool) {
	for _, s := range b.statuses {
		if s.Verdict == Unknown {
			return s, true
		}
	}
	return Status{}, false
}
