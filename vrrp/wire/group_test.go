package wire

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

var (
	addrA6 = netip.MustParseAddr("2001:db8::11")
	addrB6 = netip.MustParseAddr("2001:db8::12")
	linkA6 = netip.MustParseAddr("fe80::11")
	linkB6 = netip.MustParseAddr("fe80::12")
)

// dualHosts are hosts with addresses of every kind, usable at once.
func dualHosts(t testing.TB, interfaces ...string) (a, b *netnstest.Namespace) {
	t.Helper()
	a, b = netnstest.New(t), netnstest.New(t)
	for _, ns := range []*netnstest.Namespace{a, b} {
		ns.Sysctl(t, "ipv6/conf/all/accept_dad", "0")
		ns.Sysctl(t, "ipv6/conf/default/accept_dad", "0")
		ns.Sysctl(t, "ipv6/conf/default/addr_gen_mode", "1") // no link-local address of the kernel's
	}
	for _, name := range append([]string{heart}, interfaces...) {
		netnstest.Connect(t, a, b, name)
		number(t, a, name, "11")
		number(t, b, name, "12")
	}
	return a, b
}

func number(t testing.TB, ns *netnstest.Namespace, name, host string) {
	t.Helper()
	ns.AddAddr(t, name, "fe80::"+host+"/64")
	if name == heart {
		ns.AddAddr(t, name, "192.0.2."+host+"/24")
		ns.AddAddr(t, name, "2001:db8::"+host+"/64")
	}
}

// open tries until a new IPv6 address is no longer tentative, as owners do.
func open(t testing.TB, ns *netnstest.Namespace, cfg Config) *Conn {
	t.Helper()
	var c *Conn
	var err error
	netnstest.Eventually(t, limit, "the address", func() bool {
		err = ns.Do(func() (err error) {
			c, err = Listen(cfg)
			return err
		})
		return !errors.Is(err, unix.EADDRNOTAVAIL)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func groupOf(local netip.Addr, iface string, vrids ...uint8) Config {
	return Config{Local: local, Peer: vrrp.Group(local), Interface: iface, VRIDs: vrids}
}

// message is the start of an advertisement of a virtual router.
func message(vrid byte, text string) string { return string([]byte{0x31, vrid}) + text }

func payloads(in *inbox) []string {
	var out []string
	for _, p := range in.all() {
		out = append(out, string(p.Payload))
	}
	return out
}

// TestPathsOfEveryKind sends both ways and requires the addresses and the hop
// limit of what arrives.
func TestPathsOfEveryKind(t *testing.T) {
	nsA, nsB := dualHosts(t)
	for _, tt := range []struct {
		name string
		a, b Config
	}{
		{"IPv4 unicast", Config{Local: addrA, Peer: addrB}, Config{Local: addrB, Peer: addrA}},
		{"IPv4 unicast on an interface", Config{Local: addrA, Peer: addrB, Interface: heart}, Config{Local: addrB, Peer: addrA, Interface: heart}},
		{"IPv4 group", groupOf(addrA, heart, 51), groupOf(addrB, heart)},
		{"IPv6 unicast", Config{Local: addrA6, Peer: addrB6}, Config{Local: addrB6, Peer: addrA6}},
		{"IPv6 link-local unicast", Config{Local: linkA6, Peer: linkB6, Interface: heart}, Config{Local: linkB6, Peer: linkA6, Interface: heart}},
		{"IPv6 group", groupOf(linkA6, heart, 51), groupOf(linkB6, heart)},
		{"IPv6 group with a zone", groupOf(linkA6.WithZone(heart), heart, 51), groupOf(linkB6, heart)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := open(t, nsA, tt.a), open(t, nsB, tt.b)
			inA, inB := run(t, a), run(t, b)
			send(t, a, message(51, "from a"))
			send(t, b, message(51, "from b"))
			netnstest.Eventually(t, limit, "a packet each", func() bool { return len(inA.all()) == 1 && len(inB.all()) == 1 })
			got := inB.all()[0]
			if got.Source != a.Local() || got.Destination != a.Peer() || got.TTL != 255 || string(got.Payload) != message(51, "from a") {
				t.Errorf("b got %+v", got)
			}
			if got := inA.all()[0]; got.Source != b.Local() || got.Destination != b.Peer() {
				t.Errorf("a got %+v", got)
			}
			a.Drain()
			for _, reason := range vrrp.DropReasons() {
				if n := a.Dropped(reason) + b.Dropped(reason); n != 0 {
					t.Errorf("%d packets dropped: %v", n, reason)
				}
			}
		})
	}
}

// otherwise sends protocol 112 to a path's end with another hop limit.
func otherwise(t *testing.T, ns *netnstest.Namespace, cfg Config, hops int) *Conn {
	t.Helper()
	c := open(t, ns, cfg)
	level, opt := unix.IPPROTO_IP, unix.IP_TTL
	switch {
	case !cfg.Local.Is4() && cfg.group():
		level, opt = unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS
	case !cfg.Local.Is4():
		level, opt = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	case cfg.group():
		opt = unix.IP_MULTICAST_TTL
	}
	var err error
	if controlErr := c.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, opt, hops) }); err != nil || controlErr != nil {
		t.Fatal(err, controlErr)
	}
	return c
}

