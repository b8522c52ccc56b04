package node

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

// However many processes of an instance's databases end, one word of it waits for
// the loop, and it measures at once.
func TestDisturbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		cfg := coreConfig("a", 51)
		cfg.Databases = []string{"pivot"}
		core, err := failover.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.node.byName["a"].Core = core
		var measured atomic.Int32
		w.hosts["a"].facts = func() []replication.Facts {
			measured.Add(1)
			return []replication.Facts{{Name: "pivot", Reach: replication.Reachable}}
		}
		crowd := func() {
			for range 100 {
				w.node.Deliver("a", failover.Disturbed{})
			}
			w.node.Deliver("b", failover.Disturbed{})
			w.node.Deliver("stranger", failover.Disturbed{})
		}
		crowd()
		if n := len(w.node.heard); n != 2 {
			t.Fatalf("%d wait", n)
		}
		w.run()
		w.heed(3 * time.Second)
		for range 2 { // what was heard does not stand in the way of what comes next
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			before := measured.Load()
			crowd()
			synctest.Wait() // no time passes
			if n := measured.Load() - before; n == 0 || n > 2 {
				t.Errorf("measured %d times", n)
			}
		}
		if n := w.node.Dropped(); n != 0 {
			t.Errorf("dropped %d", n)
		}
	})
}
