package sim

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

// The faults scenario draws a configuration and then does to the two hosts what
// happens to hosts, often before the last thing is over. At the end everything
// is mended and the pair has to find itself.

const (
	// mendedFor is how long a mended pair may take: a deaf step, then a plan that
	// failed is tried again after ten seconds, more than once.
	mendedFor  = 150 * time.Second
	faultsMost = 14
)

type faults struct {
	w       *World
	actions []func()
	left    int
	mended  bool
	kinds   []func(*faults)
}

// Faults is one seed of the faults scenario.
func Faults(seed uint64) *World { return faultsOf(seed, Broken{}, allFaults) }

func faultsOf(seed uint64, b Broken, kinds []func(*faults)) *World {
	return faultsIn(seed, b, kinds, func(*World, *Setup) {})
}

// faultsIn lets further things be drawn into the configuration.
func faultsIn(seed uint64, b Broken, kinds []func(*faults), further func(*World, *Setup)) *World {
	draw := NewWorld(seed, DefaultSetup())
	s := draw.drawSetup()
	s.Broken = b
	further(draw, &s)
	draw.mayRepair(s.Promote, s.Demote)
	w := NewWorld(seed, s)
	f := &faults{w: w, kinds: kinds}
	f.strays(2*time.Second, 60*time.Second)
	w.script = func(id uint64) { f.actions[id]() }
	for i := range w.nodes {
		w.schedule(w.between(0, time.Second), item{kind: kStart, node: uint8(i)})
	}
	w.schedule(operateEvery, item{kind: kRejoin})
	f.left = 1 + w.rng.IntN(faultsMost)
	f.after(w.between(2*time.Second, 8*time.Second), f.next)
	w.suffer(500*time.Millisecond, 15*time.Second, func() bool { return !f.mended })
	return w
}

// drawSetup draws a configuration.
func (w *World) drawSetup() Setup {
	s := DefaultSetup()
	r := w.rng
	s.Databases = [...]int{0, 1, 1, 1, 2}[r.IntN(5)]
	s.Interval = [...]vrrp.Centiseconds{10, 25, 25, 100}[r.IntN(4)]
	s.Lease = time.Duration(1+r.IntN(3)) * time.Second
	s.WriteRate = [...]uint64{0, 20, 400, 5000}[r.IntN(4)]
	s.Drain = [...]time.Duration{2 * time.Second, 10 * time.Second}[r.IntN(2)]
	if w.chance(0.15) {
		s.Policy.AfterLoss = replication.Drained
	}
	s.Delay = w.between(50*time.Microsecond, 3*time.Millisecond)
	s.Jitter = w.between(0, 5*time.Millisecond)
	s.Double = float64(r.IntN(2)) * 0.05
	s.Late = w.between(0, 2*time.Millisecond)
	s.StepTime = [...]time.Duration{5 * time.Millisecond, 300 * time.Millisecond}[r.IntN(2)]
	s.WeakHost, s.Stuck = w.chance(0.5), w.chance(0.5)
	s.Preempt = w.chance(0.1)
	if w.chance(0.5) {
		w.drawChecks(&s, 1)
		s.Probe = w.illFor(20*time.Millisecond, 300*time.Millisecond)
	}
	s.Promote, s.Demote = drawPlans(w)
	s.Proved, s.Echoes = w.chance(0.5), w.chance(0.3)
	w.drawFence(&s)
	return s
}

func exec(name string, on hooks.OnError) hooks.Step {
	return hooks.Step{Name: name, Timeout: stepTimeout, OnError: on, Action: hooks.Exec{Command: []string{"/usr/local/bin/" + name, "{{.Event}}"}}}
}

func drawPlans(w *World) (up, down hooks.Plan) {
	up, down = promote(), demote()
	switch w.rng.IntN(4) {
	case 0:
		up = append(hooks.Plan{exec("before", hooks.Abort)}, up...)
		down = append(down, exec("after", hooks.Continue))
	case 1: // what a shared unit needs comes after the address, the label before
		up = hooks.Plan{up[0], up[3], up[1], up[2], up[4], exec("tell", hooks.Continue)}
		down = hooks.Plan{down[0], down[2], down[1], down[3]}
	case 2:
		up = up[:3]
		down = down[:2]
	case 3:
		down = hooks.Plan{exec("early", hooks.Abort), down[0], down[1], down[2], down[3]}
	}
	if w.chance(0.5) {
		down = append(down, hooks.Step{Name: "follow", Timeout: stepTimeout, Action: hooks.Replication{Verb: hooks.FollowPeer}})
	}
	return up, down
}

func (f *faults) after(d time.Duration, do func()) {
	f.actions = append(f.actions, do)
	f.w.schedule(d, item{kind: kScript, id: uint64(len(f.actions) - 1)})
}

