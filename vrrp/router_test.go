package vrrp

import (
	"fmt"
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

type row struct {
	clause string
	state  State
	alter  func(*Config)
	event  Event
	after  time.Duration // when event comes, counted from startedAt
	want   []Effect
	end    State
	timer  mono.Instant
	learnt time.Duration // ActiveAdverInterval afterwards; 1 s when zero
}

func noPreempt(c *Config)    { c.Preempt = false }
func addressOwner(c *Config) { c.Priority = OwnerPriority }

// skew100 is Skew_Time at priority 100 and 1 s: 156/256 s, and down100 the
// Active_Down_Interval.
const (
	skew100 = 609375 * time.Microsecond
	down100 = 3609375 * time.Microsecond
)

func rows() []row {
	backupNow := at(down100)
	return []row{
		{
			clause: "6.4.1/startup-becomes-backup", state: Initialize, event: Startup{},
			want: []Effect{Transition{Initialize, Backup, ReasonStartup}}, end: Backup, timer: backupNow,
		},
		{
			clause: "6.4.1/owner-offers-at-once", state: Initialize, alter: addressOwner, event: Startup{},
			want: []Effect{Transition{Initialize, Backup, ReasonStartup}, ActiveDown{}}, end: Backup, timer: stopped,
		},
		{clause: "6.4.1/shutdown-is-nothing", state: Initialize, event: Shutdown{}, end: Initialize, timer: stopped},
		{clause: "6.4.1/advertisement-is-nothing", state: Initialize, event: heardFrom(200, 100, highest), end: Initialize, timer: stopped},
		{clause: "6.4.1/tick-is-nothing", state: Initialize, event: Tick{}, after: time.Hour, end: Initialize, timer: stopped},
		{clause: "6.4.1/claim-is-nothing", state: Initialize, event: Claim{}, end: Initialize, timer: stopped},
		{clause: "6.4.1/yield-is-nothing", state: Initialize, event: Yield{}, end: Initialize, timer: stopped},

		{clause: "6.4.2/startup-is-nothing", state: Backup, event: Startup{}, after: time.Second, end: Backup, timer: backupNow},
		{
			clause: "6.4.2/shutdown-cancels-timer", state: Backup, event: Shutdown{},
			want: []Effect{Transition{Backup, Initialize, ReasonShutdown}}, end: Initialize, timer: stopped,
		},
		{clause: "6.4.2/tick-before-deadline-is-nothing", state: Backup, event: Tick{}, after: down100 - 1, end: Backup, timer: backupNow},
		{
			clause: "6.4.2/timer-offers-and-stays", state: Backup, event: Tick{}, after: down100,
			want: []Effect{ActiveDown{}}, end: Backup, timer: stopped,
		},
		{
			clause: "6.4.2/claim-advertises-and-becomes-active", state: Backup, event: Claim{}, after: time.Second,
			want: []Effect{own(), Transition{Backup, Active, ReasonClaimed}}, end: Active, timer: at(2 * time.Second),
		},
		{clause: "6.4.2/yield-is-nothing", state: Backup, event: Yield{}, after: time.Second, end: Backup, timer: backupNow},
		{
			clause: "6.4.2/priority-0-waits-skew-time", state: Backup, event: heardFrom(0, 100, highest), after: time.Second,
			end: Backup, timer: at(time.Second + skew100),
		},
		{
			clause: "6.4.2/priority-0-arms-a-stopped-timer", state: Backup, alter: addressOwner, event: heardFrom(0, 100, highest),
			end: Backup, timer: at(time.Second / 256),
		},
		{
			clause: "6.4.2/higher-priority-is-learnt", state: Backup, event: heardFrom(200, 10, lowest), after: time.Second,
			want: []Effect{Heard{Priority: 200, Source: lowest}},
			end:  Backup, timer: at(time.Second + down100/10), learnt: 100 * time.Millisecond,
		},
		{
			clause: "6.4.2/equal-priority-is-learnt", state: Backup, event: heardFrom(100, 200, lowest),
			want: []Effect{Heard{Priority: 100, Source: lowest}},
			end:  Backup, timer: at(2 * down100), learnt: 2 * time.Second,
		},
		{
			clause: "6.4.2/lower-priority-is-discarded", state: Backup, event: heardFrom(99, 10, highest), after: time.Second,
			want: []Effect{Heard{Priority: 99, Source: highest, Weaker: true}}, end: Backup, timer: backupNow,
		},
		{
			clause: "6.4.2/lower-priority-is-learnt-without-preempt", state: Backup, alter: noPreempt, event: heardFrom(99, 10, highest),
			want: []Effect{Heard{Priority: 99, Source: highest}},
			end:  Backup, timer: at(down100 / 10), learnt: 100 * time.Millisecond,
		},
		{
			clause: "6.4.2/lower-priority-arms-a-stopped-timer", state: Backup, alter: addressOwner, event: heardFrom(99, 100, highest),
			want: []Effect{Heard{Priority: 99, Source: highest, Weaker: true}}, end: Backup, timer: at(3*time.Second + time.Second/256),
		},
		{clause: "7.1/other-vrid-is-nothing-in-backup", state: Backup, event: otherVRID(), end: Backup, timer: backupNow},
		{clause: "7.1/interval-0-is-nothing-in-backup", state: Backup, event: heardFrom(200, 0, highest), end: Backup, timer: backupNow},

		{clause: "6.4.3/startup-is-nothing", state: Active, event: Startup{}, end: Active, timer: at(time.Second)},
		{
			clause: "6.4.3/shutdown-drops-the-address-then-says-0", state: Active, event: Shutdown{},
			want: []Effect{Transition{Active, Initialize, ReasonShutdown}, Send{advert(0, 100)}}, end: Initialize, timer: stopped,
		},
		{clause: "6.4.3/tick-before-deadline-is-nothing", state: Active, event: Tick{}, after: time.Second - 1, end: Active, timer: at(time.Second)},
		{
			clause: "6.4.3/timer-advertises", state: Active, event: Tick{}, after: time.Second,
			want: []Effect{own()}, end: Active, timer: at(2 * time.Second),
		},
		{
			clause: "6.4.3/late-timer-sends-once", state: Active, event: Tick{}, after: 10 * time.Second,
			want: []Effect{own()}, end: Active, timer: at(11 * time.Second),
		},
		{clause: "6.4.3/claim-is-nothing", state: Active, event: Claim{}, after: time.Second / 2, end: Active, timer: at(time.Second)},
		{
			clause: "6.4.3/yield-says-nothing", state: Active, event: Yield{}, after: time.Second,
			want: []Effect{Transition{Active, Backup, ReasonYielded}}, end: Backup, timer: at(time.Second + down100),
		},
		{
			clause: "6.4.3/priority-0-is-answered-and-resets-timer", state: Active, event: heardFrom(0, 100, lowest), after: time.Second / 2,
			want: []Effect{own()}, end: Active, timer: at(time.Second * 3 / 2),
		},
		{
			clause: "6.4.3/higher-priority-wins", state: Active, event: heardFrom(101, 10, lowest), after: time.Second / 2,
			want: []Effect{Transition{Active, Backup, ReasonHigherPriority}},
			end:  Backup, timer: at(time.Second/2 + down100/10), learnt: 100 * time.Millisecond,
		},
		{
			clause: "6.4.3/equal-priority-higher-address-wins", state: Active, event: heardFrom(100, 200, highest),
			want: []Effect{Transition{Active, Backup, ReasonHigherAddress}}, end: Backup, timer: at(2 * down100), learnt: 2 * time.Second,
		},
		{
			clause: "6.4.3/equal-priority-lower-address-is-answered", state: Active, event: heardFrom(100, 100, lowest),
			want: []Effect{own(), WeakerHeard{Priority: 100, Source: lowest}}, end: Active, timer: at(time.Second),
		},
		{
			clause: "6.4.3/lower-priority-is-answered", state: Active, event: heardFrom(99, 10, highest), after: time.Second / 2,
			want: []Effect{own(), WeakerHeard{Priority: 99, Source: highest}}, end: Active, timer: at(time.Second),
		},
		{
			clause: "6.4.3/preempt-is-not-looked-at", state: Active, alter: noPreempt, event: heardFrom(101, 100, lowest),
			want: []Effect{Transition{Active, Backup, ReasonHigherPriority}}, end: Backup, timer: backupNow,
		},
		{clause: "6.4.3/own-address-is-not-answered", state: Active, event: heardFrom(100, 100, local), end: Active, timer: at(time.Second)},
		{clause: "7.1/other-vrid-is-nothing-in-active", state: Active, event: otherVRID(), end: Active, timer: at(time.Second)},
		{clause: "7.1/interval-0-is-nothing-in-active", state: Active, event: heardFrom(200, 0, highest), end: Active, timer: at(time.Second)},
	}
}

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
