package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/vrrp"
)

// The world is what a node has around it: real cores, a clock of the bubble, and
// adapters that note what they are told. Every fault is a field.

const (
	advertInterval = 250 * time.Millisecond
	lease          = 2 * time.Second
)

var (
	vipAddr = netip.MustParseAddr("192.0.2.100")
	local   = netip.MustParseAddr("192.0.2.11")
	remote  = netip.MustParseAddr("192.0.2.12")
)

type world struct {
	t        *testing.T
	node     *Node
	hosts    map[string]*host
	epoch    time.Time
	leave    context.CancelFunc
	kill     context.CancelFunc
	over     chan error
	journal  *disk
	progress atomic.Int64
	unsent   atomic.Int64 // states that Send left and Flush did not send yet
	flushes  atomic.Int64
	seq      uint64 // of the peer's messages

	mu     sync.Mutex // guards the fields below
	notes  []string
	events []string // troubles
}

// host is the world of one instance.
type host struct {
	*world
	name string

	mu        sync.Mutex // guards the fields below
	log       []string   // what was done, renewals and announcements left out
	holds     []time.Duration
	announced int
	closed    bool  // no heartbeat path is open
	refused   int   // announcements
	refuses   error // announcements
	adverts   []vrrp.Advertisement
	advertAt  []time.Duration
	asks      int
	said      failover.PeerState
	arrived   []vrrp.Advertisement // in the socket's buffer, read by Drain alone
	drained   int
	leftover  bool
	holdErr   error
	dropErr   error
	answer    failover.Asked
	step      func(ctx context.Context, title string) (hooks.Outcome, string)
	onSend    func()
	onTurn    func()
	onAsk     func()
	closing   func(ctx context.Context) error
	facts     func() []replication.Facts
	check     func(ctx context.Context) (hooks.Outcome, string)
	beat      func(epoch failover.Epoch, until mono.Instant) error
}

func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	w := &world{t: t, hosts: map[string]*host{}, epoch: time.Now().Add(-time.Hour), journal: &disk{}, over: make(chan error, 1)}
	cfg := Config{Clock: w.clock, Journal: w.journal, Link: link{w}, Watchdog: w, Log: w}
	for i, name := range names {
		h := &host{world: w, name: name}
		w.hosts[name] = h
		core, err := failover.New(coreConfig(name, uint8(51+i)))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Instances = append(cfg.Instances, Instance{
			Name: name, Core: core, Start: failover.Started{Boot: 1},
			Heartbeat: h, Addresses: h, Databases: h, Steps: h, Kernel: h,
		})
	}
	var err error
	if w.node, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func coreConfig(name string, vrid uint8) failover.Config {
	unit := func(verb hooks.UnitVerb) hooks.Step {
		return hooks.Step{Name: verb.String(), Timeout: 30 * time.Second, Action: hooks.Unit{Verb: verb, Name: name + ".service"}}
	}
	pivot := func(acquire bool) hooks.Step {
		return hooks.Step{Name: "vip", Timeout: 30 * time.Second, Action: hooks.VIP{Acquire: acquire}}
	}
	return failover.Config{
		Node: "primary", Peer: "reserve", Instance: name, VIP: vipAddr.String(),
		Router: vrrp.Config{
			VRID: vrid, Priority: 254, Interval: vrrp.Centiseconds(advertInterval / (10 * time.Millisecond)),
			Addresses: []netip.Addr{vipAddr}, Local: local,
		},
		PeerPriority: 253, Lease: lease, Announce: failover.Announcement{Repeat: 1, Refresh: 100 * time.Millisecond},
		DrainTimeout: 10 * time.Second,
		Promote:      hooks.Plan{pivot(true), unit(hooks.StartUnit)},
		Demote:       hooks.Plan{pivot(false), unit(hooks.StopUnit)},
	}
}

// run starts the node and sees to it that it has ended when the test is over.
func (w *world) run() {
	w.t.Helper()
	kill, killed := context.WithCancel(context.Background())
	leave, left := context.WithCancel(context.Background())
	w.leave = left
	w.kill = killed
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.over <- w.node.Run(leave, kill)
	}()
	w.t.Cleanup(func() {
		w.journal.release()
		killed()
		w.leave()
		<-done
		time.Sleep(time.Minute) // for workers that Run did not wait for
	})
}

func (w *world) clock() mono.Instant { return mono.Instant(time.Since(w.epoch)) }

func (w *world) status(name string) failover.Status {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	s, err := w.node.Status(ctx, name)
	if err != nil {
		w.t.Fatalf("status of %s: %v", name, err)
	}
	return s
}

// until waits, within a minute of the bubble, until an instance is in a state.
func (w *world) until(name string, want failover.State) {
	w.t.Helper()
	for range 6000 {
		if w.status(name).State == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s := w.status(name)
	w.t.Fatalf("%s is %s (%s %s), want %s", name, s.State, s.Why.Reason, s.Why.Detail, want)
}

// heed lets the peer say for some time that it took the role over.
func (w *world) heed(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(failover.TellInterval) {
		w.seq++
		w.node.Deliver("a", failover.PeerSaid{State: failover.PeerState{
			Boot: 9, Seq: w.seq, State: failover.Active, Epoch: 7, ActiveEpoch: 7, Holds: true, Bids: true,
		}})
	}
}

// ended waits for Run.
func (w *world) ended() error {
	w.t.Helper()
	select {
	case err := <-w.over:
		return err
	case <-time.After(5 * time.Minute):
		w.t.Fatal("the node does not end")
		return nil
	}
}

func (w *world) Progress() { w.progress.Add(1) }

func (w *world) Note(instance string, n failover.Note) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, instance+" "+n.State.String()+" "+n.Why.Reason.String())
}

