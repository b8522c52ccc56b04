package heartbeat

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

// raw is a socket that says anything in the name of node 0.
func raw(t *testing.T, ttl int) func(payload []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, vrrp.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addrs4[0].As4()}); err != nil {
		t.Fatal(err)
	}
	return func(payload []byte) {
		if err := unix.Sendto(fd, payload, 0, &unix.SockaddrInet4{Addr: addrs4[1].As4()}); err != nil {
			t.Fatal(err)
		}
	}
}

// encoded is what goes from node 0 to node 1.
func encoded(t *testing.T, a vrrp.Advertisement) []byte {
	t.Helper()
	b, err := a.AppendTo(nil, addrs4[0], addrs4[1], vrrp.ChecksumRFC)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rightSum corrects the checksum of a message that was changed.
func rightSum(b []byte) []byte {
	b[6], b[7] = 0, 0
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[6:], ^uint16(sum))
	return b
}

// nonzero leaves what was counted.
func nonzero(counts map[string]uint64) map[string]uint64 {
	some := map[string]uint64{}
	for reason, n := range counts {
		if n > 0 {
			some[reason] = n
		}
	}
	return some
}

// TestDrops sends one of everything that is no advertisement for this node: each
// is counted under its reason, on the path and for the instance that it names,
// and told of once.
func TestDrops(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51)
	b.add("compass", 51)
	hears(t, a, b, cfg)
	good := encoded(t, advert(cfg))
	change := func(f func([]byte) []byte) []byte { return f(slices.Clone(good)) }
	at := func(i int, v byte) []byte {
		return change(func(b []byte) []byte { b[i] = v; return rightSum(b) })
	}
	version2 := encoded(t, vrrp.Advertisement{
		Version: 2, VRID: 51, Priority: 1, MaxAdvertInterval: 100, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")},
	})
	say := raw(t, 255)
	for _, tt := range []struct {
		reason  vrrp.DropReason
		ours    bool // the instance is named
		told    bool
		payload []byte
	}{
		{vrrp.DropShort, false, true, nil},
		{vrrp.DropShort, true, true, good[:7]},
		{vrrp.DropVersion, true, true, at(0, 0x41)},
		{vrrp.DropVersion, true, true, version2},
		{vrrp.DropType, true, true, at(0, 0x32)},
		{vrrp.DropCount, true, true, at(3, 0)},
		{vrrp.DropLength, true, true, at(3, 2)},
		{vrrp.DropLength, true, true, append(slices.Clone(good), 0, 0, 0, 0)},
		{vrrp.DropAuth, true, true, change(func([]byte) []byte { b := slices.Clone(version2); b[4] = 1; return rightSum(b) })},
		{vrrp.DropChecksum, true, true, change(func(b []byte) []byte { b[2]++; return b })},
		{vrrp.DropVRID, false, true, at(1, 0)},
		{vrrp.DropInterval, true, true, change(func(b []byte) []byte { b[4], b[5] = 0, 0; return rightSum(b) })},
		{vrrp.DropUnknownVRID, false, false, at(1, 52)},
	} {
		name, in, before := tt.reason.String(), b.of("compass"), b.Status().Paths[1].Dropped
		b.told.all()
		say(tt.payload)
		b.routes["compass"].Drain()
		if got := b.Status().Paths[1].Dropped[name] - before[name]; got != 1 {
			t.Errorf("%s: %d counted on the path", name, got)
		}
		if got := b.of("compass").Dropped.ByName()[name] - in.Dropped.ByName()[name]; (got == 1) != tt.ours {
			t.Errorf("%s: %d counted for the instance", name, got)
		}
		lines := b.told.all()
		first := before[name] == 0 || tt.ours && in.Dropped.ByName()[name] == 0
		if want := tt.told && first; len(lines) != btoi(want) || want && !strings.Contains(lines[0], "("+name+"): from 192.0.2.11: ") {
			t.Errorf("%s: told %q", name, lines)
		}
	}
	if n := b.drain(b.routes["compass"]); n != 0 {
		t.Errorf("%d delivered", n)
	}
	t.Run("those that the socket makes", func(t *testing.T) {
		raw(t, 254)(good)
		eventually(t, "a line", func() bool {
			return slices.ContainsFunc(b.told.all(), func(l string) bool {
				return strings.Contains(l, "(ttl): from path 192.0.2.12 to 192.0.2.11: ")
			})
		})
		if got := b.Status().Paths[1].Dropped["ttl"]; got != 1 {
			t.Errorf("%d counted", got)
		}
	})
	t.Run("a flood", func(t *testing.T) {
		b.told.all()
		for range 1000 {
			say(at(0, 0x41))
		}
		b.routes["compass"].Drain()
		if lines := b.told.all(); len(lines) > 0 {
			t.Errorf("told %q", lines)
		}
		if got := b.of("compass").Dropped.ByName()["version"]; got != 1002 {
			t.Errorf("%d counted", got)
		}
	})
	t.Run("counts outlive the socket", func(t *testing.T) {
		before := b.Status().Paths[1].Dropped
		c := b.routes["compass"].paths[1].conn.Load()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another socket", func() bool {
			got := b.routes["compass"].paths[1].conn.Load()
			return got != nil && got != c
		})
		after := b.Status().Paths[1].Dropped
		for reason, n := range before {
			if after[reason] != n {
				t.Errorf("%s: %d, was %d", reason, after[reason], n)
			}
		}
		hears(t, a, b, cfg)
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sealed is an advertisement as node 0 seals it in some run.
func sealed(t *testing.T, cfg Instance, keys []auth.Key, boot, sequence uint64) []byte {
	t.Helper()
	s, err := auth.NewSealer(auth.SealerConfig{
		Mode: auth.Enforce, Keys: keys, Boot: boot, Instance: auth.Instance{VRID: cfg.Router.VRID, Name: cfg.Name},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Seal(encoded(t, advert(cfg)), addrs4[0], addrs4[1], sequence, 9)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestForgeries sends what an attacker on the network can: nothing of it counts.
func TestForgeries(t *testing.T) {
	if !inside(t) {
		return
	}
	keys := testKeys(t, "a")
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51, inMode(auth.Enforce))
	b.add("compass", 51, inMode(auth.Enforce))
	hears(t, a, b, cfg)
	a.stop() // its later runs are played by the test
	boot := a.Boot() + 1
	say := raw(t, 255)
	heard := func(payload []byte) int {
		say(payload)
		return b.drain(b.routes["compass"])
	}
	b.drain(b.routes["compass"])
	good := sealed(t, cfg, keys, boot, 1)
	if heard(good) != 1 {
		t.Fatal("the peer is not believed")
	}
	for _, tt := range []struct {
		name    string
		payload []byte
		reason  string
	}{
		{"bare", encoded(t, advert(cfg)), "auth_missing"},
		{"replayed", good, "auth_replay"},
		{"of an earlier run", sealed(t, cfg, keys, boot-1, 1<<40), "auth_old_boot"},
		{"another key", sealed(t, cfg, testKeys(t, "b"), boot, 2), "auth_key"},
		{"another instance's", func() []byte {
			other := cfg
			other.Name = "other"
			return sealed(t, other, keys, boot, 2)
		}(), "auth_key"},
		{"another trailer", func() []byte { p := sealed(t, cfg, keys, boot, 2); p[len(p)-60] = 9; return p }(), "auth_version"},
	} {
		before := b.of("compass")
		if heard(tt.payload) != 0 {
			t.Errorf("%s: delivered", tt.name)
		}
		if got := b.of("compass").Dropped.ByName()[tt.reason] - before.Dropped.ByName()[tt.reason]; got != 1 {
			t.Errorf("%s: %d dropped for %s; %v", tt.name, got, tt.reason, nonzero(b.of("compass").Dropped.ByName()))
		}
	}
	t.Run("every bit", func(t *testing.T) {
		payload := sealed(t, cfg, keys, boot, 2)
		for i := range payload {
			for bit := range 8 {
				forged := slices.Clone(payload)
				forged[i] ^= 1 << bit
				if heard(forged) != 0 {
					t.Errorf("byte %d bit %d: delivered", i, bit)
				}
			}
		}
		if heard(payload) != 1 {
			t.Error("and then the real one is not")
		}
	})
	t.Run("every length", func(t *testing.T) {
		payload := sealed(t, cfg, keys, boot, 3)
		for n := range len(payload) {
			if heard(payload[:n]) != 0 {
				t.Errorf("%d bytes: delivered", n)
			}
		}
		if heard(append(slices.Clone(payload), 0)) != 0 || heard(payload) != 1 {
			t.Error("one too many delivered, or the real one not")
		}
	})
	t.Run("noise", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		for range 2000 {
			whole := sealed(t, cfg, keys, boot, 4+random.Uint64N(100))
			p := slices.Clone(whole)
			for range 1 + random.IntN(4) {
				p[random.IntN(len(p))] = byte(random.Uint32())
			}
			if slices.Equal(p, whole) {
				continue // every change hit its own value
			}
			if heard(p) != 0 {
				t.Errorf("%x: delivered", p)
			}
		}
	})
	if heard(sealed(t, cfg, keys, boot, 200)) != 1 {
		t.Error("after all that the peer is not believed")
	}
}

// TestPermissive is the roll-out: everything is accepted, and what would not be
// is told.
func TestPermissive(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51)
	b.add("compass", 51, inMode(auth.Permissive))
	if got := hears(t, a, b, cfg); got.Proved || got.Epoch != 0 {
		t.Errorf("a bare one: %+v", got)
	}
	s := b.of("compass")
	if s.Proved || s.Doubt != auth.ReasonMissing || s.AcceptedDoubt[auth.ReasonMissing] == 0 || s.Dropped.ByName()["auth_missing"] != 0 {
		t.Errorf("status %+v", s)
	}
	hears(t, b, a, cfg) // who does not authenticate takes the trailer off
	if lines := b.told.all(); !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "without proof") }) {
		t.Errorf("told %q", lines)
	}
	b.drain(b.routes["compass"])
	a.replace("compass", 51, inMode(auth.Permissive))
	eventually(t, "a proved one", func() bool { return hears(t, a, b, cfg).Proved })
	b.replace("compass", 51, inMode(auth.Enforce))
	b.drain(b.routes["compass"])
	if got := hears(t, a, b, cfg); !got.Proved || got.Epoch != 7 {
		t.Errorf("a sealed one: %+v", got)
	}
	if s := b.of("compass"); s.Auth != auth.Enforce || s.Doubt != 0 || len(nonzero(s.Dropped.ByName())) != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestRotation changes the key in the documented steps, on one node after the
