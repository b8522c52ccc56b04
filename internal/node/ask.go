package node

// A host that is lost is asked for by all its instances in one turn of the loop.
// Their questions go out together, at the end of the turn.

import (
	"context"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// question is one that a core wants put to its peer's kernel.
type question struct {
	in  *instance
	ask failover.AskKernel
}

// putQuestions puts those of the turn, those that listen equally long together.
func (n *Node) putQuestions(work context.Context) {
	for len(n.asking) > 0 {
		within := n.asking[0].ask.Within
		var together, rest []question
		for _, q := range n.asking {
			if q.ask.Within == within {
				together = append(together, q)
			} else {
				rest = append(rest, q)
			}
		}
		n.asking = rest
		if n.cfg.Asker == nil {
			for _, q := range together {
				q.in.worker(work, askTime, func(ctx context.Context) failover.Event {
					return q.answered(q.in.Kernel.Ask(ctx, within))
				})
				q.in.busy.Done() // the worker is one
			}
			continue
		}
		n.askTogether(work, together, within)
	}
}

// askTogether is a worker of every instance that asks.
func (n *Node) askTogether(work context.Context, together []question, within time.Duration) {
	kernels := make([]Kernel, len(together))
	for i, q := range together {
		kernels[i] = q.in.Kernel
	}
	n.workers.Go(func() {
		ctx, cancel := context.WithTimeout(work, askTime)
		defer cancel()
		answers := n.cfg.Asker.Ask(ctx, kernels, within)
		for i, q := range together {
			n.result(q.in, q.answered(answers[i]))
			q.in.busy.Done()
		}
	})
}

func (q question) answered(a failover.Asked) failover.Asked {
	a.ID = q.ask.ID
	return a
}
