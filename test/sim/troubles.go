package sim

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// What goes wrong in the address scenario.

var allTroubles = []func(*address){
	(*address).restart, (*address).restart, (*address).restart, (*address).die, (*address).pause, (*address).pause, (*address).pauseBoth,
	(*address).power, (*address).power, (*address).power, (*address).power, (*address).powerBoth, (*address).freeze, (*address).freeze,
	(*address).oneWay, (*address).oneWay, (*address).path, (*address).partition, (*address).partition, (*address).partition,
	(*address).loss, (*address).delay,
	(*address).link, (*address).leave, (*address).switchover, (*address).aim, (*address).aim,
	(*address).unplug, (*address).unplug, (*address).flap, (*address).recreate, (*address).absent,
	(*address).takenOff, (*address).planted, (*address).stranger,
}

// foreignTroubles lack what only two of ours have: a link.
var foreignTroubles = []func(*address){
	(*address).restart, (*address).restart, (*address).die, (*address).pause, (*address).pauseBoth,
	(*address).power, (*address).power, (*address).powerBoth, (*address).freeze, (*address).oneWay, (*address).partition,
	(*address).loss, (*address).delay, (*address).leave, (*address).leave, (*address).aim,
	(*address).unplug, (*address).flap, (*address).recreate, (*address).absent, (*address).takenOff, (*address).planted, (*address).stranger,
}

func (a *address) restart() { a.restartOf(a.active()) }

func (a *address) restartOf(n *node) {
	a.w.say(n.i, "daemon killed, to be restarted")
	n.kill()
	after := a.while()
	if a.w.chance(0.3) {
		after = a.w.between(50*time.Millisecond, 300*time.Millisecond)
	}
	a.w.schedule(after, item{kind: kStart, node: uint8(n.i)})
}

// die kills a daemon that stays away until all is healed.
func (a *address) die() { a.dieOf(a.active()) }

func (a *address) dieOf(n *node) {
	a.w.say(n.i, "daemon killed for good")
	n.kill()
	if a.w.chance(0.5) {
		a.w.schedule(a.while(), item{kind: kRelease, node: uint8(n.i), life: n.life})
	}
}

func (a *address) pause() { a.pauseOf(a.active()) }

func (a *address) pauseOf(n *node) {
	d := a.while()
	a.w.say(n.i, "daemon stands still for %s", d)
	n.pause()
	a.w.schedule(d, item{kind: kResume, node: uint8(n.i)})
}

func (a *address) pauseBoth() {
	a.pauseOf(a.w.nodes[0])
	a.pauseOf(a.w.nodes[1])
}

func (a *address) power() { a.powerOf(a.active()) }

func (a *address) powerOf(n *node) {
	a.w.say(n.i, "power cut")
	n.powerOff()
	a.w.schedule(time.Second+a.while(), item{kind: kPower, node: uint8(n.i)})
}

func (a *address) powerBoth() {
	a.powerOf(a.w.nodes[0])
	a.powerOf(a.w.nodes[1])
}

func (a *address) freeze() { a.freezeOf(a.active()) }

func (a *address) freezeOf(n *node) {
	how, d := thaw(a.w.rng.IntN(3)), a.while()
	a.w.say(n.i, "host %s for %s", [...]string{"frozen, clock and all,", "without processor", "suspended"}[how], d)
	n.freeze()
	a.w.schedule(d, item{kind: kThaw, node: uint8(n.i), id: uint64(how)})
}

// change changes the network for a while.
func (a *address) change(what string, on, off func()) {
	d := a.while()
	a.w.say(-1, "%s for %s", what, d)
	on()
	a.w.net.changed()
	a.after(d, func() {
		a.w.say(-1, "%s is over", what)
		off()
		a.w.net.changed()
	})
}

// ways changes the directions of paths that which picks, and puts them back.
func (a *address) ways(what string, which func(path, from int) bool, do func(*way)) {
	each := func(do func(p, d int, y *way)) func() {
		return func() {
			for p := range a.w.net.ways {
				for d := range a.w.net.ways[p] {
					if which(p, d) {
						do(p, d, &a.w.net.ways[p][d])
					}
				}
			}
		}
	}
	a.change(what,
		each(func(_, _ int, y *way) { do(y) }),
		each(func(p, d int, y *way) { *y = a.w.setup.way(p, d) }))
}

func cut(y *way) { y.cut = true }

// oneWay cuts one direction, of one path or of both.
func (a *address) oneWay() {
	path, from, both := a.w.rng.IntN(2), a.w.rng.IntN(2), a.w.chance(0.6)
	a.ways("one way cut, from "+labels[from], func(p, d int) bool { return d == from && (both || p == path) }, cut)
}

func (a *address) path() {
	path := a.w.rng.IntN(2)
	a.ways("one path cut", func(p, _ int) bool { return p == path }, cut)
}

func (a *address) partition() {
	a.ways("partition", func(int, int) bool { return true }, cut)
}

func (a *address) loss() {
	much, path, from := 0.1+0.9*a.w.rng.Float64(), a.w.rng.IntN(3), a.w.rng.IntN(3)
	a.ways("loss", func(p, d int) bool { return p != path && d != from }, func(y *way) { y.loss = much })
}

// delay makes packets late: a path that is congested, or a buffer that is drained.
func (a *address) delay() {
	much, path, from := a.w.between(0, min(time.Second, 2*a.w.check.patience())), a.w.rng.IntN(3), a.w.rng.IntN(3)
	a.ways("delay", func(p, d int) bool { return p != path && d != from }, func(y *way) { y.delay, y.jitter = much/2, much/2 })
}

// link cuts the daemons' link alone.
func (a *address) link() {
	a.change("link cut", func() { a.w.net.unlinked = true }, func() { a.w.net.unlinked = a.w.setup.NoLink })
}

func (a *address) leave() {
	if n := a.active(); n.core != nil {
		a.w.say(n.i, "SIGTERM")
		a.moving = a.w.now + orderedMost
		n.answer(0, failover.StopWanted{})
	}
}

func (a *address) switchover() {
	n, w := a.node(), a.w
	if n.core == nil {
		return
	}
	a.moving = w.now + orderedMost
	a.ask(n, labels[w.rng.IntN(2)], w.between(time.Second, 10*time.Second))
}

// ask is an operator's command, which is given now.
func (a *address) ask(n *node, to string, timeout time.Duration) {
	a.w.check.commands++
	n.answer(0, failover.SwitchoverWanted{
		Command: failover.ID(a.w.check.commands), Request: failover.Request{To: to, Timeout: timeout, UID: 1000},
	})
}

var aimed = []func(*address, *node){
	(*address).restartOf, (*address).dieOf, (*address).pauseOf, (*address).powerOf, (*address).freezeOf,
	(*address).unplugOf, (*address).recreateOf,
}

// aim lets something happen right after what a node does next, often on the way
// to the address, and starts it on that way.
func (a *address) aim() {
	n, do := a.node(), aimed[a.w.rng.IntN(len(aimed))]
	on := trapOn(1 + a.w.rng.IntN(int(trapKinds)-1))
	n.trap = trap{on: on, do: func() { do(a, n) }}
	a.w.say(n.i, "a trap for what it does next (%d)", on)
	if p := n.peer(); p.kernel.holds() && a.w.chance(0.7) {
		aimed[a.w.rng.IntN(len(aimed))](a, p)
	}
}
