package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// A node is a host with its daemon: the power, the freezer and the signals act
// on it, and the effects of the core are carried out here.

var tick failover.Event = failover.Tick{}

// machine is what decides on a node.
type machine interface {
	Step(now mono.Instant, ev failover.Event, out []failover.Effect) []failover.Effect
	Deadline() (mono.Instant, bool)
}

type node struct {
	w      *World
	i      int
	label  string
	up     bool
	frozen bool
	frozeA time.Duration
	offset time.Duration // clock of the host less the world's, when the world began
	rate   int64         // how much faster it runs, ppm
	blind  time.Duration // what Broken.BlindClock hides of it from the daemon
	kernel kernel
	disk   disk
	dbs    []*database
	unit   bool   // lsyncd runs
	file   string // what the label file names as active

	core      machine
	foreign   bool          // it is another router than ours
	lacks     bool          // the host comes up without its interface
	awake     time.Duration // the daemon runs since then, if it does
	stood     time.Duration // when the host went on whose clock had stood still, 0: never
	word      mono.Instant  // when the peer's latest message came, 0: none did
	claimedAt mono.Instant  // claimed by the host's clock
	peerHeld  bool          // as it said
	life      uint32        // of the daemon
	paused    bool
	pausedA   time.Duration
	held      []*item
	heard     time.Duration // when anything of the peer arrived last
	heardOf   time.Duration // when the advertisement was sent that came last
	claimed   time.Duration // when it began to advertise, -1: it does not
	ran       time.Duration // when the daemon did something last
	trap      trap
	tickAt    time.Duration
	lastTick  time.Duration
	spins     int
	effects   []failover.Effect
	steps     []*step
	fault     stepFault
	linkSeq   uint64 // newest message of the peer
	linkBoot  uint64
	linkLife  uint32              // of the peer at the other end
	lost      uint32              // the life that the power ended last
	strayed   time.Duration       // when somebody last did something to the host, 0: never
	strayUnit bool                // the unit was started by somebody
	state     *failover.PeerState // as last told
	sick      sickness
}

func newNode(w *World, i int) *node {
	n := &node{w: w, i: i, label: labels[i], up: true, file: ""}
	n.offset = w.between(time.Second, time.Hour)
	n.disk.forgetful = w.setup.Broken.ForgetfulDisk
	n.foreign = w.setup.Foreign && i == 1
	n.kernel.n, n.state, n.rate = n, &failover.PeerState{}, w.setup.Rate[i]
	for d := range w.setup.Databases {
		db := &database{w: w, node: n, index: d, up: true, readOnly: true}
		n.dbs = append(n.dbs, db)
		if i == 1 {
			db.channel, db.io, db.sql = true, true, true
		}
	}
	return n
}

func (n *node) peer() *node { return n.w.nodes[1-n.i] }

// clock is the host's CLOCK_BOOTTIME. It is the only clock of the world that a
// daemon can read: no host has another that a step could set.
func (n *node) clock() mono.Instant {
	return mono.Instant(n.w.now + n.w.now*time.Duration(n.rate)/million + n.offset)
}

const million = 1_000_000

// when returns the world's time at which the host's clock shows at.
func (n *node) when(at mono.Instant) time.Duration {
	t := time.Duration(at) - n.offset
	if n.rate == 0 {
		return t
	}
	t -= t * time.Duration(n.rate) / time.Duration(million+n.rate)
	for t+t*time.Duration(n.rate)/million+n.offset < time.Duration(at) {
		t++ // what the divisions rounded off
	}
	return t
}

// lasts returns how long d of the host's clock takes.
func (n *node) lasts(d time.Duration) time.Duration {
	return d - d*time.Duration(n.rate)/time.Duration(million+n.rate)
}

// runs reports whether the daemon gets the processor now.
func (n *node) runs() bool { return n.core != nil && !n.paused && !n.frozen }

