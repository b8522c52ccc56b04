package failover

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

// Config is one instance as one node sees it.
type Config struct {
	Node, Peer string // labels
	Instance   string
	VIP        string // first virtual address, for templates

	Router       vrrp.Config // its Preempt is ignored: see Preempt
	PeerPriority uint8       // what the peer's router is configured with
	Preempt      bool        // take the role back from a weaker Active, by a switchover
	PreemptDelay time.Duration
	StartupDelay time.Duration // no takeover this soon after the start

	Lease time.Duration // lifetime of the address in the kernel, whole seconds
	// MaintenanceLease is what it is under maintenance; zero: MaintenanceLease.
	MaintenanceLease time.Duration
	Announce         Announcement

	Databases    []string // those of the configuration
	Discovers    bool     // more are found while it runs
	Gate         replication.Policy
	Grace        time.Duration // what closing writes gives transactions that are open
	DrainTimeout time.Duration // bound of applying what was received

	Promote, Demote hooks.Plan
	// Fence makes sure that a silent peer is off, before this node promotes. With
	// FenceRequired the promotion goes on only if every step of it ended well.
	Fence         hooks.Plan
	FenceRequired bool
	Checks        []health.Check

	// Witness is the kind of the third party that is asked for when the peer is
	// silent, empty for none. OnIsolation is what an Active does that hears neither.
	Witness     string
	OnIsolation IsolationPolicy
}

// Announcement is when the address is announced.
type Announcement struct {
	Repeat   int           // announcements in a burst, at least 1
	Interval time.Duration // between those of a burst; 0: all at once
	Delay    time.Duration // a second burst this long after the first; 0: none
	Refresh  time.Duration // once in this time while the address is held; 0: never
}

// Times that no configuration needs to change.
const (
	// retryDelay is the time between two attempts at something that was refused.
	retryDelay = time.Second
	// failureDelay is the time after a plan that failed.
	failureDelay = 10 * time.Second
	// leaseGrace is how much later than its lifetime the kernel may remove an
	// address: 1.0 s measured, and some for the question that finds it gone.
	leaseGrace = 1300 * time.Millisecond
	// awayTime is after how long without a step the loop was away: it always has
	// something to tell before. What waited meanwhile is heard within queueTime.
	awayTime  = 2 * TellInterval
	queueTime = 100 * time.Millisecond
	// conflictPatience is how long two Actives that hear each other wait for
	// the link to tell whose epoch is the newer before priorities decide.
	conflictPatience = time.Second
)

// Orchestrator is one instance on one node. It is not safe for concurrent use.
type Orchestrator struct {
	cfg    Config
	router *vrrp.Router
	board  *health.Board

	now     mono.Instant // of the running Step
	out     []Effect     // of the running Step
	routed  []vrrp.Effect
	orders  []hooks.Order
	started bool
	boot    uint64
	lastID  ID

	state    State
	why      Why
	since    mono.Instant
	rest     State // the latest that was no transition's
	role     hooks.Role
	stopping bool         // told to leave
	stopAt   mono.Instant // when
	offered  bool         // the role was offered to the peer on leaving
	begun    mono.Instant // when this daemon started

	epoch       Epoch // highest known
	activeEpoch Epoch // of this node's latest promotion
	previous    Epoch // of the one before
	attempt     Epoch // of a switchover to this node that a restart cut off, 0: none
	journaled   Epoch // highest in the journal
	unwritable  error // why the journal cannot be written, nil: it can
	settled     Epoch // epoch of the peer for which this node is a settled standby
	dressed     Epoch // and for which its plan ran, whatever came of it
	stopped     map[string]bool

	lease      lease
	link       linkView
	restored   Restored
	guard      guard
	foreign    mono.Instant // when the log last told of an address that somebody put here
	silent     bool         // nobody advertises
	lastWord   mono.Instant // when the peer's daemon was last heard by any means
	alive      mono.Instant // when its kernel first answered after that
	aliveLast  mono.Instant // and when it last did
	mute       int          // questions since that nobody answered, in a row
	gone       mono.Instant // when its kernel was found silent by an Active, 0: never
	goneAsk    ID           // the question that is out, 0: none
	goneNext   mono.Instant // the next question
	strange    string       // hardware address of the stranger that was reported last
	deaf       bool         // no heartbeat path is open
	hearing    mono.Instant // since when it is or is not
	answered   bool         // the peer's daemon was heard since this one started
	early      early
	proved     bool          // and it was authentic
	newest     Epoch         // that an advertisement of the peer proved
	left       bool          // the peer's last advertisement said that it leaves
	woke       mono.Instant  // the loop was away until then
	clash      mono.Instant  // since when another Active is heard, 0: none
	settleAt   mono.Instant  // no settling before this
	settleWait time.Duration // from the latest attempt at settling to the next
	tried      mono.Instant  // when that attempt began
	returned   mono.Instant  // when a database was last reached after it had not been
	reset      Epoch         // in which channels were removed from the databases
	answerAt   mono.Instant  // no answer to another Active before this
	notUntil   mono.Instant  // no takeover before this
	yielding   yielding
	verdicts   uint64                   // how often a verdict of a health check changed
	flapSaid   map[string]time.Duration // by check, the hold that the log was told of
	fixAt      mono.Instant             // the next attempt at an incomplete promotion, 0: none
	assertAt   mono.Instant             // no look at who changed the writes before this
	eventsAt   mono.Instant             // no attempt at a standby's event schedulers before this
	eventsWait time.Duration            // from the latest attempt to the next
	calm       mono.Instant             // the latest plan ended then

	peer      peerView
	tellAt    mono.Instant
	told      uint64
	dirty     bool // something the peer should know at once
	measure   measuring
	gateSaid  gateSaid
	shared    []string // units that the demote plan stops
	databases []replication.Database
	watch     []watched // by place as databases
	sourceHas []string  // the databases that the source named last
	memory    remembering
	deadAt    mono.Instant // no handover because of a database before this
	deadSaid  Why          // why the peer did not take the role the last time
	run       *planRun
	nextRun   *planRun
	last      *Transition
	bid       *bid
	give      *giving
	take      *taking
	wish      *wishing
	granted   *Grant
	granting  HandoverID   // the peer's wish that is being worked on or was answered
	better    mono.Instant // since when this node should preempt, 0: it should not
	rival     rival
	drift     drifting
	attested  attested
	hold      holdState
	senses    [len(oneWays)]sensed
	writing   writing
	isolation isolation
	witness   witnessing
}

