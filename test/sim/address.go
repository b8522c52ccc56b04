package sim

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/vrrp"
)

// The address scenario is about the heartbeat and the address alone: no
// databases, the default plan, a network and two hosts that do what they can.
// One seed is one configuration and many rounds; in each a few things go wrong at
// once, then all is healed, and the pair has to find itself within a bound.
//
// Clocks: every host has its own CLOCK_BOOTTIME, with its own origin that each
// boot moves, its own rate, and three ways to stand still (see thaw). A wall clock
// there is not: no event carries its reading and no core can ask for it, so a step
// of it is nothing that could happen to them.

const (
	addressRounds = 60
	troublesMost  = 4
	// healAnswer is what HealBound allows beside the timers that depend on the
	// configuration: a daemon's start, questions to a kernel and their pauses, a
	// second until priorities decide without the link, and a plan that was given
	// up and is tried again after ten seconds.
	healAnswer = 15 * time.Second
	// orderedMost and preemptMost are how long a handover may take whose other side
	// forgot it: the patience of a daemon that is told to stop, or of a stronger
	// node, and the time for which the old node stands by its word.
	orderedMost = 20*time.Second + handoverWord
	preemptMost = time.Minute + handoverWord

	handoverWord = failover.HandoverLease + time.Second
)

// bound is how long after everything was healed exactly one node has the
// address and both agree about it: a lease that must run out, two silences, what
// loss takes, a handover that was under way, and healAnswer.
func (a *address) bound() time.Duration {
	w, most := a.w, time.Duration(0)
	switch {
	case w.setup.Preempt:
		most = preemptMost
	default:
		most = max(0, a.moving-w.now)
	}
	return w.setup.fenceTime() + w.setup.Lease + expiry + 2*w.check.patience() + w.net.spread + healAnswer + most
}

func (c *checker) patience() time.Duration {
	return max(c.proofs[0].patience, c.proofs[1].patience)
}

type phase uint8

const (
	troubled phase = iota
	waiting        // for what the troubles bring, a while at most
	healing
	calm
)

type address struct {
	w      *World
	kinds  []func(*address)
	phase  phase
	rounds int
	finds  int  // how often one holder was found, so that an earlier calm ends nothing
	again  bool // one was found too early since the healing
	left   int  // troubles of this round
	moved  int  // addresses that had come to a node when it began
	healed time.Duration
	holder int
	moving time.Duration // a handover that somebody asked for is over by then
	steady time.Duration // nothing of the round's troubles is left from then on
}

// Address is one seed of the address scenario.
func Address(seed uint64) *World { return addressOf(seed, Broken{}, allTroubles) }

func addressOf(seed uint64, b Broken, kinds []func(*address)) *World {
	return playAddress(seed, addressSetup(seed, b, checkedSeeds), kinds)
}

// checkedSeeds is the part of the seeds whose nodes have health checks.
const checkedSeeds = 0.5

func addressSetup(seed uint64, b Broken, checked float64) Setup {
	draw := NewWorld(seed, DefaultSetup())
	s := draw.drawAddress()
	s.Broken = b
	draw.drawChecks(&s, checked)
	s.Probe = draw.illFor(10*time.Millisecond, 200*time.Millisecond)
	return s
}

// Foreign is one seed of the foreign scenario: the same, but that the reserve is
// another router, on one path and without a link.
func Foreign(seed uint64) *World { return foreignOf(seed, Broken{}, foreignTroubles) }

func foreignOf(seed uint64, b Broken, kinds []func(*address)) *World {
	draw := NewWorld(seed, DefaultSetup())
	s := draw.drawAddress()
	s.Broken, s.Foreign, s.Nopreempt = b, true, draw.chance(0.3)
	s.NoLink, s.OnePath, s.Stuck, s.Proved = true, true, false, false
	s.Loss = [2][2]float64{} // it would take the address for every few packets lost
	return playAddress(seed, s, kinds)
}

func playAddress(seed uint64, s Setup, kinds []func(*address)) *World {
	w := NewWorld(seed, s)
	a := &address{w: w, kinds: kinds, rounds: addressRounds}
	w.watch = a.watch
	w.suffer(50*time.Millisecond, time.Second, func() bool { return a.phase == troubled || a.phase == waiting })
	for i := range w.nodes {
		w.schedule(w.between(0, time.Second), item{kind: kStart, node: uint8(i)})
	}
	a.heal() // nothing is wrong yet, but the pair has to find itself
	return w
}