func TestHopLimitOtherThan255IsDropped(t *testing.T) {
	nsA, nsB := dualHosts(t)
	for _, tt := range []struct {
		name string
		a, b Config
	}{
		{"IPv4 group", groupOf(addrA, heart), groupOf(addrB, heart)},
		{"IPv6 unicast", Config{Local: addrA6, Peer: addrB6}, Config{Local: addrB6, Peer: addrA6}},
		{"IPv6 group", groupOf(linkA6, heart), groupOf(linkB6, heart)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := open(t, nsA, tt.a), open(t, nsB, tt.b)
			in := run(t, a)
			send(t, otherwise(t, nsB, tt.b, 254), message(51, "routed"))
			send(t, b, message(51, "direct"))
			netnstest.Eventually(t, limit, "the direct packet", func() bool { return len(in.all()) > 0 })
			if got := in.all(); len(got) != 1 || string(got[0].Payload) != message(51, "direct") {
				t.Errorf("delivered %q, want the direct packet alone", payloads(in))
			}
			if got := a.Dropped(vrrp.DropTTL); got != 1 {
				t.Errorf("%d dropped for their hop limit, want 1", got)
			}
		})
	}
}

// TestForeignVirtualRoutersStayOut counts on the filter: what it keeps out is
// neither delivered nor counted.
func TestForeignVirtualRoutersStayOut(t *testing.T) {
	nsA, nsB := dualHosts(t)
	for _, tt := range []struct {
		name string
		a, b Config
	}{
		{"IPv4", groupOf(addrA, heart, 51, 52), groupOf(addrB, heart)},
		{"IPv6", groupOf(linkA6, heart, 51, 52), groupOf(linkB6, heart)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := open(t, nsA, tt.a), open(t, nsB, tt.b)
			in := run(t, a)
			for _, vrid := range []byte{7, 51, 53, 52, 7} {
				send(t, b, message(vrid, "x"))
			}
			send(t, b, "y") // too short to have a VRID: for the reader to count
			netnstest.Eventually(t, limit, "two and the short one", func() bool { return len(in.all()) == 3 })
			if got := payloads(in); got[0] != message(51, "x") || got[1] != message(52, "x") || got[2] != "y" {
				t.Errorf("delivered %q", got)
			}
			if err := a.SetFilter([]uint8{7}, Sieve{}); err != nil {
				t.Fatal(err)
			}
			send(t, b, message(51, "later"))
			send(t, b, message(7, "later"))
			netnstest.Eventually(t, limit, "the new virtual router's", func() bool { return len(in.all()) == 4 })
			if got := payloads(in)[3]; got != message(7, "later") {
				t.Errorf("delivered %q after SetFilter", got)
			}
		})
	}
}

// TestFilter runs the program for IPv4 on packets in memory.
func TestFilter(t *testing.T) {
	every := everyVRID()
	withOptions := append(ipv4Packet(addrB, addrA, 255), 1, 1, 1, 0, 0x31, 51)
	withOptions[0] = 0x46
	unicast := Config{Local: addrA, Peer: addrB}
	for _, tt := range []struct {
		name string
		cfg  Config
		b    []byte
		want bool
	}{
		{"peer", unicast, ipv4Packet(addrB, addrA, 255, 0x31, 7), true},
		{"stranger", unicast, ipv4Packet(addrC, addrA, 255, 0x31, 7), false},
		{"group without list", groupOf(addrA, heart), ipv4Packet(addrC, addrA, 255, 0x31, 7), true},
		{"VRID", groupOf(addrA, heart, 51), ipv4Packet(addrB, addrA, 255, 0x31, 51), true},
		{"other VRID", groupOf(addrA, heart, 51), ipv4Packet(addrB, addrA, 255, 0x31, 50), false},
		{"VRID behind options", groupOf(addrA, heart, 51), withOptions, true},
		{"other VRID behind options", groupOf(addrA, heart, 1), withOptions, false},
		{"255 VRIDs, the last", groupOf(addrA, heart, every...), ipv4Packet(addrB, addrA, 255, 0x31, 255), true},
		{"255 VRIDs, none", groupOf(addrA, heart, every...), ipv4Packet(addrB, addrA, 255, 0x31, 0), false},
		{"no VRID", groupOf(addrA, heart, 51), ipv4Packet(addrB, addrA, 255, 0x31), true},
	} {
		vm, err := bpf.NewVM(filter(tt.cfg, Sieve{}))
		if err != nil {
			t.Fatal(err)
		}
		n, err := vm.Run(tt.b)
		if err != nil || (n > 0) != tt.want {
			t.Errorf("%s: %d bytes, %v; want let in %v", tt.name, n, err, tt.want)
		}
	}
}

