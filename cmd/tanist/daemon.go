package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/hooks/step"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/internal/peer"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/systemd"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

// daemon is the parts of a running tanist, put together and not started.
type daemon struct {
	file      *config.File
	self      int
	node      *node.Node
	heartbeat *heartbeat
	link      *peer.Link
	journal   *journal.Journal
	units     *systemd.Units
	log       *logger
	notifier  *systemd.Notifier
	table     *vip.Table
	services  []*service
}

// service is what one instance has on this host.
type service struct {
	cfg       config.Instance
	addresses addresses
	databases databases
	steps     steps
	survey    *survey
}

// bootClock reads CLOCK_BOOTTIME, which counts the time that a virtual machine
// was suspended.
func bootClock() mono.Instant {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with this clock
	return mono.Instant(ts.Nano())
}

// build opens what the daemon works with. Nothing runs and no address is touched
// until run.
func build(c *common, file *config.File, self int, log *logger) (*daemon, error) {
	d := &daemon{file: file, self: self, log: log}
	var err error
	var entries []journal.Entry
	if d.journal, entries, err = journal.Open(filepath.Join(c.stateDir, "journal")); err != nil {
		return nil, err
	}
	if r := d.journal.Recovery(); !r.Clean() {
		log.warn("the journal was not as it was left", zap.Stringer("recovery", r))
	}
	if d.notifier, err = systemd.NewNotifier(); err != nil {
		return nil, err
	}
	d.units = systemd.NewUnits(systemd.UnitsConfig{})
	me, other := file.Nodes[self], file.Nodes[1-self]
	d.heartbeat = newHeartbeat(me.Addresses, other.Addresses, log)
	link := peer.Config{Node: me.Label, Peer: other.Label, Port: file.PeerPort}
	for i := range me.Addresses {
		link.Paths = append(link.Paths, peer.Path{Local: me.Addresses[i], Peer: other.Addresses[i]})
	}
	if d.link, err = peer.New(link); err != nil {
		return nil, err
	}
	if d.table, err = vip.OpenTable(); err != nil {
		return nil, err
	}
	boot, memories := bootID(), journal.Memories(entries)
	cfg := node.Config{
		Clock: bootClock, Journal: d.journal, Link: d.link, Log: log,
		Watchdog: newWatchdog(d.notifier, log),
	}
	for _, in := range file.Instances {
		instance, err := d.instance(in, boot, memories[in.Name])
		if err != nil {
			return nil, fmt.Errorf("instance %s: %w", in.Name, err)
		}
		cfg.Instances = append(cfg.Instances, instance)
	}
	d.node, err = node.New(cfg)
	return d, err
}

func bootID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

func (d *daemon) instance(in config.Instance, boot uint64, memory hooks.Memory) (node.Instance, error) {
	holder, err := d.table.Open(vip.Config{Interface: in.Interface, Addresses: in.VIPs})
	if err != nil {
		return node.Instance{}, err
	}
	s := &service{cfg: in, addresses: addresses{holder}}
	if s.databases, err = openDatabases(in.Databases); err != nil {
		return node.Instance{}, err
	}
	s.steps = steps{databases: s.databases, units: d.units, cgroup: step.DelegatedCgroup()}
	s.survey = newSurvey(in, d.file, d.self, d.units)
	core, err := failover.New(d.core(in))
	if err != nil {
		return node.Instance{}, err
	}
	d.services = append(d.services, s)
	d.heartbeat.forms[in.VRID] = newChecksum(in.Heartbeat.Checksum)
	return node.Instance{
		Name: in.Name, Core: core,
		Start:     failover.Started{Boot: boot, Memory: memory},
		Heartbeat: d.heartbeat, Addresses: s.addresses, Databases: s.databases, Steps: s.steps,
		Kernel: newKernel(d.table, in, d.file.Nodes[1-d.self].Addresses, d.file.PeerPort),
	}, nil
}

// core is the part of the configuration that the orchestrator decides by.
func (d *daemon) core(in config.Instance) failover.Config {
	me, other := d.file.Nodes[d.self], d.file.Nodes[1-d.self]
	c := failover.Config{
		Node: me.Label, Peer: other.Label, Instance: in.Name, VIP: in.VIPs[0].Addr().String(),
		Router: vrrp.Config{
			VRID: in.VRID, Priority: in.Priority[d.self], Local: me.Addresses[0],
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
		DrainTimeout: in.Gate.DrainTimeout, Promote: in.Promote, Demote: in.Demote,
		Fence: in.Fence, FenceRequired: in.FenceRequired,
	}
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

// interfacePrefixes lists the addresses of an interface with their prefix lengths.
func interfacePrefixes(name string) ([]netip.Prefix, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("look up interface %s: %w", name, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	var ps []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			ps = append(ps, p)
		}
	}
	return ps, nil
}

// close gives back what build opened.
func (d *daemon) close() {
	for _, s := range d.services {
		s.databases.close()
	}
	_ = d.table.Close()
	_ = d.units.Close()
	_ = d.journal.Close()
	_ = d.notifier.Close()
}

// watchdog passes the loop's progress on to systemd.
type watchdog struct {
	notifier *systemd.Notifier
	log      *logger
	every    time.Duration
	last     mono.Instant
}

func newWatchdog(n *systemd.Notifier, log *logger) *watchdog {
	return &watchdog{notifier: n, log: log, every: n.WatchdogInterval() / 3}
}

// Progress is called by the loop after each turn.
func (w *watchdog) Progress() {
	if w.every <= 0 {
		return
	}
	now := bootClock()
	if w.last != 0 && now.Sub(w.last) < w.every {
		return
	}
	w.last = now
	if err := w.notifier.Watchdog(); err != nil {
		w.log.Trouble("", "tell systemd's watchdog", err)
	}
}
