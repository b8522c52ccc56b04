package node

// What can be told of an instance while the loop answers nobody. The loop writes it as
// it goes, three words for each event, and a reader waits for nothing.

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// statusesAtOnce is how many instances one turn of the loop tells about: with more of
// them, an advertisement or a renewal would wait.
const statusesAtOnce = 16

// Glimpse is an instance as the loop left it.
type Glimpse struct {
	State failover.State
	Epoch failover.Epoch // the one this node was last Active in
	// Stepping says that the loop is at it now, so that the rest may no longer hold.
	Stepping bool
}

type glimpse struct {
	stepping, started atomic.Bool
	state             atomic.Uint32
	epoch             atomic.Uint64
}

// write notes what the core is after a step.
func (g *glimpse) write(core *failover.Orchestrator) {
	state, epoch := core.Brief()
	g.state.Store(uint32(state))
	g.epoch.Store(uint64(epoch))
	g.started.Store(true)
	g.stepping.Store(false)
}

// Glimpse returns what an instance is without asking the loop, and false before its
// first event and where there is none of the name.
func (n *Node) Glimpse(name string) (Glimpse, bool) {
	in := n.find(name)
	if in == nil || !in.glimpse.started.Load() {
		return Glimpse{}, false
	}
	g := Glimpse{State: failover.State(in.glimpse.state.Load()), Epoch: failover.Epoch(in.glimpse.epoch.Load())}
	g.Stepping = in.glimpse.stepping.Load() // read last: what came before it is then of before, too
	return g, true
}

// Turned returns when the loop last ended a turn, 0 before the first.
func (n *Node) Turned() mono.Instant { return mono.Instant(n.turned.Load()) }

// Statuses returns what the instances are, by name. Those that the loop does not tell
// before ctx ends, and those that there are not, are left out. The error is
// ErrStopped or nil.
func (n *Node) Statuses(ctx context.Context, names []string) (map[string]*failover.Status, error) {
	all := make(map[string]*failover.Status, len(names))
	for from := 0; from < len(names); from += statusesAtOnce {
		group := make([]*instance, 0, statusesAtOnce)
		for _, name := range names[from:min(from+statusesAtOnce, len(names))] {
			if in := n.find(name); in != nil {
				group = append(group, in)
			}
		}
		told, err := ask(ctx, n, func(context.Context) []failover.Status {
			told := make([]failover.Status, len(group))
			for i, in := range group {
				told[i] = in.current().Core.Status(n.now())
			}
			return told
		})
		for i := range told {
			all[group[i].Name] = &told[i]
		}
		switch {
		case errors.Is(err, ErrStopped):
			return all, err
		case err != nil:
			return all, nil //nolint:nilerr // the time is up: what is missing says so
		}
	}
	return all, nil
}
