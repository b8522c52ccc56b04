package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// What one turn of the loop does for many instances at once.

// crowd runs a world of instances that are all Active.
func crowd(t *testing.T, n int, change func(*world)) (*world, []string) {
	t.Helper()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("i", i))
	}
	w := newWorld(t, names...)
	if change != nil {
		change(w)
	}
	w.run()
	for _, name := range names {
		w.until(name, failover.Active)
	}
	return w, names
}

// Everything that a turn has to tell goes out before the loop sleeps, in one go.
func TestATurnTellsThePeerOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := crowd(t, 40, nil)
		synctest.Wait()
		for range 50 {
			if n := w.unsent.Load(); n != 0 {
				t.Fatalf("the loop sleeps on %d states", n)
			}
			time.Sleep(7 * time.Millisecond)
			synctest.Wait()
		}
		flushes, turns := w.flushes.Load(), w.progress.Load()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if f, n := w.flushes.Load()-flushes, w.progress.Load()-turns; f > n || f == 0 {
			t.Errorf("%d times in %d turns", f, n)
		}
		w.leave()
		if err := w.ended(); err != nil {
			t.Error(err)
		}
		if n := w.unsent.Load(); n != 0 {
			t.Errorf("the loop ended on %d states", n)
		}
	})
}

// What comes together is heard in one turn.
func TestABatchIsHeardInOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 40
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("i", i))
		}
		w := newWorld(t, names...)
		w.run()
		time.Sleep(2 * advertInterval)
		synctest.Wait()
		before := w.progress.Load()
		var batch []Heard
		for _, name := range names {
			batch = append(batch, Heard{name, failover.Advertised{Advertisement: w.hosts[name].advert(253), Source: remote}})
		}
		batch = append(batch, Heard{"stranger", failover.Tick{}})
		w.node.DeliverAll(batch)
		clear(batch) // it is the caller's again
		synctest.Wait()
		if turns := w.progress.Load() - before; turns != 1 {
			t.Errorf("%d turns for one batch", turns)
		}
		time.Sleep(2 * advertInterval) // with the time before it, longer than anybody waits in silence
		for _, name := range names {
			if h := w.hosts[name]; h.asks > 0 {
				t.Errorf("%s has not heard it", name)
			}
		}
	})
}

// A deadline is served within its slack, and those that lie close together in one
// turn.
func TestSlackGathersDeadlines(t *testing.T) {
	turns := func(slack time.Duration) (n int64, gap time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			w, names := crowd(t, 20, func(w *world) {
				w.node.cfg.Slack = slack
				for i, h := range w.hosts {
					// A peer's kernel that is asked answers at its own time.
					late := time.Duration(len(i)*100+int(i[len(i)-1])) * time.Millisecond / 10
					h.onAsk = func() { time.Sleep(late) }
				}
			})
			time.Sleep(5 * time.Second)
			synctest.Wait()
			before := w.progress.Load()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			n = w.progress.Load() - before
			h := w.hosts[names[0]]
			h.set(func() {
				for i := 1; i < len(h.advertAt); i++ {
					gap = max(gap, h.advertAt[i]-h.advertAt[i-1])
				}
			})
		})
		return n, gap
	}
	exact, gap := turns(0)
	if gap > advertInterval {
		t.Errorf("without slack %v passed between two advertisements", gap)
	}
	const slack = 5 * time.Millisecond
	gathered, gap := turns(slack)
	if gap > advertInterval+slack {
		t.Errorf("with slack %v passed between two advertisements", gap)
	}
	if gathered*2 > exact {
		t.Errorf("%d turns with slack, %d without", gathered, exact)
	}
	t.Logf("%d turns with slack, %d without", gathered, exact)
}

// renewer notes what is renewed together.
type renewer struct {
	*world
	calls  [][]Renewal
	before func(renewals []Renewal) // of each call
	err    func(Renewal) error
}

func (r *renewer) Renew(renewals []Renewal) []error {
	if r.before != nil {
		r.before(renewals)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, slices.Clone(renewals))
	errs := make([]error, len(renewals))
	for i, x := range renewals {
		errs[i] = x.Addresses.Hold(failover.Hold{Lease: x.Lease})
		if errs[i] == nil && r.err != nil {
			errs[i] = r.err(x)
		}
	}
	return errs
}

func withRenewer(r *renewer) func(*world) {
	return func(w *world) {
		r.world = w
		w.node.cfg.Renewer = r
	}
}

func (r *renewer) all() (calls [][]Renewal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// The leases of many instances are renewed together, each in time.
func TestLeasesAreRenewedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &renewer{}
		const n = renewTogether + 10
		w, names := crowd(t, n, withRenewer(r))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		most, sum := 0, 0
		calls := r.all()
		for _, c := range calls {
			most = max(most, len(c))
			sum += len(c)
		}
		if most != renewTogether || sum < 4*n || len(calls) > sum/10 {
			t.Errorf("%d renewals in %d calls, %d in the largest", sum, len(calls), most)
		}
		for _, name := range names {
			h := w.hosts[name]
			h.set(func() {
				for i := 1; i < len(h.holds); i++ {
					if gap := h.holds[i] - h.holds[i-1]; gap > lease/2 {
						t.Errorf("%v between two renewals of %s", gap, name)
					}
				}
			})
		}
	})
}

