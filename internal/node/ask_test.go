package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// asker asks the hosts one after the other in no time, and notes how many at once.
type asker struct {
	mu    sync.Mutex
	calls []int
}

func (a *asker) Ask(_ context.Context, kernels []Kernel, within time.Duration) []failover.Asked {
	time.Sleep(within)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, len(kernels))
	answers := make([]failover.Asked, len(kernels))
	for i, k := range kernels {
		if h, ok := k.(*host); ok {
			h.set(func() { answers[i], h.asks = h.answer, h.asks+1 })
		}
	}
	return answers
}

// Instances that ask in one turn ask together, and each hears its own answer.
func TestQuestionsArePutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 40 {
			names = append(names, fmt.Sprint("i", i))
		}
		w := newWorld(t, names...)
		a := &asker{}
		w.node.cfg.Asker = a
		for _, name := range names[:20] {
			w.hosts[name].answer = failover.Asked{Err: errors.New("no carrier at " + name)}
		}
		w.run()
		for i, name := range names {
			if i >= 20 {
				w.until(name, failover.Active)
				continue
			}
			w.until(name, failover.Refused)
			if s := w.status(name); s.Why.Reason != failover.CannotAsk || s.Why.Detail != "no carrier at "+name {
				t.Errorf("%s: %+v", name, s.Why)
			}
		}
		asks := 0
		for _, name := range names {
			h := w.hosts[name]
			h.set(func() { asks += h.asks })
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.calls) == 0 || a.calls[0] != len(names) || len(a.calls) > asks/10 {
			t.Errorf("%d questions in calls of %v", asks, a.calls)
		}
	})
}