func TestAcceptGroup(t *testing.T) {
	group := vrrp.Group(addrA)
	c := &Conn{cfg: groupOf(addrA, heart), local: addrA, peer: group}
	group6 := vrrp.Group(linkA6)
	c6 := &Conn{cfg: groupOf(linkA6, heart), local: linkA6, peer: group6}
	from := func(a netip.Addr) unix.RawSockaddrInet6 {
		return unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.As16()}
	}
	control := func(hops byte, dst netip.Addr) []unix.SocketControlMessage {
		info := dst.As16()
		return []unix.SocketControlMessage{
			{Header: unix.Cmsghdr{Level: unix.IPPROTO_IPV6, Type: unix.IPV6_HOPLIMIT}, Data: []byte{hops, 0, 0, 0}},
			{Header: unix.Cmsghdr{Level: unix.IPPROTO_IPV6, Type: unix.IPV6_PKTINFO}, Data: append(info[:], 0, 0, 0, 0)},
		}
	}
	for _, tt := range []struct {
		name    string
		conn    *Conn
		b       []byte
		flags   int32
		from    unix.RawSockaddrInet6
		control []unix.SocketControlMessage
		want    vrrp.DropReason
	}{
		{name: "good", conn: c, b: ipv4Packet(addrB, group, 255, 'x')},
		{name: "own", conn: c, b: ipv4Packet(addrA, group, 255, 'x'), want: vrrp.DropOwn},
		{name: "to us alone", conn: c, b: ipv4Packet(addrB, addrA, 255, 'x'), want: vrrp.DropSource},
		{name: "from nobody", conn: c, b: ipv4Packet(netip.IPv4Unspecified(), group, 255, 'x'), want: vrrp.DropSource},
		{name: "from a group", conn: c, b: ipv4Packet(group, group, 255, 'x'), want: vrrp.DropSource},
		{name: "good IPv6", conn: c6, b: []byte{'x'}, from: from(linkB6), control: control(255, group6)},
		{name: "own IPv6", conn: c6, from: from(linkA6), control: control(255, group6), want: vrrp.DropOwn},
		{name: "IPv6 to us alone", conn: c6, from: from(linkB6), control: control(255, linkA6), want: vrrp.DropSource},
		{name: "IPv6 hop limit", conn: c6, from: from(linkB6), control: control(64, group6), want: vrrp.DropTTL},
		{name: "IPv6 hop limit unknown", conn: c6, from: from(linkB6), control: control(255, group6)[1:], want: vrrp.DropTTL},
		{name: "IPv6 destination unknown", conn: c6, from: from(linkB6), control: control(255, group6)[:1], want: vrrp.DropSource},
		{name: "IPv6 truncated", conn: c6, flags: unix.MSG_TRUNC, from: from(linkB6), control: control(255, group6), want: vrrp.DropLength},
		{name: "no IPv6 address", conn: c6, want: vrrp.DropLength},
	} {
		if _, reason := tt.conn.accept(received{b: tt.b, flags: tt.flags, source: tt.from}, tt.control); reason != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, reason, tt.want)
		}
	}
}

