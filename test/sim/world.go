// Package sim runs two real orchestrators in one virtual world: network,
// kernels, databases, disks, steps and an operator, all from one seed. The same
// seed gives the same run to the last byte. After every step of either node
// checkers look at the truth, which the nodes cannot see.
package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

// Setup is what a world is made of.
type Setup struct {
	Databases int
	WriteRate uint64 // transactions a second that clients commit
	Interval  vrrp.Centiseconds
	Lease     time.Duration
	// MaintenanceLease is the one under maintenance, zero: there is none.
	MaintenanceLease time.Duration
	Policy           replication.Policy
	Drain            time.Duration
	Promote          hooks.Plan
	Demote           hooks.Plan
	Checks           []health.Check
	Probe            time.Duration // from one sample of a check to the next
	Preempt          bool
	Priority         [2]uint8 // zero: 254 and 253

	Delay, Jitter time.Duration // of every packet
	Double        float64       // chance that a packet comes twice
	Late          time.Duration // how late a timer of a daemon may be
	StepTime      time.Duration // how long a step takes at most
	WeakHost      bool          // a kernel answers for the address on both paths
	Stuck         bool          // a broken link keeps messages for later
	Loss          [2][2]float64 // of every packet: path, sender
	GoodLoss      float64       // up to which loss a path counts as one that carries packets
	OnePath       bool          // there is no second path
	NoLink        bool          // there is no link between the daemons
	Stream        bool          // the link is a connection, and ends with what it connects
	Proved        bool          // advertisements prove their epoch
	Echoes        bool          // the kernel also tells a daemon of what it did itself
	Fence         hooks.Plan
	FenceRequired bool
	FenceFails    float64  // chance that a step of it does
	FenceOff      bool     // it powers the peer off
	Foreign       bool     // the reserve is another router, without a link
	Nopreempt     bool     // which leaves the role to a weaker one
	Rate          [2]int64 // how much faster a host's clock runs than the world's, ppm
	Witness       bool     // there is a gateway that both ask
	OnIsolation   failover.IsolationPolicy

	Broken Broken

	dbNames []string
}

// Broken makes the world or the core break an invariant, to see its checker fire.
type Broken struct {
	NoExpiry      bool // the kernel never removes an address
	OpenGate      bool // facts say that everything is applied
	SwapDrop      bool // priority 0 is sent before the address is dropped
	DoubleStep    bool // a step is started a second time
	HastyReplica  bool // a replica says that it caught up, and stops without applying
	DeafContest   bool // advertisements are not heard while the address is held
	KeepWrites    bool // closing a database says done and does nothing
	KeepUnit      bool // stopping a unit says done and does nothing
	NoUndo        bool // a step that takes back says done and does nothing
	BlindCapture  bool // the kernel's answer to a question is always silence
	StaleAnswers  bool // somebody answers for the address for ever
	BlindClock    bool // a daemon's clock does not count the time for which it stood still
	DeafKernel    bool // the kernel tells nobody of its interface and addresses
	KindFence     bool // a fence that failed says that it went well
	ForgetfulDisk bool // what is durable goes with the power
	NumbFault     bool // a core is not told of checks that forbid it the address
	NumbYield     bool // nor of those that want the role to move
	Restless      bool // somebody moves the address while nothing should happen
	BlindLook     bool // a check says that all is as it should be
	NoHolds       bool // a core forgets what an operator holds
	NoPatience    bool // and what its peer may have of a lease
	HastyLease    bool // it takes the long lease at once
	Goodbye       bool // a daemon that leaves under maintenance drops the address
	FalseWitness  bool // the gateway seems to answer whoever asks
	Flatterer     bool // what a node says of its writes comes as that it took some
	Forgetful     bool // a core is told that what its databases wrote is the Active's
	Liar          bool // a node says that its databases took no writes
}

