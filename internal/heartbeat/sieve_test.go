package heartbeat

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

func TestFlood(t *testing.T) {
	const ms = time.Millisecond
	type look struct {
		after   time.Duration
		refused uint64
		each    float64
		on      bool
	}
	times := func(n int, l look) (all []look) { return slices.Repeat([]look{l}, n) }
	for _, tt := range []struct {
		name  string
		looks []look
	}{
		{"255 instances with the wrong key at 10 ms", times(50, look{100 * ms, 2550, 1, false})},
		{"after a second in which nobody looked", []look{{100 * ms, 0, 1, false}, {time.Second, 25_500, 1, false}}},
		{"two looks right after each other", []look{{100 * ms, 0, 1, false}, {ms, 2550, 1, false}, {99 * ms, 0, 1, false}}},
		{"what waited while nobody was there to read", []look{{2 * time.Second, 0, 1, false}, {100 * ms, 2550 + 2730, 1, false}, {100 * ms, 2550, 1, false}}},
		{"it begins at once", []look{{100 * ms, 0, 1, false}, {100 * ms, 7100, 1, true}}},
		{"it begins with the second look", []look{{100 * ms, 0, 1, false}, {100 * ms, 3100, 1, false}, {100 * ms, 3100, 1, true}}},
		{"it stops before that", []look{{100 * ms, 3100, 1, false}, {100 * ms, 2900, 1, false}, {100 * ms, 3100, 1, false}}},
		{"it goes on", append([]look{{100 * ms, 7100, 1, true}}, times(100, look{100 * ms, 12, 256, true})...)},
		{"it ends", append([]look{{100 * ms, 7100, 1, true}, {time.Second, 2, 256, true}}, look{time.Second, 19, 256, true}, look{time.Second, 0, 256, false})},
		{"it ends, though without a sieve", []look{{100 * ms, 31_000, 1, true}, {time.Second, 40_000, 1, true}, {3 * time.Second, 300, 1, false}}},
		{"it comes again before its end", []look{
			{100 * ms, 7100, 1, true},
			{2 * time.Second, 0, 256, true},
			{time.Second, 200, 256, true},
			{time.Second, 0, 256, true},
			{time.Second, 0, 256, true},
			{time.Second, 0, 256, false},
		}},
	} {
		var f flood
		now, refused := mono.Instant(time.Hour), uint64(0)
		f.look(now, 0, 1)
		for i, l := range tt.looks {
			now, refused = now.Add(l.after), refused+l.refused
			was := f.on
			if changed := f.look(now, refused, l.each); changed != (f.on != was) || f.on != l.on {
				t.Errorf("%s, look %d: flood %v (changed: %v), want %v", tt.name, i, f.on, changed, l.on)
				break
			}
		}
	}
}

// flooding sends what it is given in node 0's name as fast as it can until calm, and
// then 20,000 a second, which the tests' hosts carry without a loss.
type flooding struct {
	conn    *wire.Conn
	payload []byte
	calm    atomic.Bool
	ended   atomic.Bool
	group   sync.WaitGroup
}

func (f *flooding) send(n int) {
	for range n {
		_ = f.conn.Send(f.payload) // a full queue is no matter
	}
}

func startFlood(t *testing.T, cfg wire.Config, payload []byte) *flooding {
	t.Helper()
	c, err := wire.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &flooding{conn: c, payload: payload}
	f.group.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for !f.ended.Load() {
			f.send(100)
			if f.calm.Load() {
				<-tick.C
			}
		}
	})
	t.Cleanup(func() {
		f.stop()
		_ = c.Close()
	})
	return f
}

func (f *flooding) stop() {
	f.ended.Store(true)
	f.group.Wait()
}

func (e *end) sieved() bool {
	return slices.ContainsFunc(e.Status().Paths, func(p PathStatus) bool { return p.Sieved })
}

// allHeard sends advertisements among the flood's packets and requires that every one is
// heard.
func (f *flooding) allHeard(t *testing.T, from, to *end, cfg Instance) {
	t.Helper()
	const sent, among = 100, 20
	to.drain(to.routes[cfg.Name])
	heard := 0
	for range sent {
		f.send(among)
		if err := from.send(cfg, 7); err != nil {
			t.Fatal(err)
		}
		heard += to.drain(to.routes[cfg.Name])
	}
	if heard != sent {
		t.Errorf("%d sent, %d heard; %v", sent, heard, nonzero(to.Status().Paths[1].Dropped))
	}
}

