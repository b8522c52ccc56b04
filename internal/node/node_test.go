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

const boot = "drop,begin unit stop a.service,end unit stop a.service"

// since returns what was done after the first n things.
func since(h *host, n int) string { return strings.Join(h.did()[n:], ",") }

// active runs a world whose peer is dead and waits until a is Active.
func active(t *testing.T, names ...string) (*world, *host) {
	t.Helper()
	w := newWorld(t, names...)
	w.run()
	for _, name := range names {
		w.until(name, failover.Active)
	}
	return w, w.hosts[names[0]]
}

func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		want := boot + ",hold,begin unit start a.service,end unit start a.service"
		if diff := cmp.Diff(want, since(a, 0)); diff != "" {
			t.Error(diff)
		}
		want2 := []hooks.RecordKind{
			hooks.Began, hooks.Stepped, hooks.Ended, // closing
			hooks.Began, hooks.Stepped, hooks.Stepped, hooks.Ended,
		}
		if diff := cmp.Diff(want2, w.journal.kinds()); diff != "" {
			t.Error(diff)
		}
		before := w.progress.Load()
		time.Sleep(10 * time.Second)
		if turns := w.progress.Load() - before; turns < 40 || turns > 4000 {
			t.Errorf("%d turns of the loop in 10 s", turns)
		}
		a.set(func() {
			for i := 1; i < len(a.holds); i++ {
				if gap := a.holds[i] - a.holds[i-1]; gap > lease/2 {
					t.Errorf("%v between two renewals", gap)
				}
			}
		})
	})
}

// Advertisements that wait where only Drain finds them are signs of life.
func TestQueuedAdvertisementsAreHeardBeforeATimerActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		w.run()
		for range 40 {
			a.advertise(253)
			time.Sleep(advertInterval)
		}
		synctest.Wait()
		if a.asks > 0 || len(a.holds) > 0 || w.status("a").State != failover.Backup {
			t.Errorf("%d questions, %d holds while the peer advertised", a.asks, len(a.holds))
		}
		w.until("a", failover.Active) // and silence is silence
	})
}

// A loop that was away finds a message of the link and, behind it, the
// advertisement that says that nobody has to be replaced.
func TestAnAdvertisementOvertakesOtherNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		w.run()
		a.advertise(253)
		time.Sleep(advertInterval)
		records := len(w.journal.kinds())
		a.set(func() {
			a.onTurn = func() {
				time.Sleep(3 * time.Second)
				w.node.Deliver("a", failover.PeerSaid{State: failover.PeerState{
					Boot: 9, Seq: 1, State: failover.Backup, Bids: true, Sources: failover.NoDatabases,
				}})
				w.node.Deliver("a", failover.Advertised{Advertisement: a.advert(253), Source: remote})
			}
		})
		time.Sleep(3*time.Second + advertInterval)
		synctest.Wait()
		if n := len(w.journal.kinds()); n != records {
			t.Errorf("%d records: a bid began though an advertisement was waiting", n-records)
		}
	})
}

func TestDeliverNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		for range heardSize + 5 {
			w.node.Deliver("a", failover.Tick{})
		}
		w.node.Deliver("stranger", failover.Tick{})
		if got := w.node.Dropped(); got != 5 {
			t.Errorf("%d dropped, want 5", got)
		}
	})
}

// I4: the next plan begins when the last step of the cancelled one has answered.
func TestACancelledStepEndsBeforeTheNextPlanBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		a.step = func(ctx context.Context, title string) (hooks.Outcome, string) {
			if !strings.HasPrefix(title, "unit start") {
				return hooks.Changed, ""
			}
			<-ctx.Done()
			a.note("cancelled")
			time.Sleep(2 * time.Second)
			return hooks.Cancelled, ""
		}
		w.run()
		w.until("a", failover.Promoting)
		time.Sleep(time.Second)
		from := len(a.did())
		w.heed(time.Second)
		if diff := cmp.Diff("drop,bye,cancelled", since(a, from)); diff != "" {
			t.Errorf("before the step answered: %s", diff)
		}
		w.heed(2 * time.Second)
		want := "drop,bye,cancelled,end unit start a.service,begin unit stop a.service,end unit stop a.service"
		if diff := cmp.Diff(want, since(a, from)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAStepWithoutItsVariablesFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.node.byName["a"]
		ev := a.startStep(t.Context(), failover.StartStep{Order: hooks.StartStep{
			ID: 7, Step: hooks.Step{Action: hooks.Unit{Name: "{{.Nothing}}"}},
		}})
		if got, ok := ev.(failover.StepEnded); !ok || got.ID != 7 || got.Outcome != hooks.Failed || got.Detail == "" {
			t.Errorf("%+v", ev)
		}
	})
}

