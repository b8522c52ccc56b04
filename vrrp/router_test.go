package vrrp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanist-ha/tanist/internal/mono"
)

const (
	testVRID  = 51
	startedAt = mono.Instant(1000 * time.Second)
)

var (
	vip     = netip.MustParseAddr("192.0.2.100")
	lowest  = netip.MustParseAddr("192.0.2.1")
	local   = netip.MustParseAddr("192.0.2.11")
	highest = netip.MustParseAddr("192.0.2.200")
)

// at is an instant counted from startedAt, where every row begins.
func at(d time.Duration) mono.Instant { return startedAt.Add(d) }

func testConfig() Config {
	return Config{
		VRID: testVRID, Priority: 100, Interval: 100, Preempt: true,
		Addresses: []netip.Addr{vip}, Local: local,
	}
}

func advert(priority uint8, interval Centiseconds) Advertisement {
	return Advertisement{
		Version: Version3, VRID: testVRID, Priority: priority, MaxAdvertInterval: interval,
		Addresses: []netip.Addr{vip},
	}
}

func heardFrom(priority uint8, interval Centiseconds, source netip.Addr) Received {
	return Received{Advertisement: advert(priority, interval), Source: source}
}

func own() Send { return Send{Advertisement: advert(100, 100)} }

// routerIn returns a router that entered state at startedAt.
func routerIn(t *testing.T, cfg Config, state State) *Router {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if state >= Backup {
		r.Step(startedAt, Startup{}, nil)
	}
	if state == Active {
		r.Step(startedAt, Claim{}, nil)
	}
	if r.State() != state {
		t.Fatalf("router is in %v, want %v", r.State(), state)
	}
	return r
}

var cmpAddr = cmpopts.EquateComparable(netip.Addr{})

// stopped is the Deadline of a router whose timer does not run.
const stopped = mono.Instant(-1)

func otherVRID() Received {
	ev := heardFrom(200, 100, highest)
	ev.Advertisement.VRID++
	return ev
}

func TestRouterStep(t *testing.T) {
	for _, row := range rows() {
		t.Run(row.clause, func(t *testing.T) {
			cfg := testConfig()
			if row.alter != nil {
				row.alter(&cfg)
			}
			r := routerIn(t, cfg, row.state)
			got := r.Step(at(row.after), row.event, nil)
			if diff := cmp.Diff(row.want, got, cmpAddr); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			if r.State() != row.end {
				t.Errorf("state %v, want %v", r.State(), row.end)
			}
			timer, armed := r.Deadline()
			if !armed {
				timer = stopped
			}
			if timer != row.timer {
				t.Errorf("timer at %v, want %v", timer.Sub(startedAt), row.timer.Sub(startedAt))
			}
			learnt := row.learnt
			if learnt == 0 {
				learnt = time.Second
			}
			if got := r.ActiveAdverInterval(); got != learnt {
				t.Errorf("Active_Adver_Interval %v, want %v", got, learnt)
			}
		})
	}
}

// TestEveryPairHasARow holds the table to every state and every event.
func TestEveryPairHasARow(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range rows() {
		seen[fmt.Sprintf("%v x %v", row.state, reflect.TypeOf(row.event).Name())] = true
	}
	for _, state := range []State{Initialize, Backup, Active} {
		for _, ev := range everyEvent() {
			pair := fmt.Sprintf("%v x %v", state, reflect.TypeOf(ev).Name())
			if !seen[pair] {
				t.Errorf("no row for %s", pair)
			}
		}
	}
}

// TestAdvertisementsKeepToMultiplesOfTheInterval claims at any instant and wakes
// up to a whole interval late: no interval between two deadlines is longer than
// Advertisement_Interval.
func TestAdvertisementsKeepToMultiplesOfTheInterval(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, interval := range []Centiseconds{1, 10, 33, 100, MaxInterval} {
		length := interval.Duration()
		cfg := testConfig()
		cfg.Interval = interval
		r, now := routerIn(t, cfg, Backup), startedAt.Add(time.Duration(rnd.Int64N(int64(length))))
		r.Step(now, Claim{}, nil)
		for range 100 {
			timer, armed := r.Deadline()
			if !armed || !timer.After(now) || timer.Sub(now) > length || timer.Sub(0)%length != 0 {
				t.Fatalf("interval %v: sent at %v, the next is due %v later", length, now, timer.Sub(now))
			}
			now = timer.Add(time.Duration(rnd.Int64N(int64(length))))
			if sent := r.Step(now, Tick{}, nil); len(sent) != 1 {
				t.Fatalf("interval %v: effects %v at the deadline", length, sent)
			}
		}
	}
}

