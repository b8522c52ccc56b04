package heartbeat

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// TestKinds lets two ends talk in each version, mode and family, with and
// without authentication, two instances on each route.
func TestKinds(t *testing.T) {
	if !inside(t) {
		return
	}
	kinds := []struct {
		name   string
		change []func(*Instance)
		// source is the address by which the second end compares the first's
		// priority; it is the lower one.
		source netip.Addr
	}{
		{"version 3 unicast IPv4", nil, away[0]},
		{"version 3 unicast IPv6", []func(*Instance){overIPv6}, addrs6[0]},
		{"version 3 multicast IPv4", []func(*Instance){onGroup}, netip.MustParseAddr("224.0.0.17")},
		{"version 3 multicast IPv6", []func(*Instance){overIPv6, onGroup}, netip.MustParseAddr("ff02::11")},
		{"version 2 unicast", []func(*Instance){version2}, away[0]},
		{"version 2 multicast", []func(*Instance){version2, onGroup}, netip.MustParseAddr("224.0.0.17")},
	}
	for _, mode := range []auth.Mode{auth.None, auth.Enforce} {
		for _, tt := range kinds {
			t.Run(tt.name+" "+mode.String(), func(t *testing.T) {
				a, b := newEnd(t, 0), newEnd(t, 1)
				change := append(slices.Clone(tt.change), inMode(mode))
				first, second := a.add("compass", 51, change...), a.add("second", 52, change...)
				b.add("compass", 51, change...)
				b.add("second", 52, change...)
				got := hears(t, a, b, first)
				if got.Source != tt.source || got.Advertisement.Version != first.Router.Version || got.Proved != (mode == auth.Enforce) {
					t.Errorf("b heard %+v", got)
				}
				if want := failover.Epoch(7); got.Proved && got.Epoch != want || !got.Proved && got.Epoch != 0 {
					t.Errorf("epoch %d", got.Epoch)
				}
				hears(t, a, b, second)
				back := hears(t, b, a, first)
				if local := first.Router.Local; !local.Less(back.Source) {
					t.Errorf("a heard it from %v, which is not above %v", back.Source, local)
				}
				if local := b.Local(first.Group, first.Router.Addresses[0]); !got.Source.Less(local) {
					t.Errorf("b heard it from %v, which is not below %v", got.Source, local)
				}
				if s := b.of("compass"); s.Mismatch != vrrp.MismatchPriority || s.Proved != got.Proved || !s.Heard {
					t.Errorf("b's status %+v", s)
				}
			})
		}
	}
}

// An advertisement goes over every path that there is, and a path whose address
// comes later is opened then.
func TestPartlyMissingPaths(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51, inMode(auth.Enforce))
	b.add("compass", 51, inMode(auth.Enforce))
	hears(t, a, b, cfg)
	eventually(t, "an attempt at the other path", func() bool { // the first may be heard before it
		return !slices.ContainsFunc(b.Status().Paths, func(p PathStatus) bool { return !p.Up && p.Err == nil })
	})
	for _, p := range b.Status().Paths {
		if up := p.Local != away[1]; p.Up != up || up != (p.Err == nil) || p.Heard != up {
			t.Errorf("path %+v", p)
		}
	}
	addAddress(t, "heart0", "198.51.100.11/24")
	addAddress(t, "heart1", "198.51.100.12/24")
	eventually(t, "both paths", func() bool {
		b.drain(b.routes["compass"])
		if err := a.send(cfg, 0); err != nil {
			t.Errorf("send: %v", err)
		}
		return b.drain(b.routes["compass"]) == 2
	})
	for _, p := range b.Status().Paths {
		if !p.Up || p.Err != nil || !p.Heard || p.Dropped["auth_replay"] != 0 {
			t.Errorf("path %+v", p)
		}
	}
}

// TestGroupFollowsTheAddress takes the interface's address away from under the
// group.
func TestGroupFollowsTheAddress(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51, onGroup)
	b.add("compass", 51, onGroup)
	hears(t, a, b, cfg)
	removeAddress(t, "heart0", "192.0.2.11/24")
	addAddress(t, "heart0", "192.0.2.100/24") // the virtual one is no address to send from
	addAddress(t, "heart0", "192.0.2.21/24")
	eventually(t, "the new address", func() bool {
		p := a.Status().Paths[0]
		return p.Up && p.Local == netip.MustParseAddr("192.0.2.21")
	})
	b.drain(b.routes["compass"])
	got := hears(t, a, b, cfg)
	if want := netip.MustParseAddr("224.0.0.19"); got.Source != want { // .21 is above b's .12
		t.Errorf("from %v, want %v", got.Source, want)
	}
}