// drawAddress draws a configuration and a network.
func (w *World) drawAddress() Setup {
	r := w.rng
	s := Setup{
		Interval: [...]vrrp.Centiseconds{1, 5, 10, 25, 100}[r.IntN(5)],
		Lease:    time.Duration(1+r.IntN(5)) * time.Second,
		Drain:    10 * time.Second,
		Promote:  promote()[:3], Demote: demote()[:2],
		Preempt: w.chance(0.25), Priority: drawPriorities(w),
		Delay: w.between(50*time.Microsecond, 3*time.Millisecond), Jitter: w.between(0, 5*time.Millisecond),
		Double: float64(r.IntN(2)) * 0.05, StepTime: 5 * time.Millisecond,
		GoodLoss: lossMost, OnePath: w.chance(0.3), NoLink: w.chance(0.3),
		WeakHost: w.chance(0.5), Stuck: w.chance(0.5), Stream: true,
	}
	if w.chance(0.3) {
		s.Delay, s.Jitter = w.between(0, 15*time.Millisecond), w.between(0, 20*time.Millisecond)
	}
	if w.chance(0.5) {
		s.Late = w.between(0, 2*time.Millisecond)
	}
	if w.chance(0.6) {
		for p := range s.Loss {
			for d := range s.Loss[p] {
				s.Loss[p][d] = lossMost * r.Float64()
			}
		}
	}
	for i := range s.Rate {
		s.Rate[i] = r.Int64N(2*rateMost+1) - rateMost
	}
	s.Proved, s.Echoes = w.chance(0.5), w.chance(0.5)
	w.drawFence(&s)
	return s
}

const (
	lossMost = 0.3
	rateMost = 500 // ppm: what adjtimex(2) slews at most
)

func drawPriorities(w *World) [2]uint8 {
	switch w.rng.IntN(4) {
	case 0:
		return [2]uint8{uint8(1 + w.rng.IntN(255)), uint8(1 + w.rng.IntN(255))}
	case 1:
		return [2]uint8{100, 200}
	case 2:
		p := uint8(1 + w.rng.IntN(254))
		return [2]uint8{p, p}
	}
	return [2]uint8{254, 253}
}

func (a *address) after(d time.Duration, do func()) {
	a.w.schedule(d, item{kind: kScript, do: do})
}

// while draws how long something lasts, by the timers that it may outlast.
func (a *address) while() time.Duration {
	w, p := a.w, a.w.check.patience()
	switch w.rng.IntN(8) {
	case 0, 1, 2:
		return w.between(0, 2*p)
	case 3, 4:
		return w.between(0, 200*time.Millisecond)
	case 5, 6:
		return w.between(0, 2*w.setup.Lease)
	}
	// Longer than every timer.
	return w.between(0, 2*time.Second) + 2*p + w.setup.Lease + expiry + 2*time.Second
}

// next brings the next trouble of the round, or heals.
func (a *address) next() {
	w := a.w
	if a.phase == calm {
		a.phase, a.moved, a.left = troubled, w.takeovers, 1+w.rng.IntN(troublesMost)
	}
	if a.left == 0 {
		if a.phase == troubled && a.moved == w.takeovers && w.chance(0.7) {
			a.phase = waiting
			a.after(a.while()+w.check.patience(), a.waited(a.rounds))
			return
		}
		a.heal()
		return
	}
	w.healing = false
	a.left--
	a.kinds[w.rng.IntN(len(a.kinds))](a)
	gap := a.while()
	if w.chance(0.8) {
		gap = w.between(0, min(w.check.patience(), 200*time.Millisecond))
	}
	a.after(gap, a.next)
}

// calmed ends the calm after the find of that number.
func (a *address) calmed(find int) func() {
	return func() {
		if a.phase == calm && a.finds == find {
			a.next()
		}
	}
}

// waited heals a round in which nothing came of the troubles.
func (a *address) waited(round int) func() {
	return func() {
		if a.phase == waiting && a.rounds == round {
			a.heal()
		}
	}
}