func (f *faults) next() {
	if f.left == 0 {
		f.after(f.w.between(0, 10*time.Second), f.mend)
		return
	}
	f.left--
	f.kinds[f.w.rng.IntN(len(f.kinds))](f)
	gap := f.w.between(0, 6*time.Second)
	if f.w.chance(0.4) {
		gap = f.w.between(0, 400*time.Millisecond)
	}
	f.after(gap, f.next)
}

// mend ends every fault.
func (f *faults) mend() {
	w := f.w
	w.say(-1, "everything is mended")
	f.mended, w.healing, w.net.stranger = true, true, false
	w.settleAll()
	for p := range w.net.ways {
		for d := range w.net.ways[p] {
			w.net.ways[p][d].cut, w.net.ways[p][d].loss = false, 0
		}
	}
	for _, n := range w.nodes {
		n.disk.failing, n.kernel.failing, n.fault = false, false, stepFault{}
		n.powerOn()
		n.linkUp()
		n.thaw(allStood)
		n.resume()
		if n.core == nil {
			w.schedule(w.between(0, time.Second), item{kind: kStart, node: uint8(n.i)})
		}
		for _, db := range n.dbs {
			db.recover()
		}
		n.recovers()
	}
	w.net.changed()
	if w.setup.MaintenanceLease > 0 {
		f.release()
	}
	f.strays(0, mendedFor-strayUntil)
	f.after(mendedFor, func() {
		w.check.finally()
		if w.check.failure == nil {
			w.check.failure = errOver
		}
	})
}

func (f *faults) node() *node { return f.w.nodes[f.w.rng.IntN(2)] }

// active prefers the node with the address: most of what matters happens there.
func (f *faults) active() *node {
	for _, n := range f.w.nodes {
		if n.kernel.holds() && f.w.chance(0.7) {
			return n
		}
	}
	return f.node()
}

var allFaults = []func(*faults){
	(*faults).restart, (*faults).die, (*faults).pause, (*faults).pause, (*faults).power, (*faults).power, (*faults).freeze,
	(*faults).oneWay, (*faults).path, (*faults).partition, (*faults).partition, (*faults).loss, (*faults).thread, (*faults).slow,
	(*faults).hang, (*faults).crash, (*faults).step, (*faults).step, (*faults).journal, (*faults).kernel,
	(*faults).switchover, (*faults).switchover, (*faults).switchover, (*faults).switchover, (*faults).switchover,
	(*faults).terminate, (*faults).checkFails, (*faults).powerBoth,
	(*faults).unplug, (*faults).unplug, (*faults).takenOff, (*faults).planted, (*faults).stranger,
}

func (f *faults) restart() {
	n := f.active()
	f.w.say(n.i, "daemon killed, to be restarted")
	n.kill()
	f.w.schedule(f.w.between(50*time.Millisecond, 3*time.Second), item{kind: kStart, node: uint8(n.i)})
}

func (f *faults) die() {
	n := f.active()
	f.w.say(n.i, "daemon killed for good")
	n.kill()
	f.w.schedule(f.w.between(100*time.Millisecond, 5*time.Second), item{kind: kRelease, node: uint8(n.i), life: n.life})
	f.w.schedule(f.w.between(6*time.Second, 15*time.Second), item{kind: kStart, node: uint8(n.i)})
}

func (f *faults) pause() {
	n := f.active()
	d := f.w.between(0, 10*time.Second)
	if f.w.chance(0.5) {
		d = f.w.between(0, 2*f.w.setup.Lease)
	}
	f.w.say(n.i, "daemon stands still for %s", d)
	n.pause()
	f.w.schedule(d, item{kind: kResume, node: uint8(n.i)})
}

func (f *faults) power() {
	n := f.active()
	f.w.say(n.i, "power cut")
	n.powerOff()
	f.w.schedule(f.w.between(time.Second, 15*time.Second), item{kind: kPower, node: uint8(n.i)})
}

func (f *faults) powerBoth() {
	for _, n := range f.w.nodes {
		f.w.say(n.i, "power cut")
		n.powerOff()
		f.w.schedule(f.w.between(time.Second, 15*time.Second), item{kind: kPower, node: uint8(n.i)})
	}
}

func (f *faults) freeze() {
	n := f.active()
	counted := uint64(f.w.rng.IntN(2))
	f.w.say(n.i, "host frozen")
	n.freeze()
	f.w.schedule(f.w.between(0, 8*time.Second), item{kind: kThaw, node: uint8(n.i), id: counted})
}

// change changes the network for a while.
func (f *faults) change(what string, lasting time.Duration, on, off func()) {
	f.w.say(-1, "%s for %s", what, lasting)
	f.w.settleAll()
	on()
	f.w.net.changed()
	f.after(lasting, func() {
		f.w.say(-1, "%s is over", what)
		f.w.settleAll()
		off()
		f.w.net.changed()
	})
}

func (f *faults) oneWay() {
	y := &f.w.net.ways[f.w.rng.IntN(2)][f.w.rng.IntN(2)]
	f.change("one way cut", f.w.between(0, 10*time.Second), func() { y.cut = true }, func() { y.cut = false })
}

