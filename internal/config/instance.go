package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// maxInstances bounds the instances of a file: VRID has as many values.
const maxInstances = 255

func (v value) instances() []Instance {
	list, ok := v.list("write instances: followed by entries that begin with - name:")
	if ok && len(list) == 0 {
		v.problem("there is no instance", "add one: name, interface, vrid and vips")
	}
	if len(list) > maxInstances {
		list[maxInstances].problem(fmt.Sprintf("a file has at most %d instances", maxInstances), "")
		list = list[:maxInstances]
	}
	var ins []Instance
	for _, el := range list {
		ins = append(ins, el.instance())
	}
	return ins
}

// defaultInstance holds what an entry that names nothing gets.
func defaultInstance() Instance {
	return Instance{
		Priority: [2]uint8{254, 253},
		Lease:    2 * time.Second,
		Heartbeat: Heartbeat{
			Version: 3, Mode: Unicast, AdvertInterval: 250 * time.Millisecond,
			Auth: AuthNone, Checksum: ChecksumAuto,
		},
		GARP:    GARP{Repeat: 5, Delay: 5 * time.Second, Refresh: 30 * time.Second},
		Gate:    Gate{MaxLag: 5 * time.Second, DrainTimeout: time.Minute, AfterLoss: replication.Exact},
		Promote: hooks.DefaultPromote(),
		Demote:  hooks.DefaultDemote(),
	}
}

func (v value) instance() Instance {
	in := defaultInstance()
	v.object("an instance",
		need("name", func(v value) { in.Name = v.identifier() }),
		need("interface", func(v value) { in.Interface = v.link() }),
		need("vrid", func(v value) { u, _ := v.integer(1, 255); in.VRID = uint8(u) }),
		need("vips", func(v value) { in.VIPs = v.vips() }),
		allow("priority", func(v value) { v.d.priorities[v.path] = v }),
		allow("preempt", func(v value) { in.Preempt = v.boolean() }),
		allow("preempt_delay", func(v value) { in.PreemptDelay = v.duration(0) }),
		allow("lease", func(v value) { in.Lease = v.lease() }),
		allow("startup_delay", func(v value) { in.StartupDelay = v.duration(0) }),
		allow("heartbeat", func(v value) { in.Heartbeat = v.heartbeat(in.Heartbeat) }),
		allow("garp", func(v value) { in.GARP = v.garp(in.GARP) }),
		allow("databases", func(v value) { in.Databases = v.databases() }),
		allow("discover", func(v value) { in.Discover = v.discover() }),
		allow("gate", func(v value) { in.Gate = v.gate(in.Gate) }),
		allow("promote", func(v value) { in.Promote = v.plan(promotion) }),
		allow("demote", func(v value) { in.Demote = v.plan(demotion) }),
		allow("fence", func(v value) { in.Fence = v.plan(fencing) }),
		allow("fence_required", func(v value) { in.FenceRequired = v.boolean() }),
		allow("health", func(v value) { in.Health = v.health() }),
		allow("on_isolation", func(v value) { oneOf(v, isolations(), &in.OnIsolation) }),
		allow("witness", func(v value) { in.Witness = v.witness() }),
	)
	return in
}

// maxVIPs is what the address count of an advertisement holds (RFC 9568 §5.2.5).
const maxVIPs = 255

func (v value) vips() []netip.Prefix {
	list, ok := v.list("write vips: [192.0.2.10/24]")
	if ok && len(list) == 0 {
		v.problem("an instance needs a virtual address", "write vips: [192.0.2.10/24]")
	}
	if len(list) > maxVIPs {
		list[maxVIPs].problem(fmt.Sprintf("an advertisement carries at most %d addresses", maxVIPs), "use a second instance")
	}
	vips := make([]netip.Prefix, 0, len(list))
	for _, el := range list {
		vips = append(vips, el.vip())
	}
	return vips
}

