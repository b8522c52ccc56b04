package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/health/probe"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/events"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/heartbeat"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/internal/peer"
	"github.com/tanist-ha/tanist/internal/program"
	"github.com/tanist-ha/tanist/internal/recall"
	"github.com/tanist-ha/tanist/internal/web"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/systemd"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

// daemon is the parts of a running tanist, put together and not started.
type daemon struct {
	common    *common
	nodes     [2]config.Node
	self      int
	node      *node.Node
	heartbeat *heartbeat.Heartbeat
	keys      []auth.Key // of the heartbeat
	linkKeys  []auth.Key
	link      *peer.Link
	journal   *journal.Journal
	units     *systemd.Units
	log       *logger
	notifier  *systemd.Notifier
	table     *vip.Table
	peers     map[string]*vip.Peer // by interface
	sight     *interfaces
	memories  map[string]hooks.Memory // of the journal, when the daemon started
	recall    *recall.File
	notices   *notices
	feed      *events.Feed
	web       *web.Server
	known     lastKnown
	eye       *kernelEye
	visits    *visits
	started   time.Time
	host      atomic.Pointer[control.Host]
	clocks    clockOffset
	reported  reported

	mu       sync.Mutex // guards the fields below
	file     *config.File
	services []*service
	reloaded *control.Reload
}

// service is what one instance has on this host.
type service struct {
	cfg       config.Instance
	core      *failover.Orchestrator
	router    vrrp.Config
	addresses addresses
	databases databases
	steps     steps
	kernel    kernel
	survey    *survey
	prober    *probe.Prober // that of the service before it, after a reload
	checks    []probe.Check
	unprobe   func() // ends the prober, nil before it runs
	unwatch   func() // ends the survey and the database watch, nil before they run
}

// build opens what the daemon works with. Nothing runs and no address is touched
// until run.
func build(c *common, file *config.File, self int, log *logger) (*daemon, error) {
	d := &daemon{
		common: c, file: file, nodes: file.Nodes, self: self, log: log, eye: newKernelEye(heldAddresses), started: time.Now(), visits: newVisits(),
	}
	var err error
	var entries []journal.Entry
	if d.journal, entries, err = journal.Open(filepath.Join(c.stateDir, "journal")); err != nil {
		return nil, err
	}
	d.feed = d.newFeed()
	d.journal.Tell(d.feed.Publish)
	if r := d.journal.Recovery(); !r.Clean() {
		log.warn("the journal was not as it was left", zap.Stringer("recovery", r))
	}
	if d.notifier, err = systemd.NewNotifier(); err != nil {
		return nil, err
	}
	clock := newBootReader().now
	d.units = systemd.NewUnits(systemd.UnitsConfig{})
	if d.keys, err = clusterKeys(file); err != nil {
		return nil, err
	}
	d.describe(file)
	d.linkKeys = d.keys
	if d.heartbeat, err = openHeartbeat(file, self, d.keys, c.stateDir, clock, log); err != nil {
		return nil, err
	}
	me, other := file.Nodes[self], file.Nodes[1-self]
	link := peer.Config{
		Node: me.Label, Peer: other.Label, Port: file.PeerPort, Keys: linkKeys(d.keys),
		Serve: d.answer, Runs: d.runs, Confirm: d.confirm,
	}
	for i := range me.Addresses {
		link.Paths = append(link.Paths, peer.Path{Local: me.Addresses[i], Peer: other.Addresses[i]})
	}
	if d.link, err = peer.New(link); err != nil {
		return nil, err
	}
	if d.table, err = vip.OpenTable(); err != nil {
		return nil, err
	}
	d.peers = map[string]*vip.Peer{}
	d.sight = &interfaces{names: map[*vip.Holder]string{}, log: log}
	if d.sight.watcher, err = d.table.NewWatcher(); err != nil {
		return nil, err
	}
	d.memories = journal.Memories(entries)
	d.notices = newNotices(program.DelegatedCgroup(), log)
	d.notices.lost(d.journal, entries)
	if d.recall, err = recall.Open(filepath.Join(c.stateDir, "positions")); err != nil {
		log.warn("what the databases' sources had is not known from before", zap.Error(err))
	}
	cfg := node.Config{
		Clock: clock, Journal: d.journal, Positions: d.recall, Link: d.link, Log: log, Renewer: renewer{d.table}, Asker: asker{},
		Watchdog: newWatchdog(d.notifier, clock, log), Slack: slack(file.Instances),
	}
	for _, in := range file.Instances {
		s, err := d.open(file, in)
		if err != nil {
			return nil, err
		}
		instance, err := d.instance(s)
		if err != nil {
			return nil, err
		}
		s.prober = d.prober(in.Name)
		cfg.Instances = append(cfg.Instances, instance)
		d.services = append(d.services, s)
	}
	if d.node, err = node.New(cfg); err != nil {
		return nil, err
	}
	d.web = d.newWeb()
	if l, err := openWeb(file, nil); err != nil {
		return nil, err
	} else if l != nil {
		d.web.Serve(l)
	}
	d.notices.journal = d.node.Record
	d.sight.deliver = d.node.Deliver
	for _, s := range d.services {
		d.sight.add(s.cfg.Name, s.addresses)
	}
	return d, nil
}

// Deadlines may be served later by this part of the shortest advertisement
// interval, and by slackMost at most: a Backup allows its Active three intervals.
const (
	slackPart = 50
	slackMost = 2 * time.Millisecond
)

func slack(instances []config.Instance) time.Duration {
	least := slackMost
	for _, in := range instances {
		least = min(least, in.Heartbeat.AdvertInterval/slackPart)
	}
	return least
}

