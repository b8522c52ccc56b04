package sim

import (
	"math/rand/v2"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// What health checks see, and what becomes of it. Their troubles are drawn from a
// stream of their own: a world without checks is what it was before there were any.

const healthStream = 0x6865_616c_7468

// samplesEach is how many samples follow a change: more than any rise or fall. When
// nothing changes a check is not sampled again, which tells a core nothing new.
const samplesEach = 4

// sickness is what is wrong with a node, check by check, and what its daemon was told.
type sickness struct {
	failing [2]bool   // what a sample finds
	hung    [2]bool   // no sample comes
	turn    [2]uint32 // of the samples that are under way
	board   *health.Board
}

// drawChecks draws two checks, one of each effect.
func (w *World) drawChecks(s *Setup, chance float64) {
	if w.ill.Float64() >= chance {
		return
	}
	s.Checks = []health.Check{
		{Name: "gateway", Rise: 1 + w.ill.IntN(3), Fall: 1 + w.ill.IntN(3), Effect: health.Fault},
		{Name: "disk", Rise: 1 + w.ill.IntN(3), Fall: 1 + w.ill.IntN(3), Effect: health.Yield},
	}
}

// illFor draws a time of the health's own stream.
func (w *World) illFor(low, high time.Duration) time.Duration {
	return low + time.Duration(w.ill.Int64N(int64(high-low)))
}

func newIll(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, healthStream)) }

// examined begins the checks of a daemon that starts.
func (n *node) examined() {
	n.sick.board = health.NewBoard(n.w.setup.Checks)
	for i := range n.w.setup.Checks {
		n.sampleIn(n.w.illFor(0, 1500*time.Millisecond), i)
	}
}

// becomes makes a check find a node sick or well from now on.
func (n *node) becomes(i int, failing bool) {
	if len(n.w.setup.Checks) == 0 || n.sick.failing[i] == failing {
		return
	}
	n.sick.failing[i] = failing
	n.w.say(n.i, "what %s looks at is bad: %t", n.w.setup.Checks[i].Name, failing)
	n.sampleIn(0, i)
}

// hangs lets a check take no more samples, or go on.
func (n *node) hangs(i int, hung bool) {
	if len(n.w.setup.Checks) == 0 || n.sick.hung[i] == hung {
		return
	}
	n.sick.hung[i] = hung
	n.w.say(n.i, "%s hangs: %t", n.w.setup.Checks[i].Name, hung)
	n.sampleIn(0, i)
}

func (n *node) sampleIn(after time.Duration, i int) {
	n.sick.turn[i]++
	n.sampleAgain(after, i, samplesEach)
}

func (n *node) sampleAgain(after time.Duration, i, left int) {
	turn, life := n.sick.turn[i], n.life
	n.w.schedule(after, item{kind: kScript, do: func() {
		if n.core == nil || n.life != life || n.sick.turn[i] != turn || n.sick.hung[i] {
			return
		}
		if !n.runs() { // it looks again when it does
			n.sampleAgain(n.w.setup.Probe, i, left)
			return
		}
		n.answer(0, failover.Probed{Check: n.w.setup.Checks[i].Name, OK: !n.sick.failing[i], Detail: "as the world wants"})
		if left > 1 {
			n.sampleAgain(n.w.setup.Probe, i, left-1)
		}
	}})
}

// probed keeps the book of what the core is told.
func (n *node) probed(ev failover.Event) failover.Event {
	n.sick.board.Tick(n.clock())
	p, ok := ev.(failover.Probed)
	if !ok {
		return ev
	}
	s, _ := n.sick.board.Sample(n.clock(), p.Check, p.OK, p.Detail)
	if b := n.w.setup.Broken; b.NumbFault && s.Check.Effect == health.Fault || b.NumbYield && s.Check.Effect == health.Yield {
		p.OK = true
		return p
	}
	return ev
}

// recovers makes a node well.
func (n *node) recovers() {
	for i := range n.w.setup.Checks {
		n.hangs(i, false)
		n.becomes(i, false)
	}
}