// World is everything outside the two cores, and the cores.
type World struct {
	setup     Setup
	rng       *rand.Rand
	ill       *rand.Rand // of the health checks
	illnesses []illness
	side      *rand.Rand    // of what came later: the worlds of old seeds stay theirs
	now       time.Duration // since the world began
	seq       uint64
	queue     queue
	free      []*item
	net       network
	nodes     [2]*node
	terms     uint32
	check     checker
	trace     *transcript
	script    func(at uint64)
	bounds    *boundaries // nil: nobody counts them
	watch     func()      // after every step of a core, nil: nobody
	stepped   uint64      // steps of the cores
	second    time.Duration
	things    int // that happened since second

	adverts [2][2]failover.Event // of each node: its priority, priority 0

	takeovers  int           // addresses that came to a node
	unlucky    int           // second holders for which loss is to blame, not the core
	races      int           // second holders that could not know of the first one's claim
	rounds     int           // in which everything was healed
	longest    time.Duration // from healed to one holder
	putBacks   int           // second holders that put back what somebody had taken off
	overrun    int           // second holders that are another router's doing
	restored   int           // addresses that were taken off and put back
	removed    int           // that were put on a standby and taken off
	downs      int           // addresses let go of since the link was down
	fenced     int           // takeovers behind a required fence
	unhealthy  int           // demotions that a check brought about
	mends      int           // steps that drifted and were carried out again
	untouched  int           // ends at which drift is only told of
	salvaged   int           // databases of which only what was received was taken over
	parted     int           // daemons that left under maintenance with the address
	adopted    int           // and were found by the next one
	alone      int           // second holders that an operator took upon himself
	lastFence  time.Duration // when a fence powered a host off last
	healing    bool          // fences work again
	gate       gateway
	clientless [2]bool // nobody writes to the databases of a node
	vouched    int     // takeovers that a witness had a say in
	conflicts  int     // conflicts that an operator cleared
	contests   int     // Actives of one epoch that could speak, of which one gave way
}

// NewWorld returns a world in which nothing runs yet.
func NewWorld(seed uint64, s Setup) *World {
	w := &World{
		setup: s, rng: rand.New(rand.NewPCG(seed, 0x7461_6e69_7374)), ill: newIll(seed), illnesses: allIllnesses,
		side: rand.New(rand.NewPCG(seed, 0x6472_6966_74)),
	}
	if w.setup.Probe == 0 {
		w.setup.Probe = 50 * time.Millisecond
	}
	for i := range s.Databases {
		w.setup.dbNames = append(w.setup.dbNames, [...]string{"pivot", "depot"}[i])
	}
	w.net = network{w: w, unlinked: s.NoLink}
	for p := range w.net.ways {
		for d := range w.net.ways[p] {
			w.net.ways[p][d] = s.way(p, d)
		}
	}
	for i := range w.nodes {
		w.nodes[i] = newNode(w, i)
		w.adverts[i] = w.advertised(i)
	}
	w.gate.since = [2]time.Duration{-1, -1}
	w.check.w = w
	w.check.begin()
	w.net.changed()
	return w
}

func (w *World) item(it item) *item {
	if n := len(w.free); n > 0 {
		p := w.free[n-1]
		w.free = w.free[:n-1]
		*p = it
		return p
	}
	p := new(item) // the address of it would put every one of them on the heap
	*p = it
	return p
}

func (w *World) push(it *item) {
	w.seq++
	it.seq = w.seq
	w.queue.push(it)
}

func (w *World) schedule(after time.Duration, it item) {
	it.at = w.now + after
	w.push(w.item(it))
}

// between returns a duration in [low, high).
func (w *World) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(w.rng.Int64N(int64(high-low)))
}

// Run goes on until end, or until a checker fails.
func (w *World) Run(end time.Duration) {
	for w.check.failure == nil {
		at, who := end, -1
		for i, n := range w.nodes {
			if n.runs() && n.tickAt < at {
				at, who = n.tickAt, i
			}
		}
		if len(w.queue.items) > 0 && w.queue.items[0].at <= at {
			it := w.queue.pop()
			w.now = max(w.now, it.at)
			w.watchStorm()
			w.dispatch(it)
			w.free = append(w.free, it)
			continue
		}
		if who < 0 {
			w.now = max(w.now, end)
			return
		}
		w.now = max(w.now, at)
		w.nodes[who].step(tick)
	}
}

// Failure returns what the first checker that failed said, nil when none did.
func (w *World) Failure() error {
	if w.check.failure == nil {
		return nil
	}
	return w.check.failure
}

func (w *World) fail(checker, format string, args ...any) {
	if w.check.failure == nil {
		w.check.failure = fmt.Errorf("%s at %s: %s", checker, clock(w.now), fmt.Sprintf(format, args...))
		w.say(-1, "%v", w.check.failure)
	}
}

// say writes one line of what happened outside the cores.
func (w *World) say(node int, format string, args ...any) {
	if w.trace != nil {
		w.trace.world(w.now, node, format, args...)
	}
}

// stormMost is how many things may happen in one second of the world.
const stormMost = 20_000

func (w *World) watchStorm() {
	if w.now-w.second >= time.Second {
		w.second, w.things = w.now, 0
	}
	if w.things++; w.things > stormMost {
		w.fail("storm", "%d things happened within a second", w.things)
	}
}

