package sim

import (
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// The network is two heartbeat paths with two directions each. The first path
// is the network of the virtual address. The link between the daemons is a
// stream over every path that carries packets both ways: what is lost there is
// sent again and comes late.

type way struct {
	cut  bool
	loss float64
	// delay is fixed; jitter on top of it is what reorders packets.
	delay, jitter time.Duration
	double        float64 // chance that a packet arrives twice
}

type network struct {
	w     *World
	ways  [2][2]way // path, sender
	stuck [2][]*item
	since time.Duration // both ways on one path since then; -1: they are not
}

// retransmit is after how long a stream sends again what was lost.
const retransmit = 200 * time.Millisecond

// goodLoss is up to which loss a path counts as one that carries packets.
const goodLoss = 0.1

func (n *network) open(path int) bool { return !n.ways[path][0].cut && !n.ways[path][1].cut }

// linked reports whether a stream can run between the hosts.
func (n *network) linked() bool { return n.open(0) || n.open(1) }

// exchanges reports whether the nodes can exchange packets on any path.
func (n *network) exchanges() bool {
	for _, h := range n.w.nodes {
		if !h.up || h.frozen {
			return false
		}
	}
	for p := range n.ways {
		if n.open(p) && n.ways[p][0].loss <= goodLoss && n.ways[p][1].loss <= goodLoss {
			return true
		}
	}
	return false
}

// changed is called after anything that decides who can reach whom.
func (n *network) changed() {
	switch ok := n.exchanges(); {
	case !ok:
		n.since = -1
	case n.since < 0:
		n.since = n.w.now
	}
	if !n.linked() {
		return
	}
	for to := range n.stuck {
		for _, it := range n.stuck[to] {
			it.at = n.w.now + retransmit
			n.w.push(it)
		}
		n.stuck[to] = nil
	}
}

func (y *way) after(w *World) time.Duration {
	if y.jitter == 0 {
		return y.delay
	}
	return y.delay + time.Duration(w.rng.Int64N(int64(y.jitter)))
}

func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// advertise sends one advertisement on both paths.
func (n *network) advertise(from int, priority uint8) {
	for p := range n.ways {
		y := &n.ways[p][from]
		if y.cut || n.w.chance(y.loss) {
			continue
		}
		n.w.push(n.w.item(item{at: n.w.now + y.after(n.w), kind: kAdvert, node: uint8(1 - from), id: uint64(priority)}))
		if n.w.chance(y.double) {
			n.w.push(n.w.item(item{at: n.w.now + y.after(n.w), kind: kAdvert, node: uint8(1 - from), id: uint64(priority)}))
		}
	}
}

// stuckMost bounds what a broken stream keeps for later.
const stuckMost = 4

func (n *network) tell(from int, s *failover.PeerState) {
	to := 1 - from
	if !n.linked() {
		if n.w.setup.Stuck && len(n.stuck[to]) < stuckMost {
			n.stuck[to] = append(n.stuck[to], n.w.item(item{kind: kTell, node: uint8(to), state: s}))
		}
		return
	}
	best := time.Duration(-1)
	for p := range n.ways {
		if !n.open(p) {
			continue
		}
		y := &n.ways[p][from]
		d := y.after(n.w)
		for wait := retransmit; n.w.chance(y.loss) && wait < 10*time.Second; wait *= 2 {
			d += wait
		}
		if best < 0 || d < best {
			best = d
		}
	}
	n.w.push(n.w.item(item{at: n.w.now + best, kind: kTell, node: uint8(to), state: s}))
}

// probes is how often a question to a kernel is repeated on each path.
const probes = 3

// answers reports whether a question on the path is answered.
func (n *network) answers(path int) bool {
	if !n.open(path) {
		return false
	}
	loss := 1 - (1-n.ways[path][0].loss)*(1-n.ways[path][1].loss)
	for range probes {
		if !n.w.chance(loss) {
			return true
		}
	}
	return false
}