// suffer lets checks fail, flap and hang as long as more says.
func (w *World) suffer(low, high time.Duration, more func() bool) {
	if len(w.setup.Checks) == 0 {
		return
	}
	w.schedule(w.illFor(low, high), item{kind: kScript, do: func() {
		if more() {
			w.illnesses[w.ill.IntN(len(w.illnesses))](w, w.nodes[w.ill.IntN(2)], w.ill.IntN(len(w.setup.Checks)), more)
		}
		w.suffer(low, high, more)
	}})
}

// illness is one trouble of a check of a node, for as long as more says.
type illness func(w *World, n *node, i int, more func() bool)

var allIllnesses = []illness{fails, fails, bothFail, flaps, hang, hangBad}

func (w *World) illLater(d time.Duration, more func() bool, do func()) {
	w.schedule(d, item{kind: kScript, do: func() {
		if more() {
			do()
		}
	}})
}

// spell is how long an illness lasts.
func (w *World) spell() time.Duration {
	return w.illFor(0, [...]time.Duration{300 * time.Millisecond, 3 * time.Second, 15 * time.Second}[w.ill.IntN(3)])
}

func fails(w *World, n *node, i int, more func() bool) {
	n.becomes(i, true)
	w.illLater(w.spell(), more, func() { n.becomes(i, false) })
}

// bothFail is what the two nodes share: a gateway, a disk in the network.
func bothFail(w *World, n *node, i int, more func() bool) {
	fails(w, n, i, more)
	fails(w, n.peer(), i, more)
}

// flaps is one that fails and is well again several times, of which few are slower
// than the samples.
func flaps(w *World, n *node, i int, more func() bool) {
	at := time.Duration(0)
	for k := range 2 * (2 + w.ill.IntN(5)) {
		failing := k%2 == 0
		w.illLater(at, more, func() { n.becomes(i, failing) })
		at += w.illFor(0, 4*time.Second)
	}
}

func hang(w *World, n *node, i int, more func() bool) {
	n.hangs(i, true)
	w.illLater(w.spell(), more, func() { n.hangs(i, false) })
}

// hangBad is one that becomes bad behind a check that hangs.
func hangBad(w *World, n *node, i int, more func() bool) {
	hang(w, n, i, more)
	fails(w, n, i, more)
}

// healthy is what a node's checks must not let it do, after every step of it: hold
// the address while one forbids it that. There is no bound, it lets go in the same step.
func (c *checker) healthy(n *node) {
	if n.foreign || len(c.w.setup.Checks) == 0 {
		return
	}
	s, failing := n.sick.board.Failing(health.Fault)
	if failing && s.Verdict == health.Failing && n.kernel.own() && !n.maintained() {
		c.w.fail("fault", "%s has the address though %s fails, which it was told", n.label, s.Check.Name)
	}
}

// wellEnough is what must be true of the new node when it begins the promotion of a
// switchover that nobody forced, unless the role leaves the old node in any case.
func (c *checker) wellEnough(n *node, r hooks.Record) {
	p := n.peer()
	if g := n.state.Give; g != nil && g.Stage < failover.GiveDone { // the old node takes it back
		return
	}
	if len(c.w.setup.Checks) == 0 || c.nodes[p.i].forced {
		return
	}
	// As the new node was told, which may be older than what the old one does by now.
	if r.Reason == failover.Stopping.String() || r.Reason == failover.DatabaseDown.String() {
		return
	}
	if unfit := n.sick.board.Unfit(); len(unfit) > 0 {
		c.w.fail("yield", "%s takes the role in a switchover though it was told: %s is %s", n.label, unfit[0].Check.Name, unfit[0].Verdict)
	}
	if s, unsampled := n.sick.board.Unsampled(); unsampled {
		c.w.fail("yield", "%s takes the role in a switchover though %s has no sample", n.label, s.Check.Name)
	}
}

// yields counts the demotions that a check brought about.
func (c *checker) yields(r hooks.Record) {
	if r.Role == hooks.Standby && r.Reason == failover.Unhealthy.String() {
		c.w.unhealthy++
	}
}
