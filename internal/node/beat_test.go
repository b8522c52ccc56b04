package node

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// A heartbeat is good for a time from its decision, however late a worker comes to
// it, and what goes wrong with it is told and holds nothing up.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		in := w.node.instances[0]
		type beat struct {
			epoch failover.Epoch
			left  time.Duration
		}
		beats := make(chan beat, 1)
		a.beat = func(epoch failover.Epoch, until mono.Instant) error {
			beats <- beat{epoch, until.Sub(w.clock())}
			return errors.New("disk is full")
		}
		decided := w.clock()
		time.Sleep(300 * time.Millisecond) // the loop was stopped in between
		if ev := in.do(t.Context(), decided, failover.Measure{ID: 1, Beat: 4}); ev != nil {
			t.Errorf("it waits for %T", ev)
		}
		if b := <-beats; b.epoch != 4 || b.left != beatTime-300*time.Millisecond {
			t.Errorf("epoch %d, %s left", b.epoch, b.left)
		}
		synctest.Wait()
		w.mu.Lock()
		told := strings.Join(w.events, "; ")
		w.mu.Unlock()
		if !strings.Contains(told, "write the heartbeat") || !strings.Contains(told, "disk is full") {
			t.Errorf("told: %s", told)
		}
		in.do(t.Context(), w.clock(), failover.Measure{ID: 2})
		synctest.Wait()
		select {
		case b := <-beats:
			t.Errorf("a measurement without one writes one of epoch %d", b.epoch)
		default:
		}
	})
}