// step gives the core an event and carries out what it answers.
func (n *node) step(ev failover.Event) {
	w := n.w
	n.watchSpin(ev)
	w.stepped++
	n.ran = w.now
	ev = n.probed(ev)
	late := w.check.late(n, ev)
	w.check.leaves(n, ev)
	n.effects = n.core.Step(n.clock()-mono.Instant(n.blind), ev, n.effects[:0])
	effects := w.bend(n, n.effects)
	if late {
		w.check.woke(n, effects)
	}
	if w.trace != nil {
		w.trace.step(w.now, n.label, ev, effects)
	}
	for i := range effects {
		if n.passes(effects[i]) {
			return
		}
		n.do(effects[i])
		if n.core == nil {
			return
		}
	}
	if len(effects) > 0 && n.passes(nil) {
		return
	}
	at, ok := n.core.Deadline()
	if !ok {
		w.fail("timer", "%s wants no tick", n.label)
	}
	n.tickAt = 1 << 62
	if at != mono.Never {
		n.tickAt = max(w.now, n.when(at+mono.Instant(n.blind)))
	}
	if at != mono.Never && w.setup.Late > 0 {
		n.tickAt += w.between(0, w.setup.Late)
	}
	w.check.healthy(n)
	w.check.after(n)
}

// spinMost is how many ticks at one instant are taken for a timer that is never
// satisfied.
const spinMost = 100

func (n *node) watchSpin(ev failover.Event) {
	if _, ok := ev.(failover.Tick); !ok {
		return
	}
	if n.lastTick != n.w.now {
		n.lastTick, n.spins = n.w.now, 0
		return
	}
	if n.spins++; n.spins > spinMost {
		n.w.fail("timer", "%s asks for the same tick again and again", n.label)
	}
}

// bend applies what Broken says of the core.
func (w *World) bend(n *node, effects []failover.Effect) []failover.Effect {
	if !w.setup.Broken.SwapDrop {
		return effects
	}
	for i, e := range effects {
		if _, ok := e.(failover.Drop); !ok {
			continue
		}
		for j := i + 1; j < len(effects); j++ {
			if s, ok := effects[j].(failover.Send); ok && s.Advertisement.Priority == 0 {
				effects[i], effects[j] = effects[j], effects[i]
			}
		}
	}
	return effects
}

var errKernel = errors.New("add 10.77.0.100/24 to eth0: no such device")

func (n *node) do(e failover.Effect) {
	w := n.w
	switch e := e.(type) {
	case failover.Send:
		w.check.sends(n, e.Advertisement.Priority)
		w.check.prove(n)
		if n.claimed < 0 && e.Advertisement.Priority > 0 {
			n.claimed, n.claimedAt = w.now, n.clock()
		}
		n.sprung(onSend)
		w.net.advertise(n.i, e.Advertisement.Priority, e.Epoch)
	case failover.Hold:
		n.hold(n.bendHold(e))
	case failover.Drop:
		if !n.kernel.planted { // or a claim goes on without somebody's address
			n.claimed = -1
		}
		n.dropped()
		n.sprung(onDrop)
	case failover.CloseWrites:
		w.schedule(w.between(time.Millisecond, 5*time.Millisecond), item{kind: kClose, node: uint8(n.i), life: n.life})
	case failover.Append:
		n.append(e)
	case failover.Remember:
		if !n.disk.failing {
			n.disk.newer = e.Positions
		}
	case failover.FenceDatabase:
		n.fenceDatabase(e)
	case failover.StartStep:
		n.startStep(e)
	case failover.CancelStep:
		n.cancelStep(e.ID)
	case failover.Measure:
		n.answerAfter(w.between(300*time.Microsecond, 3*time.Millisecond), item{kind: kMeasure, id: uint64(e.ID)})
	case failover.CatchUp:
		n.answerAfter(time.Millisecond, item{kind: kCatchUp, catch: &e})
	case failover.CheckSteps:
		n.checkSteps(e)
	case failover.AskKernel:
		n.sprung(onAsk)
		w.schedule(w.between(200*time.Microsecond, 2*time.Millisecond), item{kind: kAsk, node: uint8(n.i), life: n.life, id: uint64(e.ID), wait: e.Within})
	case failover.AskWitness:
		n.askWitness(e)
	case failover.Tell:
		if w.setup.Broken.Liar && e.State.Wrote == failover.WroteYes {
			e.State.Wrote = failover.WroteNo
		}
		w.check.tells(n, &e.State)
		*n.state = e.State
		w.net.tell(n.i, n.state)
	case failover.Answer:
		w.check.answered(n, e)
	case failover.Stopped:
		if w.setup.Broken.Goodbye {
			n.dropped()
		}
		w.check.left(n)
		w.say(n.i, "daemon ended")
		n.kill()
		w.schedule(w.between(time.Second, backAfter), item{kind: kStart, node: uint8(n.i)})
	case failover.Note, failover.Announce, failover.CancelCheck:
	}
}

