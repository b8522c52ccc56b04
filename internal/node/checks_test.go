package node

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// What was found about a check that a reload does not change counts on, so that a
// node that may not hold the address does not forget it for the time of a sample.
func TestReplaceRecallsVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a", "b")
		replace := func(boot uint64, checks ...string) {
			t.Helper()
			r := w.another("a", boot)
			cfg := coreConfig("a", 51)
			for _, name := range []string{"kept", "good", "changed", "new"} {
				cfg.Checks = append(cfg.Checks, health.Check{Name: name, Rise: 2, Fall: 2, Effect: health.Yield})
			}
			core, err := failover.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			r.Instance.Core, r.Checks = core, checks
			if err := w.node.Replace(t.Context(), restPatience, []Replacement{r}); err != nil {
				t.Fatal(err)
			}
		}
		w.hosts["a"].set(func() { w.hosts["a"].leftover = true })
		replace(2)
		for check, ok := range map[string]bool{"kept": false, "good": true, "changed": false} {
			w.node.Deliver("a", failover.Probed{Check: check, OK: ok, Detail: "as it was"})
		}
		w.node.Deliver("a", failover.Probed{Check: "good", Detail: "once"}) // the second one would count
		synctest.Wait()
		replace(3, "kept", "good", "new")
		known := map[string]bool{}
		for _, h := range w.status("a").Health {
			if h.Verdict != health.Unknown {
				known[h.Check.Name] = !h.Fails()
			}
		}
		if len(known) != 2 || known["kept"] || !known["good"] {
			t.Errorf("known: %v", known)
		}
	})
}

// A check that flaps goes on to be held back.
func TestReplaceRecallsDamping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a", "b")
		replace := func(boot uint64) {
			t.Helper()
			r := w.another("a", boot)
			cfg := coreConfig("a", 51)
			cfg.Checks = append(cfg.Checks, health.Check{Name: "disk", Rise: 1, Fall: 1, Effect: health.Yield})
			core, err := failover.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			r.Instance.Core, r.Checks = core, []string{"disk"}
			if err := w.node.Replace(t.Context(), restPatience, []Replacement{r}); err != nil {
				t.Fatal(err)
			}
		}
		w.hosts["a"].set(func() { w.hosts["a"].leftover = true })
		replace(2)
		for range 2 * health.FlapFalls {
			w.node.Deliver("a", failover.Probed{Check: "disk", Detail: "full"})
			w.node.Deliver("a", failover.Probed{Check: "disk", OK: true})
			synctest.Wait()
		}
		disk := func() health.Status {
			t.Helper()
			for _, h := range w.status("a").Health {
				if h.Check.Name == "disk" {
					return h
				}
			}
			t.Fatal("there is no such check")
			return health.Status{}
		}
		before := disk()
		if before.Verdict != health.Flapping {
			t.Fatalf("%+v", before)
		}
		replace(3)
		if h := disk(); h.Verdict != health.Flapping || h.Hold != before.Hold || h.Until != before.Until {
			t.Errorf("%+v, before %+v", h, before)
		}
	})
}

// What an operator overrode stays overridden, of the checks that ask the same.
func TestReplaceRecallsAnOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := active(t, "a")
		cfg := coreConfig("a", 51)
		fails := func(name string) health.Status {
			cfg.Checks = append(cfg.Checks, health.Check{Name: name, Rise: 1, Fall: 1, Effect: health.Yield})
			return health.Status{Check: cfg.Checks[len(cfg.Checks)-1], Verdict: health.Failing}
		}
		checks := []health.Status{fails("kept"), fails("changed")}
		core, err := failover.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		core.Step(w.node.now(), failover.Started{
			Boot: 2, Leftover: true, Memory: hooks.Memory{Epoch: 1, ActiveEpoch: 1, Role: hooks.Active, Finished: true},
			Checks: checks, Condoned: []string{"kept", "changed"}, Overridden: true,
		}, nil)
		in := &instance{node: w.node}
		in.recall(&instance{Instance: Instance{Core: core}, node: w.node}, []string{"kept"})
		if len(in.Start.Checks) != 1 || in.Start.Checks[0].Check.Name != "kept" {
			t.Errorf("checks: %+v", in.Start.Checks)
		}
		anew, err := failover.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		in.Start.Leftover, in.Start.Memory = true, hooks.Memory{Epoch: 1, ActiveEpoch: 1, Role: hooks.Active, Finished: true}
		anew.Step(w.node.now(), in.Start, nil)
		if diff := cmp.Diff([]string{"kept"}, anew.Status(w.node.now()).Condoned); diff != "" {
			t.Errorf("overridden (-want +got):\n%s", diff)
		}
		if !anew.Status(w.node.now()).Isolation.Overridden {
			t.Error("a role that was forced onto a node that hears nobody")
		}
	})
}