// TestSieve floods a node and changes all that its sieve depends on.
func TestSieve(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51, inMode(auth.Enforce))
	b.add("compass", 51, inMode(auth.Enforce))
	hears(t, a, b, cfg)
	f := startFlood(t, wire.Config{Local: addrs4[0], Peer: addrs4[1]}, sealed(t, cfg, testKeys(t, "f"), 1, 1))
	eventually(t, "the sieve", b.sieved)
	f.calm.Store(true)
	eventually(t, "what came before it to be read", func() bool { return b.drain(b.routes["compass"]) == 0 })
	t.Run("all of the peer's come through", func(t *testing.T) {
		f.allHeard(t, a, b, cfg)
		if !b.sieved() || a.sieved() {
			t.Errorf("sieves: %v, %v", a.sieved(), b.sieved())
		}
	})
	t.Run("new keys", func(t *testing.T) {
		for _, step := range [][]string{{"a", "b"}, {"b", "a"}, {"b"}} {
			for _, e := range []*end{b, a} {
				if err := e.SetKeys(testKeys(t, step...)); err != nil {
					t.Fatal(err)
				}
				f.allHeard(t, a, b, cfg)
			}
		}
		if !b.sieved() {
			t.Error("the sieve is off")
		}
	})
	t.Run("another instance", func(t *testing.T) {
		second := a.add("second", 52, inMode(auth.Enforce))
		b.add("second", 52, inMode(auth.Enforce))
		f.allHeard(t, a, b, second)
		f.allHeard(t, a, b, cfg)
		b.replace("second", 53, inMode(auth.Enforce))
		a.replace("second", 53, inMode(auth.Enforce))
		f.allHeard(t, a, b, a.instance("second", 53, inMode(auth.Enforce)))
		b.Remove("second")
		f.allHeard(t, a, b, cfg)
		if !b.sieved() {
			t.Error("the sieve is off")
		}
	})
	t.Run("an instance that takes bare ones", func(t *testing.T) {
		b.replace("compass", 51, inMode(auth.Permissive))
		if b.sieved() {
			t.Error("the sieve is on")
		}
		f.stop() // all of it is accepted
		a.replace("compass", 51, inMode(auth.None))
		b.drain(b.routes["compass"])
		for range 100 {
			if err := a.send(cfg, 7); err != nil || b.drain(b.routes["compass"]) != 1 {
				t.Fatalf("a bare one is not heard, %v", err)
			}
		}
		a.replace("compass", 51, inMode(auth.Enforce))
		b.replace("compass", 51, inMode(auth.Enforce))
		if !b.sieved() {
			t.Error("the sieve is off")
		}
		f.allHeard(t, a, b, cfg)
	})
	t.Run("its end", func(t *testing.T) {
		eventually(t, "the end", func() bool { return !b.sieved() })
		before := b.of("compass").Dropped.ByName()["auth_key"]
		f.send(1000)
		b.routes["compass"].Drain()
		if n := b.of("compass").Dropped.ByName()["auth_key"] - before; n != 1000 {
			t.Errorf("%d of 1000 counted", n)
		}
		var told []string
		for _, l := range b.told.all() {
			if strings.Contains(l, "sift") {
				told = append(told, l)
			}
		}
		const doing, from = ": sift the heartbeat path ", "from path 192.0.2.12 to 192.0.2.11: "
		if len(told) != 2 || !strings.HasPrefix(told[0], doing+"(flood): "+from) || !strings.HasPrefix(told[1], doing+"(over): "+from) {
			t.Errorf("told %q", told)
		}
	})
}

