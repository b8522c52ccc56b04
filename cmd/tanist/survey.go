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

// surveyPatience bounds one look at the units.
const surveyPatience = 5 * time.Second

// survey looks at the units and labels that the plans name. systemd may hang and so may
// the file system of a label, each without keeping the other one from being seen.
type survey struct {
	manager *systemd.Units
	names   []string
	keys    []labelled
	units   *looker[control.Unit]
	labels  *looker[control.Label]
}

// sighting is what a survey saw, and when; the zero time where it did not look yet.
type sighting struct {
	units    []control.Unit
	labels   []control.Label
	unitsAt  time.Time
	labelsAt time.Time
}

// notSeen is what a unit or label has for an error before the first look.
const notSeen = "not looked at yet"

func newSurvey(in config.Instance, file *config.File, self int, units *systemd.Units) *survey {
	s := &survey{manager: units}
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
	unseen, unread := []control.Unit{}, []control.Label{}
	for _, name := range s.names {
		unseen = append(unseen, control.Unit{Name: name, Error: notSeen})
	}
	for _, l := range s.keys {
		unread = append(unread, control.Label{File: l.file, Key: l.key, Error: notSeen})
	}
	s.units, s.labels = newLooker(unseen, s.lookAtUnits), newLooker(unread, s.readLabels)
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
			s.keys = append(s.keys, l)
		}
	}
}

// idle reports whether there is nothing to look at, and nobody who needs to run.
func (s *survey) idle() bool { return len(s.names) == 0 && len(s.keys) == 0 }

// run looks whenever asked, until ctx ends.
func (s *survey) run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { s.units.run(ctx) })
	s.labels.run(ctx)
	both.Wait()
	return nil
}

func (s *survey) lookAtUnits(ctx context.Context) []control.Unit {
	ctx, cancel := context.WithTimeout(ctx, surveyPatience)
	defer cancel()
	seen := []control.Unit{}
	for _, name := range s.names {
		u := control.Unit{Name: name}
		if st, err := s.manager.Status(ctx, name); err != nil {
			u.Error = err.Error()
		} else {
			u.Active, u.Running = st.ActiveState.String(), len(st.Processes) > 0
		}
		seen = append(seen, u)
	}
	return seen
}

func (s *survey) readLabels(context.Context) []control.Label {
	read := []control.Label{}
	for _, l := range s.keys {
		value, err := l.read(l.file, l.key)
		is := control.Label{File: l.file, Key: l.key, Value: value}
		if err != nil {
			is.Error = err.Error()
		}
		read = append(read, is)
	}
	return read
}

// latest returns what was seen, newer than the question where that comes before ctx
// ends.
func (s *survey) latest(ctx context.Context) sighting {
	var both sync.WaitGroup
	if len(s.names) > 0 {
		both.Go(func() { s.units.ask(ctx) })
	}
	if len(s.keys) > 0 {
		s.labels.ask(ctx)
	}
	both.Wait()
	return s.last()
}

func (s *survey) last() sighting {
	var is sighting
	is.units, is.unitsAt = s.units.last()
	is.labels, is.labelsAt = s.labels.last()
	return is
}

// looker looks at things that may hang, one look at a time, and keeps what the last
// one saw.
type looker[T any] struct {
	look  func(context.Context) []T
	asked chan chan struct{} // a look is wanted; the channel inside is closed when it is done

	mu    sync.Mutex // guards the fields below
	seen  []T
	at    time.Time // of that look
	began time.Time // of the one under way, the zero time: none is
}

func newLooker[T any](unseen []T, look func(context.Context) []T) *looker[T] {
	return &looker[T]{look: look, asked: make(chan chan struct{}), seen: unseen}
}

// run looks whenever asked, until ctx ends. A look that the kernel does not come back
// from is left behind then.
func (l *looker[T]) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case done := <-l.asked:
			go func() {
				defer close(done)
				began := time.Now()
				l.note(func() { l.began = began })
				seen := l.look(ctx)
				l.note(func() { l.seen, l.at, l.began = seen, began, time.Time{} })
			}()
			select {
			case <-done:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (l *looker[T]) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// hangs reports whether the look under way takes longer than anybody waits.
func (l *looker[T]) hangs() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.began.IsZero() && time.Since(l.began) > loopPatience
}

// ask has it look now, and waits for that as long as ctx lasts; while it hangs, for
// nothing.
func (l *looker[T]) ask(ctx context.Context) {
	if l.hangs() {
		return
	}
	done := make(chan struct{})
	select {
	case l.asked <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// remind has it look if it is not doing so, and waits for nothing.
func (l *looker[T]) remind() {
	select {
	case l.asked <- make(chan struct{}):
	default:
	}
}

func (l *looker[T]) last() ([]T, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen, l.at
}
