package program

// What the kernel holds on to is held once: what is done again and again, for a
// check, is not begun a second time before the first is over.

import (
	"fmt"
	"sync"
)

// StuckError is a run that SIGKILL did not end: the kernel holds on to a process.
type StuckError struct {
	Program string
	Left    []int // the processes that were left when Run returned
	// Gone is closed when nothing is left of the run. Who starts the program again
	// and again waits for that, or it has one more process each time.
	Gone <-chan struct{}
}

func (e *StuckError) Error() string {
	return fmt.Sprintf("end %s: processes %v survive SIGKILL", e.Program, e.Left)
}

// stuck holds the runs that are stuck, by what must not run beside them.
type stuck struct {
	mu   sync.Mutex
	runs map[string]*StuckError
}

//nolint:gochecknoglobals // the kernel holds processes, whoever started them
var stuckRuns = stuck{runs: map[string]*StuckError{}}

// of returns the run that is stuck, nil if there is none.
func (s *stuck) of(key string) *StuckError {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.runs[key]
	if e == nil {
		return nil
	}
	select {
	case <-e.Gone:
		delete(s.runs, key)
		return nil
	default:
		return e
	}
}

// add keeps a run that is stuck. A program that may run beside itself has no key.
func (s *stuck) add(key string, e *StuckError) {
	if key == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[key] = e
}

// found is a look-up; but for done its fields are read when that is closed.
type found struct {
	done    chan struct{}
	path    string
	account account
	err     error
}

// underWay holds the look-ups that have no answer yet.
type underWay struct {
	mu   sync.Mutex
	list map[wanted]*found
}

//nolint:gochecknoglobals // a file system that does not answer is the same for all
var lookUps = underWay{list: map[wanted]*found{}}

// of returns the look-up that is under way, or begins one.
func (u *underWay) of(w wanted) *found {
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.list[w]
	if f == nil {
		f = &found{done: make(chan struct{})}
		u.list[w] = f
		go func() { // ends when the file system answers
			f.path, f.account, f.err = w.lookUp()
			u.mu.Lock()
			delete(u.list, w)
			u.mu.Unlock()
			close(f.done)
		}()
	}
	return f
}