func bootID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// open opens what an instance works with and touches nothing.
func (d *daemon) open(file *config.File, in config.Instance) (*service, error) {
	cfg := d.core(file, in)
	s := &service{
		cfg: in, router: cfg.Router, survey: newSurvey(in, file, d.self, d.units),
		kernel: newKernel(d.peerOn(in.Interface), in, d.nodes[d.self].Addresses, d.nodes[1-d.self].Addresses, file.PeerPort),
	}
	var err error
	if s.core, err = failover.New(cfg); err != nil {
		return nil, err // it names the instance
	}
	if s.databases, err = openDatabases(opener{file, d.self, in, services{d.units}}, d.log); err != nil {
		return nil, fmt.Errorf("instance %s: %w", in.Name, err)
	}
	if s.addresses, err = d.openAddresses(in.Interface, in.VIPs); err != nil {
		s.databases.close()
		return nil, fmt.Errorf("instance %s: %w", in.Name, err)
	}
	if s.checks, err = probesOf(file, d.self, in, d.units, s.databases).checks(in); err != nil {
		s.close()
		return nil, err
	}
	s.steps = steps{databases: s.databases, turn: &turn{}, units: d.units, cgroup: program.DelegatedCgroup(), notices: d.notices}
	return s, nil
}

// openAddresses prepares to hold addresses of an interface.
func (d *daemon) openAddresses(name string, prefixes []netip.Prefix) (addresses, error) {
	h, err := d.table.Open(vip.Config{Interface: name, Addresses: prefixes})
	return addresses{h}, err
}

// peerOn is what is known of the peer's hardware on an interface.
func (d *daemon) peerOn(name string) *vip.Peer {
	if d.peers[name] == nil {
		d.peers[name] = d.table.NewPeer(name, d.nodes[1-d.self].Addresses)
	}
	return d.peers[name]
}

// instance makes the heartbeat of an opened instance, and what the node runs.
func (d *daemon) instance(s *service) (node.Instance, error) {
	beat, err := d.beat(s.cfg, s.router)
	if err != nil {
		return node.Instance{}, fmt.Errorf("instance %s: %w", s.cfg.Name, err)
	}
	return node.Instance{
		Name: s.cfg.Name, Core: s.core,
		Start: failover.Started{
			Boot: bootID(), Memory: d.memories[s.cfg.Name], Positions: d.recall.Recall(s.cfg.Name),
		},
		Heartbeat: beat, Addresses: s.addresses, Databases: s.databases, Steps: s.steps, Kernel: s.kernel,
		Witness: newWitness(s.cfg),
	}, nil
}

// close gives back what open opened.
func (s *service) close() {
	s.databases.close()
	_ = s.addresses.Close()
}

// core is the part of the configuration that the orchestrator decides by.
func (d *daemon) core(file *config.File, in config.Instance) failover.Config {
	me, other := file.Nodes[d.self], file.Nodes[1-d.self]
	c := failover.Config{
		Node: me.Label, Peer: other.Label, Instance: in.Name, VIP: in.VIPs[0].Addr().String(),
		Router: vrrp.Config{
			Version: vrrp.Version(in.Heartbeat.Version),
			VRID:    in.VRID, Priority: in.Priority[d.self], Local: d.heartbeat.Local(group(in), in.VIPs[0].Addr()),
			Interval:  vrrp.Centiseconds(in.Heartbeat.AdvertInterval / (10 * time.Millisecond)),
			Addresses: vips(in),
		},
		PeerPriority: in.Priority[1-d.self],
		Preempt:      in.Preempt, PreemptDelay: in.PreemptDelay, StartupDelay: in.StartupDelay,
		Lease: in.Lease,
		Announce: failover.Announcement{
			Repeat: in.GARP.Repeat, Interval: in.GARP.Interval, Delay: in.GARP.Delay, Refresh: in.GARP.Refresh,
		},
		Gate: replication.Policy{
			MaxLag: in.Gate.MaxLag, MaxMissing: in.Gate.MaxMissing, AfterLoss: in.Gate.AfterLoss,
		},
		Grace:        writersGrace,
		Discovers:    len(in.Discover) > 0,
		DrainTimeout: in.Gate.DrainTimeout, Promote: in.Promote, Demote: in.Demote,
		Fence: in.Fence, FenceRequired: in.FenceRequired,
	}
	c.OnIsolation, c.Witness = onIsolation(in), witnessKind(in)
	for _, db := range in.Databases {
		c.Databases = append(c.Databases, db.Name)
	}
	for _, h := range in.Health {
		c.Checks = append(c.Checks, health.Check{Name: h.Name, Rise: h.Rise, Fall: h.Fall, Effect: h.Effect})
	}
	return c
}

func vips(in config.Instance) []netip.Addr {
	var as []netip.Addr
	for _, p := range in.VIPs {
		as = append(as, p.Addr())
	}
	return as
}

// close gives back what build opened.
func (d *daemon) close() {
	for _, s := range d.services {
		s.close()
	}
	_ = d.table.Close()
	_ = d.units.Close()
	_ = d.journal.Close()
	_ = d.notifier.Close()
}

// watchdog passes the loop's progress on to systemd.
type watchdog struct {
	notifier *systemd.Notifier
	clock    node.Clock
	log      *logger
	every    time.Duration
	last     mono.Instant
}

func newWatchdog(n *systemd.Notifier, clock node.Clock, log *logger) *watchdog {
	return &watchdog{notifier: n, clock: clock, log: log, every: n.WatchdogInterval() / 3}
}

// Progress is called by the loop after each turn.
func (w *watchdog) Progress() {
	if w.every <= 0 {
		return
	}
	now := w.clock()
	if w.last != 0 && now.Sub(w.last) < w.every {
		return
	}
	w.last = now
	if err := w.notifier.Watchdog(); err != nil {
		w.log.Trouble("", "tell systemd's watchdog", err)
	}
}
