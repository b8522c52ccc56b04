package failover

import "github.com/tanist-ha/tanist/hooks"

// A handover that has to be does not fail for what it would wait for: an lsyncd that
// is dead never says that it is empty, and the node that it died on would keep the
// role for ever.

// insists reports whether a handover for this reason goes on without what its wait
// steps wait for, where that cannot come.
func insists(force bool, cause Reason) bool {
	return force || cause == Unhealthy || cause == Stopping || cause == DatabaseDown
}

// refusal returns why a checked plan keeps a handover from beginning, empty when
// nothing does, and the plan as it is to run.
func (ev Checked) refusal(plan hooks.Plan, insists bool) (string, hooks.Plan) {
	if !insists {
		if len(ev.Cannot) > 0 {
			return ev.Cannot[0], plan
		}
		return "", plan
	}
	goes := append(hooks.Plan(nil), plan...)
	waits := map[string]bool{}
	for i, res := range ev.Results {
		if i >= len(plan) || res.Outcome != hooks.Failed {
			continue
		}
		if _, ok := plan[i].Action.(hooks.Wait); ok {
			goes[i].OnError = hooks.Continue
			waits[res.Name+": "+res.Detail] = true
		}
	}
	for _, c := range ev.Cannot {
		if !waits[c] {
			return c, plan
		}
	}
	return "", goes
}