func (n *node) answerAfter(after time.Duration, it item) {
	it.node, it.life = uint8(n.i), n.life
	n.w.schedule(after, it)
}

func (n *node) answer(after time.Duration, ev failover.Event) {
	n.answerAfter(after, item{kind: kAnswer, ev: ev})
}

// backAfter is when somebody starts a daemon again that was told to stop.
const backAfter = 10 * time.Second

const soon = 30 * time.Microsecond

func (n *node) hold(e failover.Hold) {
	if n.kernel.failing {
		n.kernel.refused = n.w.now
		n.answer(soon, failover.Held{ID: e.ID, Err: errKernel})
		return
	}
	if n.kernel.down == ifMissing {
		n.answer(soon, failover.Held{ID: e.ID, Err: errNoDevice})
		return
	}
	had, there := n.kernel.own(), n.kernel.holds()
	if !had && e.ID == 0 && n.kernel.missed() {
		had = true
		n.w.restored++
		n.w.check.putBack, n.w.check.putBackBy = n.w.now, n.i
	}
	if !n.foreign {
		n.w.check.renews(n, e)
	}
	n.kernel.hold(e.Lease)
	if !there && n.w.setup.Echoes {
		n.tellCore(failover.AddressFound{Address: vipPrefix})
	}
	if !had {
		n.w.takeovers++
		n.w.check.acquired(n, e.ID != 0)
	}
	if e.ID != 0 {
		n.sprung(onAcquire)
		n.answer(soon, failover.Held{ID: e.ID})
	}
}

// dropped takes the address off.
func (n *node) dropped() {
	k := &n.kernel
	if k.holds() {
		switch {
		case k.planted:
			n.w.removed++
		case k.down != "":
			n.w.downs++
		}
		if n.w.setup.Echoes {
			n.tellCore(failover.AddressLost{Address: vipPrefix})
		}
	}
	k.drop()
}

var errDisk = errors.New("write journal: no space left on device")

func (n *node) append(e failover.Append) {
	n.w.check.journals(n, e)
	e.Record.Hold = e.Record.Hold.Dated(n.w.date())
	if n.disk.failing && e.ID != 0 && e.Record.Hold != (hooks.Hold{}) {
		n.answer(soon, failover.Durable{ID: e.ID, Err: errDisk})
		return
	}
	if !n.disk.failing {
		n.disk.tail = append(n.disk.tail, e.Record)
		if len(e.Positions) > 0 {
			n.disk.newer = e.Positions
		}
	}
	if e.ID != 0 {
		n.sprung(onJournal)
		n.answerAfter(n.w.between(500*time.Microsecond, 3*time.Millisecond), item{kind: kDurable, id: uint64(e.ID)})
	}
}

// local handles what comes from the daemon's own workers.
func (n *node) local(it *item) {
	if it.life != n.life || n.core == nil {
		return
	}
	if n.paused || n.frozen {
		n.hold4later(it)
		return
	}
	switch it.kind {
	case kAnswer, kNotice:
		n.step(it.ev)
	case kMeasure:
		n.measure(it)
	case kStep:
		n.stepDue(it.step)
	case kCatchUp:
		n.catchUp(it.catch)
	case kDurable:
		if n.disk.failing {
			n.step(failover.Durable{ID: failover.ID(it.id), Err: errDisk})
			return
		}
		if n.passesAt("written, not durable") {
			return
		}
		n.disk.sync()
		if n.passesAt("durable, not told") {
			return
		}
		n.step(failover.Durable{ID: failover.ID(it.id)})
	case kAdvert, kTell, kAsk, kClose, kStart, kRelease, kResume, kPower, kThaw, kDatabase, kRejoin, kScript:
		// The world's, not the daemon's.
	}
}

// heldMost bounds what waits for a daemon that does not run.
const heldMost = 512

func (n *node) hold4later(it *item) {
	if len(n.held) < heldMost || it.kind == kNotice { // the kernel's own queue is a long one
		c := *it
		n.held = append(n.held, &c)
	}
}

// proof returns the advertisement of a node as its peer hears it: with the epoch
// at which it was sent, where it proves one.
func (w *World) proof(i, bye int, e failover.Epoch) failover.Event {
	if !w.setup.Proved {
		return w.adverts[i][bye]
	}
	ev, ok := w.adverts[i][bye].(failover.Advertised)
	if ok && (!ev.Proved || ev.Epoch != e) {
		ev.Epoch, ev.Proved = e, true
		w.adverts[i][bye] = ev
	}
	return w.adverts[i][bye]
}

