package sim

import (
	"errors"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// The interface of the address, and what others do to it and to the address: it
// goes down, flaps, is deleted and made again; somebody takes the address off, or
// puts it where it must not be. The kernel keeps an IPv4 address on a link that
// is down. The daemon hears of all that a little later, in order, and when it
// starts of how things are.

// noticeMost is how long the kernel's notice takes to the core.
const noticeMost = 20 * time.Millisecond

const (
	carrierLost = "eth0 has no carrier"
	adminDown   = "eth0 is administratively down"
	ifMissing   = "eth0 is missing"
)

var (
	errNoDevice  = errors.New("add 10.77.0.100/24 to eth0: no such device")
	errNoCarrier = errors.New("ask on eth0: interface has no carrier")
)

// iface is the interface of the address on one host.
type iface struct {
	down    string        // why it cannot be used, empty: it can
	since   time.Duration // when it went down, or was back
	planted bool          // somebody else put the address there, for ever
	put     time.Duration // when
	taken   bool          // somebody else took the held address off, or it went with the interface
	took    time.Duration // when
	refused time.Duration // when the kernel refused to add it last
	notice  time.Duration // when the latest notice arrives
}

// own reports whether the address is there because the daemon wants it.
func (k *kernel) own() bool { return !k.planted && k.holds() }

// missed reports whether the address would be there if nobody had taken it off.
func (k *kernel) missed() bool { return k.n.up && k.taken && k.n.w.now < k.removal }

// tellCore gives the core a notice of the kernel's.
func (n *node) tellCore(ev failover.Event) {
	w := n.w
	if w.setup.Broken.DeafKernel {
		return
	}
	k := &n.kernel
	k.notice = max(k.notice, w.now+w.between(time.Millisecond, noticeMost))
	w.push(w.item(item{at: k.notice, kind: kNotice, node: uint8(n.i), life: n.life, ev: ev}))
}

const vipPrefix = "10.77.0.100/24"

// present tells a daemon that just started how things are, as far as it matters.
func (n *node) present() {
	if n.kernel.down != "" {
		n.tellCore(failover.LinkChanged{Detail: n.kernel.down})
	}
	if n.kernel.holds() && !n.foreign {
		n.tellCore(failover.AddressFound{Address: vipPrefix})
	}
}

// linkDown takes the interface down.
func (n *node) linkDown(why string) {
	k := &n.kernel
	if !n.up || k.down == why {
		return
	}
	if k.down == "" {
		k.since = n.w.now
	}
	k.down = why
	if why == ifMissing && k.holds() {
		n.w.settleAll()
		k.has = false
		k.taken = k.taken || !k.planted
		k.planted, k.took = false, n.w.now
		n.tellCore(failover.AddressLost{Address: vipPrefix})
	}
	n.tellCore(failover.LinkChanged{Detail: why})
	n.w.net.changed()
}

func (n *node) linkUp() {
	k := &n.kernel
	if !n.up || k.down == "" {
		return
	}
	n.w.say(n.i, "%s no longer", k.down)
	k.down, k.since = "", n.w.now
	n.tellCore(failover.LinkChanged{Up: true})
	n.w.net.changed()
}

// takeOff is somebody's `ip address del`.
func (n *node) takeOff() {
	k := &n.kernel
	if !k.own() {
		return
	}
	n.w.say(n.i, "somebody takes the address off")
	n.w.settleAll()
	k.has, k.taken, k.took = false, true, n.w.now
	n.tellCore(failover.AddressLost{Address: vipPrefix})
}

// plant is somebody's `ip address add`.
func (n *node) plant() {
	k := &n.kernel
	if !n.up || n.frozen || k.down == ifMissing || k.holds() {
		return
	}
	n.w.say(n.i, "somebody puts the address here")
	n.w.settleAll()
	k.has, k.planted, k.put = true, true, n.w.now
	k.until, k.removal = 1<<60, 1<<60
	n.tellCore(failover.AddressFound{Address: vipPrefix})
}

// dark reports whether a path is dead because an interface on it is.
func (n *network) dark(path int) bool {
	return path == 0 && (n.w.nodes[0].kernel.down != "" || n.w.nodes[1].kernel.down != "")
}

// Bounds of what a daemon does about its interface.
const (
	// linkLongest is the longest debounce, half of the peer's patience at most.
	linkLongest = 300 * time.Millisecond
	// noticeSlack is what a notice, a late timer and a slow clock add to it.
	noticeSlack = noticeMost + 30*time.Millisecond
	// restoreRetry is when an address that could not be put back is tried again.
	restoreRetry = 50 * time.Millisecond
)

// interfaces is about nodes that run: none keeps the address on a link that is
// down for longer than the debounce, an address that was taken off is put back,
// and one that somebody put there is taken off.
func (c *checker) interfaces() {
	w := c.w
	for _, n := range w.nodes {
		k := &n.kernel
		if k.down == "" && !k.taken && !k.planted || !n.runs() || n.foreign {
			continue
		}
		debounce := min(c.proofs[n.i].patience/2, linkLongest)
		if k.down != "" && k.own() && w.now-max(k.since, n.awake, c.nodes[n.i].suspended) > debounce+noticeSlack {
			w.fail("link", "%s has the address %s after its interface went down: %s", n.label, w.now-k.since, k.down)
		}
		refused := k.failing && n.state.Holds // the holder would make it its own
		if k.planted && !refused && w.now-max(k.put, n.awake) > noticeSlack && k.holds() {
			w.fail("foreign", "%s is %s and keeps the address that somebody put there %s ago", n.label, n.state.State, w.now-k.put)
		}
		if k.taken && k.down == "" && !k.failing && n.state.Holds && n.state.State == failover.Active &&
			w.now-max(k.took, k.since, k.refused, n.awake) > restoreRetry+noticeSlack {
			w.fail("restore", "%s is Active and the address that was taken off %s ago is not back", n.label, w.now-k.took)
		}
	}
}

// Troubles of the interface.

func (a *address) debounce() time.Duration { return min(a.w.check.patience()/2, linkLongest) }

// flapTime is shorter than the debounce, about as long, or long.
func (a *address) flapTime() time.Duration {
	d := a.debounce()
	switch a.w.rng.IntN(4) {
	case 0:
		return a.w.between(0, d)
	case 1:
		return a.w.between(d-min(d, noticeMost), d+2*noticeMost)
	}
	return a.while()
}

func (a *address) unplug() { a.unplugOf(a.active()) }

func (a *address) unplugOf(n *node) {
	a.downOf(n, [...]string{carrierLost, adminDown}[a.w.rng.IntN(2)])
}

// recreate deletes the interface and makes it again.
func (a *address) recreate() { a.recreateOf(a.active()) }

func (a *address) recreateOf(n *node) {
	if n.foreign {
		a.unplugOf(n)
		return
	}
	a.downOf(n, ifMissing)
}

func (a *address) downOf(n *node, why string) {
	d := a.flapTime()
	a.w.say(n.i, "%s for %s", why, d)
	n.linkDown(why)
	a.after(d, n.linkUp)
}

// amid does something unless all is healed by then.
func (a *address) amid(after time.Duration, do func()) {
	healed := a.healed
	a.after(after, func() {
		if a.healed == healed && a.phase != healing && a.phase != calm {
			do()
		}
	})
}

// flap lets the link go down several times in a row.
func (a *address) flap() {
	n, at := a.active(), time.Duration(0)
	for range 2 + a.w.rng.IntN(4) {
		a.amid(at, func() { n.linkDown(carrierLost) })
		at += a.w.between(0, 2*a.debounce())
		a.after(at, n.linkUp)
		at += a.w.between(0, a.debounce())
	}
}

// absent lets a host come up without its interface.
func (a *address) absent() {
	n := a.active()
	if n.foreign {
		n = n.peer()
	}
	a.powerOf(n)
	n.lacks = true
	a.after(time.Second+2*a.while(), func() { n.lacks = false; n.linkUp() })
}

func (a *address) takenOff() {
	n := a.active()
	if n.foreign {
		n = n.peer()
	}
	for range 1 + a.w.rng.IntN(3) {
		a.amid(a.w.between(0, 2*noticeMost), n.takeOff)
	}
}

func (a *address) planted() {
	n := a.node()
	if n.foreign {
		n = n.peer()
	}
	n.plant()
}

// stranger answers for the address for a while.
func (a *address) stranger() {
	a.change("a third host answers", func() { a.w.net.stranger = true }, func() { a.w.net.stranger = false })
}