// New returns an orchestrator that waits for Started.
func New(cfg Config) (*Orchestrator, error) {
	rc := cfg.Router
	rc.Preempt = false
	router, err := vrrp.New(rc)
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", cfg.Instance, err)
	}
	if cfg.Promote.Pivot() < 0 || cfg.Demote.Pivot() < 0 {
		return nil, fmt.Errorf("instance %s: a plan without its vip step", cfg.Instance)
	}
	if cfg.Lease < time.Second {
		return nil, fmt.Errorf("instance %s: a lease of %s, shorter than a second", cfg.Instance, cfg.Lease)
	}
	if cfg.MaintenanceLease == 0 {
		cfg.MaintenanceLease = MaintenanceLease
	}
	o := &Orchestrator{
		cfg: cfg, router: router, board: health.NewBoard(cfg.Checks),
		stopped: map[string]bool{}, shared: cfg.Demote.Units(hooks.StopUnit),
	}
	for _, name := range cfg.Databases {
		o.databases, o.watch = append(o.databases, replication.Database{Name: name}), append(o.watch, watched{})
	}
	return o, nil
}

// Step takes an event that happened at now and appends to out what is to be
// done, in order.
func (o *Orchestrator) Step(now mono.Instant, ev Event, out []Effect) []Effect {
	if now.Sub(o.now) > awayTime {
		o.woke = now
	}
	o.now, o.out = now, out
	if s, ok := ev.(Started); ok {
		o.start(s)
	} else if o.started {
		o.checkLate()
		o.handle(ev)
	}
	if o.started {
		o.tick()
		o.think()
		o.tell()
	}
	out, o.out = o.out, nil
	return out
}

// Deadline returns when a Tick is wanted, false before Started.
func (o *Orchestrator) Deadline() (mono.Instant, bool) {
	if !o.started {
		return 0, false
	}
	at := mono.Earliest(o.tellAt, o.measure.at, o.board.Deadline())
	if t, ok := o.router.Deadline(); ok {
		at = min(at, t)
	}
	at = min(at, o.lease.deadline(), o.earlyDeadline(), o.linkDeadline(), o.guardDeadline(), o.holdDeadline(), o.witnessDeadline())
	if o.run != nil {
		if t, ok := o.run.run.Deadline(); ok {
			at = min(at, t)
		}
	}
	if o.bid != nil {
		at = min(at, o.bid.until)
	}
	if o.give != nil {
		at = min(at, o.give.deadline())
	}
	return at, true
}

// Listens reports whether an advertisement of the peer that has come and was not heard
// yet could change what a step at now decides. An Active with nothing going on, that is
// not about to find itself isolated, and whose loop was not away waits for nobody's: its
// own are due, whatever is in a queue.
func (o *Orchestrator) Listens(now mono.Instant) bool {
	rests := o.state == Active && o.lease.held && o.router.State() == vrrp.Active &&
		o.run == nil && o.bid == nil && !o.giving() && !o.taking() && !o.stopping
	return !rests || o.lonely(now) || now.Sub(o.now) > awayTime
}

