package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/failover"
)

func (w *world) statuses(patience time.Duration, names ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	all, err := w.node.Statuses(ctx, names)
	return slices.Sorted(maps.Keys(all)), err
}

// While the loop hangs between two cores, all are what they were; while it hangs in
// one of them, that one may be anything. It is not waited for.
func TestGlimpseOfALoopThatHangs(t *testing.T) {
	for _, tc := range []struct {
		name string
		hang func(a *host, f func())
		a    Glimpse
	}{
		{"between-cores", func(a *host, f func()) { a.onTurn = f }, Glimpse{State: failover.Active, Epoch: 1}},
		{"in-a-core", func(a *host, f func()) { a.onSend = f }, Glimpse{State: failover.Active, Epoch: 1, Stepping: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, a := active(t, "a", "b")
				w.until("b", failover.Active)
				away := make(chan struct{})
				a.set(func() { tc.hang(a, func() { <-away }) })
				time.Sleep(2 * advertInterval)
				turned := w.node.Turned()
				got, err := w.statuses(20*time.Millisecond, "a", "b")
				if len(got) != 0 || err != nil {
					t.Errorf("it told of %v, %v", got, err)
				}
				for name, want := range map[string]Glimpse{"a": tc.a, "b": {State: failover.Active, Epoch: 1}} {
					g, known := w.node.Glimpse(name)
					if diff := cmp.Diff(want, g); diff != "" || !known {
						t.Errorf("%s: known %v, %s", name, known, diff)
					}
				}
				time.Sleep(time.Second)
				if again := w.node.Turned(); again != turned || w.clock().Sub(turned) < time.Second {
					t.Errorf("the loop turned at %d, then at %d, now it is %d", turned, again, w.clock())
				}
				a.set(func() { a.onTurn, a.onSend = nil, nil })
				close(away)
				synctest.Wait()
				if got, err := w.statuses(time.Second, "a", "b"); !slices.Equal(got, []string{"a", "b"}) || err != nil {
					t.Errorf("afterwards %v, %v", got, err)
				}
				if w.node.Turned() == turned {
					t.Error("it does not turn again")
				}
			})
		})
	}
}

func TestStatusesOfMoreThanOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 2*statusesAtOnce + 3 {
			names = append(names, fmt.Sprintf("i%02d", i))
		}
		w := newWorld(t, names...)
		if g, known := w.node.Glimpse("i00"); known {
			t.Errorf("before the start: %+v", g)
		}
		w.run()
		got, err := w.statuses(time.Minute, append(names, "none")...)
		if diff := cmp.Diff(names, got); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		w.leave()
		if err := w.ended(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.statuses(time.Minute, names...); !errors.Is(err, ErrStopped) {
			t.Errorf("after its end: %v", err)
		}
	})
}

// BenchmarkStatuses is what a daemon with 255 instances pays once in a second so that
// there is something to tell when its loop hangs.
func BenchmarkStatuses(b *testing.B) {
	var names []string
	all := make([]*failover.Orchestrator, 255)
	for i := range all {
		core, err := failover.New(coreConfig(fmt.Sprintf("i%03d", i), uint8(i+1)))
		if err != nil {
			b.Fatal(err)
		}
		core.Step(1, failover.Started{Boot: 1}, nil)
		all[i], names = core, append(names, fmt.Sprintf("i%03d", i))
	}
	for b.Loop() {
		told := make(map[string]*failover.Status, len(names))
		for i, core := range all {
			st := core.Status(2)
			told[names[i]] = &st
		}
	}
}
