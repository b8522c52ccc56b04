package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

func TestACommandIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		got, err := w.node.Switchover(t.Context(), "a", failover.Request{To: "primary", Timeout: time.Minute})
		if err != nil || got.Outcome != failover.Done {
			t.Errorf("to the node that is Active: %+v, %v", got, err)
		}
		got, err = w.node.Switchover(t.Context(), "a", failover.Request{To: "reserve", Timeout: time.Minute})
		if err != nil || got.Outcome != failover.RefusedTo || got.Why.Reason != failover.PeerUnreachable {
			t.Errorf("to a dead peer: %+v, %v", got, err)
		}
		if _, err := w.node.Switchover(t.Context(), "b", failover.Request{}); err == nil {
			t.Error("an instance that is not there was commanded")
		}
		if _, err := w.node.Status(t.Context(), "b"); err == nil {
			t.Error("an instance that is not there has a status")
		}
	})
}

// giving begins a switchover that the peer never goes along with.
func giving(w *world) {
	w.node.Deliver("a", failover.PeerSaid{State: failover.PeerState{
		Boot: 9, Seq: 1, State: failover.Backup, Bids: true, Hears: true, Sources: failover.NoDatabases,
	}})
}

// A caller who goes away leaves the command to itself; its answer is not lost to
// the next one, and nothing stays behind (the bubble would see it).
func TestACallerGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		giving(w)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := w.node.Switchover(ctx, "a", failover.Request{Timeout: time.Minute}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller who went away: %v", err)
		}
		got, err := w.node.Switchover(t.Context(), "a", failover.Request{Timeout: time.Minute})
		if err != nil || got.Why.Reason != failover.Busy {
			t.Errorf("while the first goes on: %+v, %v", got, err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if left := len(w.node.byName["a"].commands); left != 0 {
			t.Errorf("%d commands are still waiting for an answer", left)
		}
	})
}

// A command whose caller is gone before its turn is not carried out.
func TestAnAbandonedCommandDoesNotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		away := make(chan struct{})
		a.set(func() { a.onTurn = func() { <-away } })
		w.node.Deliver("a", failover.Tick{})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := w.node.Switchover(ctx, "a", failover.Request{Timeout: time.Minute})
		_, err2 := w.node.Status(ctx, "a")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err2, context.DeadlineExceeded) {
			t.Errorf("%v, %v", err, err2)
		}
		close(away)
		synctest.Wait()
		if w.node.byName["a"].lastCommand != 0 {
			t.Error("it was carried out")
		}
	})
}

// Questions to a loop that is away wait in a bounded queue, and no longer than
// their callers.
func TestQuestionsToALoopThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		away := make(chan struct{})
		a.set(func() { a.onTurn = func() { <-away } })
		w.node.Deliver("a", failover.Tick{})
		synctest.Wait()
		answers := make(chan error)
		for range 2 * callSize {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := w.node.Status(ctx, "a")
				answers <- err
			}()
		}
		for range 2 * callSize {
			if err := <-answers; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		}
		close(away)
		w.status("a")
	})
}

// What the loop answered in its last turn counts, although the loop is over when
// the caller looks.
func TestTheLastAnswerCounts(t *testing.T) {
	n, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	close(n.over)
	for range 50 { // the end and the answer are there at once
		answer := make(chan int, 1)
		answer <- 7
		if got, err := await(t.Context(), n, answer); got != 7 || err != nil {
			t.Fatalf("%d, %v", got, err)
		}
	}
	if _, err := await(t.Context(), n, make(chan int)); !errors.Is(err, ErrStopped) {
		t.Errorf("without an answer: %v", err)
	}
}

// The answer to a command that the end of the daemon ended is not lost.
func TestACommandDuringTheLeaveIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 3 {
			w, _ := active(t, "a")
			giving(w)
			synctest.Wait()
			type result struct {
				answer Answer
				err    error
			}
			over := make(chan result, 1)
			go func() {
				a, err := w.node.Switchover(t.Context(), "a", failover.Request{Timeout: time.Minute})
				over <- result{a, err}
			}()
			synctest.Wait()
			w.leave()
			if err := w.ended(); err != nil {
				t.Fatal(err)
			}
			if got := <-over; got.err != nil || got.answer.Outcome == failover.Done {
				t.Fatalf("%+v", got)
			}
		}
	})
}
