package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// looks answers n questions of a frozen node to the kernel of the silent new one.
func (r *rig) looks(n int, a Asked) {
	r.t.Helper()
	for i := range n {
		if r.o.give.stage != GiveUndoing {
			r.t.Fatalf("stage %d after %d of %d answers", r.o.give.stage, i, n)
		}
		for r.o.give.look.id == 0 {
			r.run(r.o.give.deadline().Sub(r.now))
		}
		a.ID = r.o.give.look.id
		r.after(askLongest, a)
	}
}

// lookingRig returns a frozen node whose new node fell silent and whose word is over:
// its first question is out.
func lookingRig(t *testing.T) *rig {
	t.Helper()
	r, id := switchover(t, Request{Timeout: 300 * time.Millisecond})
	r.takes(id, TakePrepared)
	learned := need[Append](r)
	r.ends("close", hooks.Changed)
	r.after(time.Millisecond, Durable{ID: learned.ID})
	r.run(400 * time.Millisecond)
	r.run(r.o.give.deadline().Sub(r.now))
	if r.o.give.stage != GiveUndoing || r.o.give.look.id == 0 {
		t.Fatalf("stage %d, asks %d", r.o.give.stage, r.o.give.look.id)
	}
	return r
}

// Writes open again only when the address is known to be gone from the silent new
// node, or its lease must have ended.
func TestAFrozenNodeAsksUntilItKnows(t *testing.T) {
	here := Asked{Host: true, Address: true, OnLink: true}
	for _, tt := range []struct {
		name    string
		answers []Asked
		rolls   bool // after them, and not before
	}{
		{"the address is not there, four times", []Asked{{Host: true, OnLink: true}, {Host: true, OnLink: true}, {Host: true, OnLink: true}, {Host: true, OnLink: true}}, true},
		{"nobody answers, three times", []Asked{{}, {}, {}}, true},
		{"once without an answer", []Asked{{}}, false},
		{"a question that could not be put", []Asked{{Err: errTest}, {Err: errTest}, {Err: errTest}, {Err: errTest}, {Err: errTest}}, false},
		{"a host that is only reached another way", []Asked{{Host: true}, {Host: true}, {Host: true}, {Host: true}, {Host: true}}, false},
		{"an error in between", []Asked{{}, {}, {Err: errTest}, {}}, false},
		{"silence of a host that has answered", []Asked{{Host: true, OnLink: true}, {}, {}, {}, {}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := lookingRig(t)
			for _, a := range tt.answers {
				r.looks(1, a)
			}
			if tt.rolls {
				r.ends("undo close", hooks.Changed)
				if a := need[Answer](r); a.Outcome != TimedOutBack {
					t.Errorf("%+v", a)
				}
				return
			}
			r.looks(1, here)
			need[Drop](r)
			if r.o.give.stage != GiveReleased {
				t.Errorf("stage %d", r.o.give.stage)
			}
		})
	}
	t.Run("an answer that a Tick overtakes", func(t *testing.T) {
		r := lookingRig(t)
		id := r.o.give.look.id
		r.run(retryDelay - time.Millisecond)
		here.ID = id
		r.step(here)
		need[Drop](r)
		if r.o.give.stage != GiveReleased {
			t.Errorf("stage %d", r.o.give.stage)
		}
	})
	t.Run("for as long as the new node's lease may last", func(t *testing.T) {
		r := lookingRig(t)
		begun := r.now
		r.run(r.o.cfg.Lease + leaseGrace - time.Millisecond)
		if r.o.give.stage != GiveUndoing {
			t.Fatalf("stage %d", r.o.give.stage)
		}
		r.run(begun.Add(r.o.cfg.Lease + leaseGrace).Sub(r.now))
		if r.o.give.stage != GiveRollingBack {
			t.Fatalf("stage %d", r.o.give.stage)
		}
	})
}
