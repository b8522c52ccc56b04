package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/hooks"
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
}

// Config is what the instances share.
type Config struct {
	Instances []Instance
	Clock     Clock
	Journal   Journal
	Link      Link
	Watchdog  Watchdog
	Log       Log
}

// Node owns the orchestrators of one host.
type Node struct {
	cfg       Config
	instances []*instance
	byName    map[string]*instance
	heard     chan heard
	results   chan heard
	calls     chan func()
	done      chan struct{}
	workers   sync.WaitGroup
	journal   *writer
	stopped   int

	mu      sync.Mutex // guards dropped
	dropped uint64
}

type heard struct {
	to *instance
	ev failover.Event
}

// New returns a node that runs nothing yet.
func New(cfg Config) (*Node, error) {
	n := &Node{
		cfg: cfg, byName: map[string]*instance{},
		heard: make(chan heard, heardSize), results: make(chan heard, resultSize),
		calls: make(chan func(), callSize), done: make(chan struct{}),
	}
	n.journal = newWriter(cfg.Journal, cfg.Log)
	for _, i := range cfg.Instances {
		if n.byName[i.Name] != nil {
			return nil, fmt.Errorf("two instances are called %s", i.Name)
		}
		in := &instance{Instance: i, node: n, steps: map[hooks.StepID]context.CancelFunc{}, commands: map[failover.ID]chan Answer{}}
		n.byName[i.Name] = in
		n.instances = append(n.instances, in)
	}
	return n, nil
}

// Deliver hands over something that was heard from the peer. It never blocks:
// when the loop is far behind, the event is dropped and counted.
func (n *Node) Deliver(name string, ev failover.Event) {
	in := n.byName[name]
	if in == nil {
		return
	}
	select {
	case n.heard <- heard{in, ev}:
	default:
		n.mu.Lock()
		n.dropped++
		n.mu.Unlock()
	}
}

// Dropped counts what Deliver dropped.
func (n *Node) Dropped() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dropped
}

// Run is the loop. When ctx ends it leaves as planned: every instance hands its
// role over or drops it, and Run returns when that is done. kill ends it at once.
func (n *Node) Run(ctx, kill context.Context) error {
	defer close(n.done)
	work, stop := context.WithCancel(kill)
	defer n.workers.Wait()
	defer stop()
	journal := n.journal.start(work, n)
	defer journal()
	for _, in := range n.instances {
		in.work = work
		in.step(in.Start)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	leave := ctx.Done()
	for n.stopped < len(n.instances) {
		timer.Reset(n.sleep())
		select {
		case <-kill.Done():
			return kill.Err()
		case <-leave:
			leave = nil
			for _, in := range n.instances {
				in.step(failover.StopWanted{})
			}
		case r := <-n.results:
			n.catchUp()
			r.to.step(r.ev)
		case h := <-n.heard:
			h.to.step(h.ev)
		case call := <-n.calls:
			call()
		case <-timer.C:
			n.catchUp()
			n.tick()
		}
		n.cfg.Watchdog.Progress()
	}
	return nil
}

// sleep is the time to the earliest deadline.
func (n *Node) sleep() time.Duration {
	now := n.cfg.Clock()
	at := now.Add(idle)
	for _, in := range n.instances {
		if t, ok := in.Core.Deadline(); ok {
			at = min(at, t)
		}
	}
	return max(0, at.Sub(now))
}

// catchUp lets the cores hear everything that had arrived, before one of them
// looks at a timer: an advertisement that waits in a queue is not silence.
func (n *Node) catchUp() {
	drained := map[Heartbeat]bool{}
	for _, in := range n.instances {
		if in.Heartbeat != nil && !drained[in.Heartbeat] {
			drained[in.Heartbeat] = true
			in.Heartbeat.Drain()
		}
	}
	for range len(n.heard) {
		h := <-n.heard
		h.to.step(h.ev)
	}
}

func (n *Node) tick() {
	now := n.cfg.Clock()
	for _, in := range n.instances {
		if at, ok := in.Core.Deadline(); ok && !now.Before(at) {
			in.step(failover.Tick{})
		}
	}
}

// result delivers the answer of a worker; the loop always takes it.
func (n *Node) result(in *instance, ev failover.Event) {
	select {
	case n.results <- heard{in, ev}:
	case <-n.done:
	}
}

// call runs f in the loop and waits for it.
func (n *Node) call(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case n.calls <- func() { f(); close(ran) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return ErrStopped
	}
	select {
	case <-ran:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return ErrStopped
	}
}

// Names lists the instances in the order of the configuration.
func (n *Node) Names() []string {
	names := make([]string, len(n.instances))
	for i, in := range n.instances {
		names[i] = in.Name
	}
	return names
}

// Status returns what an instance is and why, as of now.
func (n *Node) Status(ctx context.Context, name string) (failover.Status, error) {
	in := n.byName[name]
	if in == nil {
		return failover.Status{}, fmt.Errorf("no instance is called %q", name)
	}
	var s failover.Status
	err := n.call(ctx, func() { s = in.Core.Status(n.cfg.Clock()) })
	return s, err
}

// Answer ends a command.
type Answer struct {
	Outcome failover.Outcome
	Why     failover.Why
}

// Switchover asks an instance for a switchover and waits for its end.
func (n *Node) Switchover(ctx context.Context, name string, r failover.Request) (Answer, error) {
	in := n.byName[name]
	if in == nil {
		return Answer{}, fmt.Errorf("no instance is called %q", name)
	}
	answer := make(chan Answer, 1)
	err := n.call(ctx, func() {
		in.lastCommand++
		in.commands[in.lastCommand] = answer
		in.step(failover.SwitchoverWanted{Command: in.lastCommand, Request: r})
	})
	if err != nil {
		return Answer{}, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	case <-n.done:
		return Answer{}, ErrStopped
	}
}

// now reads the clock.
func (n *Node) now() mono.Instant { return n.cfg.Clock() }
