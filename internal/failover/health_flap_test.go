package failover

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

var update = flag.Bool("update", false, "write the generated part of docs/health-effects.md")

func flapRules() []rule {
	return []rule{
		{"flapping/yield", "a check of effect yield flaps on the Active", "it counts as failing: the role moves away once, or stays and says why", func(t *testing.T) {
			r := activeRig(t, withDisk)
			r.says(closedFor(replication.Lagging))
			r.flaps("disk")
			if s := r.o.Status(r.now); s.Stays == nil || s.Stays.Check != "disk" {
				t.Fatalf("stays %+v", s.Stays)
			}
			r.says(ready())
			if !r.o.giving() {
				t.Error("it does not move")
			}
		}},
		{"flapping/over", "it was well for as long as it is held back", "it is well", func(t *testing.T) {
			r := activeRig(t, withDisk)
			r.flaps("disk")
			s := r.o.Status(r.now).Health[1]
			if s.Verdict != health.Flapping || s.Hold != health.HoldFirst || s.Until.Sub(r.now) != health.HoldFirst {
				t.Fatalf("%+v", s)
			}
			r.run(health.HoldFirst - time.Second)
			if s := r.o.Status(r.now); s.Health[1].Verdict != health.Flapping {
				t.Errorf("%+v", s.Health[1])
			}
			r.run(time.Second)
			if s := r.o.Status(r.now); s.Health[1].Verdict != health.Well {
				t.Errorf("%+v", s.Health[1])
			}
		}},
		{"flapping/standby", "a check of either effect flaps on the standby", "no planned move comes to it: gate code `unhealthy` says for how long", func(t *testing.T) {
			for _, check := range []string{"gateway", "disk"} {
				r := behindRig(t, nil)
				r.flaps(check)
				r.offered(Give{})
				r.wantTake(TakeRefused, GateClosed, replication.Unhealthy)
				if d := r.o.take.view.Why.Gate[0].Detail; d != "health check fails: "+check+": flapping, counts as failing until it was well for 1m0s" {
					t.Error(d)
				}
			}
		}},
		{"flapping/takes-over", "a check of either effect flaps on a standby whose peer is dead", "it takes over: no damping keeps a service down", func(t *testing.T) {
			for _, check := range []string{"gateway", "disk"} {
				r := behindRig(t, nil)
				r.flaps(check)
				if r.o.state != Backup {
					t.Errorf("%s: %s", check, r.o.state)
				}
				if !r.promotes(5 * time.Second) {
					t.Errorf("%s: it does not take over", check)
				}
			}
		}},
		{"flapping/active", "a check of effect fault that flaps fails again on the Active", "at once as ever", func(t *testing.T) {
			r := behindRig(t, nil)
			r.flaps("gateway")
			if !r.promotes(5 * time.Second) {
				t.Fatal("it does not take over")
			}
			r.journaled(nil)
			r.acquires(nil)
			r.ends("unit", hooks.Changed)
			r.wantState(Active, PeerSilent)
			r.fails("gateway")
			need[Drop](r)
			r.wantState(Demoting, Unhealthy)
		}},
		{"flapping/log", "it goes on for ever", "one line for each length of the hold, of which there are five", func(t *testing.T) {
			r := behindRig(t, nil)
			notes := 0
			for range 100 {
				for range 10 {
					r.says(holding())
					r.run(100 * time.Millisecond)
				}
				r.fails("disk")
				r.heals("disk")
				if n, ok := find[Note](r); ok && n.Why.Check == "disk" {
					notes++
				}
			}
			if notes != 5 {
				t.Errorf("%d lines", notes)
			}
		}},
	}
}

