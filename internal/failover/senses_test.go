package failover

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanist-ha/tanist/vrrp"
)

// TestTwoSigns: nobody takes over while either sign proves the other Active and well.
func TestTwoSigns(t *testing.T) {
	active := PeerState{State: Active, Holds: true, ActiveEpoch: 3, Epoch: 3, Bids: true, HearsLink: SenseHeard}
	for _, tt := range []struct {
		name      string
		heartbeat bool
		link      bool
		said      PeerState
		takes     bool
		state     State
		why       Reason
		lost      []OneWay
	}{
		{name: "both signs", heartbeat: true, link: true, said: active, state: Backup, why: PeerActive},
		{
			name: "only the link, heartbeats lost on all paths", link: true, said: active, state: Backup, why: PeerActive,
			lost: []OneWay{{Sign: HeartbeatSign, Direction: FromPeer}},
		},
		{
			name: "only the heartbeat, the link lost", heartbeat: true, said: active, state: Backup, why: PeerActive,
			lost: []OneWay{{Sign: LinkSign, Direction: FromPeer}},
		},
		{name: "neither", said: active, takes: true},
		{name: "the link, of a peer that promotes", link: true, said: PeerState{State: Promoting, Bids: true, Epoch: 3}, state: Backup, why: PeerActive},
		{name: "the link, of a peer that is no Active", link: true, said: PeerState{State: Backup, Bids: true, Sources: NoDatabases, HearsLink: SenseHeard}, takes: true},
		{name: "the link, of a peer that is sick and gave the role up", link: true, said: PeerState{State: Fault, HearsLink: SenseHeard}, takes: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
			r.boots()
			r.hears(253)
			r.says(active)
			took := false
			for end := r.now.Add(10 * time.Second); r.now.Before(end) && !took; {
				if tt.heartbeat {
					r.hears(253)
				}
				if tt.link {
					r.says(tt.said)
				}
				took = r.o.bid != nil && !r.o.bid.before(bidJournaling)
				r.answers(100*time.Millisecond, Asked{})
				took = took || r.o.bid != nil && !r.o.bid.before(bidJournaling)
			}
			if took != tt.takes {
				t.Fatalf("takes over: %t; %s (%s)", took, r.o.state, r.o.why.Reason)
			}
			if tt.takes {
				return
			}
			r.wantState(tt.state, tt.why)
			if diff := cmp.Diff(tt.lost, r.o.Status(r.now).OneWay, cmpopts.IgnoreFields(OneWay{}, "Since")); diff != "" {
				t.Errorf("one way (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOneWay: a sign that is lost in one direction is found by what the peer says it
// hears, told once, and over when it is heard again.
func TestOneWay(t *testing.T) {
	standby := PeerState{State: Backup, Bids: true, Hears: true, HearsHeartbeat: SenseHeard, HearsLink: SenseHeard}
	deaf, mute, old := standby, standby, standby
	deaf.HearsHeartbeat, mute.HearsLink = SenseLost, SenseLost
	old.HearsHeartbeat, old.HearsLink = SenseUnknown, SenseUnknown
	for _, tt := range []struct {
		name string
		said PeerState
		want []OneWay
	}{
		{"the standby hears both", standby, nil},
		{"the standby hears no advertisement", deaf, []OneWay{{Sign: HeartbeatSign, Direction: ToPeer}}},
		{"the standby hears nothing over the link", mute, []OneWay{{Sign: LinkSign, Direction: ToPeer}}},
		{"a release that does not say", old, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := activeRig(t, nil)
			began := r.now
			notes := func(d time.Duration, said PeerState) (n int) {
				for end := r.now.Add(d); r.now.Before(end); {
					r.says(said)
					for _, e := range r.lives(100*time.Millisecond, around{}) {
						if e, ok := e.(Note); ok && e.Why.Reason == OneWayLoss {
							n++
						}
					}
				}
				return n
			}
			notes(500*time.Millisecond, tt.said)
			if got := r.o.Status(r.now).OneWay; got != nil {
				t.Errorf("found at once: %v", got)
			}
			told := notes(20*time.Second, tt.said)
			got := r.o.Status(r.now).OneWay
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(OneWay{}, "Since")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if told != len(tt.want) {
				t.Errorf("told %d times", told)
			}
			if len(got) > 0 && (got[0].Since.Before(began) || got[0].Since.After(began.Add(time.Second))) {
				t.Errorf("since %s after it began", got[0].Since.Sub(began))
			}
			r.wantState(Active, PeerSilent)
			if over := notes(5*time.Second, standby); over != len(tt.want) || r.o.Status(r.now).OneWay != nil {
				t.Errorf("told %d times that it is over, left %v", over, r.o.Status(r.now).OneWay)
			}
		})
	}
}

// TestTellsWhatItHears: each sign by itself.
func TestTellsWhatItHears(t *testing.T) {
	type senses struct{ Heartbeat, Link Sense }
	told := func(r *rig) senses {
		s := r.o.peerState()
		return senses{s.HearsHeartbeat, s.HearsLink}
	}
	r := newRig(t, nil)
	r.boots()
	for _, tt := range []struct {
		name string
		do   func()
		want senses
	}{
		{"nothing yet", func() {}, senses{SenseLost, SenseLost}},
		{"an advertisement", func() { r.hears(253) }, senses{SenseHeard, SenseLost}},
		{"a word over the link", func() { r.says(PeerState{State: Active, Holds: true}) }, senses{SenseHeard, SenseHeard}},
		{"a goodbye", func() { r.hears(0) }, senses{SenseLost, SenseHeard}},
		{"silence", func() { r.now = r.now.Add(vrrp.Centiseconds(100).Duration()) }, senses{SenseLost, SenseLost}},
	} {
		tt.do()
		r.o.now = r.now
		if diff := cmp.Diff(tt.want, told(r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