func TestAppendsToEffects(t *testing.T) {
	r := routerIn(t, testConfig(), Initialize)
	first := []Effect{WeakerHeard{Priority: 7, Source: lowest}}
	got := r.Step(startedAt, Startup{}, first)
	want := []Effect{WeakerHeard{Priority: 7, Source: lowest}, Transition{Initialize, Backup, ReasonStartup}}
	if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestNilEventIsNothing(t *testing.T) {
	for _, state := range []State{Initialize, Backup, Active} {
		if got := routerIn(t, testConfig(), state).Step(at(time.Hour), nil, nil); got != nil {
			t.Errorf("%v: effects %v, want none", state, got)
		}
	}
}

// TestPreemptingIsOfferedAgain follows a weaker Active that the owner does not
// preempt, until it dies.
func TestPreemptingIsOfferedAgain(t *testing.T) {
	r := routerIn(t, testConfig(), Backup)
	weaker := heardFrom(50, 100, highest)
	var offers []ActiveDown
	lastHeard := at(10 * time.Second)
	for now := startedAt; now.Before(at(time.Minute)); now = now.Add(100 * time.Millisecond) {
		if !now.After(lastHeard) && now.Sub(startedAt)%time.Second == 0 {
			r.Step(now, weaker, nil)
		}
		for _, eff := range r.Step(now, Tick{}, nil) {
			offers = append(offers, eff.(ActiveDown))
		}
	}
	// At 3.6 s, and every 3.6 s after what was heard last until then.
	want := []ActiveDown{{Preempting: true}, {Preempting: true}, {Preempting: true}, {Preempting: true}, {Preempting: false}}
	if diff := cmp.Diff(want, offers); diff != "" {
		t.Errorf("offers (-want +got):\n%s", diff)
	}
	if _, armed := r.Deadline(); armed {
		t.Error("timer runs after the last offer")
	}
}

// TestWeakerLeavingIsNotPreempted says goodbye right before the timer fires.
func TestWeakerLeavingIsNotPreempted(t *testing.T) {
	r := routerIn(t, testConfig(), Backup)
	r.Step(at(time.Second), heardFrom(50, 100, highest), nil)
	r.Step(at(2*time.Second), heardFrom(0, 100, highest), nil)
	got := r.Step(at(2*time.Second+skew100), Tick{}, nil)
	if diff := cmp.Diff([]Effect{ActiveDown{}}, got); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestNewRefuses(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::1")
	for name, alter := range map[string]func(*Config){
		"vrid 0":            func(c *Config) { c.VRID = 0 },
		"priority 0":        func(c *Config) { c.Priority = 0 },
		"interval 0":        func(c *Config) { c.Interval = 0 },
		"interval 4096":     func(c *Config) { c.Interval = 4096 },
		"no address":        func(c *Config) { c.Addresses = nil },
		"address not IPv4":  func(c *Config) { c.Addresses = []netip.Addr{v6} },
		"first not IPv4":    func(c *Config) { c.Addresses = []netip.Addr{v6, vip} },
		"IPv4-mapped":       func(c *Config) { c.Addresses = append(c.Addresses, netip.MustParseAddr("::ffff:192.0.2.1")) },
		"with a zone":       func(c *Config) { c.Addresses = append(c.Addresses, netip.MustParseAddr("fe80::1%eth0")) },
		"version 4":         func(c *Config) { c.Version = 4 },
		"version 2, 250 ms": func(c *Config) { c.Version, c.Interval = Version2, 25 },
		"version 2, IPv6": func(c *Config) {
			c.Version, c.Addresses, c.Local = Version2, []netip.Addr{v6}, netip.MustParseAddr("2001:db8::2")
		},
		"invalid address":    func(c *Config) { c.Addresses = []netip.Addr{{}} },
		"address twice":      func(c *Config) { c.Addresses = []netip.Addr{vip, vip} },
		"256 addresses":      func(c *Config) { c.Addresses = manyAddresses(256) },
		"no local address":   func(c *Config) { c.Local = netip.Addr{} },
		"local address IPv6": func(c *Config) { c.Local = v6 },
	} {
		cfg := testConfig()
		alter(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	cfg := testConfig()
	cfg.Addresses = manyAddresses(255)
	if _, err := New(cfg); err != nil {
		t.Errorf("255 addresses: %v", err)
	}
}

func manyAddresses(n int) []netip.Addr {
	addrs := make([]netip.Addr, n)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
	}
	return addrs
}

func manyAddresses6(n int) []netip.Addr {
	addrs := make([]netip.Addr, n)
	for i := range addrs {
		addrs[i] = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: byte(i >> 8), 15: byte(i)})
	}
	return addrs
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	add := func(s string) {
		if seen[s] {
			t.Errorf("%q names two values", s)
		}
		seen[s] = true
	}
	for s := Initialize; s <= Active+1; s++ {
		add(s.String())
	}
	for r := Reason(0); r <= ReasonHigherAddress+1; r++ {
		add(r.String())
	}
	for _, r := range append(DropReasons(), 0, lastDropReason+1) {
		add(r.String())
	}
}
