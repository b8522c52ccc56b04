package sim

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// TestTwentyFlaps: switchovers, failing checks and dead links, twenty within a
// second while steps are slow, end in one role on each node, and nothing runs.
func TestTwentyFlaps(t *testing.T) {
	const flaps, worlds = 20, 300
	undone := 0
	for seed := range uint64(worlds) {
		s := talesSetup()
		s.StepTime = 300 * time.Millisecond
		w := NewWorld(seed, s)
		w.check.operatorOff = true
		b := &boundaries{w: w, holder: -1, quiet: -1, until: taleStart + time.Second}
		b.tale = tale{name: "flaps", kept: true}
		f := &faults{w: w}
		w.script = func(id uint64) { f.actions[id]() }
		for i := range w.nodes {
			w.schedule(0, item{kind: kStart, node: uint8(i)})
		}
		for i := range flaps {
			f.after(taleStart+time.Duration(i)*time.Second/flaps, func() {
				n := f.node()
				switch w.rng.IntN(4) {
				case 0, 1:
					if n.core != nil {
						w.check.commands++
						n.answer(0, failover.SwitchoverWanted{
							Command: failover.ID(w.check.commands),
							Request: failover.Request{To: labels[w.rng.IntN(2)], Timeout: w.between(100*time.Millisecond, 3*time.Second)},
						})
					}
				case 2:
					n.becomes(0, true)
					f.after(w.between(0, 500*time.Millisecond), func() { n.becomes(0, false) })
				case 3:
					n.linkDown(carrierLost)
					f.after(w.between(0, 500*time.Millisecond), n.linkUp)
				}
			})
		}
		w.schedule(b.until, item{kind: kScript, do: b.look})
		if err := w.Finish(); err != nil {
			t.Errorf("SEED=%d %v", seed, err)
		}
		for _, n := range w.check.outcomes[failover.RolledBack:] {
			undone += n
		}
	}
	if undone == 0 {
		t.Errorf("no switchover of %d worlds was undone", worlds)
	}
}
