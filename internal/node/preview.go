package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// Preview is a plan as it would run now, and what each step's check says.
type Preview struct {
	Vars  hooks.Vars
	Steps []PreviewStep
}

// PreviewStep is a step, its templates filled in, and what its check says:
// Unchanged: it is so already; Changed: it would change something; Failed or
// TimedOut: it cannot be done as things are, Detail says why.
type PreviewStep struct {
	hooks.Step
	Outcome hooks.Outcome
	Detail  string
}

var errTransition = errors.New("a transition began")

// preview is a look at a plan that is under way. Only the loop touches it.
type preview struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// Preview checks the steps of the transition to a role, each no longer than bound,
// and changes nothing. It gives way to a transition: the error is a *BusyError when
// one is under way or begins, or somebody else is looking.
func (n *Node) Preview(ctx context.Context, name string, to hooks.Role, bound time.Duration) (Preview, error) {
	in := n.find(name)
	if in == nil {
		return Preview{}, fmt.Errorf("no instance is called %q", name)
	}
	type begun struct {
		answer <-chan Preview
		ended  <-chan struct{}
		cause  func() error // why it ended
		err    error
	}
	b, err := ask(ctx, n, func(work context.Context) begun {
		in := in.current()
		in.step(work, failover.Tick{})
		if doing := in.unpreviewable(); doing != "" {
			return begun{err: &BusyError{Instance: name, Doing: doing}}
		}
		look, answer := in.look(work, ctx, to, bound)
		return begun{answer: answer, ended: look.Done(), cause: func() error { return context.Cause(look) }}
	})
	switch {
	case err != nil:
		return Preview{}, err
	case b.err != nil:
		return Preview{}, b.err
	}
	select {
	case p := <-b.answer:
		return p, nil
	case <-b.ended:
	}
	if errors.Is(b.cause(), errTransition) {
		return Preview{}, &BusyError{Instance: name, Doing: errTransition.Error()}
	}
	return Preview{}, fmt.Errorf("look at the plan of instance %s: %w", name, b.cause())
}

func (in *instance) unpreviewable() string {
	switch doing := in.Core.Moving(); {
	case in.gone, in.stopped:
		return "it is leaving"
	case doing != "":
		return doing
	case in.preview != nil && in.preview.goesOn():
		return "somebody else is looking at its plan"
	}
	return ""
}

func (p *preview) goesOn() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// endPreview ends a look at a plan with everything that it started.
func (in *instance) endPreview() {
	if in.preview != nil {
		in.preview.cancel(errTransition)
		in.preview = nil
	}
}

// look begins a worker that answers once. It ends with the asker's interest.
func (in *instance) look(work, asker context.Context, to hooks.Role, bound time.Duration) (context.Context, <-chan Preview) {
	plan, vars := in.Core.Planned(to)
	holds, down := in.Core.Status(in.node.now()).Holds, ""
	if in.link != nil && !in.link.Up {
		down = in.link.Detail
	}
	looking, cancel := context.WithCancelCause(asker)
	answer := make(chan Preview, 1)
	in.preview = &preview{cancel: cancel, done: make(chan struct{})}
	over := in.preview.done
	in.worker(work, time.Duration(len(plan)+1)*bound, func(working context.Context) failover.Event {
		defer close(over)
		stop := context.AfterFunc(working, func() { cancel(working.Err()) })
		defer stop()
		p := Preview{Vars: vars}
		for _, s := range plan {
			p.Steps = append(p.Steps, in.previewStep(looking, s, vars, holds, down, bound))
		}
		if looking.Err() == nil {
			answer <- p
		}
		return nil
	})
	return looking, answer
}

func (in *instance) previewStep(ctx context.Context, s hooks.Step, vars hooks.Vars, holds bool, down string, bound time.Duration) PreviewStep {
	p := PreviewStep{Step: s}
	if v, pivot := s.Action.(hooks.VIP); pivot {
		switch {
		case v.Acquire == holds:
			p.Outcome = hooks.Unchanged
		case v.Acquire && down != "":
			p.Outcome, p.Detail = hooks.Failed, down
		default:
			p.Outcome = hooks.Changed
		}
		return p
	}
	var err error
	if p.Action, err = hooks.Expand(s.Action, vars); err != nil {
		p.Action, p.Outcome, p.Detail = s.Action, hooks.Failed, err.Error()
		return p
	}
	bound = min(bound, s.Timeout)
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	p.Outcome, p.Detail = in.Steps.Check(ctx, p.Action)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		p.Outcome, p.Detail = hooks.TimedOut, "the check did not answer within "+bound.String()
	}
	return p
}
