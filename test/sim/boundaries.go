package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// The boundaries scenario ends a daemon, a host or both nodes at every boundary
// of a few tales: before and after each effect of a core, around each step and
// within it, around the moment at which a record is durable. Nothing is drawn by
// lot: the same tale is told until the boundary, each time the same way. Then
// the pair has to find itself, finished or undone.

// tale is what happens while boundaries are counted.
type tale struct {
	name  string
	begin func(w *World) // at taleStart; of a boot: at once
	boot  bool           // the hosts start, and nothing else
	kept  bool           // nobody but the fault takes what a database has
	last  time.Duration  // boundaries are counted for so long
	to    int            // the node that a switchover is to, -1: there is none
}

const (
	taleStart = 4 * time.Second
	taleSeed  = 7

	quietFor   = 3 * time.Second // a pair that found itself stays as it is
	quietLook  = 250 * time.Millisecond
	quietBound = 30 * time.Second // a step that fails is tried again after 10 s
)

// end is what is done at a boundary.
type end struct {
	name string
	both bool // to the other node as well
	do   func(w *World, n *node)
	cuts bool // the power of the host
	soon bool // the daemon is back before the address goes
}

func ends() []end {
	killed := func(w *World, n *node, back time.Duration) {
		n.kill()
		w.schedule(back, item{kind: kStart, node: uint8(n.i)})
	}
	cut := func(w *World, n *node, keeps bool) {
		n.disk.keeps = &keeps
		n.powerOff()
		n.disk.keeps = nil
		w.schedule(hostBack, item{kind: kPower, node: uint8(n.i)})
	}
	restart := func(w *World, n *node) { killed(w, n, restartAfter) }
	lost := func(w *World, n *node) { cut(w, n, false) }
	return []end{
		{name: "daemon killed, back in 100 ms", do: restart, soon: true},
		{name: "daemon killed, back after the lease", do: func(w *World, n *node) {
			killed(w, n, w.setup.Lease+awayFor)
		}},
		{name: "power cut, what is not synced is lost", do: lost, cuts: true},
		{name: "power cut, all that was written is kept", do: func(w *World, n *node) { cut(w, n, true) }, cuts: true},
		{name: "both daemons killed, back in 100 ms", do: restart, both: true},
		{name: "power cut of both", do: lost, both: true, cuts: true},
	}
}

const (
	restartAfter = 100 * time.Millisecond
	awayFor      = 3 * time.Second
	hostBack     = 6 * time.Second
)

// compassUp and compassDown are the plan of docs/architecture.md.
func compassDown() hooks.Plan {
	return append(demote(), hooks.Step{
		Name: "follow", Timeout: stepTimeout, OnError: hooks.Continue, Action: hooks.Replication{Verb: hooks.FollowPeer},
	})
}

func tales() []tale {
	to := func(i int) func(*World) {
		return func(w *World) {
			w.check.commands++
			w.nodes[0].answer(0, failover.SwitchoverWanted{
				Command: failover.ID(w.check.commands),
				Request: failover.Request{To: labels[i], Timeout: 30 * time.Second, UID: 1000},
			})
		}
	}
	return []tale{
		{name: "first start", boot: true, kept: true, last: 3 * time.Second, to: -1},
		{name: "switchover to the reserve", begin: to(1), kept: true, last: time.Second, to: 1},
		{name: "switchover to the primary", begin: func(w *World) {
			to(1)(w)
			w.bounds.from = w.now + time.Second
			w.schedule(time.Second, item{kind: kScript, do: func() { to(0)(w) }})
		}, kept: true, last: 2 * time.Second, to: 0},
		{name: "rolled-back switchover", begin: func(w *World) {
			w.nodes[1].fault = stepFault{mode: stepFails, kind: "writes"}
			to(1)(w)
		}, kept: true, last: time.Second, to: -1},
		{name: "takeover after a power cut", begin: func(w *World) {
			w.say(0, "power cut")
			w.nodes[0].powerOff()
			w.schedule(hostBack, item{kind: kPower})
		}, last: hostBack + 2*time.Second, to: -1},
		{name: "emergency demotion", begin: func(w *World) {
			n := w.nodes[0]
			n.answer(0, failover.Probed{Check: "gateway", Detail: "as the tale wants"})
			w.schedule(2*time.Second, item{kind: kScript, do: func() {
				n.answer(0, failover.Probed{Check: "gateway", OK: true})
			}})
		}, kept: true, last: 3 * time.Second, to: -1},
		{name: "boot after a power cut of both", begin: func(w *World) {
			for _, n := range w.nodes {
				w.say(n.i, "power cut")
				n.powerOff()
				w.schedule(hostBack, item{kind: kPower, node: uint8(n.i)})
			}
		}, last: hostBack + 3*time.Second, to: -1},
	}
}

