package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// stuck is a kernel that answers to nothing about addresses for a while, as under
// somebody else's RTNL lock.
type stuck struct {
	renewer
	until time.Time
	begun int
}

func (s *stuck) Renew(renewals []Renewal) []error {
	s.mu.Lock()
	until := s.until
	s.begun++
	s.mu.Unlock()
	time.Sleep(time.Until(until))
	return s.renewer.Renew(renewals)
}

func (s *stuck) lock(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.begun = time.Now().Add(d), 0
}

func withStuck(t *testing.T, n int) (*stuck, *world) {
	t.Helper()
	s := &stuck{}
	w, _ := crowd(t, n, func(w *world) {
		s.world = w
		w.node.cfg.Renewer = s
	})
	time.Sleep(time.Second)
	synctest.Wait()
	return s, w
}

// gaps returns the longest time between two advertisements since from.
func gaps(h *host, from time.Duration) (longest time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := from
	for _, at := range append(slices.Clone(h.advertAt), time.Since(h.epoch)) {
		if at > from {
			longest, last = max(longest, at-last), at
		}
	}
	return longest
}

// While the kernel does not answer to a renewal, the heartbeat goes on, and within
// the lease nothing is lost.
func TestASlowRenewalStopsNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := withStuck(t, renewTogether+10)
		from, did := time.Since(w.epoch), map[string]int{}
		for name, h := range w.hosts {
			did[name] = len(h.did())
		}
		s.lock(lease - lease/4 - 200*time.Millisecond)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for name, h := range w.hosts {
			if got := since(h, did[name]); got != "" {
				t.Errorf("%s: %s", name, got)
			}
			if g := gaps(h, from); g > advertInterval+2*renewTime {
				t.Errorf("%s: %v without an advertisement", name, g)
			}
			if st := w.status(name); st.State != failover.Active || !st.Holds {
				t.Errorf("%s is %s (%s)", name, st.State, st.Why.Reason)
			}
			h.set(func() {
				if last := h.holds[len(h.holds)-1]; time.Since(h.epoch)-last > lease/2 {
					t.Errorf("%s was renewed %v ago", name, time.Since(h.epoch)-last)
				}
			})
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, " renew leases: the kernel took 1") }) {
			t.Errorf("troubles: %q", w.events)
		}
	})
}

// A lease that is over when the kernel answers is over: the address, which the
// renewal may have brought back, goes, and nothing is done to it before.
func TestARenewalThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := withStuck(t, 2)
		a := w.hosts["i0"]
		did := len(a.did())
		s.lock(2 * lease)
		time.Sleep(2*lease - time.Millisecond)
		synctest.Wait()
		if got := since(a, did); got != "" {
			t.Errorf("before the kernel answered: %s", got)
		}
		s.mu.Lock()
		if s.begun > 1 {
			t.Errorf("the kernel was asked %d times", s.begun)
		}
		s.mu.Unlock()
		var from int
		a.set(func() { from = len(a.holds) })
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if got := since(a, did); len(got) < 4 || got[:4] != "drop" {
			t.Errorf("after the kernel answered: %q", got)
		}
		a.set(func() {
			if len(a.holds) != from+1 {
				t.Errorf("%d holds after it", len(a.holds)-from)
			}
		})
	})
}

// An address that is dropped while its renewal is under way stays away: the drop
// comes after it.
func TestADropDoesNotOvertakeARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := withStuck(t, 2)
		in, a := w.node.byName["i0"], w.hosts["i0"]
		s.lock(lease / 4 * 3)
		time.Sleep(lease / 2)
		var holds, dropped int
		_, err := ask(t.Context(), w.node, func(context.Context) bool {
			if w.node.pending.done == nil {
				t.Error("no renewal is under way")
			}
			a.set(func() { holds = len(a.holds) })
			in.drop()
			a.set(func() { dropped = len(a.holds) })
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if dropped != holds+1 {
			t.Errorf("%d renewals were done when the address was dropped, %d before", dropped, holds)
		}
		if in.leased != 0 || in.undropped {
			t.Errorf("leased until %v, undropped %v", in.leased, in.undropped)
		}
	})
}

// A worker that gets its turn only when the lease is over leaves the address alone.
func TestALateWorkerDoesNotRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &renewer{}
		w := newWorld(t, "a")
		withRenewer(r)(w)
		over := w.clock()
		renewals := []Renewal{{Addresses: w.hosts["a"], Lease: lease}}
		if errs := w.node.renewUntil(over, renewals); errs[0] != nil || len(r.all()) != 1 {
			t.Errorf("in the last instant: %v", errs)
		}
		time.Sleep(time.Millisecond)
		if errs := w.node.renewUntil(over, renewals); !errors.Is(errs[0], errLeaseOver) || len(r.all()) != 1 {
			t.Errorf("after it: %v", errs)
		}
	})
}
