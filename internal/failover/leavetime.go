package failover

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// LeaveTime bounds how long an instance takes from StopWanted to Stopped, as long as
// everything keeps to its bound: the way that takes longest of those that a leave can
// go. A long lease of the peer's addresses is not among what a configuration says.
func LeaveTime(cfg Config) time.Duration {
	pivot := max(0, cfg.Demote.Pivot())
	head, all := cfg.Demote[:pivot].Within(), cfg.Demote.Unwaiting().Within()
	cut := hooks.Grace + hooks.CancelGrace // of the step that runs when the time is over
	// The peer takes the role: until the address has moved, then the rest of the plan,
	// and the peer's.
	handedOver := stopPatience + cfg.Demote[pivot:].Within() + endPatience
	// It does not come about: its time runs out, what was done is taken back once the
	// peer cannot be acting any more, and then the role is dropped.
	takenBack := stopPatience + cut + HandoverLease + handoverMargin + cfg.Lease + leaseGrace + head + cut + all
	// Under maintenance a promotion that runs ends first.
	promoted := cfg.Promote.Within()
	// A demotion that runs already is not begun anew.
	return leavePatience + max(handedOver, takenBack, promoted, cut+all)
}

// LeaveTime is the same as things are: before a handover is taken back, a node waits for
// what the peer's kernel may have, which is long under maintenance and for a while after.
func (o *Orchestrator) LeaveTime() time.Duration {
	cfg := o.cfg
	cfg.Lease = o.peerLeaseMost()
	return LeaveTime(cfg)
}