// One that fails is tried again soon; the others of the call do not suffer.
func TestARenewalThatFailsIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &renewer{}
		w, _ := crowd(t, 2, withRenewer(r))
		time.Sleep(time.Second)
		bad, good := w.hosts["i1"], w.hosts["i0"]
		from := 0
		bad.set(func() {
			bad.holdErr = errors.New("no buffer space available")
			from = len(bad.holds)
		})
		time.Sleep(lease / 2)
		synctest.Wait()
		bad.set(func() {
			if n := len(bad.holds) - from; n < 5 {
				t.Errorf("%d attempts in %v", n, lease/2)
			}
			bad.holdErr = nil
		})
		time.Sleep(10 * time.Second)
		for _, h := range []*host{bad, good} {
			if s := w.status(h.name); s.State != failover.Active || !s.Holds {
				t.Errorf("%s is %s (%s)", h.name, s.State, s.Why.Reason)
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Contains(w.events, "i1 hold the address: no buffer space available") {
			t.Errorf("troubles: %v", w.events)
		}
	})
}

// A renewal that cannot be had costs the address, as one by itself does.
func TestRenewalsThatKeepFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &renewer{}
		w, _ := crowd(t, 2, withRenewer(r))
		r.mu.Lock()
		r.err = func(x Renewal) error {
			if x.Addresses == Addresses(w.hosts["i1"]) {
				return errors.New("no such device")
			}
			return nil
		}
		r.mu.Unlock()
		from := len(w.hosts["i1"].did())
		time.Sleep(2 * lease)
		if got := w.hosts["i1"].did()[from:]; len(got) == 0 || got[0] != "drop" {
			t.Errorf("it did %v", got)
		}
		if s := w.status("i0"); s.State != failover.Active {
			t.Errorf("the other is %s", s.State)
		}
	})
}

// I8: a loop that is stopped between deciding and acting does not bring back an
// address whose lease ran out meanwhile, nor one that it dropped in the same turn.
func TestAPutOffRenewalIsNoReasonToComeBack(t *testing.T) {
	t.Run("late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := &renewer{}
			w, _ := crowd(t, 2, withRenewer(r))
			time.Sleep(time.Second)
			in := w.node.byName["i0"]
			_, err := ask(t.Context(), w.node, func(work context.Context) bool {
				in.do(work, w.clock(), failover.Hold{Lease: lease})
				time.Sleep(lease + time.Second) // stopped
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			w.status("i0")
			r.mu.Lock()
			calls := len(r.calls)
			r.mu.Unlock()
			a := w.hosts["i0"]
			a.set(func() {
				last := a.holds[len(a.holds)-1]
				if since := time.Since(w.epoch) - last; since < lease {
					t.Errorf("renewed %v ago, in call %d", since, calls)
				}
			})
		})
	})
	t.Run("lease over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			r := &renewer{}
			withRenewer(r)(w)
			a, b := w.node.byName["a"], w.node.byName["b"]
			renew := func() (calls int) {
				a.renewLater(lease)
				b.renewLater(lease)
				w.node.renew(t.Context())
				return len(r.all())
			}
			a.leased, b.leased = w.clock().Add(lease), w.clock().Add(2*lease)
			time.Sleep(lease)
			if n := renew(); n != 1 || a.leased != w.clock().Add(lease) {
				t.Errorf("in the last instant: %d calls, leased for %v", n, a.leased.Sub(w.clock()))
			}
			b.leased = b.leased.Add(lease)
			time.Sleep(lease + 1)
			renew()
			want := []Renewal{{Addresses: w.hosts["b"], Lease: lease}}
			same := cmp.Comparer(func(a, b Addresses) bool { return a == b })
			if diff := cmp.Diff(want, r.all()[1], same); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"a hold the address: " + errLeaseOver.Error()}, w.events); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("dropped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := &renewer{}
			w, _ := crowd(t, 2, withRenewer(r))
			time.Sleep(time.Second)
			in, other := w.node.byName["i0"], w.node.byName["i1"]
			var from int
			_, err := ask(t.Context(), w.node, func(work context.Context) bool {
				r.mu.Lock()
				from = len(r.calls)
				r.mu.Unlock()
				for _, x := range []*instance{in, other} {
					if answer := x.do(work, w.clock(), failover.Hold{Lease: lease}); answer != nil {
						t.Errorf("answered at once: %+v", answer)
					}
				}
				in.do(work, w.clock(), failover.Drop{})
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			want := []Renewal{{Addresses: w.hosts["i1"], Lease: lease}}
			got := r.all()[from]
			same := cmp.Comparer(func(a, b Addresses) bool { return a == b })
			if diff := cmp.Diff(want, got, same); diff != "" {
				t.Error(diff)
			}
		})
	})
}

// An address that is taken is taken at once, whoever renews.
func TestAnAcquisitionIsNotPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		r := &renewer{}
		withRenewer(r)(w)
		in := w.node.byName["a"]
		ev := in.do(t.Context(), w.clock(), failover.Hold{ID: 5, Lease: lease})
		if diff := cmp.Diff(failover.Held{ID: 5}, ev); diff != "" || len(r.all()) != 0 || len(w.hosts["a"].holds) != 1 {
			t.Errorf("%v", diff)
		}
	})
}

// An address that an earlier daemon left is renewed in the loop's first moment.
func TestAdoptionWithARenewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		r := &renewer{}
		withRenewer(r)(w)
		w.node.byName["a"].Start.Memory = hooks.Memory{Epoch: 3, ActiveEpoch: 3, Role: hooks.Active, Finished: true}
		w.hosts["a"].leftover = true
		w.run()
		synctest.Wait()
		if s := w.status("a"); s.State != failover.Active || s.Why.Reason != failover.Adopted || len(r.all()) != 1 {
			t.Errorf("%s, %s, %d renewals", s.State, s.Why.Reason, len(r.all()))
		}
	})
}
