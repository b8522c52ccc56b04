package failover

import "github.com/tanist-ha/tanist/hooks"

// A fence makes sure that a silent peer is off. Its steps run in front of the
// promotion, when the gate has let it through and nothing is opened yet.

// fencing returns the steps that come before the promotion: none if the peer
// itself says that it is not Active.
func (o *Orchestrator) fencing() hooks.Plan {
	if o.linkFresh() {
		return nil
	}
	onError := hooks.Continue
	if o.cfg.FenceRequired {
		onError = hooks.Abort
	}
	var p hooks.Plan
	for _, s := range o.cfg.Fence {
		s.OnError = onError
		p = append(p, s)
	}
	return p
}

// fenceFailed reports whether the plan came to its end within the fence.
func (r *planRun) fenceFailed() bool {
	for _, res := range r.run.Results()[:r.fence] {
		if !res.Outcome.OK() {
			return true
		}
	}
	return false
}
