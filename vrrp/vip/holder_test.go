package vip

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

const (
	nic   = "eth0"
	limit = 10 * time.Second
)

var cmpNetip = cmp.Options{
	cmpopts.IgnoreUnexported(Answer{}),
	cmp.Comparer(func(x, y netip.Addr) bool { return x == y }),
	cmp.Comparer(func(x, y netip.Prefix) bool { return x == y }),
}

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// host is a namespace with one Ethernet interface, eth0, joined to peer's.
func host(t testing.TB) (ns, peer *netnstest.Namespace) {
	t.Helper()
	ns, peer = netnstest.New(t), netnstest.New(t)
	netnstest.Connect(t, ns, peer, nic)
	return ns, peer
}

func open(t testing.TB, ns *netnstest.Namespace, cfg Config) *Holder {
	t.Helper()
	if cfg.Interface == "" {
		cfg.Interface = nic
	}
	var h *Holder
	err := ns.Do(func() (err error) {
		h, err = Open(cfg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func hold(t testing.TB, h *Holder, lease time.Duration) {
	t.Helper()
	if err := h.Hold(lease); err != nil {
		t.Fatal(err)
	}
}

func held(t testing.TB, h *Holder) (time.Duration, bool) {
	t.Helper()
	remaining, ok, err := h.Held()
	if err != nil {
		t.Fatal(err)
	}
	return remaining, ok
}

// find returns the address as the kernel has it.
func find(t *testing.T, ns *netnstest.Namespace, p netip.Prefix) (netlink.Addr, bool) {
	t.Helper()
	list, err := ns.AddrList(ns.Link(t, nic), netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.IPNet.String() == p.String() {
			return a, true
		}
	}
	return netlink.Addr{}, false
}

// deletions reports the addresses that the kernel says it removed.
func deletions(t *testing.T, ns *netnstest.Namespace) <-chan netip.Addr {
	t.Helper()
	updates := make(chan netlink.AddrUpdate, 64)
	done := make(chan struct{})
	if err := ns.Do(func() error { return netlink.AddrSubscribe(updates, done) }); err != nil {
		t.Fatal(err)
	}
	deleted := make(chan netip.Addr, 64) // more than any test here removes
	go func() {
		defer close(deleted)
		for u := range updates {
			if !u.NewAddr {
				addr, _ := netip.AddrFromSlice(u.LinkAddress.IP.To4())
				deleted <- addr
			}
		}
	}()
	t.Cleanup(func() { close(done) })
	return deleted
}

func TestLeaseRunsOut(t *testing.T) {
	ns, _ := host(t)
	ns.AddAddr(t, nic, "192.0.2.11/24")
	deleted := deletions(t, ns)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24", "198.51.100.7/32")})
	hold(t, h, time.Second)
	if remaining, ok := held(t, h); !ok || remaining <= 0 || remaining > time.Second {
		t.Errorf("held %v for %v, want up to 1s", ok, remaining)
	}
	netnstest.Eventually(t, limit, "the lease to run out", func() bool {
		_, first := find(t, ns, h.cfg.Addresses[0])
		_, second := find(t, ns, h.cfg.Addresses[1])
		return !first && !second
	})
	if _, ok := held(t, h); ok {
		t.Error("held after the lease ran out")
	}
	for range 2 {
		select {
		case addr := <-deleted:
			if addr == netip.MustParseAddr("192.0.2.11") {
				t.Error("the host's own address was removed")
			}
		case <-time.After(limit):
			t.Fatal("no DELADDR")
		}
	}
	if diff := cmp.Diff(prefixes("192.0.2.11/24"), ns.Addrs(t, nic), cmpNetip); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestRenewingKeeps(t *testing.T) {
	ns, _ := host(t)
	deleted := deletions(t, ns)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24")})
	hold(t, h, time.Second)
	renew := time.NewTicker(200 * time.Millisecond)
	defer renew.Stop()
	end := time.After(3 * time.Second)
	for running := true; running; {
		select {
		case <-renew.C:
			hold(t, h, time.Second)
		case addr := <-deleted:
			t.Fatalf("%v was removed between renewals", addr)
		case <-end:
			running = false
		}
	}
	hold(t, h, 5*time.Second)
	if remaining, ok := held(t, h); !ok || remaining != 5*time.Second {
		t.Errorf("held %v for %v, want 5s", ok, remaining)
	}
}

func TestHoldMarksAndLabels(t *testing.T) {
	ns, _ := host(t)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24"), Label: "eth0:vip"})
	hold(t, h, 30*time.Second)
	a, ok := find(t, ns, h.cfg.Addresses[0])
	if !ok {
		t.Fatal("address is not there")
	}
	got := []any{a.Label, a.ValidLft, a.PreferedLft, a.Flags & unix.IFA_F_DEPRECATED, a.Flags & unix.IFA_F_PERMANENT}
	if diff := cmp.Diff([]any{"eth0:vip", 30, 30, 0, 0}, got); diff != "" {
		t.Errorf("label, valid, preferred, deprecated, permanent (-want +got):\n%s", diff)
	}
	if a.Protocol == 0 {
		t.Skip("needs Linux 5.18 for IFA_PROTO")
	}
	// A Holder of something else recognises it.
	other := open(t, ns, Config{Addresses: prefixes("203.0.113.1/32")})
	ns.AddAddr(t, nic, "192.0.2.11/24")
	marked, err := other.Marked()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h.cfg.Addresses, marked, cmpNetip); diff != "" {
		t.Errorf("marked (-want +got):\n%s", diff)
	}
}

// TestHeldNeedsEveryAddress has one of two, with the kernel's mark missing.
func TestHeldNeedsEveryAddress(t *testing.T) {
	ns, _ := host(t)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24", "192.0.2.101/24")})
	put := func(p string, seconds int) {
		t.Helper()
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		addr.ValidLft, addr.PreferedLft = seconds, seconds
		if err := ns.AddrReplace(ns.Link(t, nic), addr); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := held(t, h); ok {
		t.Error("held without any address")
	}
	put("192.0.2.100/24", 60)
	if _, ok := held(t, h); ok {
		t.Error("held with one of two addresses")
	}
	put("192.0.2.101/24", 30)
	if remaining, ok := held(t, h); !ok || remaining > 30*time.Second || remaining < 20*time.Second {
		t.Errorf("held %v for %v, want the shorter, 30s", ok, remaining)
	}
	put("192.0.2.101/24", 0) // for ever
	if _, ok, err := h.Held(); ok || !errors.Is(err, ErrPermanent) {
		t.Errorf("held %v, %v; want %v", ok, err, ErrPermanent)
	}
	hold(t, h, 2*time.Second) // turns it into a leased one
	if remaining, ok := held(t, h); !ok || remaining > 2*time.Second {
		t.Errorf("held %v for %v, want up to 2s", ok, remaining)
	}
}

func TestRelease(t *testing.T) {
	ns, _ := host(t)
	ns.AddAddr(t, nic, "192.0.2.11/24")
	labelled := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24", "192.0.2.101/32"), Label: "eth0:vip"})
	hold(t, labelled, 30*time.Second)
	// The label may have changed since the address was added.
	h := open(t, ns, Config{Addresses: labelled.cfg.Addresses})
	for _, when := range []string{"held", "absent"} {
		if err := h.Release(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if diff := cmp.Diff(prefixes("192.0.2.11/24"), ns.Addrs(t, nic), cmpNetip); diff != "" {
			t.Errorf("%s: addresses (-want +got):\n%s", when, diff)
		}
	}
}

// TestOthersSurviveThePrimary makes the virtual address the primary of its
// subnet, on a kernel set to delete the secondaries together with it.
func TestOthersSurviveThePrimary(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lease time.Duration
		end   func(*testing.T, *Holder)
	}{
		{"release", time.Minute, func(t *testing.T, h *Holder) {
			if err := h.Release(); err != nil {
				t.Error(err)
			}
		}},
		{"expiry", time.Second, func(*testing.T, *Holder) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns, _ := host(t)
			ns.Sysctl(t, "ipv4/conf/all/promote_secondaries", "0")
			ns.Sysctl(t, "ipv4/conf/eth0/promote_secondaries", "0")
			h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24")})
			hold(t, h, tt.lease)
			others := prefixes("192.0.2.11/24", "192.0.2.12/24")
			for _, p := range others {
				ns.AddAddr(t, nic, p.String())
				if a, _ := find(t, ns, p); a.Flags&unix.IFA_F_SECONDARY == 0 {
					t.Fatalf("%v is not a secondary: the test shows nothing", p)
				}
			}
			tt.end(t, h)
			netnstest.Eventually(t, limit, "the address to go", func() bool {
				_, ok := find(t, ns, h.cfg.Addresses[0])
				return !ok
			})
			got := ns.Addrs(t, nic)
			slices.SortFunc(got, netip.Prefix.Compare)
			if diff := cmp.Diff(others, got, cmpNetip); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReleaseSetsPromotionAgain resets the setting between Hold and Release.
// A reload that changes a prefix length has the address twice for a moment.
func TestReleaseExactly(t *testing.T) {
	ns, _ := host(t)
	wide, narrow := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24")}), open(t, ns, Config{Addresses: prefixes("192.0.2.100/32")})
	hold(t, wide, 30*time.Second)
	hold(t, narrow, 30*time.Second)
	for range 2 {
		if err := wide.ReleaseExactly(); err != nil {
			t.Fatal(err)
		}
		if marked, err := narrow.Marked(); err != nil || !slices.Equal(marked, narrow.cfg.Addresses) {
			t.Errorf("left %v, %v", marked, err)
		}
	}
}

func TestReleaseSetsPromotionAgain(t *testing.T) {
	ns, _ := host(t)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24")})
	hold(t, h, time.Minute)
	ns.AddAddr(t, nic, "192.0.2.11/24")
	ns.Sysctl(t, "ipv4/conf/eth0/promote_secondaries", "0")
	ns.Sysctl(t, "ipv4/conf/all/promote_secondaries", "0")
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(prefixes("192.0.2.11/24"), ns.Addrs(t, nic), cmpNetip); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestPromotionIsLeftAloneForSingleAddresses(t *testing.T) {
	ns, _ := host(t)
	ns.Sysctl(t, "ipv4/conf/eth0/promote_secondaries", "0")
	setting := func() (value string) {
		err := ns.Do(func() error {
			b, err := os.ReadFile("/proc/sys/net/ipv4/conf/eth0/promote_secondaries")
			value = strings.TrimSpace(string(b))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	hold(t, open(t, ns, Config{Addresses: prefixes("192.0.2.100/32")}), time.Minute)
	if got := setting(); got != "0" {
		t.Errorf("promote_secondaries is %s, want 0 for /32", got)
	}
	hold(t, open(t, ns, Config{Addresses: prefixes("192.0.2.101/24")}), time.Minute)
	if got := setting(); got != "1" {
		t.Errorf("promote_secondaries is %s, want 1 for /24", got)
	}
}

func TestInterfaceComesAndGoes(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24")})
	for _, when := range []string{"first", "created anew"} {
		if err := h.Hold(time.Minute); !errors.Is(err, unix.ENODEV) {
			t.Errorf("%s: Hold without interface: %v, want ENODEV", when, err)
		}
		if err := h.Announce(); !errors.Is(err, unix.ENODEV) {
			t.Errorf("%s: Announce without interface: %v, want ENODEV", when, err)
		}
		if err := h.Release(); err != nil {
			t.Errorf("%s: Release without interface: %v", when, err)
		}
		if _, ok := held(t, h); ok {
			t.Errorf("%s: held without interface", when)
		}
		netnstest.Connect(t, ns, peer, nic)
		hold(t, h, time.Minute)
		if _, ok := held(t, h); !ok {
			t.Errorf("%s: not held", when)
		}
		if err := ns.Do(h.Announce); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if err := ns.LinkDel(ns.Link(t, nic)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := prefixes("192.0.2.100/24")
	for name, cfg := range map[string]Config{
		"no interface":     {Addresses: good},
		"long interface":   {Interface: "interface-sixteen", Addresses: good},
		"long label":       {Interface: nic, Addresses: good, Label: "eth0:sixteen-byte"},
		"no address":       {Interface: nic},
		"invalid address":  {Interface: nic, Addresses: []netip.Prefix{{}}},
		"twice":            {Interface: nic, Addresses: prefixes("192.0.2.100/24", "192.0.2.100/24")},
		"multicast":        {Interface: nic, Addresses: prefixes("224.0.0.18/32")},
		"loopback":         {Interface: nic, Addresses: prefixes("127.0.0.1/8")},
		"unspecified":      {Interface: nic, Addresses: prefixes("0.0.0.0/24")},
		"prefix length 0":  {Interface: nic, Addresses: prefixes("192.0.2.100/0")},
		"one bad of three": {Interface: nic, Addresses: prefixes("192.0.2.1/24", "::1/128", "192.0.2.2/24")},
	} {
		if h, err := Open(cfg); err == nil {
			t.Errorf("%s: no error", name)
			_ = h.Close()
		}
	}
}

func TestHoldRefusesLeases(t *testing.T) {
	ns, _ := host(t)
	h := open(t, ns, Config{Addresses: prefixes("192.0.2.100/24")})
	for _, lease := range []time.Duration{0, -time.Second, 999 * time.Millisecond, 1500 * time.Millisecond, 25 * time.Hour} {
		if err := h.Hold(lease); err == nil {
			t.Errorf("lease %v: no error", lease)
		}
	}
	if got := ns.Addrs(t, nic); got != nil {
		t.Errorf("addresses %v, want none", got)
	}
}

func BenchmarkHold(b *testing.B) {
	ns, _ := host(b)
	h := open(b, ns, Config{Addresses: prefixes("192.0.2.100/24")})
	for b.Loop() {
		hold(b, h, time.Minute)
	}
}

func BenchmarkAnnounce(b *testing.B) {
	ns, _ := host(b)
	h := open(b, ns, Config{Addresses: prefixes("192.0.2.100/24")})
	err := ns.Do(func() error {
		for b.Loop() {
			if err := h.Announce(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
