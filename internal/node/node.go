package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// Sizes of the queues into the loop.
const (
	// heardSize bounds advertisements and link messages that wait for the loop:
	// two seconds of 255 instances at ten a second on two paths. More is dropped
	// and counted; they are repeated anyway.
	heardSize = 10240
	// resultSize is only how many workers can leave without waiting for the loop.
	resultSize = 64
	// callSize bounds the questions of the control socket.
	callSize = 32
	// idle is the longest sleep of a loop without deadlines.
	idle = time.Second
)

// Time that Run gives its workers and the journal after the loop has ended. Those
// that close writes have their own bound.
const (
	endTime  = 5 * time.Second
	killTime = 3 * time.Second // a program that hears no SIGTERM has 2 s
)

// EndTime bounds what Run still does after the last core has left.
const EndTime = closeTime + endTime

var errUnended = errors.New("the daemon ends while a step, a database or the journal's disk does not answer")

// ErrStopped is the answer to a question after the loop has ended.
var ErrStopped = errors.New("the daemon is stopping")

// Instance is one orchestrator and the world it acts on.
type Instance struct {
	Name      string
	Core      *failover.Orchestrator
	Start     failover.Started
	Heartbeat Heartbeat
	Addresses Addresses
	Databases Databases
	Steps     Steps
	Kernel    Kernel
	Witness   Witness // nil: none, and none is asked
}

// Config is what the instances share.
type Config struct {
	Instances []Instance
	Clock     Clock
	Journal   Journal
	Positions Positions // nil: positions are forgotten with the daemon
	Link      Link
	Renewer   Renewer // nil: every lease is renewed by itself
	Asker     Asker   // nil: every peer's kernel is asked by itself
	Watchdog  Watchdog
	Log       Log
	// Date reads the wall clock, for the end of an operator's hold; nil: time.Now.
	Date func() time.Time
	// Slack is how late a deadline may be served, so that one turn of the loop
	// serves several: a small part of the shortest advertisement interval.
	Slack time.Duration
}

// Node owns the orchestrators of one host.
type Node struct {
	cfg       Config
	roster    sync.RWMutex // guards instances and byName, which only the loop changes
	instances []*instance
	byName    map[string]*instance
	boot      uint64             // of the daemon
	words     map[string]*uint64 // how often the peer was told under each name, also one that is gone
	counts    map[string]*Counters
	hearts    []Heartbeat   // each once
	wake      chan struct{} // one slot: something was heard
	results   chan message
	calls     chan func(work context.Context)
	over      chan struct{} // closed when the loop takes nothing any more
	journal   *writer
	stopped   int
	leaving   bool        // the daemon is told to leave: nothing is changed any more
	turn      []message   // what one turn of the loop hears
	renewing  []*instance // those that want their lease renewed at the end of the turn
	renewals  []Renewal   // for one call, reused
	pending   pending
	asking    []question   // put in this turn
	told      bool         // something was sent by the link in this turn
	turned    atomic.Int64 // when the loop last ended a turn

	workers sync.WaitGroup
	closing sync.WaitGroup // those of the workers that close writes at once
	dropped atomic.Uint64

	mu        sync.Mutex         // guards the fields below
	heard     []message          // at most heardSize
	disturbed map[*instance]bool // of which a Disturbed is in heard
}

type message struct {
	to *instance
	ev failover.Event
}

// New returns a node that runs nothing yet.
func New(cfg Config) (*Node, error) {
	n := &Node{
		cfg: cfg, byName: map[string]*instance{}, words: map[string]*uint64{}, counts: map[string]*Counters{}, disturbed: map[*instance]bool{},
		wake: make(chan struct{}, 1), results: make(chan message, resultSize),
		calls: make(chan func(context.Context), callSize), over: make(chan struct{}),
		journal: newWriter(cfg.Journal, cfg.Positions, cfg.Log),
	}
	if n.cfg.Date == nil {
		n.cfg.Date = time.Now
	}
	for _, i := range cfg.Instances {
		if n.byName[i.Name] != nil {
			return nil, fmt.Errorf("two instances are called %s", i.Name)
		}
		in := n.instance(i)
		n.byName[i.Name] = in
		n.instances = append(n.instances, in)
	}
	n.listen()
	return n, nil
}

// listen gathers the heartbeats of the instances.
func (n *Node) listen() {
	n.hearts = nil
	for _, in := range n.instances {
		if in.Heartbeat != nil && !slices.Contains(n.hearts, in.Heartbeat) {
			n.hearts = append(n.hearts, in.Heartbeat)
		}
	}
}

// Heard is something that was heard from the peer about an instance.
type Heard struct {
	Instance string
	Event    failover.Event
}