// other, with an advertisement over two paths between any two: none is lost.
func TestRotation(t *testing.T) {
	if !inside(t) {
		return
	}
	addAddress(t, "heart0", "198.51.100.11/24")
	addAddress(t, "heart1", "198.51.100.12/24")
	ends := []*end{newEnd(t, 0), newEnd(t, 1)}
	var cfg Instance
	for _, e := range ends {
		cfg = e.add("compass", 51, inMode(auth.Enforce))
	}
	upright := func(from, to *end) {
		t.Helper()
		to.drain(to.routes["compass"])
		if err := from.send(cfg, 0); err != nil {
			t.Fatal(err)
		}
		if n := to.drain(to.routes["compass"]); n != 2 {
			t.Fatalf("%d heard; %v", n, nonzero(to.of("compass").Dropped.ByName()))
		}
	}
	eventually(t, "both paths on both ends", func() bool {
		for i, from := range ends {
			to := ends[1-i]
			to.drain(to.routes["compass"])
			if from.send(cfg, 0) != nil || to.drain(to.routes["compass"]) != 2 {
				return false
			}
		}
		return true
	})
	for _, step := range [][]string{{"a", "b"}, {"b", "a"}, {"b"}} {
		for i, e := range ends {
			if err := e.SetKeys(testKeys(t, step...)); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				upright(ends[0], ends[1])
				upright(ends[1], ends[0])
			}
			second := e.of("compass").SecondKey
			if want := step[0] == "b" && len(step) == 2 && i == 0; second != want {
				t.Errorf("step %v node %d: the peer signs with our second key: %v", step, i, second)
			}
		}
	}
	if err := ends[0].SetKeys(nil); err == nil {
		t.Error("no key at all was accepted")
	}
	upright(ends[0], ends[1])
	for _, e := range ends {
		if dropped := nonzero(e.of("compass").Dropped.ByName()); len(dropped) != 0 {
			t.Errorf("dropped %v", dropped)
		}
	}
}

