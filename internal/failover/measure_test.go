package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// standbyRig returns a standby whose databases are the replicas of those names, all
// is well, and no measurement is out.
func standbyRig(t *testing.T, names ...string) *rig {
	t.Helper()
	r := newRig(t, func(c *Config) { c.Databases = names })
	r.step(Started{Boot: 7})
	first := need[Measure](r)
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Unchanged)
	for m, ok := first, true; ok; m, ok = find[Measure](r) {
		r.finds(m, r.replicas(nil)...)
	}
	return r
}

// replicas are the facts of all databases, but for those that are not reached.
func (r *rig) replicas(reaches map[string]replication.Reach) []replication.Facts {
	var facts []replication.Facts
	for _, name := range r.o.cfg.Databases {
		if reach, bad := reaches[name]; bad {
			facts = append(facts, r.down(name, reach))
			continue
		}
		facts = append(facts, r.replica(name, "0-1-1", replication.ThreadRunning))
	}
	return facts
}

func (r *rig) finds(m Measure, facts ...replication.Facts) {
	for i := range facts {
		facts[i].MeasuredAt = r.now.Add(time.Millisecond)
	}
	r.after(time.Millisecond, Measured{ID: m.ID, Facts: facts})
}

// untilStep lets the peer live as it says, and the databases be as facts says, until
// a step is started; false if none is within that time.
func (r *rig) untilStep(within time.Duration, peer PeerState, facts func() replication.Facts) bool {
	r.t.Helper()
	started := func() bool { _, ok := find[StartStep](r); return ok }
	for end := r.now.Add(within); !started(); {
		if !r.now.Before(end) {
			return false
		}
		if m, ok := find[Measure](r); ok {
			r.finds(m, facts())
			continue
		}
		if r.now = r.now.Add(25 * time.Millisecond); int64(r.now/25e6)%2 == 0 {
			r.hears(253)
		} else {
			r.says(peer)
		}
	}
	return true
}

// next returns when the next measurement begins, whatever happens before.
func (r *rig) next() (mono.Instant, Measure) {
	r.t.Helper()
	for end := r.now.Add(2 * measurePatience); r.now.Before(end); {
		if m, ok := find[Measure](r); ok {
			return r.now, m
		}
		at, _ := r.o.Deadline()
		r.now = max(r.now, at)
		r.step(Tick{})
	}
	r.t.Fatal("nothing is measured")
	return 0, Measure{}
}

// A standby looks once in a second, and as often as an Active while a database is
// not there: the one that comes back is open until it is seen.
func TestMeasuringOfAStandby(t *testing.T) {
	for _, tc := range []struct {
		reach replication.Reach
		every time.Duration
	}{
		{replication.Reachable, measureStandby},
		{replication.ReachTooManyConnections, measureStandby}, // it lives: nothing changes by itself
		{replication.ReachAccessDenied, measureStandby},
		{replication.ReachRefused, measureActive},
		{replication.ReachTimedOut, measureActive},
		{replication.ReachShuttingDown, measureActive},
		{replication.ReachFailed, measureActive},
	} {
		t.Run(tc.reach.String(), func(t *testing.T) {
			r := standbyRig(t, "team", "pivot")
			_, m := r.next()
			for range 3 { // also for the one that is out while it becomes so
				began := r.now
				facts := r.replicas(map[string]replication.Reach{"team": tc.reach})
				if tc.reach == replication.Reachable {
					facts = r.replicas(nil)
				}
				r.finds(m, facts...)
				var at mono.Instant
				at, m = r.next()
				if got := at.Sub(began); got != tc.every {
					t.Errorf("the next measurement after %s, want %s", got, tc.every)
				}
			}
		})
	}
	t.Run("a measurement that took longer than that", func(t *testing.T) {
		r := standbyRig(t, "team")
		_, m := r.next()
		r.now = r.now.Add(900 * time.Millisecond)
		r.finds(m, r.down("team", replication.ReachTimedOut))
		need[Measure](r)
	})
}

// What happened to a database is looked at with a measurement that begins after it.
func TestDisturbed(t *testing.T) {
	t.Run("at once", func(t *testing.T) {
		r := standbyRig(t, "team")
		r.after(time.Millisecond, Tick{})
		none[Measure](r)
		r.after(time.Millisecond, Disturbed{})
		need[Measure](r)
	})
	t.Run("while a measurement is out, after it", func(t *testing.T) {
		r := standbyRig(t, "team")
		_, m := r.next()
		for range 2 {
			r.after(time.Millisecond, Disturbed{})
			none[Measure](r)
		}
		r.finds(m, r.replicas(nil)...)
		r.finds(need[Measure](r), r.replicas(nil)...)
		none[Measure](r) // once is enough
	})
	t.Run("of an Active whose database died, the role is given away sooner", func(t *testing.T) {
		r := sourceRig(t, "team")
		r.measures(r.all(nil)...)
		r.peerBids()
		began := r.now
		r.step(Disturbed{})
		m := need[Measure](r)
		r.finds(m, r.down("team", replication.ReachRefused))
		at, m := r.next()
		r.finds(m, r.down("team", replication.ReachRefused))
		if r.o.give == nil || at.Sub(began) > measureActive {
			t.Errorf("given away: %t, second look after %s", r.o.give != nil, at.Sub(began))
		}
	})
	t.Run("without databases nothing is measured", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.after(time.Second, Disturbed{})
		none[Measure](r)
	})
	t.Run("before the start nothing is", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Databases = []string{"team"} })
		if out := r.step(Disturbed{}); len(out) != 0 {
			t.Error(shown(out))
		}
	})
}
