package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

func openTable(t testing.TB, ns *netnstest.Namespace) *Table {
	t.Helper()
	var table *Table
	err := ns.Do(func() (err error) {
		table, err = OpenTable()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

func (t *Table) mustOpen(tb testing.TB, cfg Config) *Holder {
	tb.Helper()
	if cfg.Interface == "" {
		cfg.Interface = nic
	}
	h, err := t.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// sorted is what an interface has of both families, link-local IPv6 left out.
func sorted(t *testing.T, ns *netnstest.Namespace) []netip.Prefix {
	t.Helper()
	list, err := ns.AddrList(ns.Link(t, nic), netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var out []netip.Prefix
	for _, a := range internet(list) {
		if !a.Addr().IsLinkLocalUnicast() {
			out = append(out, a.Prefix)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// addPermanent puts a permanent IPv6 address on the interface, ready for use.
func addPermanent(t *testing.T, ns *netnstest.Namespace, p string) {
	t.Helper()
	addr, err := netlink.ParseAddr(p)
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = unix.IFA_F_NODAD
	if err := ns.AddrAdd(ns.Link(t, nic), addr); err != nil {
		t.Fatal(err)
	}
}

func TestHoldIPv6(t *testing.T) {
	ns, peer := host(t)
	addPermanent(t, ns, "2001:db8::11/64")
	addPermanent(t, peer, "2001:db8::12/64")
	h := open(t, ns, Config{Addresses: prefixes("2001:db8::100/64", "2001:db8::101/128")})
	hold(t, h, 30*time.Second)
	for _, p := range h.cfg.Addresses {
		a, ok := find(t, ns, p)
		if !ok {
			t.Fatalf("%v is not there", p)
		}
		unwanted := a.Flags & (unix.IFA_F_TENTATIVE | unix.IFA_F_PERMANENT | unix.IFA_F_DADFAILED)
		needed := a.Flags & (unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_DEPRECATED)
		got := []int{a.ValidLft, unwanted, needed}
		want := []int{30, 0, unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_DEPRECATED}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v: lifetime, unwanted and needed flags (-want +got):\n%s", p, diff)
		}
	}
	// A client reaches it at once, and is not met by it as a source.
	var l net.Listener
	err := ns.Do(func() (err error) {
		l, err = net.Listen("tcp6", "[2001:db8::100]:7511")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	err = peer.Do(func() error {
		c, err := net.DialTimeout("tcp6", "[2001:db8::100]:7511", limit)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		t.Errorf("connect to the address: %v", err)
	}
	routes, err := ns.RouteGet(net.ParseIP("2001:db8::12"))
	if err != nil || len(routes) != 1 {
		t.Fatalf("route to a neighbour: %v, %v", routes, err)
	}
	if got := routes[0].Src.String(); got != "2001:db8::11" {
		t.Errorf("the host speaks as %s, want its own address", got)
	}
}

// TestMixedList holds both families together, through their whole life.
func TestMixedList(t *testing.T) {
	ns, _ := host(t)
	ns.AddAddr(t, nic, "192.0.2.11/24")
	addPermanent(t, ns, "2001:db8::11/64")
	own := prefixes("192.0.2.11/24", "2001:db8::11/64")
	mixed := prefixes("192.0.2.100/24", "198.51.100.7/32", "2001:db8::100/64", "2001:db8::101/128")
	h := open(t, ns, Config{Addresses: mixed, Label: "eth0:vip"})
	hold(t, h, 30*time.Second)
	all := slices.Concat(own, mixed)
	slices.SortFunc(all, netip.Prefix.Compare)
	if diff := cmp.Diff(all, sorted(t, ns), cmpNetip); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	if remaining, ok := held(t, h); !ok || remaining > 30*time.Second {
		t.Errorf("held %v for %v, want up to 30s", ok, remaining)
	}
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(own, sorted(t, ns), cmpNetip); diff != "" {
		t.Errorf("released (-want +got):\n%s", diff)
	}
	hold(t, h, time.Second)
	netnstest.Eventually(t, limit, "the lease to run out in both families", func() bool {
		return cmp.Equal(own, sorted(t, ns), cmpNetip)
	})
}

// TestIPv6ComesBackAfterLinkDown: the kernel removes IPv6 addresses from a link
// that goes down; a renewal brings them back.
func TestIPv6ComesBackAfterLinkDown(t *testing.T) {
	ns, _ := host(t)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24", "2001:db8::100/64")})
	hold(t, h, time.Minute)
	ns.Down(t, nic)
	if _, ok := held(t, h); ok {
		t.Error("held on a link that is down, where IPv6 addresses are not kept")
	}
	ns.Up(t, nic)
	hold(t, h, time.Minute)
	if _, ok := held(t, h); !ok {
		t.Error("not held after the renewal")
	}
}

// TestPermanentBecomesLeased: whatever somebody put there of our addresses, and
// however, is an error until the next Hold and has a lease afterwards.
func TestPermanentBecomesLeased(t *testing.T) {
	for _, tt := range []struct{ name, there, far string }{
		{name: "the same", there: "192.0.2.100/24"},
		{name: "another prefix length", there: "192.0.2.100/32"},
		{name: "a shorter prefix", there: "192.0.2.100/16"},
		{name: "with a far end", there: "192.0.2.100/32", far: "203.0.113.9/24"},
		{name: "IPv6", there: "2001:db8::100/64"},
		{name: "IPv6, another prefix length", there: "2001:db8::100/128"},
	} {
		put := func(t *testing.T, ns *netnstest.Namespace) {
			t.Helper()
			addr, err := netlink.ParseAddr(tt.there)
			if err == nil && tt.far != "" {
				addr.Peer, err = netlink.ParseIPNet(tt.far)
			}
			if err == nil {
				err = ns.AddrReplace(ns.Link(t, nic), addr)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		open := func(t *testing.T) (*netnstest.Namespace, *Holder) {
			ns, _ := host(t)
			put(t, ns)
			return ns, open(t, ns, Config{Addresses: prefixes("192.0.2.100/24", "2001:db8::100/64")})
		}
		leased := func(t *testing.T, ns *netnstest.Namespace, h *Holder) {
			t.Helper()
			hold(t, h, 30*time.Second)
			if _, ok := held(t, h); !ok {
				t.Error("not held")
			}
			list, err := ns.AddrList(ns.Link(t, nic), netlink.FAMILY_ALL)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range internet(list) {
				if a.permanent() && h.owns(a.Prefix) {
					t.Errorf("%v is permanent", a.Prefix)
				}
			}
		}
		t.Run(tt.name+", before", func(t *testing.T) {
			ns, h := open(t)
			if _, ok, err := h.Held(); ok || !errors.Is(err, ErrPermanent) {
				t.Errorf("held %v, %v; want %v", ok, err, ErrPermanent)
			}
			leased(t, ns, h)
		})
		t.Run(tt.name+", while held", func(t *testing.T) {
			ns, h := open(t)
			leased(t, ns, h)
			put(t, ns)
			if _, ok, err := h.Held(); ok || !errors.Is(err, ErrPermanent) {
				t.Errorf("held %v, %v; want %v", ok, err, ErrPermanent)
			}
			leased(t, ns, h)
		})
		t.Run(tt.name+", released", func(t *testing.T) {
			ns, h := open(t)
			hold(t, h, 30*time.Second)
			if err := h.Release(); err != nil {
				t.Fatal(err)
			}
			if got := sorted(t, ns); got != nil {
				t.Errorf("addresses %v, want none", got)
			}
		})
	}
}

// TestTableHold: each renewal gets its own error, and those beside it their lease.
func TestTableHold(t *testing.T) {
	ns, _ := host(t)
	netnstest.Connect(t, ns, netnstest.New(t), "eth1")
	ns.Sysctl(t, "ipv6/conf/eth1/disable_ipv6", "1")
	table := openTable(t, ns)
	good := table.mustOpen(t, Config{Addresses: prefixes("192.0.2.100/24", "2001:db8::100/64")})
	absent := table.mustOpen(t, Config{Interface: "absent0", Addresses: prefixes("192.0.2.101/24")})
	refused := table.mustOpen(t, Config{Interface: "eth1", Addresses: prefixes("2001:db8::102/64", "192.0.2.102/24")})
	last := table.mustOpen(t, Config{Addresses: prefixes("192.0.2.103/32")})
	errs := table.Hold([]Renewal{
		{good, time.Minute},
		{absent, time.Minute},
		{refused, time.Minute},
		{good, time.Millisecond},
		{last, time.Minute},
	})
	if errs[0] != nil || !errors.Is(errs[1], unix.ENODEV) || !errors.Is(errs[2], unix.EACCES) || errs[3] == nil || errs[4] != nil {
		t.Errorf("errors %q", errs)
	}
	if diff := cmp.Diff(prefixes("192.0.2.100/24", "192.0.2.103/32", "2001:db8::100/64"), sorted(t, ns), cmpNetip); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	// What the kernel did take is not left out for what it did not.
	if diff := cmp.Diff(prefixes("192.0.2.102/24"), ns.Addrs(t, "eth1"), cmpNetip); diff != "" {
		t.Errorf("addresses beside a refused one (-want +got):\n%s", diff)
	}
}

// TestMany has as many addresses as one VRID can have, in one Holder and in as
// many: all are held in few rounds, and all end.
func TestMany(t *testing.T) {
	for name, perHolder := range map[string]int{"one holder": 255, "255 holders": 1} {
		t.Run(name, func(t *testing.T) {
			ns, _ := host(t)
			ns.AddAddr(t, nic, "192.0.2.11/20")
			table := openTable(t, ns)
			renewals := many(t, table, 255, perHolder, time.Second)
			if err := errors.Join(table.Hold(renewals)...); err != nil {
				t.Fatal(err)
			}
			if got := len(sorted(t, ns)); got != 256 {
				t.Errorf("%d addresses, want 256", got)
			}
			netnstest.Eventually(t, limit, "every lease to run out", func() bool { return len(sorted(t, ns)) == 1 })
		})
	}
}

// many prepares n addresses, every other one IPv6.
func many(t testing.TB, table *Table, n, perHolder int, lease time.Duration) []Renewal {
	t.Helper()
	var as []netip.Prefix
	for i := range n {
		s := fmt.Sprintf("192.0.%d.%d/20", i/200, 20+i%200)
		if i%2 == 1 {
			s = fmt.Sprintf("2001:db8::1:%x/64", i)
		}
		as = append(as, netip.MustParsePrefix(s))
	}
	var out []Renewal
	for part := range slices.Chunk(as, perHolder) {
		out = append(out, Renewal{table.mustOpen(t, Config{Addresses: part}), lease})
	}
	return out
}

// TestRoundsGoOnAfterAnUnansweredOne leaves answers of a round in the queue, as
// one that was given up does.
func TestRoundsGoOnAfterAnUnansweredOne(t *testing.T) {
	ns, _ := host(t)
	table := openTable(t, ns)
	h := table.mustOpen(t, Config{Addresses: prefixes("192.0.2.100/24")})
	index := ns.Link(t, nic).Attrs().Index
	r := table.kernel.changes
	r.seq += 2
	stale := dropRequest(plain(netip.MustParsePrefix("192.0.2.7/24")), index) // refused
	b := stale.appendTo(stale.appendTo(nil, r.seq-1), r.seq)
	if err := unix.Sendto(r.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	hold(t, h, time.Minute)
	if _, ok := held(t, h); !ok {
		t.Error("not held")
	}
}

// TestRoundsWithoutAnswer: nothing after an unanswered request counts as done.
func TestRoundsWithoutAnswer(t *testing.T) {
	ns, _ := host(t)
	r := openTable(t, ns).kernel.changes
	if err := r.readAnswer(1, make([]error, 1)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("no answer: %v, want EAGAIN", err)
	}
	// A socket that cannot send: of more than one round, everything fails.
	kept := r.fd
	defer func() { r.fd = kept }()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(pair[0]), unix.Close(pair[1]) }()
	r.fd = pair[0]
	for i, err := range r.exchange(make([]request, roundSize+1)) {
		if err == nil {
			t.Errorf("request %d: no error", i)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	ack := request{kind: unix.NLMSG_ERROR, body: words(0)}.appendTo(nil, 7)
	f.Add(ack, uint32(7), 1)
	f.Add(request{kind: unix.NLMSG_ERROR, body: words(uint32(0xffffffed))}.appendTo(nil, 9), uint32(7), 64)
	f.Add(ack[:19], uint32(7), 64)
	f.Add([]byte(nil), uint32(0), 0)
	f.Fuzz(func(t *testing.T, b []byte, first uint32, n int) {
		n = min(max(n, 0), roundSize)
		i, ok, answer := parseAnswer(b, first, n)
		if !ok {
			return
		}
		if i < 0 || i >= n {
			t.Fatalf("request %d of %d", i, n)
		}
		code := uint32(0)
		var errno unix.Errno
		if errors.As(answer, &errno) {
			code = -uint32(errno)
		}
		again := request{kind: unix.NLMSG_ERROR, body: words(code)}.appendTo(nil, first+uint32(i))
		j, ok, same := parseAnswer(again, first, n)
		if !ok || j != i || !errors.Is(same, answer) {
			t.Fatalf("request %d: %v came back as %d: %v, %v", i, answer, j, same, ok)
		}
	})
}

// BenchmarkTableHold renews the leases of n addresses in one call.
func BenchmarkTableHold(b *testing.B) {
	for _, n := range []int{1, 64, 255} {
		for _, form := range []struct {
			name      string
			perHolder int
		}{{"one holder", n}, {"a holder each", 1}} {
			b.Run(fmt.Sprintf("%d/%s", n, form.name), func(b *testing.B) {
				ns, _ := host(b)
				table := openTable(b, ns)
				renewals := many(b, table, n, form.perHolder, time.Minute)
				for b.Loop() {
					if err := errors.Join(table.Hold(renewals)...); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkHoldOneByOne is what BenchmarkTableHold is to be compared with.
func BenchmarkHoldOneByOne(b *testing.B) {
	for _, n := range []int{64, 255} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ns, _ := host(b)
			renewals := many(b, openTable(b, ns), n, 1, time.Minute)
			for b.Loop() {
				for _, r := range renewals {
					hold(b, r.Holder, r.Lease)
				}
			}
		})
	}
}