func unsampledRules() []rule {
	fresh := func(t *testing.T) *rig {
		r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:]; withDisk(c) })
		r.step(Started{Boot: 7})
		r.ends("close", hooks.Unchanged)
		r.ends("unit", hooks.Unchanged)
		return r
	}
	return []rule{
		{"unsampled/takes-over", "no check has a sample yet and the peer is dead", "it takes over", func(t *testing.T) {
			r := fresh(t)
			if began := r.now; !r.promotes(10*time.Second) || r.now.Sub(began) > 2*time.Second {
				t.Errorf("after %s", r.now.Sub(began))
			}
		}},
		{"unsampled/elected", "a check of effect fault has none, the peer is there and nobody is Active", "it waits for the sample, three seconds after its start at most", func(t *testing.T) {
			for _, sampled := range []bool{true, false} {
				r := fresh(t)
				began := r.now
				if sampled {
					r.step(Probed{Check: "gateway", OK: true})
				}
				promoted := false
				for r.now.Sub(began) < 5*time.Second && !promoted {
					r.says(PeerState{State: Backup, Bids: true, Sources: NoDatabases})
					promoted = r.promotes(50 * time.Millisecond)
				}
				took := r.now.Sub(r.o.begun)
				if !promoted || sampled && took > 2*time.Second || !sampled && (took < samplePatience || took > samplePatience+time.Second) {
					t.Errorf("sampled %t: promoted %t after %s", sampled, promoted, took)
				}
			}
		}},
		{"unsampled/planned", "any check has none and a switchover comes to the node", "it waits for the samples, three seconds at most; then gate code `unknown`", func(t *testing.T) {
			r := fresh(t)
			r.settles()
			if s := r.offered(Give{}); s != TakePreparing {
				t.Fatalf("stage %d", s)
			}
			give := r.o.take.give
			says := func(d time.Duration) {
				for end := r.now.Add(d); r.now.Before(end); r.run(100 * time.Millisecond) {
					p := holding()
					p.Give = &give
					r.says(p)
				}
			}
			says(time.Second)
			if s := r.o.take.view.Stage; s != TakePreparing {
				t.Fatalf("stage %d after a second", s)
			}
			r.well()
			says(200 * time.Millisecond)
			if s := r.o.take.view.Stage; s != TakePrepared {
				t.Fatalf("stage %d with its samples", s)
			}
			r = fresh(t)
			r.settles()
			r.offered(Give{})
			give = r.o.take.give
			says(gatePatience + 500*time.Millisecond)
			r.wantTake(TakeRefused, GateClosed, replication.NotKnown)
		}},
		{"unsampled/preempt", "any check has none and the node would preempt", "it does not ask before it is sampled and well for `preempt_delay`", func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Preempt, c.PreemptDelay = true, 2*time.Second; withDisk(c) })
			r.step(Started{Boot: 7})
			r.ends("close", hooks.Unchanged)
			r.ends("unit", hooks.Unchanged)
			r.settles()
			r.listens(10*time.Second, always(holding()))
			if r.o.wish != nil {
				t.Fatal("it asks")
			}
			r.well()
			r.wantWish(2*time.Second, 3*time.Second)
		}},
	}
}

// wantWish wants the node to ask for the role back between two times from now.
func (r *rig) wantWish(low, high time.Duration) {
	r.t.Helper()
	began := r.now
	for r.o.wish == nil && r.now.Sub(began) < high+10*time.Second {
		r.says(holding())
		r.run(100 * time.Millisecond)
	}
	if waited := r.now.Sub(began); r.o.wish == nil || waited < low || waited > high {
		r.t.Errorf("asked %t, after %s", r.o.wish != nil, waited)
	}
}

func preemptRules() []rule {
	preempts := func(t *testing.T) *rig {
		return behindRig(t, func(c *Config) { c.Preempt, c.PreemptDelay = true, 2*time.Second })
	}
	return []rule{
		{"preempt/failing", "a check of either effect fails on a node that would preempt", "it does not; `preempt_delay` counts from when it is well", func(t *testing.T) {
			for _, check := range []string{"gateway", "disk"} {
				r := preempts(t)
				r.fails(check)
				r.listens(10*time.Second, always(holding()))
				if r.o.wish != nil {
					t.Fatalf("%s: it asks for a role that it would hand back", check)
				}
				r.heals(check)
				r.wantWish(2*time.Second, 3*time.Second)
			}
		}},
		{"preempt/flapping", "it flaps", "from when it was well for as long as it is held back", func(t *testing.T) {
			for _, check := range []string{"gateway", "disk"} {
				r := preempts(t)
				r.flaps(check)
				r.wantWish(health.HoldFirst+2*time.Second, health.HoldFirst+3*time.Second)
			}
		}},
	}
}

func healthRules() []rule {
	var all []rule
	for _, some := range [][]rule{faultRules(), yieldRules(), flapRules(), unsampledRules(), preemptRules()} {
		all = append(all, some...)
	}
	return all
}

const (
	rulesBegin = "<!-- health rules: begin, written by go test ./internal/failover -update -->"
	rulesEnd   = "<!-- health rules: end -->"
)

// TestDocumentedRules holds docs/health-effects.md to the rules that
// TestHealthRules plays.
func TestDocumentedRules(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "health-effects.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), rulesBegin)
	_, after, foundEnd := strings.Cut(rest, rulesEnd)
	if !found || !foundEnd {
		t.Fatalf("%s: the marks %q and %q are not both there", path, rulesBegin, rulesEnd)
	}
	var b strings.Builder
	b.WriteString("| rule | when | what happens |\n|---|---|---|\n")
	for _, r := range healthRules() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.clause, r.when, r.does)
	}
	want := before + rulesBegin + "\n\n" + b.String() + "\n" + rulesEnd + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s is not what go test ./internal/failover -update writes (-want +got):\n%s", path, diff)
	}
}