// heal ends every trouble.
func (a *address) heal() {
	w := a.w
	w.say(-1, "everything is healed")
	w.net.unlinked, w.net.stranger, w.healing = w.setup.NoLink, false, true
	for p := range w.net.ways {
		for d := range w.net.ways[p] {
			w.net.ways[p][d] = w.setup.way(p, d)
		}
	}
	for i := range w.nodes {
		w.gate.set(w.now, i, false)
	}
	for _, n := range w.nodes {
		n.trap, n.lacks = trap{}, false
		n.linkUp()
		n.recovers()
		n.powerOn()
		n.thaw(allStood)
		n.resume()
		if n.core == nil {
			w.schedule(w.between(0, 300*time.Millisecond), item{kind: kStart, node: uint8(n.i)})
		}
	}
	w.net.changed()
	a.phase, a.healed, a.again = healing, w.now, false
	a.expect()
}

// expect bounds the time until one holder is found.
func (a *address) expect() {
	finds := a.finds
	a.after(a.bound(), func() {
		if a.phase == healing && a.finds == finds {
			a.w.fail("liveness", "%s after everything was healed: %s", a.w.now-a.healed, a.said())
		}
	})
}

func (a *address) said() string {
	var s string
	for _, n := range a.w.nodes {
		s += n.label + " is " + n.state.State.String() + " (" + why(n.state.Why) + ")"
		if n.kernel.holds() {
			s += " with the address"
		}
		s += "; "
	}
	return s
}

// watch looks after every step of a core whether the pair found itself, and then
// whether it keeps what it found while nothing happens.
func (a *address) watch() {
	w := a.w
	switch a.phase {
	case healing:
		h := a.found()
		if h < 0 || w.now == a.healed { // a daemon that was let go on has not looked yet
			return
		}
		w.longest = max(w.longest, w.now-a.healed)
		w.rounds++
		a.phase, a.holder = calm, h
		if a.rounds--; a.rounds == 0 {
			w.check.failure = errOver
			return
		}
		a.steady = w.now + InFlight + ContestBound + 2*w.check.patience() + w.net.spread
		calm := w.between(0, 2*w.check.patience())
		if w.chance(0.1) {
			calm += a.steady - w.now + w.between(0, 3*time.Second)
		}
		a.finds++
		a.after(calm, a.calmed(a.finds))
		if w.setup.Broken.Restless {
			n := w.nodes[h]
			a.after(a.steady-w.now+time.Second, func() { a.ask(n, n.peer().label, 10*time.Second) })
		}
	case calm:
		if w.now < a.steady || w.lastFence > 0 && w.now-w.lastFence < a.bound() {
			switch h := a.found(); {
			case h >= 0:
				a.holder = h
			case w.now < a.steady && !a.again && !w.nodes[a.holder].kernel.holds():
				// It was the holder before it heard of all that had happened to it:
				// the pair is still finding itself.
				a.again, a.phase = true, healing
				a.rounds++
				w.rounds--
				a.expect()
			}
			return
		}
		if h := a.found(); h >= 0 && h != a.holder && len(w.nodes[a.holder].sick.board.Unfit()) > 0 {
			a.holder = h // a check that flapped counts for a while
		}
		if !w.setup.Preempt && w.now > a.moving && !w.nodes[a.holder].kernel.holds() && w.nodes[a.holder].runs() &&
			len(w.nodes[a.holder].sick.board.Unfit()) == 0 {
			w.fail("stability", "%s lost the address though nothing happened: %s", labels[a.holder], a.said())
		}
	case waiting:
		if w.takeovers != a.moved {
			a.phase = troubled
			a.after(w.between(0, 100*time.Millisecond), a.heal)
		}
	case troubled:
	}
}

// found returns the one holder that both nodes agree about, -1 while there is none.
func (a *address) found() int {
	w := a.w
	for i, h := range w.nodes {
		s := w.nodes[1-i]
		if h.state.State == failover.Active && s.state.State == failover.Backup && h.runs() && s.runs() &&
			h.kernel.holds() && !s.kernel.holds() {
			return i
		}
	}
	return -1
}

func (a *address) node() *node { return a.w.nodes[a.w.rng.IntN(2)] }

// active prefers the node with the address.
func (a *address) active() *node {
	for _, n := range a.w.nodes {
		if n.kernel.holds() && a.w.chance(0.8) {
			return n
		}
	}
	return a.node()
}
