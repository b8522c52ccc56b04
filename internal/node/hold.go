package node

import (
	"context"

	"github.com/tanist-ha/tanist/internal/failover"
)

// Hold gives an instance an operator's command about a block or the maintenance, and
// returns when what it changes is durable. When ctx ends first, it goes on.
func (n *Node) Hold(ctx context.Context, name string, r failover.HoldRequest) (Answer, error) {
	return n.command(ctx, name, func(id failover.ID) failover.Event {
		return failover.HoldWanted{Command: id, Request: r}
	})
}

// recallHolds tells a core how much is left of the holds that its journal has.
func (n *Node) recallHolds(ev *failover.Started) {
	now := n.cfg.Date()
	ev.BlockLeft, _ = ev.Memory.Block.Left(now)
	ev.MaintenanceLeft, _ = ev.Memory.Maintenance.Left(now)
}
