package probe

// The prober asks every check at its interval. A probe that hangs fails at its
// timeout and at every interval after that until it returns; nothing is started
// beside it, so that a check never costs more than one goroutine and what it began.

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Check is a probe and how often it is asked.
type Check struct {
	Name string // unique in a prober
	// Identity tells a check from another of its name: one that has the same after
	// a Set, and the same times, goes on as if nothing had been set.
	Identity string
	Interval time.Duration // from one question to the next, above 0
	// Timeout is how long an answer may take, above 0. When it is longer than
	// Interval, the intervals that a question takes up give no sample.
	Timeout time.Duration
	Probe   Probe
}

// Same reports whether the prober would go on with c where it is to ask o.
func (c Check) Same(o Check) bool {
	return c.Name == o.Name && c.Identity == o.Identity && c.Interval == o.Interval && c.Timeout == o.Timeout
}

// Sample is one answer.
type Sample struct {
	Check  string
	OK     bool
	Detail string // what is wrong, one line; empty when nothing is
}

// endPatience is how long the end of a prober waits for the probes under way.
const endPatience = 1500 * time.Millisecond

// ErrEnded is the answer to a Set of a prober that has ended.
var ErrEnded = errors.New("the prober has ended")

// Prober asks a list of checks.
type Prober struct {
	deliver func(Sample)
	sets    chan set
	ended   chan struct{}

	mu    sync.Mutex // guards asked and what of its elements says so
	asked map[string]*asked
}

type set struct {
	checks []Check
	done   chan struct{}
}

// asked is a check that is being asked.
type asked struct {
	check  Check
	cancel context.CancelFunc
	free   chan struct{} // closed when nothing of it is left, not even a hung probe
	mute   bool          // guarded by Prober.mu: it was replaced, nobody wants its samples
	last   time.Time     // guarded by Prober.mu: of the latest sample, zero before one
}

// New returns a prober without checks. deliver is called with each sample, for one
// at a time; it must not block, nor call the prober.
func New(deliver func(Sample)) *Prober {
	return &Prober{deliver: deliver, sets: make(chan set), ended: make(chan struct{}), asked: map[string]*asked{}}
}

// Run asks until ctx ends. It then waits for the probes under way, but not for long:
// one that hangs in the kernel is left to it.
func (p *Prober) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer close(p.ended)
	for {
		select {
		case s := <-p.sets:
			p.apply(ctx, s.checks, &asking)
			close(s.done)
		case <-ctx.Done():
			asking.Wait() // they end with ctx
			p.awaitFree()
			return nil
		}
	}
}

// awaitFree waits for the probes that are under way.
func (p *Prober) awaitFree() {
	p.mu.Lock()
	var list []*asked
	for _, a := range p.asked {
		list = append(list, a)
	}
	p.mu.Unlock()
	late := time.NewTimer(endPatience)
	defer late.Stop()
	for _, a := range list {
		select {
		case <-a.free:
		case <-late.C:
			return
		}
	}
}

// Set makes the list of checks another one. A check that is in both goes on; one
// that is gone or has changed gives no sample any more once Set returns. A changed
// one is first asked when the one before it has come back; as long as that hangs it
// fails. Run has to run.
func (p *Prober) Set(ctx context.Context, checks []Check) error {
	s := set{checks: checks, done: make(chan struct{})}
	select {
	case p.sets <- s:
		<-s.done // it does not wait for anything
		return nil
	case <-p.ended:
		return ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Prober) apply(ctx context.Context, checks []Check, asking *sync.WaitGroup) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := map[string]bool{}
	for _, c := range checks {
		kept[c.Name] = true
		old := p.asked[c.Name]
		if old != nil && !old.mute && old.check.Same(c) {
			continue
		}
		before := closedChannel()
		if old != nil {
			old.end()
			before = old.free
		}
		a := &asked{check: c, free: make(chan struct{})}
		var own context.Context
		own, a.cancel = context.WithCancel(ctx)
		p.asked[c.Name] = a
		asking.Go(func() { p.ask(own, a, before) })
	}
	for name, a := range p.asked {
		if kept[name] {
			continue
		}
		a.end()
		if isClosed(a.free) {
			delete(p.asked, name) // a hung one stays: a later check of its name waits for it
		}
	}
}

func (a *asked) end() {
	a.mute = true
	a.cancel()
}

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Last returns when the latest sample of a check was taken, the zero time before one.
func (p *Prober) Last(name string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.asked[name]; a != nil && !a.mute {
		return a.last
	}
	return time.Time{}
}

// question is one that was put.
type question struct {
	began  time.Time
	answer chan error    // buffered: the answer does not wait to be heard
	back   chan struct{} // closed after it
	cancel context.CancelFunc
	late   *time.Timer
	failed bool // its time is over and that was said
}

func put(ctx context.Context, c Check) *question {
	q := &question{began: time.Now(), answer: make(chan error, 1), back: make(chan struct{}), late: time.NewTimer(c.Timeout)}
	ctx, q.cancel = context.WithTimeout(ctx, c.Timeout)
	go func() {
		defer close(q.back)
		q.answer <- c.Probe.Probe(ctx)
	}()
	return q
}

func (q *question) end() {
	q.cancel()
	q.late.Stop()
}

// ask puts the question of a check until ctx ends. before is closed when the check
// whose place it takes is gone for good.
func (p *Prober) ask(ctx context.Context, a *asked, before <-chan struct{}) {
	began := time.Now()
	ticks := time.NewTicker(a.check.Interval)
	defer ticks.Stop()
	for !isClosed(before) {
		select {
		case <-before:
		case <-ctx.Done():
			go func() { <-before; close(a.free) }() // ends with the probe that hangs
			return
		case <-ticks.C:
			if wait := time.Since(began); wait >= a.check.Timeout {
				p.say(a, hung(wait))
			}
		}
	}
	q := put(ctx, a.check)
	for {
		var answer <-chan error
		var late <-chan time.Time
		if q != nil {
			answer, late = q.answer, q.late.C
		}
		select {
		case err := <-answer:
			q.end()
			if ctx.Err() == nil && !q.failed {
				p.say(a, q.sample(a.check, err))
			}
			q = nil
		case <-late:
			q.failed = true
			p.say(a, Sample{Detail: unanswered(a.check.Timeout)})
		case <-ticks.C:
			switch {
			case q == nil:
				q = put(ctx, a.check)
			case q.failed:
				p.say(a, hung(time.Since(q.began)))
			}
		case <-ctx.Done():
			if q == nil {
				close(a.free)
				return
			}
			q.end()
			go func() { <-q.back; close(a.free) }() // ends with a probe that hangs, see Run
			return
		}
	}
}

func hung(since time.Duration) Sample {
	return Sample{Detail: "no answer for " + since.Round(time.Second).String()}
}

// sample makes one of an answer. One that came because the time was over says so.
func (q *question) sample(c Check, err error) Sample {
	switch {
	case err == nil:
		return Sample{OK: true}
	case time.Since(q.began) >= c.Timeout:
		return Sample{Detail: unanswered(c.Timeout)}
	}
	return Sample{Detail: Line(err)}
}

// say delivers a sample, unless the check was replaced meanwhile.
func (p *Prober) say(a *asked, s Sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.mute {
		return
	}
	s.Check, a.last = a.check.Name, time.Now()
	p.deliver(s)
}
