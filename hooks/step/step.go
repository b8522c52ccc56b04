// Package step makes the actions of a plan happen. A step is a check and an
// apply: Check says whether the world is already so, Apply makes it so. From the
// two come dry runs, resumption after a crash, verification and drift detection.
//
// Like every package below the module root it may be imported, but promises no
// stable API before version 1.
package step

import (
	"context"
	"fmt"
)

// State is what a check found.
type State uint8

// What a check finds.
const (
	Ok          State = iota // the world is already as the step wants it
	WouldChange              // Apply would change something
	Cannot                   // Apply could not succeed as things are; the error says why
)

func (s State) String() string {
	switch s {
	case Ok:
		return "ok"
	case WouldChange:
		return "would change"
	case Cannot:
		return "cannot"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Step is one action, ready to run on this host, for one transition: a step that
// cannot see its own effect (exec without verify, restart, reload) remembers
// that it applied it. One goroutine at a time uses it.
type Step interface {
	// Check reads the world and changes nothing. An error comes with Cannot.
	Check(ctx context.Context) (State, error)
	// Apply makes the world so and may be repeated. Its deadline is that of
	// ctx. When ctx ends early, everything Apply started is gone before it
	// returns.
	Apply(ctx context.Context) error
}

// Outputter is a step that runs a program and keeps what it printed.
type Outputter interface {
	// Output returns what the last Apply printed, both streams in the order
	// they came, at most OutputLimit bytes and a mark where bytes are missing.
	Output() []byte
}

// Reporter is a step that has something to say of what it changed, which has to
// be kept: it goes into the step's detail, also beside an error.
type Reporter interface {
	// Report returns what the last Apply has to say, one line, empty for nothing.
	Report() string
}

func cannot(err error) (State, error) { return Cannot, err }