// TestConfirm lets a peer be believed that lost its disk and its clock.
func TestConfirm(t *testing.T) {
	if !inside(t) {
		return
	}
	a, b := newEnd(t, 0), newEnd(t, 1)
	cfg := a.add("compass", 51, inMode(auth.Enforce))
	b.add("compass", 51, inMode(auth.Enforce))
	hears(t, a, b, cfg)
	_, sequence := a.Said("compass")
	if sequence == 0 {
		t.Error("nothing said")
	}
	a.stop()
	b.drain(b.routes["compass"])
	say := raw(t, 255)
	early := sealed(t, cfg, testKeys(t, "a"), 12345, 5)
	say(early)
	if n := b.drain(b.routes["compass"]); n != 0 {
		t.Errorf("%d heard of a run that seems to be an earlier one", n)
	}
	if !b.Confirm("compass", 12345, 4) || b.Confirm("compass", 12345, 4) || b.Confirm("nobody", 1, 1) {
		t.Error("what Confirm reports")
	}
	say(early)
	if n := b.drain(b.routes["compass"]); n != 1 {
		t.Errorf("%d heard of a run that was confirmed", n)
	}
}

// FuzzReceive gives a packet of any content to an instance. Nothing is delivered
// but what the peer sealed.
func FuzzReceive(f *testing.F) {
	cfg := Instance{Name: "compass", Auth: auth.Enforce, Router: vrrp.Config{
		VRID: 51, Priority: 100, Interval: 100, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")}, Local: addrs4[1],
	}}
	key, err := auth.ParseKeys([]byte(strings.Repeat("a", 64)))
	if err != nil {
		f.Fatal(err)
	}
	message, err := advert(cfg).AppendTo(nil, addrs4[0], addrs4[1], vrrp.ChecksumRFC)
	if err != nil {
		f.Fatal(err)
	}
	s, err := auth.NewSealer(auth.SealerConfig{Mode: auth.Enforce, Keys: key, Boot: 1, Instance: auth.Instance{VRID: 51, Name: "compass"}})
	if err != nil {
		f.Fatal(err)
	}
	whole, err := s.Seal(slices.Clone(message), addrs4[0], addrs4[1], 1, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(message)
	f.Add(whole[:40])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, err := New(Config{Local: addrs4[1:], Peer: addrs4[:1], Keys: key, Clock: bootClock, Log: make(lines, 4)})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		deliver := func(string, failover.Advertised) { n++ }
		h.deliver.Store(&deliver)
		r, err := h.Add(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var c wire.Conn
		r.paths[0].conn.Store(&c)
		r.paths[0].received(&c, wire.Packet{Source: addrs4[0], Destination: addrs4[1], TTL: 255, Payload: payload})
		if want := btoi(slices.Equal(payload, whole)); n != want {
			t.Errorf("%d delivered of %x", n, payload)
		}
		total := uint64(n)
		for _, k := range h.Status().Paths[0].Dropped {
			total += k
		}
		if total != 1 {
			t.Errorf("counted %d times", total)
		}
	})
}