func talesSetup() Setup {
	s := DefaultSetup()
	s.Databases = 2
	s.Demote = compassDown()
	s.Checks = []health.Check{{Name: "gateway", Rise: 1, Fall: 1, Effect: health.Fault}}
	return s
}

// boundaries counts them, and ends something at one.
type boundaries struct {
	w       *World
	tale    tale
	end     end
	from    time.Duration // boundaries are counted from here
	until   time.Duration
	count   int
	at      int // the boundary at which it happens, 0: nowhere
	where   string
	done    bool          // it has happened
	doneAt  time.Duration // when
	mayLose bool          // rows were on their way when the power went
	holder  int           // who has to have the address in the end, -1: either
	quiet   time.Duration // since when the pair has found itself, -1: it has not
}

// boundary is one case of the scenario.
type boundary struct {
	tale tale
	end  end
	at   int
}

// everyBoundary tells each tale once, undisturbed, and returns all cases.
var everyBoundary = sync.OnceValue(func() []boundary {
	var all []boundary
	for _, t := range tales() {
		w := tell(boundary{tale: t}, Broken{})
		_ = w.Finish()
		for _, e := range ends() {
			for at := 1; at <= w.bounds.count; at++ {
				all = append(all, boundary{tale: t, end: e, at: at})
			}
		}
	}
	return all
})

// Boundaries is how many cases the boundaries scenario has.
func Boundaries() int { return len(everyBoundary()) }

// Boundary is one case of the boundaries scenario, counted from 1.
func Boundary(number uint64) (*World, error) {
	all := everyBoundary()
	if number < 1 || number > uint64(len(all)) {
		return nil, fmt.Errorf("boundary %d of %d", number, len(all))
	}
	return tell(all[number-1], Broken{}), nil
}

func tell(c boundary, broken Broken) *World {
	s := talesSetup()
	s.Broken = broken
	w := NewWorld(taleSeed, s)
	w.check.operatorOff = true
	b := &boundaries{w: w, tale: c.tale, end: c.end, at: c.at, holder: -1, quiet: -1}
	w.bounds = b
	for i := range w.nodes {
		w.schedule(0, item{kind: kStart, node: uint8(i)})
	}
	if c.tale.boot {
		b.until = c.tale.last
	} else {
		b.from, b.until = taleStart, taleStart+c.tale.last
		w.schedule(taleStart, item{kind: kScript, do: func() { c.tale.begin(w) }})
	}
	w.schedule(max(b.until, taleStart), item{kind: kScript, do: b.look})
	return w
}

// passes is told that the core's next effect is about to be carried out, nil:
// there is none. It reports whether the daemon ended over it.
func (n *node) passes(next failover.Effect) bool {
	b := n.w.bounds
	if b == nil {
		return false
	}
	where := "after the last effect"
	if next != nil {
		where = "before " + strings.TrimPrefix(fmt.Sprintf("%T", next), "failover.")
	}
	return b.pass(n, where)
}

func (n *node) passesAt(where string) bool { return n.w.bounds != nil && n.w.bounds.pass(n, where) }

// passesIn is the same around a step.
func (n *node) passesIn(s *step, where string) bool {
	if n.w.bounds != nil && n.w.bounds.pass(n, s.order.Step.Name+" "+where) {
		s.ended = true
	}
	return s.ended
}

// amid is the same within a step that has done a part of its work.
func (n *node) amid(s *step, out hooks.Outcome) bool {
	return out == hooks.Changed && n.passesIn(s, "is applied to the first database")
}

func (b *boundaries) pass(n *node, where string) bool {
	w := b.w
	if w.now < b.from || w.now >= b.until {
		return false
	}
	b.count++
	if b.count != b.at {
		return false
	}
	b.where, b.done, b.doneAt = n.label+" "+where, true, w.now
	w.say(n.i, "boundary %d, %s: %s", b.at, where, b.end.name)
	b.holder = b.rule(n)
	b.finish(n)
	if b.end.both {
		b.finish(n.peer())
	}
	return true
}

// rule says where a switchover ends whose node n is hit now: it is finished once
// the new node has the address, and undone when the new node is hit between the
// closing of the old one and that. While both only check, either may come of it,
// and after a power cut of the node with the address the gate has its say.
func (b *boundaries) rule(n *node) int {
	if b.tale.to < 0 || b.end.both {
		return -1
	}
	target := b.w.nodes[b.tale.to]
	give := target.peer().state.Give
	switch there := target.kernel.own(); {
	case there && (n != target || b.end.soon):
		return target.i
	case n == target && !there && give != nil && (give.Stage == failover.GiveClosing || give.Stage == failover.GiveFrozen):
		return 1 - target.i
	}
	return -1
}