// vip reads one virtual address, the zero Prefix when it is none.
func (v value) vip() netip.Prefix {
	s, ok := v.text()
	if !ok {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		hint := "write an address with its prefix length: 192.0.2.10/24"
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			hint = fmt.Sprintf("add the prefix length of its subnet: %s/24", a)
		} else if err == nil && a.Zone() == "" {
			hint = fmt.Sprintf("add the prefix length of its subnet: %s/64", a)
		}
		v.problem(fmt.Sprintf("%s is not an address with a prefix length", quote(s)), hint)
		return netip.Prefix{}
	}
	a, ok := v.usable(p.Addr())
	if !ok {
		return netip.Prefix{}
	}
	usual := "/24"
	if a.Is6() {
		usual = "/64"
	}
	switch {
	case a.IsLoopback():
		v.problem(fmt.Sprintf("no other host can reach %s", a), "use an address of the interface's subnet")
	case p.Bits() == 0:
		v.problem("the prefix length 0 covers every address", "write the prefix length of the subnet: "+a.String()+usual)
	case a.Is6() && p.Bits() < 127 && p.Masked().Addr() == a:
		v.problem(fmt.Sprintf("%s is the anycast address of the subnet's routers", s), "use another address of the subnet")
	case a.Is6():
		return p
	case p.Bits() < 31 && p.Masked().Addr() == a:
		v.problem(fmt.Sprintf("%s is the name of the network, not an address in it", s), "use an address in between")
	case p.Bits() < 31 && broadcast(p) == a:
		v.problem(fmt.Sprintf("%s is the broadcast address of its subnet", s), "use an address in between")
	default:
		return p
	}
	return netip.Prefix{}
}

// broadcast is the last address of an IPv4 subnet.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// lease is the lifetime of the address in the kernel, which counts in whole
// seconds.
func (v value) lease() time.Duration {
	d := v.duration(0)
	switch s, _ := v.plain(); {
	case d == 0 && s != "0s":
	case d < time.Second:
		v.problem("lease must be at least 1s", "the kernel counts an address's lifetime in whole seconds; 2s is the default")
	case d%time.Second != 0:
		v.problem("lease must be whole seconds", fmt.Sprintf("the kernel counts an address's lifetime in whole seconds: write %s", show(d.Truncate(time.Second)+time.Second)))
	default:
		return d
	}
	return 0
}

func (v value) heartbeat(h Heartbeat) Heartbeat {
	var interval value
	v.object("heartbeat",
		allow("version", func(v value) {
			u, _ := v.integer(2, 3)
			h.Version = uint8(u)
		}),
		allow("mode", func(v value) { oneOf(v, modes(), &h.Mode) }),
		allow("advert_interval", func(v value) { interval, h.AdvertInterval = v, v.duration(0) }),
		allow("auth", func(v value) { oneOf(v, auths(), &h.Auth) }),
		allow("checksum", func(v value) { oneOf(v, checksums(), &h.Checksum) }),
	)
	if interval.node != nil {
		h.AdvertInterval = interval.carried(h.Version, h.AdvertInterval)
	} else if h.Version == 2 {
		h.AdvertInterval = time.Second
	}
	return h
}

// Bounds of the interval field: 12 bits of centiseconds (RFC 9568 §5.2.7), 8
// bits of seconds (RFC 3768 §5.3.7).
const (
	maxAdvertV3 = 4095 * 10 * time.Millisecond
	maxAdvertV2 = 255 * time.Second
)

// carried returns an interval that the version can put into a packet, or 0.
func (v value) carried(version uint8, d time.Duration) time.Duration {
	step, most := 10*time.Millisecond, maxAdvertV3
	if version == 2 {
		step, most = time.Second, maxAdvertV2
	}
	written, _ := v.plain()
	switch {
	case d == 0 && written != "0s", version == 0:
		return 0 // reported where it was read
	case d < step || d > most:
		v.problem(fmt.Sprintf("advert_interval %s is outside what VRRPv%d can carry", written, version), fmt.Sprintf("write %s to %s", step, most))
	case d%step != 0:
		v.problem(fmt.Sprintf("advert_interval %s is not a multiple of %s, which VRRPv%d counts in", written, step, version), fmt.Sprintf("write %s", d.Truncate(step)))
	default:
		return d
	}
	return 0
}

func (v value) garp(g GARP) GARP {
	v.object("garp",
		allow("repeat", func(v value) { u, _ := v.integer(1, 100); g.Repeat = int(u) }),
		allow("interval", func(v value) { g.Interval = v.duration(0) }),
		allow("delay", func(v value) { g.Delay = v.duration(0) }),
		allow("refresh", func(v value) { g.Refresh = v.duration(0) }),
	)
	return g
}

func (v value) gate(g Gate) Gate {
	v.object("gate",
		allow("max_lag", func(v value) { g.MaxLag = v.duration(0) }),
		allow("max_missing", func(v value) { g.MaxMissing, _ = v.integer(0, maxMissing) }),
		allow("drain_timeout", func(v value) { g.DrainTimeout = v.duration(time.Millisecond) }),
		allow("after_loss", func(v value) { oneOf(v, afterLosses(), &g.AfterLoss) }),
	)
	return g
}

// maxMissing bounds the transactions an operator may give up, far above any
// sense and far below a wrap-around.
const maxMissing = 1 << 40