// TestOwnPacketIsCounted reflects a packet of a's as a switch with a loop does.
func TestOwnPacketIsCounted(t *testing.T) {
	nsA, nsB := dualHosts(t)
	a := open(t, nsA, groupOf(addrA, heart))
	in := run(t, a)
	nsB.Sysctl(t, "ipv4/ip_nonlocal_bind", "1")
	mirror := open(t, nsB, Config{Local: addrB, Peer: vrrp.Group(addrB), Interface: heart})
	// It sends with a's address without having it.
	var err error
	_ = mirror.raw.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1),
			unix.Bind(int(fd), &unix.SockaddrInet4{Addr: addrA.As4()}))
	})
	if err != nil {
		t.Fatal(err)
	}
	nsA.Sysctl(t, "ipv4/conf/"+heart+"/accept_local", "1")
	nsA.Sysctl(t, "ipv4/conf/all/rp_filter", "0")
	nsA.Sysctl(t, "ipv4/conf/"+heart+"/rp_filter", "0")
	netnstest.Eventually(t, limit, "the reflected packet", func() bool {
		send(t, mirror, message(51, "reflected"))
		return a.Dropped(vrrp.DropOwn) > 0
	})
	if got := in.all(); len(got) != 0 {
		t.Errorf("delivered %v", got)
	}
}

// TestInterfacesAreApart has a group path on each of two interfaces.
func TestInterfacesAreApart(t *testing.T) {
	const second = "heart1"
	nsA, nsB := dualHosts(t, second)
	nsA.AddAddr(t, second, "198.51.100.11/24")
	nsB.AddAddr(t, second, "198.51.100.12/24")
	for _, tt := range []struct {
		name         string
		a0, b0, a1b1 [2]netip.Addr
	}{
		{"IPv4", [2]netip.Addr{addrA}, [2]netip.Addr{addrB}, [2]netip.Addr{netip.MustParseAddr("198.51.100.11"), netip.MustParseAddr("198.51.100.12")}},
		{"IPv6", [2]netip.Addr{linkA6}, [2]netip.Addr{linkB6}, [2]netip.Addr{linkA6, linkB6}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in0 := run(t, open(t, nsA, groupOf(tt.a0[0], heart)))
			in1 := run(t, open(t, nsA, groupOf(tt.a1b1[0], second)))
			send(t, open(t, nsB, groupOf(tt.b0[0], heart)), message(1, "first"))
			send(t, open(t, nsB, groupOf(tt.a1b1[1], second)), message(1, "second"))
			netnstest.Eventually(t, limit, "a packet on each", func() bool { return len(in0.all()) > 0 && len(in1.all()) > 0 })
			if got0, got1 := payloads(in0), payloads(in1); len(got0) != 1 || len(got1) != 1 || got0[0] != message(1, "first") || got1[0] != message(1, "second") {
				t.Errorf("delivered %q and %q", got0, got1)
			}
		})
	}
}

// TestInterfaceCreatedAnew deletes the interface under a running path, and
// opens it again as its owner does.
func TestInterfaceCreatedAnew(t *testing.T) {
	nsA, nsB := dualHosts(t)
	for _, tt := range []struct {
		name string
		a, b Config
	}{
		{"IPv4", groupOf(addrA, heart), groupOf(addrB, heart)},
		{"IPv6", groupOf(linkA6, heart), groupOf(linkB6, heart)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := open(t, nsA, tt.a)
			ended := make(chan error, 1)
			go func() { ended <- a.Run(t.Context(), func(Packet) {}) }()
			if err := nsA.LinkDel(nsA.Link(t, heart)); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if !errors.Is(err, unix.ENODEV) {
					t.Fatalf("Run: %v, want ENODEV", err)
				}
			case <-time.After(limit):
				t.Fatal("Run goes on without its interface")
			}
			if err := nsA.Do(func() error { _, err := Listen(tt.a); return err }); !errors.Is(err, unix.ENODEV) {
				t.Fatalf("Listen without the interface: %v, want ENODEV", err)
			}
			netnstest.Connect(t, nsA, nsB, heart)
			if err := nsA.Do(func() error { _, err := Listen(tt.a); return err }); !errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Fatalf("Listen without the address: %v, want EADDRNOTAVAIL", err)
			}
			number(t, nsA, heart, "11")
			number(t, nsB, heart, "12")
			in := run(t, open(t, nsA, tt.a))
			send(t, open(t, nsB, tt.b), message(1, "again"))
			netnstest.Eventually(t, limit, "a packet", func() bool { return len(in.all()) == 1 })
		})
	}
}