func (w *World) dispatch(it *item) {
	n := w.nodes[it.node]
	switch it.kind {
	case kScript:
		if it.do != nil {
			it.do()
			break
		}
		w.script(it.id)
	case kAdvert:
		n.hear(it)
	case kTell:
		n.told(it)
	case kNotice, kAnswer, kMeasure, kStep, kCatchUp, kDurable:
		n.local(it)
	case kAsk:
		n.answerAsk(it)
	case kClose:
		n.emergencyClose()
	case kStart:
		if n.frozen { // nothing starts on it
			w.schedule(thawPoll, item{kind: kStart, node: it.node})
			break
		}
		n.start()
	case kRelease:
		n.releaseForGood(it.life)
	case kResume:
		n.resume()
	case kPower:
		n.powerOn()
	case kThaw:
		n.thaw(thaw(it.id))
	case kDatabase:
		n.dbs[it.id].recover()
	case kRejoin:
		w.operate()
	}
}

var (
	vip    = netip.MustParseAddr("10.77.0.100")
	locals = [2]netip.Addr{netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.12")}
)

// way returns a direction of a path as it is when nothing is wrong with it.
func (s *Setup) way(path, from int) way {
	return way{delay: s.Delay, jitter: s.Jitter, double: s.Double, loss: s.Loss[path][from], cut: s.OnePath && path > 0}
}

// advertised returns what a node's peer hears of it.
func (w *World) advertised(i int) [2]failover.Event {
	cfg := w.config(i).Router
	ev := failover.Advertised{
		Advertisement: vrrp.Advertisement{
			VRID: cfg.VRID, Priority: cfg.Priority, MaxAdvertInterval: cfg.Interval, Addresses: cfg.Addresses,
		},
		Source: cfg.Local,
	}
	bye := ev
	bye.Advertisement.Priority = 0
	return [2]failover.Event{ev, bye}
}

func (w *World) config(i int) failover.Config {
	s := w.setup
	priorities := s.Priority
	if priorities == ([2]uint8{}) {
		priorities = [2]uint8{254, 253}
	}
	return failover.Config{
		Node: labels[i], Peer: labels[1-i], Instance: "compass", VIP: vip.String(),
		Router: vrrp.Config{
			VRID: 51, Priority: priorities[i], Interval: s.Interval, Addresses: []netip.Addr{vip}, Local: locals[i],
		},
		PeerPriority: priorities[1-i], Preempt: s.Preempt, Lease: s.Lease, MaintenanceLease: s.MaintenanceLease,
		Announce:  failover.Announcement{Repeat: 5, Delay: 5 * time.Second, Refresh: 30 * time.Second},
		Databases: w.setup.dbNames, Gate: s.Policy, DrainTimeout: s.Drain,
		Promote: s.Promote, Demote: s.Demote, Checks: s.Checks, Fence: s.Fence, FenceRequired: s.FenceRequired,
		Witness: s.witness(), OnIsolation: s.OnIsolation,
	}
}

func (s *Setup) witness() string {
	if s.Witness {
		return "gateway"
	}
	return ""
}

var labels = [2]string{"primary", "reserve"}

// operateEvery is how often the operator looks at the replication of a standby.
const operateEvery = 200 * time.Millisecond

// operate is what an operator does, or a script: a standby whose databases do
// not follow the Active is pointed at it; one that has transactions of its own
// is made again from a copy.
func (w *World) operate() {
	w.schedule(operateEvery, item{kind: kRejoin})
	for i, n := range w.nodes {
		p := w.nodes[1-i]
		if !n.runs() || !p.runs() || n.state.State != failover.Backup && n.state.State != failover.Conflict || p.state.State != failover.Active ||
			!p.kernel.holds() || n.kernel.holds() || !w.net.linked() || n.frozen || p.frozen || len(n.steps) > 0 {
			continue
		}
		for d, db := range n.dbs {
			source := p.dbs[d]
			if !db.up || db.hung || !source.up || source.hung || !db.readOnly || w.check.operatorOff {
				continue
			}
			w.settle(d)
			following := db.channel && db.io && db.sql && !db.broken
			if following && db.relay.within(source.history) {
				continue
			}
			if source.channel && (source.io || source.sql) {
				continue // it is itself on its way somewhere
			}
			if !db.history.within(source.history) {
				if !w.check.admits(n, d) {
					continue
				}
				w.say(i, "operator: %s has transactions of its own, made again from a copy", w.setup.dbNames[d])
				db.history = append(history(nil), source.history...)
			} else {
				w.say(i, "operator: %s follows %s", w.setup.dbNames[d], p.label)
			}
			db.follow()
		}
	}
}
