package failover

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
)

// A rig is one orchestrator, its clock, and the effects of its latest step. What
// the daemon would answer is answered by the test, word by word.

type rig struct {
	t   *testing.T
	o   *Orchestrator
	now mono.Instant
	out []Effect
	seq uint64

	ended []Answer // all of them

	refuses error // the kernel's answer to a new address
}

var errTest = errors.New("no")

const unit = "lsyncd.service"

var (
	testPromote = hooks.Plan{
		{Name: "replication", Timeout: 5 * time.Second, Action: hooks.Replication{Verb: hooks.StopReplication}},
		{Name: "open", Timeout: 5 * time.Second, Action: hooks.Writes{Open: true}},
		{Name: "vip", Timeout: 5 * time.Second, Action: hooks.VIP{Acquire: true}},
		{Name: "unit", Timeout: 5 * time.Second, Action: hooks.Unit{Verb: hooks.StartUnit, Name: unit}},
	}
	testDemote = hooks.Plan{
		{Name: "close", Timeout: 5 * time.Second, Action: hooks.Writes{}},
		{Name: "vip", Timeout: 5 * time.Second, Action: hooks.VIP{}},
		{Name: "unit", Timeout: 5 * time.Second, Action: hooks.Unit{Verb: hooks.StopUnit, Name: unit}},
	}
)

// testConfig is the primary of a pair without databases.
func testConfig() Config {
	return Config{
		Node: "primary", Peer: "reserve", Instance: "compass", VIP: "10.77.0.100",
		Router: vrrp.Config{
			VRID: 51, Priority: 254, Interval: 25, Local: netip.MustParseAddr("10.77.0.11"),
			Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.100")},
		},
		PeerPriority: 253, Lease: 2 * time.Second, Announce: Announcement{Repeat: 1},
		DrainTimeout: 10 * time.Second, Promote: testPromote, Demote: testDemote,
		Checks: []health.Check{{Name: "gateway", Rise: 1, Fall: 1, Effect: health.Fault}},
	}
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	cfg := testConfig()
	if change != nil {
		change(&cfg)
	}
	o, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, o: o, now: mono.Instant(time.Hour)}
}

func (r *rig) step(ev Event) []Effect {
	r.out = r.o.Step(r.now, ev, nil)
	if a, ok := find[Answer](r); ok {
		r.ended = append(r.ended, a)
	}
	return r.out
}

func (r *rig) after(d time.Duration, ev Event) []Effect {
	r.now = r.now.Add(d)
	return r.step(ev)
}

// run lets the timers of the node fire for d.
func (r *rig) run(d time.Duration) {
	r.t.Helper()
	end := r.now.Add(d)
	for i := 0; ; i++ {
		at, ok := r.o.Deadline()
		if !ok || at.After(end) {
			break
		}
		if i > 10_000 {
			r.t.Fatal("the timers never come to rest")
		}
		r.now = max(r.now, at)
		r.step(Tick{})
	}
	r.now = end
	r.step(Tick{})
}

// find returns the first effect of a type in the latest step.
func find[E Effect](r *rig) (E, bool) {
	for _, e := range r.out {
		if e, ok := e.(E); ok {
			return e, true
		}
	}
	var none E
	return none, false
}

func need[E Effect](r *rig) E {
	r.t.Helper()
	e, ok := find[E](r)
	if !ok {
		r.t.Fatalf("no %T among %s", e, shown(r.out))
	}
	return e
}

func none[E Effect](r *rig) {
	r.t.Helper()
	if e, ok := find[E](r); ok {
		r.t.Fatalf("%+v among %s", e, shown(r.out))
	}
}

func shown(out []Effect) string {
	var names []string
	for _, e := range out {
		names = append(names, strings.TrimPrefix(fmt.Sprintf("%T", e), "failover."))
	}
	return strings.Join(names, " ")
}

