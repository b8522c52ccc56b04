package failover

import (
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// HoldStatus is an operator's block or maintenance for people and scripts.
type HoldStatus struct {
	Reason string
	UID    uint32
	By     string        // of a maintenance: the node where it was switched on
	Left   time.Duration // until it ends by itself, 0: it does not
	// Shared says that the peer knows of the maintenance, as far as it could be told. Lease is what the address
	// outlives a daemon by.
	Shared bool
	Lease  time.Duration
}

func (o *Orchestrator) blockStatus() *HoldStatus {
	b := &o.hold.block
	if !b.on {
		return nil
	}
	return &HoldStatus{Reason: b.reason, UID: b.uid, Left: o.leftUntil(b.until)}
}

func (o *Orchestrator) maintenanceStatus() *HoldStatus {
	m := &o.hold.register
	if !m.On {
		return nil
	}
	return &HoldStatus{
		Reason: m.Reason, UID: m.UID, By: m.By, Left: o.leftUntil(m.Until), Shared: o.sharedWithPeer() || o.hold.promised && !o.linkFresh(), Lease: o.leaseNow(),
	}
}

func (o *Orchestrator) leftUntil(at mono.Instant) time.Duration {
	if at == 0 {
		return 0
	}
	return max(1, at.Sub(o.now))
}

// Maintained reports whether this node knows of a maintenance that is on.
func (o *Orchestrator) Maintained() bool { return o.maintained() }

// Blocked reports whether an operator forbids this node the role.
func (o *Orchestrator) Blocked() bool { return o.hold.block.on }