func TestChecksumForms(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51, func(in *Instance) { in.Checksum, in.FollowChecksum = vrrp.ChecksumPseudoHeader, false })
	b.add("compass", 51)
	hears(t, a, b, cfg)
	if s := b.of("compass"); s.Checksum != vrrp.ChecksumPseudoHeader || s.PeerChecksum != vrrp.ChecksumPseudoHeader {
		t.Errorf("b sends %v and heard %v", s.Checksum, s.PeerChecksum)
	}
	hears(t, b, a, cfg)
	b.replace("compass", 51, func(in *Instance) { in.FollowChecksum = false })
	hears(t, b, a, cfg)
	eventually(t, "a to hear the RFC's form", func() bool {
		hears(t, b, a, cfg)
		return a.of("compass").PeerChecksum == vrrp.ChecksumRFC
	})
	if s := a.of("compass"); s.Checksum != vrrp.ChecksumPseudoHeader {
		t.Errorf("a follows to %v", s.Checksum)
	}
}

// TestMismatchIsNoDrop sends what is configured otherwise.
func TestMismatchIsNoDrop(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51, func(in *Instance) {
		in.Router.Interval, in.Router.Priority = 200, 101
		in.Router.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.101")}
	})
	b.add("compass", 51)
	hears(t, a, b, cfg)
	if got, want := b.of("compass").Mismatch, vrrp.MismatchInterval|vrrp.MismatchAddresses; got != want {
		t.Errorf("mismatch %v, want %v", got, want)
	}
}

