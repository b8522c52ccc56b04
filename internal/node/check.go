package node

import (
	"context"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// A dry run is a worker like any other. The checks of a role that lasts are bounded
// one by one, so that one that hangs says nothing of the others.

func (in *instance) checkSteps(work context.Context, e failover.CheckSteps) {
	bound := checkTime
	if e.Each > 0 {
		bound = time.Duration(len(e.Plan)) * e.Each
	}
	in.checking[e.ID] = in.worker(work, bound, func(ctx context.Context) failover.Event { return in.check(ctx, e) })
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
		switch {
		case err != nil:
			res.Outcome, res.Detail = hooks.Failed, err.Error()
		case e.Each > 0:
			res.Outcome, res.Detail = in.checkEach(ctx, e.Each, s, action, &answer)
		default:
			res.Outcome, res.Detail = in.Steps.Check(ctx, action)
		}
		if res.Outcome == hooks.Failed && s.OnError == hooks.Abort {
			answer.Cannot = append(answer.Cannot, res.Name+": "+res.Detail)
		}
		answer.Results = append(answer.Results, res)
	}
	return answer
}

// checkEach checks one step of a role that lasts, and reads its labels.
func (in *instance) checkEach(
	ctx context.Context, bound time.Duration, s hooks.Step, a hooks.Action, answer *failover.Checked,
) (hooks.Outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, min(bound, s.Timeout))
	defer cancel()
	out, detail := in.Steps.Check(ctx, a)
	if ctx.Err() != nil {
		return hooks.TimedOut, "the check did not answer within " + min(bound, s.Timeout).String()
	}
	for _, l := range in.Steps.Labels(ctx, a) {
		l.Step = s.Name
		answer.Labels = append(answer.Labels, l)
	}
	return out, detail
}
