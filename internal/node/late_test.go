package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// A process can be stopped between any two of its instructions. These tests stop
// the loop between reading the clock and acting.

// A loop that is stopped after it decided to renew must not bring back an address
// whose lease ran out meanwhile, nor tell the neighbours of it.
func TestStoppedBeforeARenewal(t *testing.T) {
	// Renewals come at fixed instants of the clock. A first run tells how far the
	// advertisements are from them, a second has a clock on which they coincide.
	var phase time.Duration
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		sent := make(chan time.Duration, 1)
		a.set(func() {
			a.onSend = func() {
				a.set(func() { a.onSend = nil })
				sent <- time.Duration(w.clock()) % (lease / 4)
			}
		})
		phase = <-sent
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		w.epoch = w.epoch.Add(phase - lease/4)
		w.run()
		w.until("a", failover.Active)
		a := w.hosts["a"]
		time.Sleep(time.Second)
		var holds, announced, from int
		stopped := make(chan struct{})
		a.set(func() {
			a.onSend = func() {
				renews := false // in the same decision
				a.set(func() {
					last := a.holds[len(a.holds)-1]
					if renews = time.Since(w.epoch)-last == lease/4; renews {
						a.onSend = nil
						holds, announced, from = len(a.holds), a.announced, len(a.log)
					}
				})
				if !renews {
					return
				}
				time.Sleep(10 * time.Second)
				close(stopped)
			}
		})
		<-stopped
		synctest.Wait()
		w.status("a")
		a.set(func() {
			if len(a.holds) != holds || a.announced != announced {
				t.Errorf("%d renewals and %d announcements after 10 s away", len(a.holds)-holds, a.announced-announced)
			}
		})
		if got := since(a, from); !strings.HasPrefix(got, "drop,bye") {
			t.Errorf("it did %s", got)
		}
	})
}

func TestAnAcquisitionThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		in := w.node.byName["a"]
		decided := w.clock()
		time.Sleep(actTime + 1)
		got, ok := in.hold(failover.Hold{ID: 4, Lease: lease}, decided).(failover.Held)
		if !ok || got.ID != 4 || !errors.Is(got.Err, errLate) || len(w.hosts["a"].holds) > 0 {
			t.Errorf("%+v", got)
		}
		if got := in.hold(failover.Hold{ID: 5, Lease: lease}, w.clock()); got != (failover.Held{ID: 5}) {
			t.Errorf("in time: %+v", got)
		}
		time.Sleep(lease)
		if got := in.hold(failover.Hold{Lease: lease}, w.clock()); got != nil {
			t.Errorf("a renewal in the last instant: %+v", got)
		}
		time.Sleep(lease + 1)
		if got, _ := in.hold(failover.Hold{Lease: lease}, w.clock()).(failover.Held); !errors.Is(got.Err, errLeaseOver) {
			t.Errorf("a renewal after the lease: %+v", got)
		}
	})
}

// A restarted daemon goes on with the address that it finds, looked for when the
// loop begins.
func TestAdoption(t *testing.T) {
	for _, leftover := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "a")
			a := w.hosts["a"]
			w.node.byName["a"].Start.Memory = hooks.Memory{Epoch: 3, ActiveEpoch: 3, Role: hooks.Active, Finished: true}
			a.leftover = leftover
			w.run()
			s := w.status("a")
			if adopted := s.State == failover.Active && s.Why.Reason == failover.Adopted; adopted != leftover {
				t.Errorf("leftover %v: %s, %s", leftover, s.State, s.Why.Reason)
			}
			if leftover && len(a.holds) != 1 {
				t.Errorf("%d renewals of the address that was found", len(a.holds))
			}
		})
	}
}

// The kernel does not take the address off at the first request.
func TestAFailedDropIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		a.set(func() { a.dropErr = errors.New("resource temporarily unavailable") })
		from := len(a.did())
		w.heed(time.Second)
		a.set(func() { a.dropErr = nil })
		w.heed(time.Second)
		if got, want := strings.Count(since(a, from), "drop"), 1+int(time.Second/dropRetry); got < want || got > want+1 {
			t.Errorf("%d attempts, want %d: until one is good, and none after", got, want)
		}
	})
}

// Right after its link came up an interface may still refuse to send.
func TestARefusedAnnouncementIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		in := w.node.byName["a"]
		const refused = 350 * time.Millisecond
		var before int
		a.set(func() { a.refuses = errors.New("network is down") })
		w.node.calls <- func(context.Context) {
			in.announce()
		}
		time.Sleep(refused)
		a.set(func() {
			if a.refused < int(refused/announceRetry) {
				t.Errorf("tried %d times", a.refused)
			}
			a.refuses, before = nil, a.announced
		})
		time.Sleep(announceRetry)
		synctest.Wait()
		a.set(func() {
			if a.announced == before {
				t.Error("given up")
			}
		})
	})
}

func TestHeldAnswersReachTheCore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		a.holdErr = errors.New("no such device")
		w.run()
		time.Sleep(5 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Contains(w.notes, "a refused step_failed") {
			t.Errorf("it noted %v", w.notes)
		}
		want := []string{"a hold the address: no such device"}
		if diff := cmp.Diff(want, w.events); diff != "" {
			t.Error(diff)
		}
	})
}
