package vrrp

import (
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// row is one pair of a state and an event under one condition, which clause
// names after the section of RFC 9568, or of RFC 3768 where it says so.
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
func version2(c *Config)     { c.Version, c.Interval = Version2, 300 }
func addressOwner(c *Config) { c.Priority = OwnerPriority }

func inVersion2(ev Received) Received {
	ev.Advertisement.Version = Version2
	return ev
}

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
		{clause: "7.1/other-version-is-nothing-in-backup", state: Backup, event: inVersion2(heardFrom(200, 100, highest)), end: Backup, timer: backupNow},
		{
			clause: "3768-6.4.2/priority-0-waits-a-skew-time-of-one-second's", state: Backup, alter: version2, event: inVersion2(heardFrom(0, 300, highest)),
			after: time.Second, end: Backup, timer: at(time.Second + skew100), learnt: 3 * time.Second,
		},
		{
			clause: "3768-6.4.2/higher-priority-is-learnt-whatever-its-interval", state: Backup, alter: version2,
			event: inVersion2(heardFrom(200, 500, lowest)), want: []Effect{Heard{Priority: 200, Source: lowest}},
			end: Backup, timer: at(15*time.Second + skew100), learnt: 5 * time.Second,
		},

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
			clause: "6.4.3/late-timer-sends-once", state: Active, event: Tick{}, after: 10*time.Second + 300*time.Millisecond,
			want: []Effect{own()}, end: Active, timer: at(11 * time.Second),
		},
		{clause: "6.4.3/claim-is-nothing", state: Active, event: Claim{}, after: time.Second / 2, end: Active, timer: at(time.Second)},
		{
			clause: "6.4.3/yield-says-nothing", state: Active, event: Yield{}, after: time.Second,
			want: []Effect{Transition{Active, Backup, ReasonYielded}}, end: Backup, timer: at(time.Second + down100),
		},
		{
			clause: "6.4.3/priority-0-is-answered-and-resets-timer", state: Active, event: heardFrom(0, 100, lowest), after: time.Second * 5 / 4,
			want: []Effect{own()}, end: Active, timer: at(2 * time.Second),
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
		{clause: "7.1/other-version-is-nothing-in-active", state: Active, event: inVersion2(heardFrom(200, 100, highest)), end: Active, timer: at(time.Second)},
		{clause: "7.1/interval-0-is-nothing-in-active", state: Active, event: heardFrom(200, 0, highest), end: Active, timer: at(time.Second)},
	}
}