func (f *faults) path() {
	p := f.w.rng.IntN(2)
	set := func(on bool) func() {
		return func() {
			f.w.net.ways[p][0].cut, f.w.net.ways[p][1].cut = on, on
		}
	}
	f.change([...]string{"first path cut", "second path cut"}[p], f.w.between(0, 10*time.Second), set(true), set(false))
}

func (f *faults) partition() {
	set := func(on bool) func() {
		return func() {
			for p := range f.w.net.ways {
				f.w.net.ways[p][0].cut, f.w.net.ways[p][1].cut = on, on
			}
		}
	}
	f.change("partition", f.w.between(0, 12*time.Second), set(true), set(false))
}

func (f *faults) loss() {
	much := 0.05 + 0.35*f.w.rng.Float64()
	set := func(much float64) func() {
		return func() {
			for p := range f.w.net.ways {
				f.w.net.ways[p][0].loss, f.w.net.ways[p][1].loss = much, much
			}
		}
	}
	f.change("loss", f.w.between(0, 8*time.Second), set(much), set(0))
}

func (f *faults) database() *database {
	n := f.active()
	if len(n.dbs) == 0 {
		return nil
	}
	return n.dbs[f.w.rng.IntN(len(n.dbs))]
}

func (f *faults) recoverLater(db *database, d time.Duration) {
	f.w.schedule(d, item{kind: kDatabase, node: uint8(db.node.i), id: uint64(db.index)})
}

func (f *faults) thread() {
	if db := f.database(); db != nil {
		f.w.say(db.node.i, "SQL thread stops with an error")
		f.w.settleAll()
		db.broken = true
		f.recoverLater(db, f.w.between(0, 10*time.Second))
	}
}

func (f *faults) slow() {
	if db := f.database(); db != nil {
		f.w.say(db.node.i, "replica becomes slow")
		f.w.settleAll()
		db.slow = 100
		f.recoverLater(db, f.w.between(0, 15*time.Second))
	}
}

func (f *faults) hang() {
	if db := f.database(); db != nil {
		f.w.say(db.node.i, "database hangs")
		db.hang()
		f.recoverLater(db, f.w.between(0, 10*time.Second))
	}
}

func (f *faults) crash() {
	if db := f.database(); db != nil {
		f.w.say(db.node.i, "database killed")
		db.crash()
		f.recoverLater(db, f.w.between(100*time.Millisecond, 5*time.Second))
	}
}

func (f *faults) step() {
	n := f.node()
	if f.w.chance(0.3) {
		n.fault = stepFault{mode: stepFails}
		return
	}
	n.fault = stepFault{mode: stepMode(1 + f.w.rng.IntN(3)), kind: "exec"}
	if f.w.chance(0.3) {
		n.fault = stepFault{mode: stepMode(1 + f.w.rng.IntN(2)), kind: "yaml"}
	}
}

func (f *faults) journal() {
	n := f.node()
	f.w.say(n.i, "journal fails")
	n.disk.failing = true
	f.after(f.w.between(0, 10*time.Second), func() { n.disk.failing = false })
}

func (f *faults) kernel() {
	n := f.node()
	f.w.say(n.i, "the kernel refuses the address")
	n.kernel.failing = true
	f.after(f.w.between(0, 3*time.Second), func() { n.kernel.failing = false })
}

func (f *faults) switchover() {
	n := f.node()
	r := failover.Request{
		To: labels[f.w.rng.IntN(2)], Timeout: f.w.between(time.Second, 30*time.Second), DryRun: f.w.chance(0.15), UID: 1000,
	}
	if f.w.chance(0.1) {
		r.Force, r.Reason = true, "the operator knows"
	}
	if n.core != nil {
		f.w.check.commands++
		n.answer(0, failover.SwitchoverWanted{Command: failover.ID(f.w.check.commands), Request: r})
	}
}

func (f *faults) unplug() {
	n, w := f.active(), f.w
	why := [...]string{carrierLost, adminDown, ifMissing}[w.rng.IntN(3)]
	d := w.between(0, 8*time.Second)
	if w.chance(0.5) {
		d = w.between(0, 2*linkLongest)
	}
	w.say(n.i, "%s for %s", why, d)
	n.linkDown(why)
	f.after(d, n.linkUp)
}

func (f *faults) takenOff() { f.active().takeOff() }

func (f *faults) planted() { f.node().plant() }

func (f *faults) stranger() {
	f.change("a third host answers", f.w.between(0, 8*time.Second),
		func() { f.w.net.stranger = true }, func() { f.w.net.stranger = false })
}

func (f *faults) terminate() {
	n := f.active()
	if n.core == nil {
		return
	}
	f.w.say(n.i, "SIGTERM")
	n.answer(0, failover.StopWanted{})
}

func (f *faults) checkFails() {
	n, i := f.active(), f.w.rng.IntN(2)
	n.becomes(i, true)
	f.after(f.w.between(0, 10*time.Second), func() { n.becomes(i, false) })
}