// A journal that takes no more answers with an error and does not hold up the loop.
func TestJournalBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		in := w.node.byName["a"]
		for i := range writerSize {
			if ev := w.node.journal.append(in, failover.Append{ID: failover.ID(i + 1)}); ev != nil {
				t.Fatalf("record %d: %+v", i, ev)
			}
		}
		if ev := w.node.journal.append(in, failover.Append{}); ev != nil {
			t.Errorf("nobody waits, and yet %+v", ev)
		}
		ev, ok := w.node.journal.append(in, failover.Append{ID: 300}).(failover.Durable)
		if !ok || ev.ID != 300 || !errors.Is(ev.Err, errJournalBehind) {
			t.Errorf("%+v", ev)
		}
	})
}

func TestAHungJournalHoldsUpNothingButPromotions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		w.journal.hang()
		w.run()
		w.until("a", failover.Refused)
		if s := w.status("a"); s.Why.Reason != failover.JournalFailed {
			t.Errorf("refused with %s", s.Why.Reason)
		}
		before := w.progress.Load()
		time.Sleep(10 * time.Second)
		if w.progress.Load() == before || len(a.holds) > 0 {
			t.Errorf("%d turns, %d holds", w.progress.Load()-before, len(a.holds))
		}
		w.leave()
		if err := w.ended(); !errors.Is(err, errUnended) {
			t.Errorf("the end with a hung journal: %v", err)
		}
	})
}

func TestAJournalThatFailsRefusesThePromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		w.journal.err = errFull
		w.run()
		w.until("a", failover.Refused)
		s := w.status("a")
		if s.Why.Reason != failover.JournalFailed || !strings.Contains(s.Why.Detail, errFull.Error()) {
			t.Errorf("refused with %+v", s.Why)
		}
		if a := w.hosts["a"]; len(a.holds) > 0 {
			t.Error("it took the address")
		}
		w.journal.mu.Lock()
		w.journal.err = nil
		w.journal.mu.Unlock()
		w.until("a", failover.Active)
	})
}

// I7: neither the journal nor a database delays letting go.
func TestDemotionWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		cfg := coreConfig("a", 51)
		cfg.Databases = []string{"pivot"}
		core, err := failover.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		in := w.node.byName["a"]
		in.Core = core
		in.Start.Memory = hooks.Memory{Epoch: 3, ActiveEpoch: 3, Role: hooks.Active, Finished: true}
		a := w.hosts["a"]
		a.leftover = true
		a.closing = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		w.run()
		w.until("a", failover.Active)
		time.Sleep(time.Second)
		w.journal.hang()
		from, at := len(a.did()), time.Now()
		w.heed(1)
		synctest.Wait()
		got := strings.Split(since(a, from), ",")
		if len(got) == 0 || got[0] != "drop" || !slices.Contains(got, "close writes") || !slices.Contains(got, "bye") || time.Since(at) > failover.TellInterval {
			t.Errorf("after %v: %v", time.Since(at), got)
		}
		if w.status("a").Role != hooks.Standby {
			t.Error("it still has the role")
		}
	})
}

func TestTheKernelCannotBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		a.answer = failover.Asked{Err: errors.New("interface has no carrier")}
		w.run()
		w.until("a", failover.Refused)
		if s := w.status("a"); s.Why.Reason != failover.CannotAsk || s.Why.Detail != "interface has no carrier" {
			t.Errorf("%+v", s.Why)
		}
		time.Sleep(10 * time.Second)
		a.set(func() {
			if len(a.holds) > 0 || a.asks < 10 {
				t.Errorf("%d holds, %d questions", len(a.holds), a.asks)
			}
			a.answer = failover.Asked{}
		})
		w.until("a", failover.Active)
	})
}

func TestPlannedLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a", "b")
		b := w.hosts["b"]
		b.set(func() {
			b.step = func(context.Context, string) (hooks.Outcome, string) {
				time.Sleep(3 * time.Second)
				return hooks.Changed, ""
			}
		})
		from, at := len(a.did()), time.Now()
		w.leave()
		if err := w.ended(); err != nil {
			t.Error(err)
		}
		if got := time.Since(at); got != 3*time.Second {
			t.Errorf("left after %v, and the slower instance needs 3 s", got)
		}
		if diff := cmp.Diff("drop,bye,begin unit stop a.service,end unit stop a.service", since(a, from)); diff != "" {
			t.Error(diff)
		}
		kinds := w.journal.kinds()
		if kinds[len(kinds)-1] != hooks.Ended {
			t.Errorf("the last record is of kind %s", kinds[len(kinds)-1])
		}
		if _, err := w.node.Status(t.Context(), "a"); !errors.Is(err, ErrStopped) {
			t.Errorf("status afterwards: %v", err)
		}
		if _, err := w.node.Switchover(t.Context(), "a", failover.Request{}); !errors.Is(err, ErrStopped) {
			t.Errorf("switchover afterwards: %v", err)
		}
	})
}

// What closes writes at once is not cut off by the end of the daemon.
func TestLeaveWaitsForWritesToClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		closed := make(chan error, 1)
		a := w.hosts["a"]
		a.closing = func(ctx context.Context) error {
			select {
			case <-time.After(6 * time.Second):
			case <-ctx.Done():
			}
			closed <- ctx.Err()
			return ctx.Err()
		}
		w.run()
		cleaned := false
		_, err := ask(t.Context(), w.node, func(work context.Context) bool {
			in := w.node.byName["a"]
			in.closeWrites(work)
			in.worker(work, time.Minute, func(ctx context.Context) failover.Event {
				<-ctx.Done()
				time.Sleep(time.Second) // what a cancelled worker takes to clean up
				cleaned = true
				return nil
			})
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		w.leave()
		if err := w.ended(); err != nil {
			t.Error(err)
		}
		select {
		case err := <-closed:
			if err != nil {
				t.Errorf("closing was cut: %v", err)
			}
		default:
			t.Error("it did not wait for writes to close")
		}
		if !cleaned {
			t.Error("it did not wait for a worker")
		}
	})
}

func TestKillEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		a := w.hosts["a"]
		a.step = func(ctx context.Context, title string) (hooks.Outcome, string) {
			if strings.HasPrefix(title, "unit start") {
				<-ctx.Done()
				a.note("cancelled")
			}
			return hooks.Cancelled, ""
		}
		w.run()
		w.until("a", failover.Promoting)
		time.Sleep(time.Second)
		w.journal.hang()
		from, at := len(a.did()), time.Now()
		w.kill()
		err := w.ended()
		if !errors.Is(err, context.Canceled) || time.Since(at) > killTime {
			t.Errorf("after %v: %v", time.Since(at), err)
		}
		if diff := cmp.Diff("cancelled,end unit start a.service", since(a, from)); diff != "" {
			t.Errorf("the step's processes have to go, the address goes with its lease: %s", diff)
		}
	})
}

// An end with more results under way than the queue holds.
func TestTheEndWithManyResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		in := w.node.byName["a"]
		for range 3 * resultSize {
			in.worker(t.Context(), time.Minute, func(context.Context) failover.Event {
				time.Sleep(killTime / 2)
				return failover.Tick{}
			})
		}
		w.kill()
		if err := w.ended(); errors.Is(err, errUnended) {
			t.Error(err)
		}
	})
}

func TestInstancesDoNotDisturbEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		a, b := w.hosts["a"], w.hosts["b"]
		hang := make(chan struct{})
		a.step = func(context.Context, string) (hooks.Outcome, string) {
			<-hang
			return hooks.Failed, ""
		}
		defer close(hang)
		a.holdErr = errors.New("no such device")
		w.run()
		w.until("b", failover.Active)
		w.node.Deliver("b", failover.Tick{})
		time.Sleep(10 * time.Second)
		b.set(func() {
			for i := 1; i < len(b.holds); i++ {
				if gap := b.holds[i] - b.holds[i-1]; gap > lease/2 {
					t.Errorf("%v between two renewals of b", gap)
				}
			}
		})
		if w.status("a").State == failover.Active || w.status("b").State != failover.Active {
			t.Errorf("a is %s, b is %s", w.status("a").State, w.status("b").State)
		}
		if b.vrid() == a.vrid() || b.adverts[0].VRID != b.vrid() {
			t.Error("b advertises as another")
		}
	})
}

func TestTwoInstancesOfOneName(t *testing.T) {
	if _, err := New(Config{Instances: []Instance{{Name: "a"}, {Name: "a"}}}); err == nil {
		t.Error("taken")
	}
}
