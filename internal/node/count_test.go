package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

func (w *world) counters(name string) Counters {
	w.t.Helper()
	all, err := w.node.Counters(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return all[name]
}

func total(d Durations) (n uint64) {
	for _, c := range d.Counts {
		n += c
	}
	return n
}

func TestCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a", "b")
		got := w.counters("a")
		want := Counters{
			Transitions: map[TransitionEnd]uint64{{hooks.Standby, hooks.Completed}: 1, {hooks.Active, hooks.Completed}: 1},
			Steps: map[StepEnd]uint64{
				{"stop", hooks.Changed}: 1, {"vip", hooks.Changed}: 1, {"start", hooks.Changed}: 1,
			},
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Counters{}, "Sent", "Renewed", "TransitionTime", "StepTime", "AdvertisementLateness"), cmpopts.IgnoreUnexported(Counters{})); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if total(got.TransitionTime[hooks.Active]) != 1 || total(got.StepTime["start"]) != 1 || len(got.StepTime) != 3 {
			t.Errorf("%+v, %+v", got.TransitionTime, got.StepTime)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		later := w.counters("a")
		if n := later.Sent - got.Sent; n < 39 || n > 41 {
			t.Errorf("%d advertisements in 10 s", n)
		}
		if n := total(later.AdvertisementLateness) - total(got.AdvertisementLateness); n != later.Sent-got.Sent || later.AdvertisementLateness.Counts[0] != total(later.AdvertisementLateness) {
			t.Errorf("the lateness of %d: %+v", later.Sent-got.Sent, later.AdvertisementLateness)
		}
		if n := later.Renewed - got.Renewed; n < 18 || n > 22 || later.NotRenewed != 0 {
			t.Errorf("%d renewals in 10 s, %d failed", n, later.NotRenewed)
		}
		a.set(func() { a.holdErr = fmt.Errorf("no such device") })
		time.Sleep(time.Second)
		synctest.Wait()
		if w.counters("a").NotRenewed == 0 || w.counters("b").NotRenewed != 0 {
			t.Errorf("renewals that failed: %d of a, %d of b", w.counters("a").NotRenewed, w.counters("b").NotRenewed)
		}
		w.node.Deliver("a", failover.Advertised{Advertisement: a.advert(200), Source: remote})
		synctest.Wait()
		if n := w.counters("a").Received; n != 1 {
			t.Errorf("%d received", n)
		}
	})
}

// However many names steps are given over time, they are counted under so many.
func TestCountersAreBounded(t *testing.T) {
	c := newCounters()
	for i := range 10 * stepNames {
		c.record(hooks.Record{Kind: hooks.Stepped, Step: hooks.Result{Name: fmt.Sprint(i), Outcome: hooks.Changed, Duration: time.Duration(i) * time.Second}})
	}
	if len(c.StepTime) != stepNames+1 || len(c.Steps) != stepNames+1 || total(c.StepTime[OtherSteps]) != 9*stepNames {
		t.Errorf("%d names, %d others", len(c.StepTime), total(c.StepTime[OtherSteps]))
	}
	c.record(hooks.Record{Kind: hooks.Stepped, Step: hooks.Result{Name: "0", Outcome: hooks.Skipped}})
	if total(c.StepTime["0"]) != 1 || c.Steps[StepEnd{"0", hooks.Skipped}] != 1 {
		t.Error("a step that was skipped took no time")
	}
}

func TestDurations(t *testing.T) {
	d := newDurations(latenessBounds())
	for _, took := range []time.Duration{-1, 0, time.Millisecond, time.Millisecond + 1, time.Second, time.Hour} {
		d.observe(took)
	}
	if diff := cmp.Diff([]uint64{3, 1, 0, 0, 0, 0, 0, 0, 1, 1}, d.Counts); diff != "" {
		t.Error(diff)
	}
}
