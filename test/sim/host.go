package sim

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// What is done to a host, its daemon and its databases from outside.

// thawPoll is how soon after a thaw what had to wait for it goes on, at most.
const thawPoll = 100 * time.Millisecond

// start starts the daemon.
func (n *node) start() {
	if !n.up || n.core != nil {
		return
	}
	core, err := n.machine()
	if err != nil {
		n.w.fail("setup", "%v", err)
		return
	}
	n.life++
	n.awake, n.word = n.w.now, 0
	n.core, n.paused, n.held, n.steps = core, false, nil, nil
	n.linkBoot, n.linkSeq, n.linkLife, n.claimed = 0, 0, 0, -1
	n.blind = 0
	n.examined()
	n.w.check.started(n)
	n.disk.sync() // the journal is read and written anew
	ev := failover.Started{Boot: n.w.rng.Uint64() | 1, Memory: n.disk.memory(), Positions: n.disk.newer, Leftover: n.kernel.own(), Left: n.kernel.left()}
	ev.BlockLeft, _ = ev.Memory.Block.Left(n.w.date())
	ev.MaintenanceLeft, _ = ev.Memory.Maintenance.Left(n.w.date())
	n.forgets(&ev)
	n.step(ev)
	if n.core != nil {
		n.present()
	}
}

// machine returns what a daemon of the node begins with.
func (n *node) machine() (machine, error) {
	cfg := n.w.config(n.i)
	if n.foreign {
		return newKeepalived(cfg.Router, n.w.setup.Nopreempt), nil
	}
	return failover.New(cfg)
}

// kill ends the daemon and everything it started.
func (n *node) kill() {
	n.core, n.paused = nil, false
	n.life++
	n.held, n.steps = nil, nil
	n.tickAt = 1 << 62
}

// releaseForGood is what the service manager runs for a daemon that stays away.
func (n *node) releaseForGood(life uint32) {
	if !n.up || n.core != nil || life != n.life || n.foreign {
		return
	}
	n.kernel.drop()
	n.emergencyClose()
}

func (n *node) pause() {
	if n.core != nil && !n.paused {
		n.paused, n.pausedA = true, n.w.now
	}
}

func (n *node) resume() {
	if n.core == nil || !n.paused {
		return
	}
	n.paused = false
	n.sleptFor(n.w.now - n.pausedA)
	n.awake = n.w.now
	n.w.say(n.i, "daemon goes on")
	n.w.check.disturbed = n.w.now
	n.release()
}

// sleptFor is told for how long the daemon's loop stood while its clock went on.
func (n *node) sleptFor(d time.Duration) {
	if n.w.setup.Broken.BlindClock {
		n.blind += d
	}
}

// release delivers what waited, in its order.
func (n *node) release() {
	held := n.held
	n.held = nil
	if n.w.chance(0.5) && n.core != nil && n.runs() {
		n.step(tick) // the timer comes before what is in the queues
	}
	for _, it := range held {
		it.at = n.w.now
		n.w.push(it)
	}
}

func (n *node) powerOff() {
	if !n.up {
		return
	}
	n.w.settleAll()
	n.lost = n.life
	n.kill()
	n.up, n.frozen = false, false
	n.kernel = kernel{n: n}
	n.disk.powerCut(n.w)
	n.disk.failing = false
	n.unit = false
	for _, db := range n.dbs {
		db.crash()
	}
	n.w.net.changed()
}

func (n *node) powerOn() {
	if n.up {
		return
	}
	n.w.say(n.i, "host is up")
	n.w.settleAll()
	n.up = true
	if n.lacks {
		n.kernel.down, n.kernel.since = ifMissing, n.w.now
	}
	n.offset = n.w.between(time.Second, 10*time.Second) - n.w.now - n.w.now*time.Duration(n.rate)/million
	n.ran = n.w.now
	for _, db := range n.dbs {
		db.up = true
	}
	n.w.net.changed()
	n.w.schedule(n.w.between(10*time.Millisecond, 200*time.Millisecond), item{kind: kStart, node: uint8(n.i)})
}

func (n *node) freeze() {
	if !n.up || n.frozen {
		return
	}
	n.w.settleAll()
	n.kernel.holds()
	n.frozen, n.frozeA = true, n.w.now
	n.w.net.changed()
}

// thaw says which clocks of a frozen host went on.
type thaw uint8

const (
	allStood   thaw = iota // a virtual machine that was paused
	allCounted             // a host that got no processor
	suspended              // CLOCK_BOOTTIME counted, the kernel's timers of a lease stood
)

// thaw lets the host go on.
func (n *node) thaw(how thaw) {
	if !n.up || !n.frozen {
		return
	}
	n.w.settleAll()
	gone := n.w.now - n.frozeA
	n.frozen, n.awake = false, n.w.now
	if how == allStood {
		n.stood = n.w.now
		n.offset -= gone + gone*time.Duration(n.rate)/million
		n.tickAt += gone
	} else {
		n.sleptFor(gone)
	}
	if how != allCounted {
		n.ran += gone
		n.kernel.until += gone
		n.kernel.removal += gone
	}
	n.w.say(n.i, "host goes on")
	n.w.net.changed()
	n.release()
}

// crash ends a database as kill -9 or the power does: what was committed stays,
// what was fetched and not applied is fetched again.
func (d *database) crash() {
	d.w.settle(d.index)
	d.faulted = d.w.now
	d.up, d.hung, d.readOnly, d.term, d.closeDue = false, false, true, 0, false
	d.relay = append(history(nil), d.history...)
}

func (d *database) hang() {
	d.w.settle(d.index)
	if d.up {
		d.hung, d.faulted = true, d.w.now
	}
}

func (d *database) recover() {
	d.w.settleAll()
	if !d.node.up {
		return
	}
	d.w.say(d.node.i, "database %s is back", d.w.setup.dbNames[d.index])
	d.up, d.hung, d.slow = true, false, 0
	if d.broken {
		d.broken = false
	}
	if d.closeDue {
		d.closeDue = false
		d.setReadOnly(true)
	}
}
