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
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

const restPatience = 10 * time.Second

// another is a replacement of an instance, with a priority by which it shows.
func (w *world) another(name string, boot uint64) Replacement {
	w.t.Helper()
	h := w.hosts[name]
	cfg := coreConfig(name, 51)
	cfg.Router.Priority = 200
	core, err := failover.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return Replacement{Lease: lease, Instance: Instance{
		Name: name, Core: core, Start: failover.Started{Boot: boot},
		Heartbeat: h, Addresses: h, Databases: h, Steps: h, Kernel: h,
	}}
}

// dropper notes what is taken off in the log of a host.
type dropper struct {
	*host
	what string
}

func (d dropper) Drop() error {
	d.note("drop " + d.what)
	return nil
}

// keepsTime wants no two renewals of a host further apart than half a lease.
func keepsTime(t *testing.T, h *host) {
	t.Helper()
	h.set(func() {
		for i := 1; i < len(h.holds); i++ {
			if gap := h.holds[i] - h.holds[i-1]; gap > lease/2 {
				t.Errorf("%v between two renewals of %s", gap, h.name)
			}
		}
	})
}

func TestReplaceWhileActiveKeepsTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a", "b")
		b := w.hosts["b"]
		time.Sleep(5 * time.Second)
		var told failover.PeerState
		a.set(func() { a.leftover, told = true, a.said })
		from, fromB, other := len(a.did()), len(b.did()), w.status("b")
		old, untouched := w.node.byName["a"], w.node.byName["b"]

		r := w.another("a", 2)
		r.Extra, r.Gone = dropper{a, "extra"}, dropper{a, "gone"}
		if err := w.node.Replace(t.Context(), restPatience, []Replacement{r}); err != nil {
			t.Fatal(err)
		}
		st := w.status("a")
		if st.State != failover.Active || st.Why.Reason != failover.Adopted || !st.Holds {
			t.Errorf("it is %s, %s", st.State, st.Why.Reason)
		}
		time.Sleep(5 * time.Second)
		if diff := cmp.Diff("drop gone", since(a, from)); diff != "" {
			t.Errorf("the address moved: %s", diff)
		}
		keepsTime(t, a)
		a.set(func() {
			if got := a.adverts[len(a.adverts)-1].Priority; got != 200 {
				t.Errorf("it advertises priority %d", got)
			}
			if slices.ContainsFunc(a.adverts, func(adv vrrp.Advertisement) bool { return adv.Priority == 0 }) {
				t.Error("it said that it leaves")
			}
			// The peer takes a state only from the boot of the connection, and only
			// if it is newer.
			if a.said.Boot != told.Boot || a.said.Seq <= told.Seq {
				t.Errorf("told as boot %d, number %d after boot %d, number %d", a.said.Boot, a.said.Seq, told.Boot, told.Seq)
			}
		})
		if now := w.node.byName["a"]; now == old || !old.gone || old.current() != now {
			t.Error("the old instance is still there")
		}
		if w.node.byName["b"] != untouched || since(b, fromB) != "" {
			t.Errorf("the other instance noticed: %s", since(b, fromB))
		}
		keepsTime(t, b)
		if after := w.status("b"); after.Now.Sub(other.Now) != after.Since-other.Since {
			t.Errorf("the other one is %s since %v, was since %v", after.State, after.Since, other.Since)
		}
		if diff := cmp.Diff([]string{"a", "b"}, w.node.Names()); diff != "" {
			t.Error(diff)
		}
		w.leave()
		if err := w.ended(); err != nil {
			t.Error(err)
		}
	})
}

// A standby has nothing to pass on and starts as at boot.
func TestReplaceAStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		w.run()
		w.heed(5 * time.Second)
		from := len(a.did())
		r := w.another("a", 2)
		r.Gone = dropper{a, "gone"}
		go w.heed(5 * time.Second)
		if err := w.node.Replace(t.Context(), restPatience, []Replacement{r}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if st := w.status("a"); st.State != failover.Backup || st.Epoch != 7 {
			t.Errorf("it is %s of epoch %d", st.State, st.Epoch)
		}
		// As at boot, and once more with the Active's name.
		want := boot + ",begin unit stop a.service,end unit stop a.service"
		if diff := cmp.Diff(want, since(a, from)); diff != "" {
			t.Error(diff)
		}
		synctest.Wait()
		time.Sleep(5 * time.Second)
	})
}

