package node

import (
	"context"

	"github.com/tanist-ha/tanist/internal/failover"
)

// askWitness puts a question to the witness. There is at most one at a time: the core
// waits for the answer, or for longer than the question's own bound.
func (in *instance) askWitness(work context.Context, e failover.AskWitness) failover.Event {
	if in.Witness == nil {
		return failover.Witnessed{ID: e.ID, Detail: "this node has no witness to ask"}
	}
	in.worker(work, e.Within, func(ctx context.Context) failover.Event {
		v, detail := in.Witness.Ask(ctx, e)
		return failover.Witnessed{ID: e.ID, Verdict: v, Detail: detail}
	})
	return nil
}