// Deliver hands over something that was heard from the peer, or that happened on
// this host. It never blocks: when the loop is far behind, the event is dropped and
// counted.
func (n *Node) Deliver(name string, ev failover.Event) {
	n.DeliverAll([]Heard{{name, ev}})
}

// DeliverAll hands over what was heard together, and is heard in one turn of the
// loop. It keeps nothing of the slice.
func (n *Node) DeliverAll(heard []Heard) {
	n.mu.Lock()
	for _, h := range heard {
		in := n.find(h.Instance)
		_, disturbed := h.Event.(failover.Disturbed)
		switch {
		case in == nil:
		case disturbed && n.disturbed[in]: // the one before it says the same
		case len(n.heard) >= heardSize:
			n.dropped.Add(1)
		default:
			n.heard = append(n.heard, message{in, h.Event})
			if disturbed {
				n.disturbed[in] = true
			}
		}
	}
	n.mu.Unlock()
	n.rouse()
}

// rouse wakes the loop.
func (n *Node) rouse() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Dropped counts what Deliver dropped.
func (n *Node) Dropped() uint64 { return n.dropped.Load() }

// Run is the loop. When ctx ends it leaves as planned: every instance hands its
// role over or drops it, and Run returns nil when that is done, the journal is
// written and no worker is left. kill ends it at once. After an error something
// may still be at work: then the process has to end.
func (n *Node) Run(ctx, kill context.Context) error {
	work, stop := context.WithCancel(kill)
	defer stop()
	n.journal.start(n)
	err := n.loop(ctx, kill, work)
	close(n.over)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.closing.Wait() // writes that are still open outlast a cut
		stop()
		n.workers.Wait()
		n.journal.finish()
	}()
	return errors.Join(err, wait(kill, ended))
}

// wait waits for the end of what the loop began.
func wait(kill context.Context, ended <-chan struct{}) error {
	late := time.NewTimer(closeTime + endTime)
	defer late.Stop()
	select {
	case <-ended:
		return nil
	case <-late.C:
		return errUnended
	case <-kill.Done():
	}
	late.Reset(killTime)
	select {
	case <-ended:
		return nil
	case <-late.C:
		return errUnended
	}
}

// loop lets every core leave when ctx ends, and returns when they have.
func (n *Node) loop(ctx, kill, work context.Context) error {
	for _, in := range n.instances {
		in.start(work)
	}
	n.renew(work)
	n.putQuestions(work)
	n.flush()
	timer := time.NewTimer(0)
	defer timer.Stop()
	leave := ctx.Done()
	for !n.leaving || n.stopped < len(n.instances) {
		timer.Reset(n.sleep())
		// Whatever woke the loop, the cores that listen hear everything that had
		// arrived before one of them acts: what waits in a queue is not silence.
		select {
		case <-kill.Done():
			return kill.Err()
		case <-leave:
			n.hear(work)
		case r := <-n.results:
			n.hear(work)
			r.to.step(work, r.ev)
			for range len(n.results) {
				r = <-n.results
				r.to.step(work, r.ev)
			}
		case <-n.wake:
			n.hear(work)
		case errs := <-n.pending.done:
			n.hear(work)
			n.renewedLate(errs)
		case call := <-n.calls:
			n.hear(work)
			if ctx.Err() != nil {
				n.leave(work) // before anything else is begun
			}
			call(work)
		case <-timer.C:
			n.hear(work)
		}
		if ctx.Err() != nil {
			n.leave(work)
			leave = nil
		}
		n.tick(work)
		n.renew(work)
		n.putQuestions(work)
		n.flush()
		n.turned.Store(int64(n.now()))
		n.cfg.Watchdog.Progress()
	}
	return nil
}

// leave tells every core once that the daemon is to end.
func (n *Node) leave(work context.Context) {
	if n.leaving {
		return
	}
	n.leaving = true
	for _, in := range n.instances {
		in.step(work, failover.StopWanted{})
	}
}

// sleep is the time to the earliest deadline, and the slack: cores whose deadlines
// lie close together then have their turn together.
func (n *Node) sleep() time.Duration {
	now := n.now()
	at := now.Add(idle)
	for _, in := range n.instances {
		at = min(at, in.due)
	}
	at = at.Add(n.cfg.Slack)
	for _, in := range n.instances {
		if in.undropped {
			at = min(at, in.dropAt)
		}
		if in.announceAt != 0 {
			at = min(at, in.announceAt)
		}
	}
	if len(n.renewing) > 0 {
		at = now
	}
	return max(0, at.Sub(now))
}

