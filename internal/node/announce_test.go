package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// announcements returns how often an instance was announced while do ran. The
// clock of the bubble stands still meanwhile, so that the core's own are left out.
func announcements(h *host, do func()) int {
	var before, after int
	h.set(func() { before = h.announced })
	do()
	h.set(func() { after = h.announced })
	return after - before
}

func TestAnnounce(t *testing.T) {
	tests := map[string]struct {
		make  func(t *testing.T) *world
		times int
		err   func(error) bool
	}{
		"active": {func(t *testing.T) *world {
			w, _ := active(t, "a")
			return w
		}, 1, func(err error) bool { return err == nil }},
		"standby": {func(t *testing.T) *world {
			w := newWorld(t, "a")
			w.run()
			go w.heed(time.Minute)
			w.until("a", failover.Backup)
			return w
		}, 0, func(err error) bool { return errors.Is(err, ErrNotHeld) }},
		"handover": {func(t *testing.T) *world {
			w, _ := active(t, "a")
			giving2(w)
			go func() {
				for range 300 {
					giving2(w)
					time.Sleep(failover.TellInterval)
				}
			}()
			synctest.Wait()
			go func() {
				_, _ = w.node.Switchover(context.Background(), "a", failover.Request{Timeout: 20 * time.Second})
			}()
			synctest.Wait()
			return w
		}, 0, func(err error) bool { return errors.As(err, new(*BusyError)) }},
		"interface refuses": {func(t *testing.T) *world {
			w, a := active(t, "a")
			a.set(func() { a.refuses = errors.New("network is down") })
			return w
		}, 0, func(err error) bool { return err != nil && err.Error() == "network is down" }},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := tc.make(t)
				var err error
				times := announcements(w.hosts["a"], func() { err = w.node.Announce(t.Context(), "a") })
				if times != tc.times || !tc.err(err) {
					t.Errorf("announced %d times, want %d: %v", times, tc.times, err)
				}
			})
		})
	}
}

// A loop that was away for longer than the lease lets go before it announces.
func TestAnnounceAfterALongSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		a.set(func() {
			a.onTurn = func() {
				a.set(func() { a.onTurn = nil })
				time.Sleep(10 * time.Second)
			}
		})
		times := announcements(a, func() {
			if err := w.node.Announce(t.Context(), "a"); !errors.Is(err, ErrNotHeld) {
				t.Errorf("it said %v", err)
			}
		})
		if times != 0 {
			t.Errorf("announced %d times", times)
		}
	})
}

func TestAnnounceUnknownInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		if err := w.node.Announce(t.Context(), "b"); err == nil {
			t.Error("an instance that is not there was announced")
		}
	})
}
