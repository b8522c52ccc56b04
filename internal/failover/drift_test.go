package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// stopped gives a source a channel that is configured and does not run.
func stopped(f replication.Facts) replication.Facts {
	f.Channels = replication.Known([]replication.Channel{{IO: replication.ThreadStopped, SQL: replication.ThreadStopped}})
	return f
}

func (r *rig) wantStep(a hooks.Action) {
	r.t.Helper()
	if s := need[StartStep](r); s.Order.Step.Action != a {
		r.t.Fatalf("started %s, want %s", hooks.Title(s.Order.Step.Action), hooks.Title(a))
	}
}

func TestDrift(t *testing.T) {
	stop, open := hooks.Replication{Verb: hooks.StopReplication}, hooks.Writes{Open: true}
	closed := func(f replication.Facts) replication.Facts {
		f.ReadOnly = replication.Known(true)
		return f
	}
	t.Run("a database of the Active that was restarted is opened, whatever another one does", func(t *testing.T) {
		r := sourceRig(t, "pivot", "team")
		r.measures(closed(r.source("pivot", "0-1-1")), r.down("team", replication.ReachRefused))
		r.wantStep(open)
	})
	t.Run("one that replicates again is stopped before that", func(t *testing.T) {
		r := sourceRig(t, "pivot")
		r.measures(r.replica("pivot", "0-1-1", replication.ThreadRunning))
		r.wantStep(stop)
		r.ends("replication", hooks.Changed)
		r.wantStep(open)
	})
	t.Run("a plan that leaves replication alone opens nothing beside it", func(t *testing.T) {
		r := sourceRig(t, "pivot")
		r.o.cfg.Promote = testPromote[1:]
		r.measures(r.replica("pivot", "0-1-1", replication.ThreadRunning))
		none[StartStep](r)
	})
	t.Run("a channel that is stopped is removed, once in an epoch", func(t *testing.T) {
		r := sourceRig(t, "pivot")
		r.measures(stopped(r.source("pivot", "0-1-1")))
		r.wantStep(hooks.Replication{Verb: hooks.ResetReplication})
		r.ends("replication reset", hooks.Failed)
		r.after(2*retryDelay, Tick{})
		r.measures(stopped(r.source("pivot", "0-1-1")))
		none[StartStep](r)
	})
	t.Run("after that status tells of the promotion again", func(t *testing.T) {
		r := sourceRig(t, "pivot")
		r.o.last.Losses = []hooks.Loss{{Database: "pivot", Proved: 3, ProvedKnown: true}}
		r.measures(stopped(r.source("pivot", "0-1-1")))
		if last := r.o.Status(r.now).Last; last.Reason != Drifted || !last.Running {
			t.Errorf("while it runs: %+v", last)
		}
		r.ends("replication reset", hooks.Changed)
		last := r.o.Status(r.now).Last
		if last.Reason != Adopted || last.Running || len(last.Losses) != 1 {
			t.Errorf("afterwards: %+v", last)
		}
	})
	t.Run("what the promotion lost is said as long as it lasts", func(t *testing.T) {
		r := sourceRig(t, "pivot")
		r.o.last.Losses = []hooks.Loss{{Database: "pivot", Proved: 3, ProvedKnown: true}}
		r.measures(closed(r.source("pivot", "0-1-1")))
		r.ends("open", hooks.Changed)
		if last := r.o.Status(r.now).Last; last.Reason != Drifted || len(last.Losses) != 1 {
			t.Errorf("%+v", last)
		}
	})
	t.Run("a standby is closed, whatever another database does", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Databases = []string{"team", "pivot"} })
		r.step(Started{Boot: 7})
		m := need[Measure](r)
		r.ends("close", hooks.Unchanged)
		r.ends("unit", hooks.Unchanged)
		r.now = r.now.Add(time.Millisecond)
		f := r.replica("pivot", "0-1-1", replication.ThreadRunning)
		f.ReadOnly = replication.Known(false)
		r.after(time.Millisecond, Measured{ID: m.ID, Facts: []replication.Facts{r.down("team", replication.ReachTimedOut), f}})
		r.wantStep(hooks.Writes{})
	})
}

