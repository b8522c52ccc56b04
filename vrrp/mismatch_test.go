package vrrp

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	four := func(c *Config) { c.Addresses = addrs("192.0.2.100", "192.0.2.101") }
	six := func(c *Config) {
		c.Addresses, c.Local = addrs("fe80::100", "2001:db8::100"), netip.MustParseAddr("fe80::11")
	}
	mixed := func(c *Config) { c.Addresses = addrs("192.0.2.100", "fe80::100", "192.0.2.101") }
	for _, tt := range []struct {
		name  string
		alter func(*Config)
		heard func(*Advertisement)
		want  Mismatch
	}{
		{"same", four, func(*Advertisement) {}, 0},
		{"7.1/interval", four, func(a *Advertisement) { a.MaxAdvertInterval = 25 }, MismatchInterval},
		{"7.1/address-missing", four, func(a *Advertisement) { a.Addresses = a.Addresses[:1] }, MismatchAddresses},
		{"7.1/other-address", four, func(a *Advertisement) { a.Addresses = addrs("192.0.2.100", "192.0.2.102") }, MismatchAddresses},
		{"7.1/address-twice", four, func(a *Advertisement) { a.Addresses = addrs("192.0.2.100", "192.0.2.100") }, MismatchAddresses},
		{"7.1/other-order-is-none", four, func(a *Advertisement) { a.Addresses = addrs("192.0.2.101", "192.0.2.100") }, 0},
		{"mixed/riding-addresses-are-not-looked-for", mixed, func(*Advertisement) {}, 0},
		{"5.2.9/link-local-first", six, func(*Advertisement) {}, 0},
		{"5.2.9/global-first", six, func(a *Advertisement) { a.Addresses = addrs("2001:db8::100", "fe80::100") }, MismatchLinkLocal},
		{"8298/owner-hears-another", func(c *Config) { four(c); c.Priority = OwnerPriority }, func(*Advertisement) {}, MismatchOwner},
		{"8298/owner-hears-goodbye", func(c *Config) { four(c); c.Priority = OwnerPriority }, func(a *Advertisement) { a.Priority = 0 }, 0},
		{"equal-priority", four, func(a *Advertisement) { a.Priority = 100 }, MismatchPriority},
		{"all", func(c *Config) { six(c); c.Priority = OwnerPriority }, func(a *Advertisement) {
			a.Priority, a.MaxAdvertInterval, a.Addresses = 255, 7, addrs("2001:db8::9")
		}, MismatchInterval | MismatchAddresses | MismatchLinkLocal | MismatchOwner | MismatchPriority},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig()
			tt.alter(&cfg)
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			heard := cfg.advertisement()
			heard.Priority = 200
			tt.heard(&heard)
			if got := cfg.Compare(heard); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// TestMismatchNeverDrops lets a peer with another interval and other addresses
// win and lose as if nothing were.
func TestMismatchNeverDrops(t *testing.T) {
	for _, version := range []Version{Version2, Version3} {
		cfg := testConfig()
		cfg.Version = version
		ev := heardFrom(200, 300, highest)
		ev.Advertisement.Version, ev.Advertisement.Addresses = version, addrs("192.0.2.9")
		r := routerIn(t, cfg, Backup)
		got := r.Step(at(0), ev, nil)
		if diff := cmp.Diff([]Effect{Heard{Priority: 200, Source: highest}}, got, cmpAddr); diff != "" {
			t.Errorf("version %v, Backup (-want +got):\n%s", version, diff)
		}
		// Its own interval would make this router take over between two of the other's.
		if timer, _ := r.Deadline(); timer != at(version.ActiveDownInterval(100, 3e9)) {
			t.Errorf("version %v: timer %v ahead", version, timer.Sub(startedAt))
		}
		if want := MismatchInterval | MismatchAddresses; r.Mismatch() != want {
			t.Errorf("version %v: mismatch %v, want %v", version, r.Mismatch(), want)
		}
		r = routerIn(t, cfg, Active)
		got = r.Step(at(0), ev, nil)
		if diff := cmp.Diff([]Effect{Transition{Active, Backup, ReasonHigherPriority}}, got, cmpAddr); diff != "" {
			t.Errorf("version %v, Active (-want +got):\n%s", version, diff)
		}
	}
}

func TestMismatchIsOfTheLast(t *testing.T) {
	r := routerIn(t, testConfig(), Active)
	ownPacket := heardFrom(100, 7, local)
	r.Step(at(0), ownPacket, nil)
	if got := r.Mismatch(); got != 0 {
		t.Errorf("after our own packet: %v", got)
	}
	r.Step(at(0), heardFrom(50, 7, lowest), nil)
	if got := r.Mismatch(); got != MismatchInterval {
		t.Errorf("after another's: %v, want interval", got)
	}
	r.Step(at(0), heardFrom(50, 100, lowest), nil)
	if got := r.Mismatch(); got != 0 {
		t.Errorf("after it was set right: %v", got)
	}
}

func TestMismatchNames(t *testing.T) {
	for m, want := range map[Mismatch]string{
		0:                "none",
		MismatchInterval: "interval",
		MismatchAddresses | MismatchLinkLocal | MismatchOwner | MismatchPriority: "addresses,link_local,owner,priority",
	} {
		if got := m.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestCheck is what belongs to a virtual router, of what Parse accepts.
func TestCheck(t *testing.T) {
	v2 := func(c *Config) { c.Version = Version2 }
	mixed := func(c *Config) { c.Addresses = append(c.Addresses, netip.MustParseAddr("fe80::100")) }
	for _, tt := range []struct {
		clause string
		alter  func(*Config)
		heard  func(*Advertisement)
		want   DropReason
	}{
		{"good", nil, func(*Advertisement) {}, 0},
		{"zero-version-is-3", nil, func(a *Advertisement) { a.Version = 0 }, 0},
		{"7.1/vrid", nil, func(a *Advertisement) { a.VRID = 7 }, DropUnknownVRID},
		{"7.1/version-2", nil, func(a *Advertisement) { a.Version = Version2 }, DropVersion},
		{"3768-7.1/version-3", v2, func(*Advertisement) {}, DropVersion},
		{"5.2.7/interval-0", nil, func(a *Advertisement) { a.MaxAdvertInterval = 0 }, DropInterval},
		{"5.2.9/other-family", nil, func(a *Advertisement) { a.Addresses = addrs("fe80::100") }, DropFamily},
		{"5.2.9/other-family-of-a-mixed-list", mixed, func(a *Advertisement) { a.Addresses = addrs("fe80::100") }, DropFamily},
	} {
		cfg := testConfig()
		if tt.alter != nil {
			tt.alter(&cfg)
		}
		ev := heardFrom(200, 100, highest)
		tt.heard(&ev.Advertisement)
		if got := cfg.Check(ev.Advertisement); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.clause, got, tt.want)
		}
		for _, state := range []State{Backup, Active} {
			r := routerIn(t, cfg, state)
			if got := r.Step(at(0), ev, nil); (got == nil) != (tt.want != 0) {
				t.Errorf("%s in %v: effects %v", tt.clause, state, got)
			}
		}
	}
}

func TestCarried(t *testing.T) {
	for _, tt := range []struct {
		name            string
		addresses, want []string
	}{
		{"IPv4", []string{"192.0.2.2", "192.0.2.1"}, []string{"192.0.2.2", "192.0.2.1"}},
		{"IPv4 first", []string{"192.0.2.1", "fe80::1", "192.0.2.2"}, []string{"192.0.2.1", "192.0.2.2"}},
		{"IPv6 first", []string{"2001:db8::1", "192.0.2.1"}, []string{"2001:db8::1"}},
		{"5.2.9/link-local goes first", []string{"2001:db8::1", "fe80::2", "192.0.2.1", "fe80::1"}, []string{"fe80::2", "fe80::1", "2001:db8::1"}},
	} {
		cfg := testConfig()
		cfg.Addresses = addrs(tt.addresses...)
		cfg.Local = cfg.Addresses[0].Next()
		r, err := New(cfg)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(addrs(tt.want...), r.Advertisement().Addresses, cmpAddr); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if cfg.Addresses[0] != netip.MustParseAddr(tt.addresses[0]) {
			t.Errorf("%s: the caller's list was changed", tt.name)
		}
	}
}
