package node

import (
	"context"
	"errors"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// Bounds of workers whose effect names no deadline.
const (
	// measureTime bounds one look at all databases.
	measureTime = 2 * time.Second
	// beatTime is how long after its decision a heartbeat may still be written: no
	// longer than an address may still be acquired.
	beatTime = actTime
	// closeTime bounds the emergency closing of writes.
	closeTime = 10 * time.Second
	// fenceTime bounds ending one server's process.
	fenceTime = 3 * time.Second
	// checkTime bounds a dry run.
	checkTime = 10 * time.Second
	// askTime bounds the question to the peer's kernel, answers and all.
	askTime = time.Second
)

const (
	// actTime is how long after its decision an address may still be acquired.
	// The handover between two nodes allows for as much.
	actTime = 500 * time.Millisecond
	// announceTime is for how long an announcement that the interface did not
	// take is tried again, every announceRetry: right after its link came up, an
	// interface can still refuse.
	announceTime  = 2 * time.Second
	announceRetry = 100 * time.Millisecond
	// dropRetry is the time between two attempts to take an address off.
	dropRetry = 50 * time.Millisecond
)

var (
	errLate      = errors.New("the loop was stopped between the decision and the act")
	errLeaseOver = errors.New("the lease ended before it was renewed")
)

// instance is one orchestrator in the loop. Only the loop touches it.
type instance struct {
	Instance
	node        *Node
	steps       map[hooks.StepID]context.CancelFunc
	catching    context.CancelFunc // of the latest CatchUp
	checking    map[failover.ID]context.CancelFunc
	preview     *preview // the latest, nil: none
	commands    map[failover.ID]chan Answer
	lastCommand failover.ID
	effects     []failover.Effect
	stopped     bool
	reloadable

	leased    mono.Instant // until then the kernel has the address for certain
	undropped bool         // the address was to go and may still be there
	dropAt    mono.Instant // when the next attempt is due

	announceAt    mono.Instant // when a refused announcement is tried again, 0: none was
	announceUntil mono.Instant

	glimpse glimpse // for readers outside of the loop

	renews bool // its lease is to be renewed at the end of the turn
	lease  time.Duration

	due   mono.Instant // when the core wants a Tick
	deaf  bool         // the core was told that no heartbeat path is open
	knows error        // of the journal: what the core was told why it cannot be written
}

// start is the core's first event. What the kernel has left of an earlier daemon
// is looked at now and not earlier: a lease can run out while a daemon starts.
func (in *instance) start(work context.Context) {
	ev := in.Start
	ev.Memory = in.node.journal.recall(in.Name, ev.Memory)
	in.node.recallHolds(&ev)
	if left, held := in.Addresses.Leftover(); held {
		ev.Leftover, ev.Left = true, left
		in.leased = in.node.now().Add(max(left, actTime))
	}
	in.step(work, ev)
}

// step lets the core handle an event and carries out its effects. Answers that
// come at once are handled before anything else. It returns the instant of the
// last decision.
func (in *instance) step(work context.Context, ev failover.Event) (decided mono.Instant) {
	if in.gone {
		in.forward(work, ev)
		return in.node.now()
	}
	in.glimpse.stepping.Store(true)
	defer in.glimpse.write(in.Core)
	for pending := []failover.Event{ev}; len(pending) > 0; pending = pending[1:] {
		if ended, ok := pending[0].(failover.StepEnded); ok {
			delete(in.steps, ended.ID)
		}
		if over, ok := pending[0].(failover.Checked); ok {
			delete(in.checking, over.ID)
		}
		in.noteLink(pending[0])
		in.counts.heard(pending[0])
		decided = in.node.now()
		in.effects = in.Core.Step(decided, pending[0], in.effects[:0])
		if in.preview != nil && in.Core.Moving() != "" {
			in.endPreview() // before the first step
		}
		for _, e := range in.effects {
			if answer := in.do(work, decided, e); answer != nil {
				pending = append(pending, answer)
			}
		}
	}
	in.due = mono.Never
	if due, ok := in.Core.Deadline(); ok {
		in.due = due
	}
	return decided
}

// do carries out one effect of a decision, or begins it; it returns an answer
// that is there at once.
func (in *instance) do(work context.Context, decided mono.Instant, e failover.Effect) failover.Event {
	switch e := e.(type) {
	case failover.Send:
		in.counts.Sent++
		in.trouble("send an advertisement", in.Heartbeat.Send(e))
	case failover.Hold:
		if e.ID == 0 && in.node.cfg.Renewer != nil {
			in.renewLater(e.Lease)
			return nil
		}
		return in.hold(e, decided)
	case failover.Drop:
		in.drop()
	case failover.Announce:
		in.announce()
	case failover.Append:
		e.Record.Hold = e.Record.Hold.Dated(in.node.cfg.Date())
		in.counts.record(e.Record)
		return in.node.journal.append(in, e)
	case failover.Remember:
		in.node.journal.remember(in, e)
	case failover.Tell:
		in.node.told = true
		in.tell(e.State)
	case failover.Note:
		in.node.cfg.Log.Note(in.Name, e)
	case failover.Answer:
		if c := in.commands[e.Command]; c != nil {
			delete(in.commands, e.Command)
			c <- Answer{Outcome: e.Outcome, Why: e.Why}
		}
	case failover.Stopped:
		if !in.stopped {
			in.stopped = true
			in.node.stopped++
			close(in.left)
		}
	case failover.CancelStep:
		if cancel := in.steps[e.ID]; cancel != nil {
			cancel()
		}
	case failover.StartStep:
		return in.startStep(work, e)
	case failover.CloseWrites:
		in.closeWrites(work)
	case failover.Measure:
		if e.Beat != 0 {
			in.beat(work, decided, e.Beat)
		}
		in.worker(work, measureTime, func(ctx context.Context) failover.Event {
			return failover.Measured{ID: e.ID, Facts: in.Databases.Measure(ctx, e.Relist)}
		})
	case failover.CatchUp:
		in.catchUp(work, e)
	case failover.FenceDatabase:
		in.worker(work, fenceTime, func(ctx context.Context) failover.Event {
			return failover.DatabaseFenced{ID: e.ID, Database: e.Database, Err: in.Databases.Fence(ctx, e.Database)}
		})
	case failover.CheckSteps:
		in.checkSteps(work, e)
	case failover.CancelCheck:
		if cancel := in.checking[e.ID]; cancel != nil {
			cancel()
		}
	case failover.AskWitness:
		return in.askWitness(work, e)
	case failover.AskKernel:
		in.busy.Add(1) // until it is answered
		in.node.asking = append(in.node.asking, question{in, e})
	}
	return nil
}

func (in *instance) trouble(doing string, err error) {
	if err != nil {
		in.node.cfg.Log.Trouble(in.Name, doing, err)
	}
}

// hold adds the address or renews it. A loop that was stopped since the decision
// must not bring an address back: the peer may have it by now.
func (in *instance) hold(e failover.Hold, decided mono.Instant) failover.Event {
	in.node.settle(in)
	began := in.node.now()
	var err error
	switch {
	case e.ID != 0 && began.Sub(decided) > actTime:
		err = errLate
	case e.ID == 0 && began.After(in.leased):
		err = errLeaseOver
	default:
		in.undropped, in.renews = false, false
		if err = in.Addresses.Hold(e); err == nil {
			in.leased = began.Add(e.Lease)
		}
	}
	if e.ID == 0 {
		in.counts.renewed(err)
	}
	in.trouble("hold the address", err)
	if err != nil || e.ID != 0 {
		return failover.Held{ID: e.ID, Err: err}
	}
	return nil
}

// drop takes the address off, and goes on trying when the kernel does not answer:
// the peer is about to hear that it is free.
func (in *instance) drop() {
	in.node.settle(in)
	in.leased, in.renews = 0, false
	err := in.Addresses.Drop()
	in.undropped, in.dropAt = err != nil, in.node.now().Add(dropRetry)
	in.trouble("drop the address", err)
}

func (in *instance) dropAgain(now mono.Instant) {
	if in.undropped && !now.Before(in.dropAt) {
		in.drop()
	}
}

// announce tells the neighbours, but only of an address that is here for certain:
// they believe whoever speaks last.
func (in *instance) announce() {
	in.announceUntil = in.node.now().Add(announceTime)
	in.announceOnce()
}

func (in *instance) announceOnce() {
	in.announceAt = 0
	now := in.node.now()
	if now.After(in.leased) {
		return
	}
	err := in.Addresses.Announce()
	if err != nil && now.Before(in.announceUntil) {
		in.announceAt = now.Add(announceRetry)
	}
	in.trouble("announce the address", err)
}

func (in *instance) announceAgain(now mono.Instant) {
	if in.announceAt != 0 && !now.Before(in.announceAt) {
		in.announceOnce()
	}
}

// worker runs f with a bound and delivers its answer, if it has one. There is at
// most one worker for each step, question and measurement that the core waits for.
func (in *instance) worker(work context.Context, bound time.Duration, f func(context.Context) failover.Event) context.CancelFunc {
	ctx, cancel := context.WithTimeout(work, bound)
	in.busy.Add(1)
	in.node.workers.Go(func() {
		defer in.busy.Done()
		defer cancel()
		if ev := f(ctx); ev != nil {
			in.node.result(in, ev)
		}
	})
	return cancel
}

func (in *instance) closeWrites(work context.Context) {
	in.node.closing.Add(1)
	in.worker(work, closeTime, func(ctx context.Context) failover.Event {
		defer in.node.closing.Done()
		in.trouble("close writes at once", in.Databases.CloseWrites(ctx))
		return nil
	})
}

// beat begins a heartbeat, which is good for a time from its decision, not from
// when a loop that was stopped comes to it.
func (in *instance) beat(work context.Context, decided mono.Instant, epoch failover.Epoch) {
	until := decided.Add(beatTime)
	in.worker(work, beatTime, func(ctx context.Context) failover.Event {
		in.trouble("write the heartbeat", in.Databases.Beat(ctx, epoch, until))
		return nil
	})
}

func (in *instance) startStep(work context.Context, e failover.StartStep) failover.Event {
	id := e.Order.ID
	s := e.Order.Step
	var err error
	if s.Action, err = hooks.Expand(s.Action, e.Vars); err != nil {
		return failover.StepEnded{ID: id, Outcome: hooks.Failed, Detail: err.Error()}
	}
	in.steps[id] = in.worker(work, e.Order.Deadline.Sub(in.node.now()), func(ctx context.Context) failover.Event {
		res := in.Steps.Run(ctx, s, in.sayer(id))
		return failover.StepEnded{ID: id, Outcome: res.Outcome, Detail: res.Detail, Output: res.Output}
	})
	return nil
}

// sayEvery is the least time between two words of a step: each goes to the peer.
const sayEvery = 500 * time.Millisecond

// sayer passes on what a step says, if it is something new and not too often: what
// is left out is said again when it still holds.
func (in *instance) sayer(id hooks.StepID) func(string) {
	said, at := "", mono.Instant(0)
	return func(detail string) {
		now := in.node.now()
		if detail == said || at != 0 && now.Sub(at) < sayEvery {
			return
		}
		said, at = detail, now
		in.node.result(in, failover.StepSaid{ID: id, Detail: detail})
	}
}

func (in *instance) catchUp(work context.Context, e failover.CatchUp) {
	if in.catching != nil {
		in.catching()
	}
	in.catching = in.worker(work, e.Until.Sub(in.node.now()), func(ctx context.Context) failover.Event {
		return failover.CaughtUp{ID: e.ID, Err: in.Databases.CatchUp(ctx, e.Targets)}
	})
}