func (w *world) Trouble(instance, doing string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s %s: %v", instance, doing, err))
}

type link struct{ *world }

func (l link) Send(instance string, s failover.PeerState) {
	h := l.hosts[instance]
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = s
	l.unsent.Add(1)
}

func (l link) Flush() {
	l.unsent.Store(0)
	l.flushes.Add(1)
}

func (h *host) Send(s failover.Send) error {
	a := s.Advertisement
	h.mu.Lock()
	h.adverts = append(h.adverts, a)
	h.advertAt = append(h.advertAt, time.Since(h.epoch))
	f := h.onSend
	h.mu.Unlock()
	if f != nil {
		f()
	}
	if a.Priority == 0 {
		h.note("bye")
	}
	return nil
}

// Open is asked in every turn of the loop, between the sockets and what was heard.
func (h *host) Open() bool {
	h.mu.Lock()
	closed, f := h.closed, h.onTurn
	h.onTurn = nil
	h.mu.Unlock()
	if f != nil {
		f()
	}
	return !closed
}

func (h *host) Drain() {
	h.mu.Lock()
	h.drained++
	arrived := h.arrived
	h.arrived = nil
	h.mu.Unlock()
	for _, a := range arrived {
		h.node.Deliver(h.name, failover.Advertised{Advertisement: a, Source: remote})
	}
}

func (h *host) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, what)
}

// did returns what was done so far.
func (h *host) did() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.log)
}

func (h *host) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *host) Leftover() (time.Duration, bool) { return 0, h.leftover }

func (h *host) Hold(e failover.Hold) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holds = append(h.holds, time.Since(h.epoch))
	if e.ID != 0 {
		h.log = append(h.log, "hold")
	}
	return h.holdErr
}

func (h *host) Drop() error {
	h.note("drop")
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dropErr
}

func (h *host) Announce() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuses != nil {
		h.refused++
		return h.refuses
	}
	h.announced++
	return nil
}

func (h *host) Measure(context.Context, bool) []replication.Facts {
	if h.facts == nil {
		return nil
	}
	return h.facts()
}

func (h *host) CloseWrites(ctx context.Context) error {
	h.note("close writes")
	if h.closing == nil {
		return nil
	}
	return h.closing(ctx)
}

func (h *host) CatchUp(context.Context, []failover.Position) error { return nil }

func (h *host) Beat(_ context.Context, epoch failover.Epoch, until mono.Instant) error {
	if h.beat == nil {
		return nil
	}
	return h.beat(epoch, until)
}

func (h *host) Fence(context.Context, string) error { return nil }

func (h *host) Run(ctx context.Context, s hooks.Step, say func(string)) hooks.Result {
	title := hooks.Title(s.Action)
	h.note("begin " + title)
	h.mu.Lock()
	f := h.step
	h.mu.Unlock()
	out, detail := hooks.Changed, ""
	if f != nil {
		out, detail = f(ctx, title)
	}
	h.note("end " + title)
	return hooks.Result{Outcome: out, Detail: detail}
}

func (h *host) Labels(context.Context, hooks.Action) []failover.Label { return nil }

func (h *host) Check(ctx context.Context, _ hooks.Action) (hooks.Outcome, string) {
	h.mu.Lock()
	f := h.check
	h.mu.Unlock()
	if f == nil {
		return hooks.Changed, ""
	}
	return f(ctx)
}

func (h *host) Ask(context.Context, time.Duration) failover.Asked {
	time.Sleep(100 * time.Millisecond)
	if h.onAsk != nil {
		h.onAsk()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asks++
	return h.answer
}

// advertise puts an advertisement of the peer into the host's receive buffer.
func (h *host) advertise(priority uint8) {
	h.set(func() { h.arrived = append(h.arrived, h.advert(priority)) })
}

func (h *host) advert(priority uint8) vrrp.Advertisement {
	cfg := coreConfig(h.name, 0).Router
	return vrrp.Advertisement{
		VRID: h.vrid(), Priority: priority, MaxAdvertInterval: cfg.Interval, Addresses: cfg.Addresses,
	}
}

func (h *host) vrid() uint8 {
	for i, in := range h.node.instances {
		if in.Name == h.name {
			return uint8(51 + i)
		}
	}
	panic("no instance " + h.name)
}

// disk is a journal that can fail or hang.
type disk struct {
	mu      sync.Mutex // guards the fields below
	records []hooks.Record
	owed    []hooks.Record
	err     error
	hangs   chan struct{} // closed when it goes on
}

func (d *disk) hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hangs = make(chan struct{})
}

func (d *disk) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hangs != nil {
		close(d.hangs)
		d.hangs = nil
	}
}

func (d *disk) wait() error {
	d.mu.Lock()
	hangs := d.hangs
	d.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *disk) Append(rs ...hooks.Record) error {
	if err := d.wait(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records = append(d.records, rs...)
	return nil
}

func (d *disk) Sync() error { return d.wait() }

func (d *disk) Owe(rs ...hooks.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owed = append(d.owed, rs...)
}

func (d *disk) Maintain() (unwritable, trouble error) {
	if err := d.wait(); err != nil {
		return err, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.records = append(d.records, d.owed...)
	d.owed = nil
	return nil, nil
}

func (d *disk) kinds() []hooks.RecordKind {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ks []hooks.RecordKind
	for _, r := range d.records {
		ks = append(ks, r.Kind)
	}
	return ks
}

var errFull = errors.New("no space left on device")

// queue is what DeliverAll does with a message for an instance that is looked up.
func (n *Node) queue(m message) {
	n.mu.Lock()
	n.heard = append(n.heard, m)
	n.mu.Unlock()
	n.wake <- struct{}{}
}