// hear takes everything that had arrived before the call, for the cores that it can
// matter to. Advertisements come first: a core looks at its timers after every event,
// and one that is about something else must not overtake the sign of life behind it.
func (n *Node) hear(work context.Context) {
	n.drain()
	for _, in := range n.instances {
		if in.Heartbeat != nil && in.Heartbeat.Open() == in.deaf {
			in.deaf = !in.deaf
			in.step(work, failover.Hearing{Open: !in.deaf})
		}
	}
	n.hearOfJournal(work)
	n.mu.Lock()
	n.turn, n.heard = n.heard, n.turn[:0]
	clear(n.disturbed)
	n.mu.Unlock()
	for _, m := range n.turn {
		if _, ok := m.ev.(failover.Advertised); ok {
			m.to.step(work, m.ev)
		}
	}
	for _, m := range n.turn {
		if _, ok := m.ev.(failover.Advertised); !ok {
			m.to.step(work, m.ev)
		}
	}
	clear(n.turn)
}

// drain spares the paths that no core listens to: in a flood of forgeries that would
// make its own advertisements late.
func (n *Node) drain() {
	now := n.now()
	for _, h := range n.hearts {
		if slices.ContainsFunc(n.instances, func(in *instance) bool { return in.Heartbeat == h && in.Core.Listens(now) }) {
			h.Drain()
		}
	}
}

func (n *Node) tick(work context.Context) {
	now := n.now()
	for _, in := range n.instances {
		if !now.Before(in.due) {
			// What became due while the others had their turn is due now.
			due, sent := in.due, in.counts.Sent
			now = in.step(work, failover.Tick{})
			if in.counts.Sent > sent {
				in.counts.AdvertisementLateness.observe(now.Sub(due))
			}
		}
		in.dropAgain(now)
		in.announceAgain(now)
	}
}

// flush sends what the turn had to tell the peer.
func (n *Node) flush() {
	if n.told {
		n.told = false
		n.cfg.Link.Flush()
	}
}

// result delivers the answer of a worker. The loop always takes it; after the
// loop nobody waits for it.
func (n *Node) result(in *instance, ev failover.Event) {
	select {
	case n.results <- message{in, ev}:
	case <-n.over:
	}
}

// ask runs f in the loop and returns what it answers. An f whose caller has gone
// before its turn does not run.
func ask[T any](ctx context.Context, n *Node, f func(work context.Context) T) (T, error) {
	answer := make(chan T, 1)
	call := func(work context.Context) {
		if ctx.Err() == nil {
			answer <- f(work)
		}
	}
	select {
	case n.calls <- call:
	case <-ctx.Done():
	case <-n.over:
	}
	return await(ctx, n, answer)
}

// await waits for an answer of the loop. One that the loop gave in its last turn
// counts.
func await[T any](ctx context.Context, n *Node, answer <-chan T) (T, error) {
	var none T
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return none, ctx.Err()
	case <-n.over:
	}
	select {
	case a := <-answer:
		return a, nil
	default:
		return none, ErrStopped
	}
}

// Names lists the instances in the order of the configuration.
func (n *Node) Names() []string {
	n.roster.RLock()
	defer n.roster.RUnlock()
	names := make([]string, len(n.instances))
	for i, in := range n.instances {
		names[i] = in.Name
	}
	return names
}

// Status returns what an instance is and why, as of now.
func (n *Node) Status(ctx context.Context, name string) (failover.Status, error) {
	in := n.find(name)
	if in == nil {
		return failover.Status{}, fmt.Errorf("no instance is called %q", name)
	}
	return ask(ctx, n, func(context.Context) failover.Status { return in.current().Core.Status(n.now()) })
}

// Answer ends a command.
type Answer struct {
	Outcome failover.Outcome
	Why     failover.Why
}

// Switchover asks an instance for a switchover and waits for its end. When ctx
// ends first, a switchover that has begun goes on.
func (n *Node) Switchover(ctx context.Context, name string, r failover.Request) (Answer, error) {
	return n.command(ctx, name, func(id failover.ID) failover.Event {
		return failover.SwitchoverWanted{Command: id, Request: r}
	})
}

// command gives an instance an operator's command and waits for its end.
func (n *Node) command(ctx context.Context, name string, event func(failover.ID) failover.Event) (Answer, error) {
	in := n.find(name)
	if in == nil {
		return Answer{}, fmt.Errorf("no instance is called %q", name)
	}
	answer, err := ask(ctx, n, func(work context.Context) chan Answer {
		answer := make(chan Answer, 1)
		in := in.current()
		if in.gone {
			answer <- Answer{Outcome: failover.RefusedTo, Why: failover.Why{Reason: failover.Stopping}}
			return answer
		}
		in.lastCommand++
		in.commands[in.lastCommand] = answer
		in.step(work, event(in.lastCommand))
		return answer
	})
	if err != nil {
		return Answer{}, err
	}
	return await(ctx, n, answer)
}

// now reads the clock.
func (n *Node) now() mono.Instant { return n.cfg.Clock() }
