package node

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// A node that leaves under maintenance renews once more and takes nothing along; the
// next one is told how much is left of the hold.
func TestLeaveUnderMaintenance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		answer, err := w.node.Hold(t.Context(), "a", failover.HoldRequest{
			Kind: failover.MaintenanceHold, On: true, Reason: "upgrade", For: time.Hour, Force: true,
		})
		if err != nil || answer.Outcome != failover.Done {
			t.Fatalf("%+v, %v", answer, err)
		}
		time.Sleep(10 * time.Minute)
		n, now := len(a.did()), w.clock()
		w.leave()
		if err := w.ended(); err != nil {
			t.Fatal(err)
		}
		if did := since(a, n); strings.Contains(did, "drop") || strings.Contains(did, "begin") {
			t.Errorf("it did %s", did)
		}
		if in := w.node.byName["a"]; in.leased.Sub(now) < failover.MaintenanceLease {
			t.Errorf("the kernel has the address for %s", in.leased.Sub(now))
		}
		kinds := w.journal.kinds()
		if last := kinds[len(kinds)-1]; last != hooks.Parted {
			t.Errorf("the journal ends with %s", last)
		}
		ev := failover.Started{Memory: w.node.journal.memory("a")}
		w.node.recallHolds(&ev)
		if left := ev.MaintenanceLeft; left > 50*time.Minute || left < 49*time.Minute {
			t.Errorf("%s are left of an hour", left)
		}
	})
}