// What the kernel said of the interface, it does not say again.
func TestReplaceRemembersTheLink(t *testing.T) {
	for _, moved := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "a")
			w.run()
			w.node.Deliver("a", failover.LinkChanged{Detail: "no carrier"})
			w.until("a", failover.Fault)
			time.Sleep(10 * time.Second)
			r := w.another("a", 2)
			r.Moved = moved
			old := w.node.byName["a"]
			if err := w.node.Replace(t.Context(), restPatience, []Replacement{r}); err != nil {
				t.Fatal(err)
			}
			want := failover.Fault
			if moved {
				want = failover.Active
			}
			time.Sleep(10 * time.Second)
			if st := w.status("a"); st.State != want {
				t.Errorf("moved %v: it is %s, %s", moved, st.State, st.Why.Reason)
			}
			w.node.queue(message{old, failover.LinkChanged{Up: true}}) // said while it was replaced
			if moved {
				w.node.queue(message{old, failover.LinkChanged{Detail: "no carrier"}})
			}
			w.until("a", failover.Active)
			time.Sleep(10 * time.Second)
			if st := w.status("a"); st.State != failover.Active {
				t.Errorf("moved %v: it is %s, %s", moved, st.State, st.Why.Reason)
			}
		})
	}
}

// All instances are replaced or none, and what was added for none goes again.
func TestReplaceAllOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a", "b", "c")
		b, c := w.hosts["b"], w.hosts["c"]
		before := slices.Clone(w.node.instances)
		var rs []Replacement
		for _, h := range []*host{a, b, c} {
			h.set(func() { h.leftover = true })
			r := w.another(h.name, 2)
			r.Extra = dropper{h, "extra"}
			rs = append(rs, r)
		}
		b.set(func() { b.leftover = false })
		from := []int{len(a.did()), len(b.did()), len(c.did())}
		err := w.node.Replace(t.Context(), restPatience, rs)
		if err == nil || !strings.Contains(err.Error(), "instance b") {
			t.Errorf("the kernel does not have the addresses: %v", err)
		}
		got := []string{since(a, from[0]), since(b, from[1]), since(c, from[2])}
		if diff := cmp.Diff([]string{"drop extra", "drop extra", ""}, got); diff != "" {
			t.Error(diff)
		}
		time.Sleep(5 * time.Second)
		if !slices.Equal(before, w.node.instances) || w.status("a").State != failover.Active || w.status("b").State != failover.Active {
			t.Error("something was changed")
		}
		keepsTime(t, a)
		keepsTime(t, b)
	})
}