func (o *Orchestrator) handle(ev Event) {
	switch ev := ev.(type) {
	case Started, Tick:
	case Advertised:
		o.advertised(ev)
	case PeerSaid:
		o.peerSaid(ev.State)
	case Measured:
		o.measured(ev)
	case Probed:
		o.probed(ev)
	case StepEnded:
		o.stepEnded(ev)
	case StepSaid:
		o.stepSaid(ev)
	case Hearing:
		o.deaf, o.hearing = !ev.Open, o.now
	case JournalChanged:
		o.unwritable = ev.Err
	case LinkChanged:
		o.linkChanged(ev)
	case AddressLost:
		o.addressLost(ev)
	case AddressFound:
		o.addressFound(ev)
	case Held:
		o.heldAnswer(ev)
	case Durable:
		o.durable(ev)
	case Asked:
		o.asked(ev)
	case CaughtUp:
		o.caughtUp(ev)
	case DatabaseFenced:
		o.databaseFenced(ev)
	case Disturbed:
		o.disturbed()
	case Checked:
		o.checked(ev)
	case SwitchoverWanted:
		o.switchoverWanted(ev)
	case HoldWanted:
		o.holdWanted(ev)
	case Witnessed:
		o.witnessed(ev)
	case StopWanted:
		if !o.stopping {
			o.stopping, o.stopAt = true, o.now
		}
	}
}

// tick lets every timer that is due act.
func (o *Orchestrator) tick() {
	if t, ok := o.router.Deadline(); ok && !o.now.Before(t) {
		o.route(vrrp.Tick{})
	}
	o.tickLease()
	o.tickEarly()
	o.tickGuard()
	o.tickHealth()
	o.tickMeasure()
	if o.run != nil {
		o.order(o.run.run.Tick(o.now, o.stepID, o.orders[:0]))
	}
	o.tickBid()
	o.tickGive()
	o.tickWish()
	o.tickHold()
	o.tickWitness()
}

// think takes the decisions that follow from what is the case, whichever event
// made it so.
func (o *Orchestrator) think() {
	o.thinkIsolation()
	o.thinkRun()
	o.thinkHealth()
	o.thinkYield()
	o.thinkDatabases()
	o.thinkStop()
	o.thinkPeerWish()
	o.thinkGive()
	o.thinkTake()
	o.thinkBid()
	o.thinkPreempt()
	o.thinkStandby()
	o.thinkRepair()
	o.thinkDrift()
	o.thinkEpoch()
	o.thinkStanding()
	o.thinkSenses()
}

func (o *Orchestrator) emit(e Effect) { o.out = append(o.out, e) }

func (o *Orchestrator) id() ID {
	o.lastID++
	return o.lastID
}

func (o *Orchestrator) stepID() hooks.StepID { return hooks.StepID(o.id()) }

// enter changes the state that status shows, and says why.
func (o *Orchestrator) enter(s State, w Why) {
	same := s == o.state && w.same(o.why)
	from := o.state
	if s != o.state {
		o.since = o.now
	}
	if from != Promoting && from != Demoting {
		o.rest = from
	}
	o.state, o.why = s, w
	if !same {
		o.dirty = true
		o.emit(Note{State: s, New: s != from, From: from, Epoch: o.epoch, Why: w, Urgent: s == Refused || s == Conflict || s == Fault})
	}
}

// route passes an event to the router and acts on what it answers.
func (o *Orchestrator) route(ev vrrp.Event) {
	o.routed = o.router.Step(o.now, ev, o.routed[:0])
	for _, e := range o.routed {
		switch e := e.(type) {
		case vrrp.Send:
			o.lease.progress = o.now
			o.send(e.Advertisement)
		case vrrp.ActiveDown:
			o.silent = true
		case vrrp.Heard:
			o.silent = false
		case vrrp.WeakerHeard:
			o.contested()
			o.announceNow()
		case vrrp.Transition:
			if e.From == vrrp.Active && (e.Reason == vrrp.ReasonHigherPriority || e.Reason == vrrp.ReasonHigherAddress) {
				o.stepDown(Why{Reason: StrongerPeer}, hooks.OnDemote)
			}
		}
	}
}

func (o *Orchestrator) send(a vrrp.Advertisement) {
	o.emit(Send{Advertisement: a, Epoch: o.heldEpoch()})
}

// appendRecord journals without waiting. All but steps and drift have to outlive a
// power cut: a node that forgot a demotion would resume a role that it gave up.
func (o *Orchestrator) appendRecord(r hooks.Record) {
	r.Instance = o.cfg.Instance
	o.journaled = max(o.journaled, Epoch(r.Epoch))
	var id ID
	if r.Kind != hooks.Stepped && r.Kind != hooks.Strayed && r.Kind != hooks.Mended {
		id = o.id()
	}
	o.emit(Append{ID: id, Record: r})
}

func (o *Orchestrator) vars(active string, on hooks.Occasion, why Reason, epoch Epoch) hooks.Vars {
	standby := ""
	switch active {
	case o.cfg.Node:
		standby = o.cfg.Peer
	case o.cfg.Peer:
		standby = o.cfg.Node
	}
	return hooks.Vars{
		Node: o.cfg.Node, Peer: o.cfg.Peer, Active: active, Standby: standby,
		Instance: o.cfg.Instance, Event: on, Epoch: uint64(epoch), Reason: why.String(), VIP: o.cfg.VIP,
		Priority: o.cfg.Router.Priority,
	}
}
