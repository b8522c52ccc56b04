package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
)

// What an orchestrator that takes the place of another one is told of the checks.
func TestRecalledChecks(t *testing.T) {
	found := func(effect health.Effect, v health.Verdict) health.Status {
		s := health.Status{Check: health.Check{Name: "disk", Effect: effect}, Verdict: v, Detail: "full"}
		if v == health.Flapping {
			s.Hold, s.Until = time.Minute, newRig(t, nil).now.Add(time.Minute)
		}
		return s
	}
	restarted := func(t *testing.T, condoned []string, s health.Status) *rig {
		t.Helper()
		r := newRig(t, func(c *Config) {
			c.Checks = []health.Check{{Name: "disk", Rise: 1, Fall: 1, Effect: s.Check.Effect}}
		})
		r.step(Started{
			Boot: 7, Leftover: true, Memory: hooks.Memory{Epoch: 4, ActiveEpoch: 4, Role: hooks.Active, Finished: true},
			Checks: []health.Status{s}, Condoned: condoned,
		})
		return r
	}
	t.Run("one that forbids the address and only flaps lets an Active keep it", func(t *testing.T) {
		r := restarted(t, nil, found(health.Fault, health.Flapping))
		none[Drop](r)
		r.wantState(Active, Adopted)
		r.run(time.Second)
		if h := r.o.Status(r.now).Health[0]; h.Verdict != health.Flapping {
			t.Errorf("%+v", h)
		}
		r.run(time.Minute)
		if h := r.o.Status(r.now).Health[0]; h.Verdict != health.Well {
			t.Errorf("when the hold is over: %+v", h)
		}
	})
	t.Run("one that fails does not", func(t *testing.T) {
		r := restarted(t, nil, found(health.Fault, health.Failing))
		need[Drop](r)
		r.wantState(Demoting, Unhealthy)
	})
	for name, condoned := range map[string][]string{
		"one that an operator overrode leaves the role where it is": {"disk"},
		"one that nobody overrode moves it":                         nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := restarted(t, condoned, found(health.Yield, health.Failing))
			r.says(ready())
			r.run(time.Second)
			if r.o.giving() == (condoned != nil) {
				t.Errorf("giving: %v", r.o.giving())
			}
			r.heals("disk")
			r.fails("disk")
			r.says(ready())
			if st := r.o.Status(r.now); len(st.Condoned) > 0 {
				t.Errorf("still overridden after it was well: %v", st.Condoned)
			}
		})
	}
	t.Run("what is well was not overridden", func(t *testing.T) {
		r := restarted(t, []string{"disk"}, found(health.Yield, health.Well))
		if st := r.o.Status(r.now); len(st.Condoned) > 0 {
			t.Errorf("%v", st.Condoned)
		}
	})
}