func TestReplaceWaitsForRest(t *testing.T) {
	plan := func(t *testing.T, d time.Duration) (*world, *host) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		a.step = func(_ context.Context, title string) (hooks.Outcome, string) {
			if strings.HasPrefix(title, "unit start") {
				time.Sleep(d)
			}
			return hooks.Changed, ""
		}
		a.leftover = true
		w.run()
		w.until("a", failover.Promoting)
		time.Sleep(time.Second)
		return w, a
	}
	tests := map[string]struct {
		make func(t *testing.T) *world
		busy string // empty: it is at rest in time
	}{
		"a-plan-that-ends": {func(t *testing.T) *world { w, _ := plan(t, 5*time.Second); return w }, ""},
		"a-plan":           {func(t *testing.T) *world { w, _ := plan(t, 25*time.Second); return w }, "a plan runs"},
		"a-takeover": {func(t *testing.T) *world {
			w := newWorld(t, "a")
			cfg := coreConfig("a", 51)
			cfg.StartupDelay = time.Hour
			core, err := failover.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			w.node.byName["a"].Core = core
			w.run()
			time.Sleep(2 * time.Second)
			return w
		}, "a takeover is under way"},
		"a-handover": {func(t *testing.T) *world {
			w, _ := active(t, "a")
			peer := func() {
				for range 300 {
					giving2(w)
					time.Sleep(failover.TellInterval)
				}
			}
			giving2(w)
			go peer()
			synctest.Wait()
			go func() {
				_, _ = w.node.Switchover(context.Background(), "a", failover.Request{Timeout: 20 * time.Second})
			}()
			time.Sleep(time.Second)
			return w
		}, "a switchover was asked for"},
		"a-slow-journal": {func(t *testing.T) *world {
			w, _ := active(t, "a")
			w.hosts["a"].set(func() { w.hosts["a"].leftover = true })
			time.Sleep(time.Second)
			w.journal.hang()
			w.node.Deliver("a", failover.PeerSaid{State: failover.PeerState{
				Boot: 9, Seq: 1, State: failover.Backup, Epoch: 7, ActiveEpoch: 7, Bids: true,
			}}) // it numbers itself anew
			synctest.Wait()
			return w
		}, "not in the journal yet"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := tc.make(t)
				before, at := w.node.byName["a"], time.Now()
				err := w.node.Replace(t.Context(), restPatience, []Replacement{w.another("a", 2)})
				var busy *BusyError
				switch {
				case tc.busy == "":
					if err != nil || w.node.byName["a"] == before {
						t.Errorf("after %v: %v", time.Since(at), err)
					}
				case !errors.As(err, &busy) || busy.Instance != "a" || !strings.Contains(err.Error(), tc.busy):
					t.Errorf("after %v: %v, want it busy: %s", time.Since(at), err, tc.busy)
				case w.node.byName["a"] != before || time.Since(at) < restPatience:
					t.Errorf("it was changed or not waited for, after %v", time.Since(at))
				}
				if err := w.node.AtRest(t.Context(), time.Millisecond, "a"); (err == nil) != (tc.busy == "") {
					t.Errorf("afterwards: %v", err)
				}
				w.journal.release()
				time.Sleep(time.Minute)
			})
		})
	}
}

// giving2 lets the peer say that it lives and goes along with nothing.
func giving2(w *world) {
	w.seq++
	w.node.Deliver("a", failover.PeerSaid{State: failover.PeerState{
		Boot: 9, Seq: w.seq, State: failover.Backup, Bids: true, Hears: true, Sources: failover.NoDatabases,
	}})
}

// What a promotion still lacked, the new core still sees to.
func TestReplaceAfterAnIncompletePromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		fails := true
		a.step = func(_ context.Context, title string) (hooks.Outcome, string) {
			if fails && strings.HasPrefix(title, "unit start") {
				return hooks.Failed, "no such unit"
			}
			return hooks.Changed, ""
		}
		w.run()
		w.until("a", failover.Active)
		a.set(func() { a.leftover, fails = true, false })
		from := len(a.did())
		if err := w.node.Replace(t.Context(), restPatience, []Replacement{w.another("a", 2)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if diff := cmp.Diff("begin unit start a.service,end unit start a.service", since(a, from)); diff != "" {
			t.Error(diff)
		}
	})
}