// The event scheduler of a standby is stopped as its writes are closed: an event
// of an account that read-only does not bind would write.
func TestDriftOfEventSchedulers(t *testing.T) {
	events := func(r *rig, on replication.Optional[bool]) replication.Facts {
		f := r.replica("team", "0-1-1", replication.ThreadRunning)
		f.EventScheduler = on
		return f
	}
	on, off := replication.Known(true), replication.Known(false)
	peer := PeerState{State: Active, Holds: true, Sources: AllSources}
	t.Run("one that runs is stopped", func(t *testing.T) {
		r := standbyRig(t, "team")
		seventh := peer
		seventh.Epoch, seventh.ActiveEpoch = 7, 7
		if !r.untilStep(2*measureStandby, seventh, func() replication.Facts { return events(r, on) }) {
			t.Fatal("it runs on")
		}
		r.wantStep(hooks.Writes{})
		if e := r.o.Status(r.now).Last.Epoch; e != 7 {
			t.Errorf("as a standby of epoch %d", e)
		}
	})
	t.Run("one that is not known is left", func(t *testing.T) {
		r := standbyRig(t, "team")
		if r.untilStep(2*measureStandby, peer, func() replication.Facts { return events(r, replication.Optional[bool]{}) }) {
			t.Fatal("closed for a fact that is not known")
		}
	})
	t.Run("one of the Active may run", func(t *testing.T) {
		r := sourceRig(t, "team")
		f := r.source("team", "0-1-1")
		f.EventScheduler = on
		r.measures(f)
		none[StartStep](r)
	})
	t.Run("one that cannot be stopped is tried ever later, and holds up no closing", func(t *testing.T) {
		r := standbyRig(t, "team")
		runs := func() replication.Facts { return events(r, on) }
		last, wait := r.now, time.Duration(0)
		for i := range 4 {
			if !r.untilStep(time.Minute, peer, runs) {
				t.Fatalf("attempt %d does not come", i)
			}
			r.wantStep(hooks.Writes{})
			if waited := r.now.Sub(last); i > 1 && waited < wait*3/2 {
				t.Errorf("attempt %d after %s, the one before after %s", i, waited, wait)
			} else {
				last, wait = r.now, waited
			}
			r.ends("close", hooks.Failed)
		}
		opened := func() replication.Facts {
			f := events(r, on)
			f.ReadOnly = replication.Known(false)
			return f
		}
		if !r.untilStep(2*measureStandby, peer, opened) {
			t.Fatal("one that takes writes has to wait")
		}
		r.ends("close", hooks.Changed)
		if r.untilStep(2*measureStandby, peer, func() replication.Facts { return events(r, off) }) {
			t.Fatal("closed though all is well")
		}
		if !r.untilStep(2*measureStandby, peer, runs) { // the wait begins from the start
			t.Fatal("not stopped when it runs again")
		}
	})
}

// A database that comes back may be what settling lacked: it is tried at once, and
// once for each return.
func TestSettlingWhenADatabaseReturns(t *testing.T) {
	r := standbyRig(t, "team")
	_, m := r.next()
	peer := PeerState{Boot: 99, State: Active, Holds: true, ActiveEpoch: 3, Epoch: 3, Sources: AllSources}
	here := func() replication.Facts { return r.replica("team", "0-1-1", replication.ThreadStopped) }
	attempt := func(within time.Duration, facts func() replication.Facts) bool {
		return r.untilStep(within, peer, facts)
	}
	gone := func() replication.Facts { return r.down("team", replication.ReachRefused) }
	r.finds(m, gone())
	if !attempt(time.Second, gone) {
		t.Fatal("not settled when the Active was heard")
	}
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Failed)
	if attempt(failureDelay-time.Second, gone) {
		t.Fatal("tried again before its time")
	}
	if !attempt(time.Second/2, here) {
		t.Fatal("not tried when the database came back")
	}
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Failed)
	if attempt(failureDelay, here) {
		t.Fatal("tried again though nothing came back since")
	}
	if attempt(retryDelay/2, gone) {
		t.Fatal("tried when the database went")
	}
	if !attempt(retryDelay, here) {
		t.Fatal("not tried when the database came back again")
	}
}

// What cannot be settled is tried again later, and ever later: the step that fails
// waits for an operator.
func TestSettlingThatFailsBacksOff(t *testing.T) {
	r := newRig(t, nil)
	r.boots()
	peer := PeerState{State: Active, Holds: true, ActiveEpoch: 3, Epoch: 3, Sources: NoDatabases}
	var last time.Duration
	for i := range 7 {
		began := r.now
		for _, ok := find[StartStep](r); !ok; _, ok = find[StartStep](r) {
			if r.now.Sub(began) > 2*settleMost {
				t.Fatalf("attempt %d does not come", i)
			}
			r.now = r.now.Add(100 * time.Millisecond)
			r.hears(253)
			if _, ok := find[StartStep](r); !ok {
				r.says(peer)
			}
		}
		waited := r.now.Sub(began)
		if i > 1 && waited < last*3/2 && waited < settleMost-time.Second {
			t.Errorf("attempt %d after %s, the one before after %s", i, waited, last)
		}
		last = waited
		r.ends("close", hooks.Unchanged)
		r.ends("unit", hooks.Failed)
	}
	if last < settleMost-time.Second || last > settleMost+time.Second {
		t.Errorf("in the end it waits %s", last)
	}
}
