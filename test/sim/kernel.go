package sim

import (
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// The kernel of a host keeps the address with a lifetime, whatever becomes of
// the daemon, and the disk keeps the journal: all of it when only the daemon is
// gone, the synced part and some of the rest when the power is.

// expiry is how late the kernel may remove an address that ran out.
const expiry = time.Second

type kernel struct {
	n       *node
	has     bool
	until   time.Duration // the lifetime ends
	lease   time.Duration // as it was set
	removal time.Duration // the address is gone
	failing bool          // adding and renewing fail
	iface
}

// holds reports whether the address is on the interface.
func (k *kernel) holds() bool {
	if k.has && k.n.up && !k.n.frozen && k.n.w.now >= k.removal {
		k.n.w.settleAll()
		k.has = false
	}
	return k.n.up && k.has
}

func (k *kernel) hold(lease time.Duration) {
	w := k.n.w
	w.settleAll()
	k.has, k.planted, k.taken = true, false, false
	k.lease, k.until = lease, w.now+k.n.lasts(lease)
	k.removal = k.until + time.Duration(w.rng.Int64N(int64(expiry)))
	if w.setup.Broken.NoExpiry || lease == 0 {
		k.removal = 1 << 60
	}
}

func (k *kernel) drop() {
	k.n.w.settleAll()
	k.has, k.planted, k.taken = false, false, false
}

// left is what the kernel says of the lifetime, less what it rounds up.
func (k *kernel) left() time.Duration {
	if !k.own() {
		return 0
	}
	return max(0, (k.until - k.n.w.now).Truncate(time.Second))
}

type disk struct {
	synced    hooks.Memory
	tail      []hooks.Record // written, not synced
	failing   bool
	forgetful bool                  // Broken.ForgetfulDisk
	keeps     *bool                 // what a power cut leaves of the tail, nil: chance decides
	kept      []failover.Remembered // of the databases, in a file of its own
	newer     []failover.Remembered // written, not synced
}

func (d *disk) memory() hooks.Memory {
	m := d.synced
	for _, r := range d.tail {
		m = m.Fold(r)
	}
	return m
}

func (d *disk) sync() {
	d.synced = d.memory()
	d.tail = d.tail[:0]
	d.kept = d.newer
}

// powerCut keeps a part of the tail: pages go to the disk when they like.
func (d *disk) powerCut(w *World) {
	if d.keeps != nil {
		d.cut(*d.keeps)
		return
	}
	if len(d.tail) > 0 {
		d.tail = d.tail[:w.rng.IntN(len(d.tail)+1)]
	}
	newer := d.newer
	if w.chance(0.5) {
		newer = d.kept
	}
	d.sync()
	d.kept, d.newer = newer, newer
}

// cut keeps all of what is not synced, or nothing.
func (d *disk) cut(keep bool) {
	if !keep && d.forgetful {
		d.synced = hooks.Memory{}
	}
	if !keep {
		d.tail, d.newer = d.tail[:0], d.kept
	}
	d.sync()
}