func (n *node) hear(it *item) {
	switch {
	case n.core == nil || n.frozen || !n.up:
		return
	case n.paused:
		n.hold4later(it)
		return
	case n.w.setup.Broken.DeafContest && n.kernel.holds():
		return
	}
	p := n.peer()
	n.heard = n.w.now
	n.heardOf = time.Duration(it.id >> 8)
	if uint8(it.id) == 0 {
		n.step(n.w.proof(p.i, 1, it.epoch))
		return
	}
	n.step(n.w.proof(p.i, 0, it.epoch))
}

// told passes a message on, unless a newer one came before it.
func (n *node) told(it *item) {
	if n.core == nil || !n.up {
		return
	}
	if n.paused || n.frozen {
		n.hold4later(it)
		return
	}
	said, ok := it.ev.(failover.PeerSaid)
	if !ok {
		return
	}
	s := &said.State
	if s.Boot == n.linkBoot && s.Seq <= n.linkSeq {
		return
	}
	if !n.delivers(it) {
		return
	}
	n.linkBoot, n.linkSeq, n.heard = s.Boot, s.Seq, n.w.now
	n.word, n.peerHeld = n.clock(), s.Holds
	n.w.check.heard(n, s)
	if n.w.setup.Broken.Flatterer {
		s.Wrote = failover.WroteYes
		it.ev = said
	}
	n.step(n.bendSaid(it.ev))
}

// hungRead is how long the reader waits for a database.
const hungRead = time.Second

func (n *node) measure(it *item) {
	facts := make([]replication.Facts, 0, len(n.dbs))
	var wait time.Duration
	for _, db := range n.dbs {
		f := db.facts(n.clock())
		if f.Reach == replication.ReachTimedOut {
			wait = hungRead
		}
		if n.w.setup.Broken.OpenGate {
			f = pretend(f)
		}
		if n.w.setup.Broken.Forgetful {
			f.BinlogState = replication.Known(n.peer().dbs[db.index].history.state())
		}
		facts = append(facts, f)
	}
	ev := failover.Measured{ID: failover.ID(it.id), Facts: facts}
	if wait > 0 {
		n.answer(wait, ev)
		return
	}
	n.step(ev)
}

// pretend makes facts say that all of the heard transactions are applied.
func pretend(f replication.Facts) replication.Facts {
	channels, ok := f.Channels.Get()
	if !ok || len(channels) == 0 {
		return f
	}
	far := replication.PositionOf(replication.GTID{Server: 9, Sequence: 1 << 40})
	f.Applied = replication.Known(far)
	return f
}

const catchUpLook = 5 * time.Millisecond

var errBehind = errors.New("wait for the position: not reached in time")

func (n *node) catchUp(c *failover.CatchUp) {
	there, hasty := true, n.w.setup.Broken.HastyReplica
	for _, db := range n.dbs {
		there = there && db.reaches(c.Targets)
	}
	switch {
	case there || hasty:
		n.step(failover.CaughtUp{ID: c.ID})
	case n.clock() >= c.Until:
		n.step(failover.CaughtUp{ID: c.ID, Err: errBehind})
	default:
		n.answerAfter(catchUpLook, item{kind: kCatchUp, catch: c})
	}
}

var errFence = errors.New("end the process: operation not permitted")

// fenceDatabase ends the process of a database, as its unit's SIGKILL does.
func (n *node) fenceDatabase(e failover.FenceDatabase) {
	ev := failover.DatabaseFenced{ID: e.ID, Database: e.Database}
	if n.w.chance(n.w.setup.FenceFails) {
		ev.Err = errFence
	} else if i := slices.Index(n.w.setup.dbNames, e.Database); n.dbs[i].up {
		n.w.say(n.i, "database %s is ended", e.Database)
		n.dbs[i].crash()
	}
	n.answer(n.w.between(time.Millisecond, 50*time.Millisecond), ev)
}

func (n *node) emergencyClose() {
	if !n.up || n.w.setup.Broken.KeepWrites {
		return
	}
	for _, db := range n.dbs {
		if db.up && db.hung {
			db.closeDue = true
		} else if db.up {
			db.setReadOnly(true)
		}
	}
}
