package node

import (
	"context"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// Renewal is the lease of one instance that is to be renewed.
type Renewal struct {
	Addresses Addresses
	Lease     time.Duration
}

// What the loop needs of the world. The adapters behind these are wired by cmd.
// Calls without a context are made by the loop and must not block.
type (
	// Clock reads CLOCK_BOOTTIME, for the loop and its workers.
	Clock func() mono.Instant

	// Heartbeat carries advertisements over every path.
	Heartbeat interface {
		Send(failover.Send) error
		// Drain delivers every advertisement that had arrived before the call.
		Drain()
		// Open reports whether advertisements can be heard.
		Open() bool
	}
	// Addresses are the virtual addresses of one instance on this host.
	Addresses interface {
		// Leftover reports whether the kernel has every address on a lease that
		// an earlier daemon left, and how much of it there is at least.
		Leftover() (left time.Duration, held bool)
		Hold(lease failover.Hold) error
		Drop() error
		Announce() error
	}
	// Databases are the databases of one instance on this host.
	Databases interface {
		// Measure reads the facts of every database that there is: their names
		// are the list. With relist it looks first which there are.
		Measure(ctx context.Context, relist bool) []replication.Facts
		CloseWrites(ctx context.Context) error
		CatchUp(ctx context.Context, targets []failover.Position) error
		// Beat writes one heartbeat into each database that has a table for it, in
		// an epoch of this node as the Active. A server that gets to it after until,
		// or has been closed, writes nothing; nor does anything after CloseWrites
		// or a step that closes writes has begun.
		Beat(ctx context.Context, epoch failover.Epoch, until mono.Instant) error
		// Fence ends the process of a database that hangs, and returns nil only
		// when it is gone.
		Fence(ctx context.Context, database string) error
	}
	// Steps carries out steps, everything but the vip step.
	Steps interface {
		// Run makes the world as the step's action wants it, and returns the
		// Outcome, Detail and Output of that. While it goes on say takes how far
		// it is; it may be called often. When ctx ends everything that was
		// started is gone before Run returns, but for the notice of a notify step.
		Run(ctx context.Context, s hooks.Step, say func(detail string)) hooks.Result
		// Check says what Run would do: Unchanged, Changed, or Failed with why.
		Check(ctx context.Context, a hooks.Action) (hooks.Outcome, string)
		// Labels reads the keys of foreign files that the action sets, without the
		// step's name; none where it sets none.
		Labels(ctx context.Context, a hooks.Action) []failover.Label
	}
	// Journal stores records. One worker calls it.
	Journal interface {
		Append(r ...hooks.Record) error
		Sync() error
		// Owe takes records of what happened though Append or Sync failed. They are
		// written as soon as that is possible.
		Owe(r ...hooks.Record)
		// Maintain is called now and then. It returns why nothing could be written
		// now, and what else is wrong.
		Maintain() (unwritable, trouble error)
	}
	// Positions keeps what a standby knows of its databases. The journal's worker
	// calls it.
	Positions interface {
		// Set replaces what is kept of an instance, Flush makes it durable.
		Set(instance string, positions []failover.Remembered)
		Flush() error
	}
	// Renewer is an optional way to renew the leases of many instances in one
	// call, in place of Hold of each one's Addresses. A worker makes one call at a
	// time; the loop goes on when that takes long.
	Renewer interface {
		// Renew does what Hold of each renewal's Addresses would, none of which
		// is new to the kernel, and returns each one's error in their order.
		Renew(renewals []Renewal) []error
	}
	// Link tells the peer this node's state.
	Link interface {
		// Send leaves a state to be sent, in place of an older one of the instance.
		Send(instance string, s failover.PeerState)
		// Flush sends what Send left, together.
		Flush()
	}
	// Kernel asks the silent peer's kernel.
	Kernel interface {
		// Ask listens for answers for that long. The answer's ID does not count.
		Ask(ctx context.Context, within time.Duration) failover.Asked
	}
	// Witness is a third party that both nodes can ask when they do not hear each other.
	Witness interface {
		// Ask returns the verdict, and in words who answered or why nobody did. When ctx
		// ends first nothing is known.
		Ask(ctx context.Context, q failover.AskWitness) (v failover.Verdict, detail string)
	}
	// Asker is an optional way to ask for many instances at once, in place of Ask
	// of each one's Kernel.
	Asker interface {
		// Ask does what Ask of each of the kernels would, all at the same time, and
		// returns each one's answer in their order.
		Ask(ctx context.Context, kernels []Kernel, within time.Duration) []failover.Asked
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
