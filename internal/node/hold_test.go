package node

import (
	"errors"
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
		usual, err := w.node.LeaveTime(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		answer, err := w.node.Hold(t.Context(), "a", failover.HoldRequest{
			Kind: failover.MaintenanceHold, On: true, Reason: "upgrade", For: time.Hour, Force: true,
		})
		if err != nil || answer.Outcome != failover.Done {
			t.Fatalf("%+v, %v", answer, err)
		}
		if most, err := w.node.LeaveTime(t.Context()); err != nil || most < usual+time.Minute {
			t.Errorf("leaving takes %s, %s without maintenance (%v)", most, usual, err)
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

// A reload waits for a command that is under way, and what it made so stays.
func TestHoldWhileReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		a.set(func() { a.leftover = true })
		w.journal.hang()
		held := w.hold("a", failover.HoldRequest{On: true, Reason: "disk"})
		var busy *BusyError
		if err := w.node.Replace(t.Context(), time.Second, []Replacement{w.another("a", 2)}); !errors.As(err, &busy) {
			t.Fatalf("%v", err)
		}
		w.journal.release()
		if err := w.node.Replace(t.Context(), restPatience, []Replacement{w.another("a", 2)}); err != nil {
			t.Fatal(err)
		}
		if h := <-held; h.err != nil || h.Outcome != failover.Done || h.Why.Reason != failover.Blocked {
			t.Errorf("%+v", h)
		}
		if b := w.status("a").Block; b == nil || b.Reason != "disk" {
			t.Errorf("block: %+v", b)
		}
		if h := <-w.hold("a", failover.HoldRequest{Reason: "mended"}); h.err != nil || h.Outcome != failover.Done {
			t.Errorf("to the one in its place: %+v", h)
		}
	})
}

// Nobody waits for ever for an instance that is taken out.
func TestHoldWhileRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a", "b")
		w.journal.hang()
		held := w.hold("a", failover.HoldRequest{On: true, Reason: "disk"})
		if err := w.node.Remove(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		select {
		case h := <-held:
			if h.err != nil || h.Outcome != failover.RefusedTo || h.Why.Reason != failover.Stopping {
				t.Errorf("%+v", h)
			}
		case <-time.After(time.Minute):
			t.Error("no answer in a minute")
		}
		if h := <-w.hold("a", failover.HoldRequest{On: true, Reason: "disk"}); h.err == nil {
			t.Errorf("to one that is gone: %+v", h)
		}
	})
}

type holdAnswer struct {
	Answer
	err error
}

// hold gives a command, and returns when the loop has it.
func (w *world) hold(name string, r failover.HoldRequest) <-chan holdAnswer {
	held := make(chan holdAnswer, 1)
	go func() {
		a, err := w.node.Hold(w.t.Context(), name, r)
		held <- holdAnswer{a, err}
	}()
	synctest.Wait()
	return held
}
