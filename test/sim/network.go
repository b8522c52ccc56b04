package sim

import (
	"math"
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
	// unlinked says that the daemons' link is cut, whatever the paths carry.
	unlinked bool
	spread   time.Duration    // how long until an advertisement has got through for certain
	stranger bool             // a third host answers for the address
	joined   time.Duration    // the link is there since then, if it is
	since    time.Duration    // both ways on one path since then; -1: they are not
	silenced [2]time.Duration // when the ways to a node last changed
}

// isolated reports whether there is no link, or was none a moment ago.
func (n *network) isolated() bool { return n.joined < 0 || n.w.now-n.joined < InFlight }

// retransmit is after how long a stream sends again what was lost.
const retransmit = 200 * time.Millisecond

const (
	// goodLoss is up to which loss a path counts as one that carries packets,
	// unless the setup says otherwise.
	goodLoss = 0.1
	// goodDelay is up to which delay it does.
	goodDelay = 50 * time.Millisecond
)

func (n *network) open(path int) bool {
	return !n.ways[path][0].cut && !n.ways[path][1].cut && !n.dark(path)
}

// linked reports whether a stream can run between the hosts.
func (n *network) linked() bool { return !n.unlinked && (n.open(0) || n.open(1)) }

// exchanges reports whether the nodes can exchange packets on any path.
func (n *network) exchanges() bool {
	for _, h := range n.w.nodes {
		if !h.up || h.frozen {
			return false
		}
	}
	for p := range n.ways {
		if n.carries(p, max(n.w.setup.GoodLoss, goodLoss)) {
			return true
		}
	}
	return false
}

// carries reports whether a path carries packets both ways and loses at most loss.
func (n *network) carries(path int, loss float64) bool {
	if n.dark(path) {
		return false
	}
	for _, y := range n.ways[path] {
		if y.cut || y.loss > loss || y.delay+y.jitter > goodDelay {
			return false
		}
	}
	return true
}

// loses reports whether no path brings every packet to the other side.
func (n *network) loses() bool { return !n.carries(0, 0) && !n.carries(1, 0) }

// lossy reports whether all that flows between the nodes is on paths that lose
// so much that every packet of a question may get lost.
func (n *network) lossy() bool { return !n.carries(0, goodLoss) && !n.carries(1, goodLoss) }

// tries is how long advertisements may take to get through a path that loses
// some of them: as many intervals as make the loss of all as good as impossible.
func (n *network) tries() time.Duration {
	var worst float64
	for p := range n.ways {
		for _, y := range n.ways[p] {
			if !y.cut {
				worst = max(worst, min(y.loss, 0.5))
			}
		}
	}
	if worst == 0 {
		return 0
	}
	return time.Duration(math.Ceil(math.Log(impossible)/math.Log(worst))) * n.w.setup.Interval.Duration()
}

// impossible is the chance that nobody has to reckon with in any search.
const impossible = 1e-10

// changed is called after anything that decides who can reach whom.
func (n *network) changed() {
	n.silenced = [2]time.Duration{n.w.now, n.w.now}
	switch ok := n.exchanges(); {
	case !ok:
		n.since = -1
	case n.since < 0:
		n.since = n.w.now
	}
	n.spread = n.tries()
	if !n.linked() {
		n.joined = -1
		return
	}
	if n.joined < 0 {
		n.joined = n.w.now
	}
	for to := range n.stuck {
		for _, it := range n.stuck[to] {
			if n.w.setup.Stream && it.from != n.w.nodes[1-to].life {
				continue // its daemon is gone, and with it what it had to say
			}
			it.at, it.life = n.w.now+retransmit, n.w.nodes[to].life
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
func (n *network) advertise(from int, priority uint8, epoch failover.Epoch) {
	id := uint64(n.w.now)<<8 | uint64(priority)
	for p := range n.ways {
		y := &n.ways[p][from]
		if y.cut || n.w.chance(y.loss) || n.dark(p) {
			continue
		}
		n.w.push(n.w.item(item{at: n.w.now + y.after(n.w), kind: kAdvert, node: uint8(1 - from), id: id, epoch: epoch}))
		if n.w.chance(y.double) {
			n.w.push(n.w.item(item{at: n.w.now + y.after(n.w), kind: kAdvert, node: uint8(1 - from), id: id, epoch: epoch}))
		}
	}
}

// stuckMost bounds what a broken stream keeps for later.
const stuckMost = 4

func (n *network) tell(from int, s *failover.PeerState) {
	to := 1 - from
	if !n.linked() {
		if n.w.setup.Stream { // the newest word is all that waits for a connection
			n.stuck[to] = n.stuck[to][:0]
		}
		if n.w.setup.Stuck && len(n.stuck[to]) < stuckMost {
			n.stuck[to] = append(n.stuck[to], n.w.item(item{kind: kTell, node: uint8(to), ev: failover.PeerSaid{State: *s}, from: n.w.nodes[from].life}))
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
	n.w.push(n.w.item(item{at: n.w.now + best, kind: kTell, node: uint8(to), ev: failover.PeerSaid{State: *s}, life: n.w.nodes[to].life, from: n.w.nodes[from].life}))
}

// delivers reports whether a connection still carries the message: it ends with
// the daemon at either end, but for what a kernel still sends for one that was
// killed, and an older connection is not read once there is a younger one.
func (n *node) delivers(it *item) bool {
	if !n.w.setup.Stream {
		return true
	}
	if it.life != n.life || it.from <= n.peer().lost || it.from < n.linkLife {
		return false
	}
	n.linkLife = it.from
	return true
}

// probes is how often a question to a kernel is repeated on each path.
const probes = 5

// rounds is in how many of the rounds of a question one packet and its answer come
// through on the path.
func (n *network) rounds(path int) int {
	if !n.open(path) {
		return 0
	}
	through := 0
	for range probes {
		if !n.w.chance(n.loss(path)) {
			through++
		}
	}
	return through
}

// loss is that of a packet and its answer.
func (n *network) loss(path int) float64 {
	return 1 - (1-n.ways[path][0].loss)*(1-n.ways[path][1].loss)
}

// answers reports whether a question that is put in several ways on the path is
// answered.
func (n *network) answers(path, ways int) bool {
	if !n.open(path) {
		return false
	}
	loss := n.loss(path)
	for range ways * probes {
		if !n.w.chance(loss) {
			return true
		}
	}
	return false
}