// TestSieveOfEveryKind floods the other kinds of paths.
func TestSieveOfEveryKind(t *testing.T) {
	if !inside(t) {
		return
	}
	link6 := netip.MustParseAddr("fe80::11")
	for _, tt := range []struct {
		name   string
		change []func(*Instance)
		flood  wire.Config
	}{
		{"unicast IPv6", []func(*Instance){overIPv6}, wire.Config{Local: addrs6[0], Peer: addrs6[1]}},
		{"multicast IPv4", []func(*Instance){onGroup}, wire.Config{Local: addrs4[0], Peer: vrrp.Group(addrs4[0]), Interface: "heart0"}},
		{"multicast IPv6", []func(*Instance){overIPv6, onGroup}, wire.Config{Local: link6, Peer: vrrp.Group(link6), Interface: "heart0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newEnd(t, 0), newEnd(t, 1)
			change := append(slices.Clone(tt.change), inMode(auth.Enforce))
			cfg := a.add("compass", 51, change...)
			b.add("compass", 51, change...)
			hears(t, a, b, cfg)
			bare, err := advert(cfg).AppendTo(nil, tt.flood.Local, tt.flood.Peer, vrrp.ChecksumRFC)
			if err != nil {
				t.Fatal(err)
			}
			f := startFlood(t, tt.flood, bare)
			eventually(t, "the sieve", b.sieved)
			f.calm.Store(true)
			eventually(t, "what came before it to be read", func() bool { return b.drain(b.routes["compass"]) == 0 })
			f.allHeard(t, a, b, cfg)
			second := a.add("second", 52, change...)
			b.add("second", 52, change...)
			f.allHeard(t, a, b, second)
			if !b.sieved() {
				t.Error("the sieve is off")
			}
		})
	}
}

// TestSieveEndsBesideWhatItCannotKeepOut has somebody send true advertisements on from
// behind a router: each is refused, and passes every sieve.
func TestSieveEndsBesideWhatItCannotKeepOut(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51, inMode(auth.Enforce))
	b.add("compass", 51, inMode(auth.Enforce))
	hears(t, a, b, cfg)
	f := startFlood(t, wire.Config{Local: addrs4[0], Peer: addrs4[1]}, encoded(t, advert(cfg)))
	eventually(t, "the sieve", b.sieved)
	f.stop()
	say, payload := raw(t, 254), sealed(t, cfg, testKeys(t, "a"), 1, 1)
	eventually(t, "its end", func() bool { // 100 a second at most
		say(payload)
		return !b.sieved()
	})
	b.routes["compass"].Drain()
	before := b.Status().Paths[1].Dropped["ttl"]
	say(payload)
	b.routes["compass"].Drain()
	if n := b.Status().Paths[1].Dropped["ttl"] - before; n != 1 {
		t.Errorf("%d of 1 counted", n)
	}
}

// TestWrongKeyIsNoFlood has a peer with another key and many instances: each refusal is
// counted.
func TestWrongKeyIsNoFlood(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0, "f"), newEnd(t, 1)
	cfg := a.add("compass", 51, inMode(auth.Enforce))
	b.add("compass", 51, inMode(auth.Enforce))
	eventually(t, "a refusal", func() bool {
		return a.send(cfg, 7) == nil && b.of("compass").Dropped.ByName()["auth_key"] > 0
	})
	b.routes["compass"].Drain()
	before := b.of("compass").Dropped.ByName()["auth_key"]
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 50 {
		for range 100 {
			if err := a.send(cfg, 7); err != nil {
				t.Fatal(err)
			}
		}
		<-tick.C
		if b.sieved() {
			t.Fatal("the sieve is on")
		}
	}
	b.routes["compass"].Drain()
	if n := b.of("compass").Dropped.ByName()["auth_key"] - before; n != 5000 {
		t.Errorf("%d of 5000 counted", n)
	}
}

// TestFloodOfOtherThings floods with what no instance is asked about.
func TestFloodOfOtherThings(t *testing.T) {
	if !inside(t) {
		return
	}
	for _, tt := range []struct {
		name    string
		ttl     int
		payload func(cfg Instance) []byte
	}{
		{"from behind a router", 254, func(cfg Instance) []byte { return encoded(t, advert(cfg)) }},
		{"probes", vrrp.TTL, func(Instance) []byte { return vrrp.AppendProbe(nil, 7, addrs4[0], addrs4[1]) }},
		{"another virtual router's", vrrp.TTL, func(cfg Instance) []byte {
			a := advert(cfg)
			a.VRID = 99
			return encoded(t, a)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newEnd(t, 0), newEnd(t, 1)
			cfg := a.add("compass", 51, inMode(auth.Enforce))
			b.add("compass", 51, inMode(auth.Enforce))
			hears(t, a, b, cfg)
			say, payload := raw(t, tt.ttl), tt.payload(cfg)
			eventually(t, "the sieve", func() bool {
				for end := time.Now().Add(lookInterval); time.Now().Before(end); {
					say(payload)
				}
				return b.sieved()
			})
		})
	}
}
