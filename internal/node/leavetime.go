package node

import (
	"context"
	"time"
)

// leavePatience bounds the question how long a leave may take.
const leavePatience = time.Second

// LeaveTime bounds how long the instances need to leave, as things are.
func (n *Node) LeaveTime(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	return ask(ctx, n, func(context.Context) (longest time.Duration) {
		for _, in := range n.instances {
			longest = max(longest, in.Core.LeaveTime())
		}
		return longest
	})
}
