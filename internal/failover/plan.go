package failover

import "github.com/tanist-ha/tanist/hooks"

// Planned returns the plan of a transition to a role, Active or Standby, and what its
// templates would name if an operator asked for it now. Nothing is begun.
func (o *Orchestrator) Planned(to hooks.Role) (hooks.Plan, hooks.Vars) {
	if to == hooks.Active {
		return o.cfg.Promote, o.vars(o.cfg.Node, hooks.OnPromote, Requested, o.epoch+1)
	}
	return o.cfg.Demote, o.vars(o.cfg.Peer, hooks.OnDemote, Requested, o.epoch+1)
}

// Moving says what is about to change this node's role or address, empty when
// nothing is.
func (o *Orchestrator) Moving() string {
	switch {
	case !o.started || o.state == Initialize:
		return "the daemon has just started"
	case o.stopping:
		return "the daemon is leaving"
	case o.giving() || o.taking():
		return "a handover is under way"
	case o.bid != nil:
		return "a takeover is under way"
	case o.run != nil || o.nextRun != nil || o.state == Promoting || o.state == Demoting:
		return "a plan runs"
	}
	return ""
}