// TestMembershipSurvivesLinkDown also changes another interface, whose notices
// must not end the path.
func TestMembershipSurvivesLinkDown(t *testing.T) {
	const second = "heart1"
	nsA, nsB := dualHosts(t, second)
	a, b := open(t, nsA, groupOf(addrA, heart)), open(t, nsB, groupOf(addrB, heart))
	in := run(t, a)
	nsA.Down(t, heart)
	nsA.Up(t, heart)
	if err := nsA.LinkDel(nsA.Link(t, second)); err != nil {
		t.Fatal(err)
	}
	netnstest.Eventually(t, limit, "a packet", func() bool {
		_ = b.Send([]byte(message(1, "after"))) // until the carrier is back
		return len(in.all()) > 0
	})
}

// TestDrainOfGroups is TestDrain's guarantee on the other kinds of socket.
func TestDrainOfGroups(t *testing.T) {
	nsA, nsB := dualHosts(t)
	for _, tt := range []struct {
		name string
		a, b Config
	}{
		{"IPv4 group", groupOf(addrA, heart), groupOf(addrB, heart)},
		{"IPv6 group", groupOf(linkA6, heart), groupOf(linkB6, heart)},
		{"IPv6 unicast", Config{Local: addrA6, Peer: addrB6}, Config{Local: addrB6, Peer: addrA6}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, second, b := open(t, nsA, tt.a), open(t, nsA, tt.a), open(t, nsB, tt.b)
			seen, in := run(t, first), run(t, second)
			for i := 1; i <= 300; i++ {
				send(t, b, message(1, "x"))
				// Whichever socket the kernel serves last is the witness.
				netnstest.Eventually(t, limit, "the packet", func() bool {
					first.Drain()
					second.Drain()
					return len(seen.all()) >= i || len(in.all()) >= i
				})
				netnstest.Eventually(t, limit, "both", func() bool {
					first.Drain()
					second.Drain()
					return len(seen.all()) == i && len(in.all()) == i
				})
			}
		})
	}
}

func TestPrimaryAddress(t *testing.T) {
	ns := netnstest.New(t)
	ns.Sysctl(t, "ipv6/conf/default/addr_gen_mode", "1")
	netnstest.Connect(t, ns, netnstest.New(t), "d0")
	ask := func(iface string, ipv6 bool, virtual ...netip.Addr) (a netip.Addr, err error) {
		err = ns.Do(func() (err error) {
			a, err = PrimaryAddress(iface, ipv6, virtual)
			return err
		})
		return a, err
	}
	if _, err := ask("d1", false); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no interface: %v", err)
	}
	if _, err := ask("d0", false); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("no address: %v", err)
	}
	for _, prefix := range []string{"192.0.2.100/32", "192.0.2.11/24", "fe80::100/64", "2001:db8::11/64", "fe80::11/64"} {
		ns.AddAddr(t, "d0", prefix)
	}
	if a, err := ask("d0", false, netip.MustParseAddr("192.0.2.100")); err != nil || a != addrA {
		t.Errorf("IPv4: %v, %v", a, err)
	}
	if a, err := ask("d0", true, netip.MustParseAddr("fe80::100")); err != nil || a != linkA6 {
		t.Errorf("IPv6: %v, %v", a, err)
	}
}

func TestListenRefuses(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::12")
	for name, cfg := range map[string]Config{
		"nothing":               {},
		"no peer":               {Local: addrA},
		"two families":          {Local: addrA, Peer: v6, Interface: heart},
		"mapped":                {Local: netip.MustParseAddr("::ffff:192.0.2.1"), Peer: v6},
		"itself":                {Local: linkA6, Peer: linkA6.WithZone(heart), Interface: heart},
		"another group":         {Local: addrA, Peer: netip.MustParseAddr("224.0.0.1"), Interface: heart},
		"from a group":          {Local: vrrp.Group(addrA), Peer: addrA, Interface: heart},
		"group, no interface":   {Local: addrA, Peer: vrrp.Group(addrA)},
		"link-local without it": {Local: linkA6, Peer: linkB6},
		"interface's name long": {Local: addrA, Peer: addrB, Interface: "0123456789abcdef"},
	} {
		c, err := Listen(cfg)
		if err == nil {
			t.Errorf("%s: no error", name)
			_ = c.Close()
		}
	}
}

func TestCountsStayInRange(t *testing.T) {
	c := &Conn{}
	c.Count(vrrp.DropUnknownVRID)
	c.Count(vrrp.DropReason(255))
	if c.Dropped(vrrp.DropUnknownVRID) != 1 || c.Dropped(vrrp.DropReason(255)) != 0 {
		t.Error("counts are not what was counted")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	nsA, _ := dualHosts(t)
	a := open(t, nsA, groupOf(addrA, heart))
	for range 2 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx, func(Packet) {}) }()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
