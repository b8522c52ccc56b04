package hooks

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// Whoever executes a step keeps its timeout and answers in any case. A Run backs
// this up: Grace after the deadline it cancels the step, CancelGrace later it
// gives the step up for lost, so that no plan waits without end for a process
// that the kernel does not let die.
const (
	Grace       = 5 * time.Second
	CancelGrace = 10 * time.Second
)

// StepID names one started step; the result comes back under it.
type StepID uint64

// Outcome is how a step ended.
type Outcome uint8

// How a step ended.
const (
	Pending   Outcome = iota // not started yet
	Running                  // started, no result yet
	Unchanged                // the world was already so
	Changed                  // applied and verified
	Failed                   // it answered with an error
	TimedOut                 // its deadline passed
	Cancelled                // a newer transition ended it
	Skipped                  // not run: an earlier step failed, or it cannot be decided yet
	Lost                     // cancelled, and still it never answered
)

// String returns the outcome as status, log, journal and the link between the nodes
// name it. A name once stored or sent keeps its meaning.
func (o Outcome) String() string {
	names := [...]string{"pending", "running", "unchanged", "changed", "failed", "timed_out", "cancelled", "skipped", "lost"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// OK reports whether the world is as the step wants it.
func (o Outcome) OK() bool { return o == Unchanged || o == Changed }

// Result is what became of one step.
type Result struct {
	Name     string
	Title    string // what it did: `unit stop lsyncd.service`
	Outcome  Outcome
	Detail   string // while the step runs: how far it is
	Duration time.Duration
	Output   string // of its program: the beginning and the end, at most OutputLimit bytes
}

// OutputLimit bounds what is kept in a Result of what a program printed, in bytes.
const OutputLimit = 4 << 10

// Ending is how a Run ended.
type Ending uint8

// How a Run ended.
const (
	Unfinished  Ending = iota
	Completed          // every step ran; steps that may fail may have failed
	Aborted            // a step failed and the steps after it did not run
	Interrupted        // Cancel
)

// String returns the ending as status and journal name it, for good.
func (e Ending) String() string {
	names := [...]string{"unfinished", "completed", "aborted", "interrupted"}
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("Ending(%d)", uint8(e))
}

// Order is what a Run wants done: StartStep or CancelStep.
//
//sumtype:decl
type Order interface{ order() }

// StartStep wants a step executed; Ended must follow under the same ID.
type StartStep struct {
	ID       StepID
	Index    int // in the plan
	Step     Step
	Deadline mono.Instant
}

// CancelStep wants a started step ended, its processes included. Ended follows.
type CancelStep struct{ ID StepID }

func (StartStep) order()  {}
func (CancelStep) order() {}

// Run takes a stretch of a plan through its steps, one at a time.
type Run struct {
	plan    Plan
	next    int // index of the step that runs or comes next
	end     int
	held    func(Step) bool
	id      StepID // of the running step, 0 when none runs
	started mono.Instant
	// deadline is what the running or held step may take; limit is when Tick
	// acts on it.
	deadline, limit mono.Instant
	waiting         bool // the next step is held
	patience        func(Step) time.Duration
	cancelling      bool // CancelStep was sent for the running step
	interrupt       bool
	results         []Result
	ending          Ending
}

// NewRun prepares the steps [from, to) of plan. A step for which held answers
// true waits, within its own timeout, until a Continue; held may be nil.
func NewRun(plan Plan, from, to int, held func(Step) bool) *Run {
	r := &Run{plan: plan, next: from, end: to, held: held, results: make([]Result, len(plan))}
	for i, s := range plan {
		r.results[i] = Result{Name: s.Name, Title: Title(s.Action)}
	}
	return r
}

// Patient lets a held step wait for as long as patience says, where that is
// longer than its own timeout.
func (r *Run) Patient(patience func(Step) time.Duration) { r.patience = patience }

// Said notes how far the step started as id is; a stale id is ignored.
func (r *Run) Said(id StepID, detail string) {
	if r.id != 0 && id == r.id {
		r.results[r.next].Detail = detail
	}
}

// Printed notes what the program of the step started as id printed, before Ended.
func (r *Run) Printed(id StepID, output string) {
	if r.id != 0 && id == r.id {
		r.results[r.next].Output = output
	}
}

// Ending returns how the run ended, Unfinished while it goes on.
func (r *Run) Ending() Ending { return r.ending }

// Results returns one entry for each step of the plan. The caller must not
// change them.
func (r *Run) Results() []Result { return r.results }

// Running returns the index of the step that runs, or -1.
func (r *Run) Running() int {
	if r.id == 0 {
		return -1
	}
	return r.next
}

// Deadline returns when Tick is wanted.
func (r *Run) Deadline() (mono.Instant, bool) {
	if r.ending != Unfinished || (r.id == 0 && !r.waiting) {
		return 0, false
	}
	return r.limit, true
}

// Begin starts the first step. ids gives the ID of each started step.
func (r *Run) Begin(now mono.Instant, ids func() StepID, out []Order) []Order {
	return r.advance(now, ids, out)
}

// Ended takes the result of the step started as id; a stale id is ignored.
func (r *Run) Ended(now mono.Instant, id StepID, o Outcome, detail string, ids func() StepID, out []Order) []Order {
	if r.id == 0 || id != r.id {
		return out
	}
	if r.cancelling && !o.OK() && o != Failed {
		o = r.reasonForCancel()
	}
	r.finish(now, o, detail)
	return r.advance(now, ids, out)
}

// Continue releases a held step, if held no longer answers true for it.
func (r *Run) Continue(now mono.Instant, ids func() StepID, out []Order) []Order {
	if !r.waiting {
		return out
	}
	return r.advance(now, ids, out)
}

// Held returns the step that is held, if one is.
func (r *Run) Held() (Step, bool) {
	if !r.waiting {
		return Step{}, false
	}
	return r.plan[r.next], true
}

// Refuse fails the step that is held: what it waits for will not come.
func (r *Run) Refuse(now mono.Instant, detail string, ids func() StepID, out []Order) []Order {
	if !r.waiting {
		return out
	}
	r.waiting = false
	r.finish(now, Failed, detail)
	return r.advance(now, ids, out)
}

// Cancel ends the run after the running step answered.
func (r *Run) Cancel(now mono.Instant, out []Order) []Order {
	if r.ending != Unfinished || r.interrupt {
		return out
	}
	r.interrupt = true
	if r.id == 0 {
		r.skipFrom(r.next)
		r.end, r.waiting, r.ending = r.next, false, Interrupted
		return out
	}
	return r.cancelStep(now, out)
}

// Tick acts on the deadline of the running step.
func (r *Run) Tick(now mono.Instant, ids func() StepID, out []Order) []Order {
	if at, ok := r.Deadline(); !ok || now.Before(at) {
		return out
	}
	switch {
	case r.waiting:
		r.waiting = false
		r.finish(now, TimedOut, "the other node did not confirm that it stopped")
		return r.advance(now, ids, out)
	case !r.cancelling:
		return r.cancelStep(now, out)
	default:
		r.finish(now, Lost, "no answer after it was cancelled")
		return r.advance(now, ids, out)
	}
}

func (r *Run) reasonForCancel() Outcome {
	if r.interrupt {
		return Cancelled
	}
	return TimedOut
}

func (r *Run) cancelStep(now mono.Instant, out []Order) []Order {
	if r.cancelling {
		return out
	}
	r.cancelling = true
	r.limit = now.Add(CancelGrace)
	return append(out, CancelStep{ID: r.id})
}

func (r *Run) finish(now mono.Instant, o Outcome, detail string) {
	res := &r.results[r.next]
	res.Outcome, res.Detail, res.Duration = o, detail, now.Sub(r.started)
	r.id, r.cancelling = 0, false
	failed := !o.OK() && r.plan[r.next].OnError == Abort
	r.next++
	if r.interrupt {
		r.ending = Interrupted
	} else if failed {
		r.ending = Aborted
	}
	if r.ending != Unfinished {
		r.skipFrom(r.next)
	}
}

func (r *Run) skipFrom(i int) {
	for ; i < r.end; i++ {
		if !told(r.plan[i], r.results[i]) {
			r.results[i].Outcome = Skipped
		}
	}
}

func (r *Run) advance(now mono.Instant, ids func() StepID, out []Order) []Order {
	if r.ending != Unfinished {
		return out
	}
	for r.next < r.end && told(r.plan[r.next], r.results[r.next]) {
		r.next++
	}
	if r.next >= r.end {
		r.ending = Completed
		return out
	}
	s := r.plan[r.next]
	if r.held != nil && r.held(s) {
		if !r.waiting {
			r.waiting, r.started, r.deadline = true, now, now.Add(s.Timeout)
			if r.patience != nil {
				r.deadline = max(r.deadline, now.Add(r.patience(s)))
			}
			r.limit = r.deadline
		}
		return out
	}
	r.waiting = false
	r.id, r.started, r.deadline = ids(), now, now.Add(s.Timeout)
	r.limit = r.deadline.Add(Grace)
	r.results[r.next].Outcome = Running
	return append(out, StartStep{ID: r.id, Index: r.next, Step: s, Deadline: r.deadline})
}

// Closing returns the steps of a demotion that are safe at any time, whoever is
// Active: they only take things away from this node.
func (p Plan) Closing() Plan {
	var c Plan
	for _, s := range p {
		switch a := s.Action.(type) {
		case Writes:
			if !a.Open {
				c = append(c, s)
			}
		case Unit:
			if a.Verb == StopUnit || a.Verb == DisableUnit {
				c = append(c, s)
			}
		case VIP, Replication, YAML, Exec, JSON, Line, Link, Notify, Wait:
		}
	}
	return c
}