func (r *rig) wantState(s State, why Reason) {
	r.t.Helper()
	if r.o.state != s || r.o.why.Reason != why {
		r.t.Fatalf("%s (%s), want %s (%s); effects %s", r.o.state, r.o.why.Reason, s, why, shown(r.out))
	}
}

// ends answers the step that was just started, and wants its name.
func (r *rig) ends(name string, out hooks.Outcome) {
	r.t.Helper()
	s := need[StartStep](r)
	if s.Order.Step.Name != name {
		r.t.Fatalf("started %s, want %s", s.Order.Step.Name, name)
	}
	r.after(time.Millisecond, StepEnded{ID: s.Order.ID, Outcome: out})
}

// says lets the peer say something; nothing stays from what it said before.
func (r *rig) says(s PeerState) {
	r.seq++
	if s.Boot == 0 {
		s.Boot = 99
	}
	s.Seq, s.Echo = r.seq, r.now
	r.after(time.Millisecond, PeerSaid{State: s})
}

func (r *rig) hears(priority uint8) {
	a := r.o.router.Advertisement()
	a.Priority = priority
	r.after(time.Millisecond, Advertised{Advertisement: a, Source: netip.MustParseAddr("10.77.0.12")})
}

// proves lets the peer advertise with its epoch.
func (r *rig) proves(priority uint8, e Epoch) {
	a := r.o.router.Advertisement()
	a.Priority = priority
	r.after(time.Millisecond, Advertised{
		Advertisement: a, Source: netip.MustParseAddr("10.77.0.12"), Epoch: e, Proved: true,
	})
}

// boots starts a node that has no past, ends its closing plan and finds it well.
func (r *rig) boots() {
	r.t.Helper()
	r.step(Started{Boot: 7})
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Unchanged)
	r.wantState(Backup, Starting)
	r.well()
}

// well lets every check that has no sample say that all is well.
func (r *rig) well() {
	for _, s := range r.o.board.Statuses() {
		if s.Verdict == health.Unknown {
			r.step(Probed{Check: s.Check.Name, OK: true})
		}
	}
}

// asked lets time pass until a question is put, at most for limit.
func (r *rig) asked(limit time.Duration) (AskKernel, bool) {
	for end := r.now.Add(limit); ; r.step(Tick{}) {
		if ask, ok := find[AskKernel](r); ok {
			return ask, true
		}
		at, _ := r.o.Deadline()
		if at.After(end) {
			r.now = end
			return AskKernel{}, false
		}
		r.now = max(r.now, at)
	}
}

// asksSilence brings a booted node to its bid: nobody is there.
func (r *rig) asksSilence() {
	r.t.Helper()
	for i := 0; i < 100; i++ {
		if r.o.bid != nil && r.o.bid.dead {
			return
		}
		if ask, ok := find[AskKernel](r); ok {
			r.after(time.Millisecond, Asked{ID: ask.ID})
			continue
		}
		at, _ := r.o.Deadline()
		r.now = at
		r.step(Tick{})
	}
	r.t.Fatal("the silent peer's kernel is not asked")
}

// journaled answers the durable record.
func (r *rig) journaled(err error) {
	r.t.Helper()
	a := need[Append](r)
	if a.ID == 0 {
		r.t.Fatalf("%+v is not durable", a.Record)
	}
	r.after(time.Millisecond, Durable{ID: a.ID, Err: err})
}

// acquires answers the Hold that adds the address.
func (r *rig) acquires(err error) {
	r.t.Helper()
	h := need[Hold](r)
	if h.ID == 0 {
		r.t.Fatal("a renewal, not an acquisition")
	}
	r.after(time.Millisecond, Held{ID: h.ID, Err: err})
}

// activeRig returns a node without databases that took over from a dead peer.
func activeRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := newRig(t, func(c *Config) {
		c.Promote = c.Promote[2:]
		if change != nil {
			change(c)
		}
	})
	r.boots()
	r.asksSilence()
	r.journaled(nil)
	r.acquires(nil)
	r.ends("unit", hooks.Changed)
	r.wantState(Active, PeerSilent)
	return r
}
