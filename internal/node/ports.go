package node

import (
	"context"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// What the loop needs of the world. The adapters behind these are wired by cmd.
// Calls without a context are made by the loop and must not block.
type (
	// Clock reads CLOCK_BOOTTIME.
	Clock func() mono.Instant

	// Heartbeat carries advertisements over every path.
	Heartbeat interface {
		Send(failover.Send) error
		// Drain delivers every advertisement that had arrived before the call.
		Drain()
	}
	// Addresses are the virtual addresses of one instance on this host.
	Addresses interface {
		// Leftover reports whether the kernel has every address on a lease that
		// an earlier daemon left.
		Leftover() bool
		Hold(lease failover.Hold) error
		Drop() error
		Announce() error
	}
	// Databases are the databases of one instance on this host.
	Databases interface {
		Measure(ctx context.Context) []replication.Facts
		CloseWrites(ctx context.Context) error
		CatchUp(ctx context.Context, targets []failover.Position) error
	}
	// Steps carries out steps, everything but the vip step.
	Steps interface {
		// Run makes the world as the action wants it. When ctx ends everything
		// that was started is gone before it returns.
		Run(ctx context.Context, a hooks.Action) (hooks.Outcome, string)
		// Check says what Run would do: Unchanged, Changed, or Failed with why.
		Check(ctx context.Context, a hooks.Action) (hooks.Outcome, string)
	}
	// Journal stores records. One worker calls it.
	Journal interface {
		Append(r ...hooks.Record) error
		Sync() error
	}
	// Link tells the peer this node's state.
	Link interface {
		Send(instance string, s failover.PeerState)
	}
	// Kernel asks the silent peer's kernel.
	Kernel interface {
		// Ask listens for answers for that long. The answer's ID does not count.
		Ask(ctx context.Context, within time.Duration) failover.Asked
	}
	// Watchdog is told that the loop made progress.
	Watchdog interface {
		Progress()
	}
	// Log takes what an operator should read. It must not block.
	Log interface {
		Note(instance string, n failover.Note)
		Trouble(instance, doing string, err error)
	}
)