// The answers to the old core's questions do not reach the new one, which counts
// its own from 1 again; what was heard for the old one does. Replace returns when
// the old one's workers have ended.
func TestReplaceWithWorkUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		a.set(func() { a.leftover = true })
		old := w.node.byName["a"]
		slow := make(chan struct{})
		if _, err := change(w.node, func(work context.Context) bool {
			old.worker(work, time.Minute, func(context.Context) failover.Event {
				<-slow
				return failover.StepEnded{ID: 1}
			})
			return true
		}); err != nil {
			t.Fatal(err)
		}
		over := make(chan error, 1)
		go func() { over <- w.node.Replace(t.Context(), restPatience, []Replacement{w.another("a", 2)}) }()
		synctest.Wait()
		if old.current() == old {
			t.Fatal("it is not replaced")
		}
		select {
		case err := <-over:
			t.Errorf("it did not wait for the worker: %v", err)
		default:
		}
		w.node.queue(message{old, failover.PeerSaid{State: failover.PeerState{Boot: 9, Seq: 1, State: failover.Backup}}})
		if st := w.status("a"); !st.PeerKnown {
			t.Error("what was heard before was lost")
		}
		steps := 0
		old.current().steps[1] = func() { steps++ }
		close(slow)
		if err := <-over; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(old.current().steps) != 1 {
			t.Error("the old core's step ended one of the new core's")
		}
		if _, err := change(w.node, func(context.Context) bool { clear(old.current().steps); return true }); err != nil {
			t.Error(err)
		}
	})
}

// A standby whose peer fell silent would forget how far the peer's databases were.
func TestReplaceDoesNotForgetTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		cfg := coreConfig("a", 51)
		cfg.Databases = []string{"pivot"}
		core, err := failover.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.node.byName["a"].Core = core
		a.facts = func() []replication.Facts { return []replication.Facts{{}} }
		a.answer = failover.Asked{Host: true, Address: true, OnLink: true}
		w.run()
		w.heed(3 * time.Second)
		time.Sleep(10 * time.Second)
		var busy *BusyError
		if err := w.node.AtRest(t.Context(), time.Second, "a"); !errors.As(err, &busy) {
			t.Errorf("it is %s: %v", w.status("a").State, err)
		}
		w.heed(time.Second)
		if err := w.node.AtRest(t.Context(), time.Second, "a"); err != nil {
			t.Errorf("with the peer back: %v", err)
		}
	})
}

func TestRemoveAndAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a", "b")
		b := w.hosts["b"]
		from, fromB := len(a.did()), len(b.did())
		var told failover.PeerState
		if err := w.node.Remove(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		want := "drop,bye,begin unit stop a.service,end unit stop a.service"
		if diff := cmp.Diff(want, since(a, from)); diff != "" {
			t.Error(diff)
		}
		if _, err := w.node.Status(t.Context(), "a"); err == nil || len(w.node.Names()) != 1 {
			t.Errorf("it is still there: %v, %v", w.node.Names(), err)
		}
		if err := w.node.Remove(t.Context(), "a"); err == nil {
			t.Error("removed twice")
		}
		w.node.Deliver("a", failover.Tick{})
		a.set(func() { told = a.said })

		// The last one can go too: the daemon ends when it is told to, not before.
		if err := w.node.Remove(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(since(b, fromB), "drop,bye") {
			t.Errorf("b did %s", since(b, fromB))
		}
		time.Sleep(5 * time.Second)
		select {
		case err := <-w.over:
			t.Fatalf("the loop ended: %v", err)
		default:
		}

		epoch := w.node.journal.memory("a").Epoch
		if err := w.node.Add(t.Context(), w.another("a", 3).Instance); err != nil {
			t.Fatal(err)
		}
		if err := w.node.Add(t.Context(), w.another("a", 4).Instance); err == nil {
			t.Error("added twice")
		}
		w.until("a", failover.Active)
		if st := w.status("a"); uint64(st.Epoch) != epoch+1 {
			t.Errorf("epoch %d after %d: it forgot", st.Epoch, epoch)
		}
		a.set(func() {
			if a.said.Boot != told.Boot || a.said.Seq <= told.Seq {
				t.Errorf("told as boot %d, number %d after boot %d, number %d", a.said.Boot, a.said.Seq, told.Boot, told.Seq)
			}
		})
		w.leave()
		if err := w.ended(); err != nil {
			t.Error(err)
		}
	})
}

