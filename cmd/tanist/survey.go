package main

import (
	"context"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/systemd"
)

const (
	// surveyWait is how long a status waits for a fresh look.
	surveyWait = 40 * time.Millisecond
	// surveyPatience bounds one look.
	surveyPatience = 5 * time.Second
)

// survey looks at the units and labels that the plans name. A status waits a
// moment for a fresh look and is answered from the last one when systemd is slow.
type survey struct {
	units  *systemd.Units
	names  []string
	labels []labelled
	asked  chan chan struct{} // a look is wanted; the channel inside is closed when it is done

	mu   sync.Mutex // guards the fields below
	seen []control.Unit
	read []control.Label
	at   time.Time // of that look
}

func newSurvey(in config.Instance, file *config.File, self int, units *systemd.Units) *survey {
	s := &survey{units: units, asked: make(chan chan struct{}), seen: []control.Unit{}, read: []control.Label{}}
	known := map[string]bool{}
	for _, st := range append(append(hooks.Plan(nil), in.Promote...), in.Demote...) {
		for active := range file.Nodes { // a key may name either
			vars := hooks.Vars{
				Node: file.Nodes[self].Label, Peer: file.Nodes[1-self].Label, Instance: in.Name,
				Active: file.Nodes[active].Label, Standby: file.Nodes[1-active].Label,
			}
			if a, err := hooks.Expand(st.Action, vars); err == nil {
				s.note(a, known)
			}
		}
	}
	return s
}

// note adds what an action is about to what is looked at.
func (s *survey) note(a hooks.Action, known map[string]bool) {
	first := func(what string) bool {
		was := known[what]
		known[what] = true
		return !was
	}
	if u, ok := a.(hooks.Unit); ok && first("unit "+u.Name) {
		s.names = append(s.names, u.Name)
	}
	for _, l := range labelsOf(a) {
		if first(a.Kind() + " " + l.file + " " + l.key) {
			s.labels = append(s.labels, l)
		}
	}
}

// idle reports whether there is nothing to look at, and nobody who needs to run.
func (s *survey) idle() bool { return len(s.names) == 0 && len(s.labels) == 0 }

// run looks whenever asked, until ctx ends.
func (s *survey) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case done := <-s.asked:
			s.look(ctx)
			close(done)
		}
	}
}

func (s *survey) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, surveyPatience)
	defer cancel()
	seen, read := []control.Unit{}, []control.Label{}
	for _, name := range s.names {
		u := control.Unit{Name: name}
		if st, err := s.units.Status(ctx, name); err != nil {
			u.Error = err.Error()
		} else {
			u.Active, u.Running = st.ActiveState.String(), len(st.Processes) > 0
		}
		seen = append(seen, u)
	}
	for _, l := range s.labels {
		value, err := l.read(l.file, l.key)
		is := control.Label{File: l.file, Key: l.key, Value: value}
		if err != nil {
			is.Error = err.Error()
		}
		read = append(read, is)
	}
	s.mu.Lock()
	s.seen, s.read, s.at = seen, read, time.Now()
	s.mu.Unlock()
}

// latest returns what was seen, newer than the question if that takes no longer
// than surveyWait.
func (s *survey) latest(ctx context.Context) ([]control.Unit, []control.Label) {
	if s.idle() {
		return s.seen, s.read
	}
	ctx, cancel := context.WithTimeout(ctx, surveyWait)
	defer cancel()
	done := make(chan struct{})
	select {
	case s.asked <- done:
		select {
		case <-done:
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen, s.read
}
