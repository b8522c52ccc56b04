package node

import (
	"context"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// Bounds of workers whose effect names no deadline.
const (
	// measureTime bounds one look at all databases.
	measureTime = 2 * time.Second
	// closeTime bounds the emergency closing of writes.
	closeTime = 10 * time.Second
	// checkTime bounds a dry run.
	checkTime = 10 * time.Second
	// askTime bounds the question to the peer's kernel, answers and all.
	askTime = time.Second
)

// instance is one orchestrator in the loop. Only the loop touches it.
type instance struct {
	Instance
	node        *Node
	work        context.Context // of the workers
	steps       map[hooks.StepID]context.CancelFunc
	catching    context.CancelFunc // of the latest CatchUp
	commands    map[failover.ID]chan Answer
	lastCommand failover.ID
	effects     []failover.Effect
	stopped     bool
}

// step lets the core handle an event and carries out its effects. Answers that
// come at once are handled before anything else.
func (in *instance) step(ev failover.Event) {
	for pending := []failover.Event{ev}; len(pending) > 0; pending = pending[1:] {
		if ended, ok := pending[0].(failover.StepEnded); ok {
			delete(in.steps, ended.ID)
		}
		in.effects = in.Core.Step(in.node.now(), pending[0], in.effects[:0])
		for _, e := range in.effects {
			if answer := in.do(e); answer != nil {
				pending = append(pending, answer)
			}
		}
	}
}

// do carries out one effect, or begins it; it returns an answer that is there at
// once.
func (in *instance) do(e failover.Effect) failover.Event {
	log := in.node.cfg.Log
	switch e := e.(type) {
	case failover.Send:
		// A path that is down is the link's matter to report.
		_ = in.Heartbeat.Send(e.Advertisement)
	case failover.Hold:
		err := in.Addresses.Hold(e)
		if err != nil {
			log.Trouble(in.Name, "hold the address", err)
		}
		if err != nil || e.ID != 0 {
			return failover.Held{ID: e.ID, Err: err}
		}
	case failover.Drop:
		if err := in.Addresses.Drop(); err != nil {
			log.Trouble(in.Name, "drop the address", err)
		}
	case failover.Announce:
		if err := in.Addresses.Announce(); err != nil {
			log.Trouble(in.Name, "announce the address", err)
		}
	case failover.Append:
		in.node.journal.append(in, e)
	case failover.Tell:
		in.node.cfg.Link.Send(in.Name, e.State)
	case failover.Note:
		log.Note(in.Name, e)
	case failover.Answer:
		if c := in.commands[e.Command]; c != nil {
			delete(in.commands, e.Command)
			c <- Answer{Outcome: e.Outcome, Why: e.Why}
		}
	case failover.CancelStep:
		if cancel := in.steps[e.ID]; cancel != nil {
			cancel()
		}
	case failover.Stopped:
		if !in.stopped {
			in.stopped = true
			in.node.stopped++
		}
	case failover.CloseWrites, failover.StartStep, failover.Measure, failover.CatchUp, failover.CheckSteps, failover.AskKernel:
		in.begin(e)
	}
	return nil
}

// begin starts a worker for a slow effect. There is at most one for each step,
// question and measurement that the core waits for.
func (in *instance) begin(e failover.Effect) {
	switch e := e.(type) {
	case failover.CloseWrites:
		in.worker(closeTime, func(ctx context.Context) failover.Event {
			if err := in.Databases.CloseWrites(ctx); err != nil {
				in.node.cfg.Log.Trouble(in.Name, "close writes at once", err)
			}
			return nil
		})
	case failover.StartStep:
		in.beginStep(e)
	case failover.Measure:
		in.worker(measureTime, func(ctx context.Context) failover.Event {
			return failover.Measured{ID: e.ID, Facts: in.Databases.Measure(ctx)}
		})
	case failover.CatchUp:
		if in.catching != nil {
			in.catching()
		}
		in.catching = in.worker(e.Until.Sub(in.node.now()), func(ctx context.Context) failover.Event {
			return failover.CaughtUp{ID: e.ID, Err: in.Databases.CatchUp(ctx, e.Targets)}
		})
	case failover.CheckSteps:
		in.worker(checkTime, func(ctx context.Context) failover.Event { return in.check(ctx, e) })
	case failover.AskKernel:
		in.worker(askTime, func(ctx context.Context) failover.Event {
			answer := in.Kernel.Ask(ctx)
			answer.ID = e.ID
			return answer
		})
	}
}

// worker runs f with a bound and delivers its answer, if it has one.
func (in *instance) worker(bound time.Duration, f func(context.Context) failover.Event) context.CancelFunc {
	ctx, cancel := context.WithTimeout(in.work, bound)
	in.node.workers.Add(1)
	go func() {
		defer in.node.workers.Done()
		defer cancel()
		if ev := f(ctx); ev != nil {
			in.node.result(in, ev)
		}
	}()
	return cancel
}

func (in *instance) beginStep(e failover.StartStep) {
	id := e.Order.ID
	action, err := hooks.Expand(e.Order.Step.Action, e.Vars)
	if err != nil {
		in.worker(0, func(context.Context) failover.Event {
			return failover.StepEnded{ID: id, Outcome: hooks.Failed, Detail: err.Error()}
		})
		return
	}
	cancel := in.worker(e.Order.Deadline.Sub(in.node.now()), func(ctx context.Context) failover.Event {
		out, detail := in.Steps.Run(ctx, action)
		return failover.StepEnded{ID: id, Outcome: out, Detail: detail}
	})
	in.steps[id] = cancel
}

// check is the dry run of a plan.
func (in *instance) check(ctx context.Context, e failover.CheckSteps) failover.Event {
	answer := failover.Checked{ID: e.ID}
	for _, s := range e.Plan {
		res := hooks.Result{Name: s.Name, Title: hooks.Title(s.Action)}
		if _, pivot := s.Action.(hooks.VIP); pivot {
			answer.Results = append(answer.Results, res)
			continue
		}
		action, err := hooks.Expand(s.Action, e.Vars)
		if err != nil {
			res.Outcome, res.Detail = hooks.Failed, err.Error()
		} else {
			res.Outcome, res.Detail = in.Steps.Check(ctx, action)
		}
		if res.Outcome == hooks.Failed && s.OnError == hooks.Abort {
			answer.Cannot = append(answer.Cannot, res.Name+": "+res.Detail)
		}
		answer.Results = append(answer.Results, res)
	}
	return answer
}