// The end of the daemon comes before any change.
func TestTheLeaveWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		a := w.hosts["a"]
		a.step = func(ctx context.Context, title string) (hooks.Outcome, string) {
			if strings.HasPrefix(title, "unit st") {
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Second):
				}
			}
			return hooks.Changed, ""
		}
		w.run()
		w.until("a", failover.Promoting)
		replaced, removed := make(chan error, 1), make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { replaced <- w.node.Replace(ctx, time.Hour, []Replacement{w.another("a", 2)}) }()
		go func() { removed <- w.node.Remove(t.Context(), "b") }()
		time.Sleep(time.Second)
		w.leave()
		cancel()
		if err := <-replaced; !errors.Is(err, context.Canceled) && !errors.Is(err, ErrLeaving) {
			t.Errorf("replaced: %v", err)
		}
		if err := w.node.Add(t.Context(), w.another("b", 2).Instance); err == nil {
			t.Error("one more was started")
		}
		if err := <-removed; err != nil {
			t.Errorf("removed: %v", err)
		}
		if err := w.ended(); err != nil {
			t.Error(err)
		}
		if err := w.node.Add(t.Context(), w.another("c", 2).Instance); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
		if err := w.node.Remove(t.Context(), "a"); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A command that comes for an instance that has left is answered.
func TestCommandForAnInstanceThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a", "b")
		away := make(chan struct{})
		a.set(func() { a.onTurn = func() { <-away } })
		w.node.Deliver("a", failover.Tick{})
		synctest.Wait()
		in := w.node.byName["a"]
		got := make(chan Answer, 1)
		go func() { // found before it left, its turn comes after
			answer, err := w.node.Switchover(t.Context(), "a", failover.Request{Timeout: time.Minute})
			if err != nil {
				t.Error(err)
			}
			got <- answer
		}()
		synctest.Wait()
		in.gone = true // the loop is away
		close(away)
		if answer := <-got; answer.Outcome != failover.RefusedTo {
			t.Errorf("%+v", answer)
		}
		in.gone = false
	})
}

// What the journal did not take: a beginning of a promotion did not happen, the
// rest did.
func TestMemoryOfWhatCouldNotBeWritten(t *testing.T) {
	w := newWriter(&disk{}, nil, nil)
	w.recall("a", hooks.Memory{Epoch: 3, ActiveEpoch: 3, Role: hooks.Active, Finished: true})
	w.fold(hooks.Record{Kind: hooks.Began, Instance: "a", Epoch: 4, Role: hooks.Active}, errFull)
	if m := w.memory("a"); m.Epoch != 3 || m.Role != hooks.Active {
		t.Errorf("%+v", m)
	}
	w.fold(hooks.Record{Kind: hooks.Began, Instance: "a", Epoch: 3, Role: hooks.Standby}, errFull)
	if m := w.memory("a"); m.Role != hooks.Standby || m.Finished {
		t.Errorf("%+v", m)
	}
	if m := w.recall("a", hooks.Memory{}); m.Epoch != 3 {
		t.Errorf("what is known was replaced by what was: %+v", m)
	}
}

// A loop that was away for longer than the peer's patience first does what it owes,
// and an address whose lease is over is not brought back for a new core.
func TestReplaceAfterTheLoopWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		a.set(func() {
			a.leftover = true
			a.onTurn = func() { time.Sleep(10 * time.Second) }
		})
		from := len(a.did())
		if err := w.node.Replace(t.Context(), 0, []Replacement{w.another("a", 2)}); err == nil {
			t.Error("it was replaced as if nothing had been")
		}
		if got := since(a, from); !strings.HasPrefix(got, "drop,bye") {
			t.Errorf("it did %s", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a, in := w.hosts["a"], w.node.byName["a"]
		a.leftover = true
		in.leased = w.clock().Add(lease)
		if err := in.pass(w.another("a", 2)); err != nil || len(a.holds) != 1 {
			t.Errorf("in time: %v, %d times held", err, len(a.holds))
		}
		time.Sleep(lease + 1)
		if err := in.pass(w.another("a", 2)); !errors.Is(err, errLeaseOver) || len(a.holds) != 1 {
			t.Errorf("too late: %v, %d times held", err, len(a.holds))
		}
	})
}