func (b *boundaries) finish(n *node) {
	if !n.up {
		return // the tale has switched it off
	}
	if b.end.cuts {
		for _, db := range n.dbs {
			b.mayLose = b.mayLose || db.writable()
		}
	}
	b.end.do(b.w, n)
}

// look waits until the pair has found itself and stays so.
func (b *boundaries) look() {
	w := b.w
	wrong := b.wrong()
	switch {
	case wrong != "":
		if b.quiet >= 0 {
			w.say(-1, "no longer as it should be: %s", wrong)
		}
		b.quiet = -1
		if w.now > max(b.until, b.doneAt)+quietBound {
			w.fail("boundary", "%s, %s: %s: %s", b.tale.name, b.where, b.end.name, wrong)
			return
		}
	case b.quiet < 0:
		b.quiet = w.now
	case w.now-b.quiet >= quietFor:
		if b.at > 0 && !b.done {
			w.fail("boundary", "%s: boundary %d never came", b.tale.name, b.at)
			return
		}
		w.check.failure = errOver
		return
	}
	w.schedule(quietLook, item{kind: kScript, do: b.look})
}

// wrong says what keeps the pair from having found itself.
func (b *boundaries) wrong() string {
	w := b.w
	h := w.nodes[0]
	if !h.kernel.holds() {
		h = w.nodes[1]
	}
	s := h.peer()
	switch {
	case !h.kernel.holds():
		return fmt.Sprintf("nobody has the address; %s", b.states())
	case s.kernel.holds():
		return "both have the address"
	case !h.runs() || !s.runs():
		return "a daemon does not run"
	case h.state.State != failover.Active || s.state.State != failover.Backup && !b.diverged(h, s):
		return b.states()
	case len(h.steps)+len(s.steps) > 0:
		return "a step runs"
	case under(h) || under(s):
		return "a handover is under way"
	case h.state.Epoch != s.state.Epoch:
		return fmt.Sprintf("epochs %d and %d", h.state.Epoch, s.state.Epoch)
	case !h.unit || s.unit:
		return fmt.Sprintf("lsyncd runs on %s: %t, on %s: %t", h.label, h.unit, s.label, s.unit)
	case h.file != h.label || s.file != h.label:
		return fmt.Sprintf("%s is Active, the label of %s says %q, that of %s %q", h.label, h.label, h.file, s.label, s.file)
	}
	if b.holder >= 0 && h.i != b.holder {
		return h.label + " has the address, and should not"
	}
	if wrong := b.databases(h, s); wrong != "" {
		return wrong
	}
	return b.journals(h, s)
}

// diverged reports whether the standby is in conflict and has reason to.
func (b *boundaries) diverged(h, s *node) bool {
	if s.state.State != failover.Conflict || s.state.Why.Reason != failover.Diverged {
		return false
	}
	for i := range b.w.setup.dbNames {
		b.w.settle(i)
		if !s.dbs[i].history.within(h.dbs[i].history) {
			return true
		}
	}
	return false
}

func under(n *node) bool {
	g := n.state.Give
	return g != nil && g.Stage < failover.GiveDone
}

func (b *boundaries) states() string {
	var said []string
	for _, n := range b.w.nodes {
		said = append(said, fmt.Sprintf("%s is %s (%s)", n.label, n.state.State, why(n.state.Why)))
	}
	return strings.Join(said, ", ")
}

func (b *boundaries) databases(h, s *node) string {
	w := b.w
	for i, name := range w.setup.dbNames {
		a, z := h.dbs[i], s.dbs[i]
		w.settle(i)
		switch {
		case !a.writable():
			return name + " of the holder does not take writes"
		case !z.readOnly:
			return name + " of the standby takes writes"
		case a.channel && (a.io || a.sql):
			return name + " of the holder replicates"
		}
		if !z.history.within(a.history) {
			if b.mayLose || !b.tale.kept {
				continue // what was written in the last moments before the power went
			}
			return name + ": rows are missing on the holder"
		}
		if !z.channel || !z.io || !z.sql || z.broken || !z.relay.within(a.history) {
			return name + " of the standby does not follow"
		}
	}
	return ""
}

// journals is I6: what a daemon would find now is one role, and all of it.
func (b *boundaries) journals(h, s *node) string {
	a, z := h.disk.memory(), s.disk.memory()
	switch {
	case a.Role != hooks.Active || a.ActiveEpoch != a.Epoch:
		return fmt.Sprintf("the journal of the holder says %+v", a)
	case z.Role == hooks.Active && z.ActiveEpoch >= a.ActiveEpoch:
		return fmt.Sprintf("the journal of the standby says %+v, that of the holder %+v", z, a)
	}
	return ""
}
