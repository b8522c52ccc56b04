package node

import (
	"context"
	"fmt"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// Command journals what an operator told this node to do, of the named instance or,
// without a name, of all. With await it returns when that is durable, and an error
// when it is not: then nobody may act on it. Without, the record is in its place
// before whatever the command leads to, and waits for no disk.
func (n *Node) Command(ctx context.Context, name string, r hooks.Record, await bool) error {
	r.Kind, r.Instance = hooks.Commanded, name
	carrier := n.find(name) // counts the record; one without a name goes with any
	if name == "" {
		if names := n.Names(); len(names) > 0 {
			carrier = n.find(names[0])
		}
	}
	if carrier == nil {
		return fmt.Errorf("no instance is called %q", name)
	}
	written, err := ask(ctx, n, func(context.Context) <-chan error {
		written := make(chan error, 1)
		if await {
			n.journal.appendFor(carrier.current(), failover.Append{Record: r}, written)
		} else {
			n.journal.append(carrier.current(), failover.Append{Record: r})
			written <- nil
		}
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
