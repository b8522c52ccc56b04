package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

func TestWitness(t *testing.T) {
	if n := playMany(t, "witness"); n.Vouched == 0 {
		t.Error("a witness had no say in any takeover")
	}
}

// TestFoundWitnessSeeds replays what long searches found.
func TestFoundWitnessSeeds(t *testing.T) {
	for name, seed := range map[string]uint64{
		"a host whose clock stood took for new what its witness had said": 7108559,
		"a host that was suspended was to let go meanwhile":               7009102,
		"a host whose clock stood was to have counted that time":          7012923,
		// No such defect was found; without it nothing here would see one that never lets go.
		"an Active that hears nobody keeps the address": 390,
	} {
		if _, err := Play("witness", seed); err != nil {
			t.Errorf("%s: SEED=%d %v", name, seed, err)
		}
	}
}

// TestWitnessCheckersFire breaks one thing at a time and wants the checker that is there
// for it to see it.
func TestWitnessCheckersFire(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kinds   []func(*address)
		checker string
	}{
		{"somebody else answers for the gateway, to an Active", []func(*address){(*address).cutOff}, "isolation"},
		{"somebody else answers for the gateway, to a standby", []func(*address){(*address).gatewayDies, (*address).power}, "witness"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := uint64(1); seed <= 300; seed++ {
				err := witnessOf(seed, Broken{FalseWitness: true}, tt.kinds).Finish()
				if err != nil && strings.HasPrefix(err.Error(), tt.checker+" ") {
					return
				}
			}
			t.Errorf("checker %s did not fire", tt.checker)
		})
	}
}

// TestConflictCheckersFire is the same for what two nodes that were both Active say.
func TestConflictCheckersFire(t *testing.T) {
	cut := []func(*faults){(*faults).partition, (*faults).partition, (*faults).powerBoth}
	for _, tt := range []struct {
		name    string
		broken  Broken
		kinds   []func(*faults)
		checker string
	}{
		{"a node says that it took no writes", Broken{Liar: true}, cut, "wrote"},
		{"a node takes what it wrote for the Active's", Broken{Forgetful: true}, cut, "divergence"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fires(t, tt.checker, 3000, func(seed uint64) *World { return faultsOf(seed, tt.broken, tt.kinds) })
		})
	}
}

// TestConflictsHappen: a world without them tests nothing of the above.
func TestConflictsHappen(t *testing.T) {
	conflicts := 0
	for seed := uint64(1); seed <= 300 && conflicts < 3; seed++ {
		w := Faults(seed)
		if err := w.Finish(); err != nil {
			t.Fatalf("SEED=%d %v", seed, err)
		}
		conflicts += w.conflicts
	}
	if conflicts < 3 {
		t.Errorf("%d conflicts", conflicts)
	}
}

// twoActives plays how two nodes become Active in one epoch: in a partition the Active
// loses its power and resumes alone, and its standby takes over. Writes says on which of them clients write then.
func twoActives(t *testing.T, b Broken, writes [2]bool) *World {
	t.Helper()
	s := DefaultSetup()
	s.Broken, s.Proved, s.WriteRate = b, true, 50
	w := NewWorld(storySeed, s)
	cut := func(is bool) func() {
		return func() {
			for p := range w.net.ways {
				for d := range w.net.ways[p] {
					w.net.ways[p][d].cut = is
				}
			}
			w.net.changed()
		}
	}
	chapters := []struct {
		at time.Duration
		do func()
	}{
		{3 * time.Second, func() { w.settleAll(); w.clientless = [2]bool{true, true} }},
		{4 * time.Second, func() {
			cut(true)()
			w.nodes[0].powerOff()
			w.schedule(100*time.Millisecond, item{kind: kPower})
		}},
		{20 * time.Second, func() {
			w.settleAll()
			w.clientless = [2]bool{!writes[0], !writes[1]}
			a, b := w.nodes[0], w.nodes[1]
			if !a.kernel.holds() || !b.kernel.holds() || a.state.ActiveEpoch != b.state.ActiveEpoch {
				w.fail("setup", "%s in epoch %d, %s in epoch %d: %s", a.state.State, a.state.ActiveEpoch, b.state.State, b.state.ActiveEpoch, why(b.state.Why))
			}
		}},
		{25 * time.Second, cut(false)},
	}
	w.script = func(i uint64) { chapters[i].do() }
	for i := range w.nodes {
		w.schedule(0, item{kind: kStart, node: uint8(i)})
	}
	for i, c := range chapters {
		w.schedule(c.at, item{kind: kScript, id: uint64(i)})
	}
	w.Run(40 * time.Second)
	return w
}

// TestTwoActivesOfOneEpoch: exactly one stays, the one with writes if only one has them,
// and the other says what only it has.
func TestTwoActivesOfOneEpoch(t *testing.T) {
	for _, tt := range []struct {
		name     string
		writes   [2]bool
		stays    int
		conflict bool
	}{
		{"neither wrote", [2]bool{}, 0, false},
		{"the stronger wrote", [2]bool{true, false}, 0, false},
		{"the weaker wrote", [2]bool{false, true}, 1, false},
		{"both wrote", [2]bool{true, true}, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := twoActives(t, Broken{}, tt.writes)
			if err := w.Failure(); err != nil {
				t.Fatal(err)
			}
			h, s := w.nodes[tt.stays], w.nodes[1-tt.stays]
			if !h.kernel.holds() || s.kernel.holds() || h.state.State != failover.Active {
				t.Errorf("%s %s, %s %s", h.label, h.state.State, s.label, s.state.State)
			}
			if got := s.state.State == failover.Conflict; got != tt.conflict {
				t.Errorf("%s is %s (%s)", s.label, s.state.State, why(s.state.Why))
			}
			if told, truth := w.check.nodes[s.i].diverged["pivot"], s.dbs[0].history.beyond(h.dbs[0].history); told != truth {
				t.Errorf("%d transactions told, %d in truth", told, truth)
			}
		})
	}
	t.Run("its checker fires", func(t *testing.T) {
		err := twoActives(t, Broken{Flatterer: true}, [2]bool{false, true}).Failure()
		if err == nil || !strings.HasPrefix(err.Error(), "yields ") {
			t.Errorf("%v", err)
		}
	})
}
