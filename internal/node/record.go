package node

import (
	"context"
	"fmt"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// Record journals what an operator did beside the plans of an instance, and
// returns when it is durable. What the core remembers it must not change: an
// Override does not.
func (n *Node) Record(ctx context.Context, name string, r hooks.Record) error {
	in := n.find(name)
	if in == nil {
		return fmt.Errorf("no instance is called %q", name)
	}
	written, err := ask(ctx, n, func(context.Context) <-chan error {
		written := make(chan error, 1)
		n.journal.appendFor(in.current(), failover.Append{Record: r}, written)
		return written
	})
	if err != nil {
		return err
	}
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the journal: %w", ctx.Err())
	}
}