// TestAddRemoveReplace changes instances while others go on.
func TestAddRemoveReplace(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	hmac := inMode(auth.Enforce)
	stays := a.add("stays", 1, hmac)
	b.add("stays", 1, hmac)
	hears(t, a, b, stays)
	conn := b.routes["stays"].paths[1].conn.Load()

	cfg := a.add("compass", 51, hmac)
	b.add("compass", 51, hmac)
	for range 20 {
		hears(t, a, b, cfg)
	}
	t.Run("removed and added, it goes on counting", func(t *testing.T) {
		a.Remove("compass")
		if err := a.send(cfg, 0); !errors.Is(err, ErrNoInstance) {
			t.Errorf("sent after Remove: %v", err)
		}
		b.drain(b.routes["compass"])
		a.add("compass", 51, hmac)
		hears(t, a, b, cfg)
		if n := b.of("compass").Dropped.ByName()["auth_replay"]; n != 0 {
			t.Errorf("%d taken for replays", n)
		}
	})
	t.Run("removed and added, it still knows the peer", func(t *testing.T) {
		before := b.byName["compass"].known()
		b.Remove("compass")
		b.add("compass", 51, hmac)
		if got := b.byName["compass"].known(); got != before {
			t.Errorf("%+v, was %+v", got, before)
		}
	})
	t.Run("replaced on its route", func(t *testing.T) {
		before := b.routes["compass"]
		if r := b.replace("compass", 51, hmac, func(in *Instance) { in.Router.Interval = 300 }); r != before {
			t.Error("another route")
		}
		hears(t, a, b, cfg)
		if got := b.of("compass"); got.Mismatch&vrrp.MismatchInterval == 0 || got.Dropped.ByName()["auth_replay"] != 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("replaced with another VRID", func(t *testing.T) {
		before := b.routes["compass"]
		if r := b.replace("compass", 53, hmac); r != before {
			t.Error("another route")
		}
		a.replace("compass", 53, hmac)
		hears(t, a, b, a.instance("compass", 53, hmac))
		if n := b.Status().Paths[1].Dropped["unknown_vrid"]; n > 1000 {
			t.Errorf("%d unknown", n)
		}
	})
	t.Run("replaced to a group and back", func(t *testing.T) {
		a.replace("compass", 53, hmac, onGroup)
		b.replace("compass", 53, hmac, onGroup)
		hears(t, a, b, a.instance("compass", 53, hmac, onGroup))
		b.add("another", 54, onGroup) // the group's filter lets it in
		a.add("another", 54, onGroup)
		hears(t, a, b, a.instance("another", 54, onGroup))
		a.replace("compass", 53, hmac)
		b.replace("compass", 53, hmac)
		hears(t, a, b, a.instance("compass", 53, hmac))
		b.Remove("another")
		eventually(t, "the group's path to go", func() bool {
			return !slices.ContainsFunc(b.Status().Paths, func(p PathStatus) bool { return p.Interface != "" })
		})
	})
	t.Run("refused", func(t *testing.T) {
		good := b.instance("compass", 53, hmac)
		taken, nobody, wrong := good, good, good
		taken.Router.VRID = 1
		nobody.Name = "nobody"
		wrong.Router.Local = netip.MustParseAddr("192.0.2.99")
		for _, cfg := range []Instance{taken, nobody, wrong} {
			if _, err := b.Replace(cfg); err == nil {
				t.Errorf("replaced with %+v", cfg)
			}
		}
		if _, err := b.Add(good); err == nil {
			t.Error("added twice")
		}
		hears(t, a, b, a.instance("compass", 53, hmac))
	})
	if b.routes["stays"].paths[1].conn.Load() != conn {
		t.Error("the untouched instance has another socket")
	}
	hears(t, a, b, stays)
	if n := b.of("stays").Dropped.ByName()["auth_replay"]; n != 0 {
		t.Errorf("%d taken for replays", n)
	}
}

// TestConcurrently changes everything that can change, while two instances that
// nobody touches are sent and drained without a loss.
func TestConcurrently(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	hmac := inMode(auth.Enforce)
	unicast, multicast := a.add("unicast", 1, hmac), a.add("multicast", 2, hmac, onGroup)
	b.add("unicast", 1, hmac)
	b.add("multicast", 2, hmac, onGroup)
	hears(t, a, b, unicast)
	hears(t, b, a, unicast)
	hears(t, a, b, multicast)
	for _, r := range b.routes {
		b.drain(r) // of before
	}
	var changes sync.WaitGroup
	for e, other := range map[*end]*end{a: b, b: a} {
		cfg, group := e.instance("other", 3, hmac), e.instance("other", 4, onGroup)
		keys := [][]auth.Key{testKeys(t, "a", "b"), testKeys(t, "a")}
		changes.Go(func() {
			for range 100 {
				r, err := e.Add(cfg)
				if err != nil {
					t.Error(err)
					return
				}
				_ = r.Send(failover.Send{Advertisement: advert(cfg)})
				if _, err := e.Replace(group); err != nil {
					t.Error(err)
				}
				e.Remove("other")
			}
		})
		changes.Go(func() {
			for i := range 100 {
				if err := e.SetKeys(keys[i%2]); err != nil {
					t.Error(err)
				}
				if e.Confirm("unicast", other.Boot(), 0) {
					t.Error("the peer's run was another")
				}
				e.Status()
			}
		})
	}
	over := make(chan struct{})
	go func() { defer close(over); changes.Wait() }()
	for running := true; running; {
		select {
		case <-over:
			running = false
		default:
		}
		for _, cfg := range []Instance{unicast, multicast} {
			if err := a.send(cfg, 0); err != nil {
				t.Fatal(err)
			}
			b.routes[cfg.Name].Drain()
			heard := 0
			for range len(b.heard) {
				if got := <-b.heard; got.instance == cfg.Name {
					heard++
				}
			}
			if heard != 1 {
				t.Fatalf("%s: %d heard; %v", cfg.Name, heard, nonzero(b.of(cfg.Name).Dropped.ByName()))
			}
		}
	}
	for _, p := range b.Status().Paths {
		if p.Local == addrs4[1] && !p.Up {
			t.Errorf("%+v", p)
		}
	}
}

// TestRouteIsShared lets the loop of a node drain each route once.
func TestRouteIsShared(t *testing.T) {
	e := &end{tb: t, iface: "heart0", routes: map[string]*Route{}}
	h, err := New(Config{
		Local: []netip.Addr{addrs4[0], addrs6[0]}, Peer: []netip.Addr{addrs4[1], addrs6[1]}, Clock: bootClock, Log: make(lines, 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Heartbeat = h
	otherGroup := func(in *Instance) { in.Group = "heart1" }
	for name, change := range map[string][]func(*Instance){
		"one": nil, "two": nil, "v6": {overIPv6}, "group": {onGroup}, "group too": {onGroup}, "group v6": {onGroup, overIPv6},
	} {
		e.add(name, uint8(len(e.routes)+1), change...)
	}
	e.iface = "heart1"
	e.add("other group", 1, otherGroup)
	alike := map[*Route][]string{}
	for name, r := range e.routes {
		alike[r] = append(alike[r], name)
	}
	var got []string
	for _, names := range alike {
		slices.Sort(names)
		got = append(got, strings.Join(names, "+"))
	}
	slices.Sort(got)
	want := []string{"group v6", "group+group too", "one+two", "other group", "v6"}
	if !slices.Equal(got, want) {
		t.Errorf("routes %v, want %v", got, want)
	}
	if err := e.send(e.instance("one", 200), 0); !errors.Is(err, ErrNoInstance) {
		t.Errorf("an unknown VRID: %v", err)
	}
	for _, in := range e.byName {
		if in.name == "one" {
			if err := e.send(in.cfg, 0); !errors.Is(err, ErrNoPath) {
				t.Errorf("without a path: %v", err)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no pair":      {Local: addrs4[:1]},
		"two families": {Local: addrs4[:1], Peer: addrs6[:1]},
		"no address":   {Local: addrs4[:1], Peer: []netip.Addr{{}}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
