package failover

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// promotedRig returns an Active that an earlier daemon made one, with its databases at
// 0-2-100 then and nothing counted in the heartbeat table.
func promotedRig(t *testing.T, names ...string) *rig {
	t.Helper()
	r := newRig(t, func(c *Config) { c.Databases = names })
	var rs []Remembered
	for _, n := range names {
		rs = append(rs, Remembered{Database: n, Promoted: at(t, "0-2-100"), BeatsKnown: true})
	}
	r.step(Started{Boot: 7, Leftover: true, Positions: rs, Memory: hooks.Memory{Epoch: 4, ActiveEpoch: 4, Role: hooks.Active, Finished: true}})
	r.wantState(Active, Adopted)
	return r
}

// counted adds the heartbeat table to facts.
func counted(f replication.Facts, beats uint64) replication.Facts {
	rows := []replication.Beat{{Server: 2, Epoch: 3, Count: 500}}
	if beats > 0 {
		rows = append(rows, replication.Beat{Server: 1, Epoch: 4, Count: beats})
	}
	f.Beats = replication.Known(rows)
	return f
}

// TestWrote: what clients wrote, heartbeats not counted.
func TestWrote(t *testing.T) {
	type look struct {
		position string
		beats    int // in the table, -1: there is none
	}
	for _, tt := range []struct {
		name  string
		looks []look
		want  Wrote
	}{
		{"not measured since the daemon began", nil, WroteUnknown},
		{"measured once", []look{{"0-1-101", -1}}, WroteUnknown},
		{"nothing", []look{{"0-2-100", -1}, {"0-2-100", -1}}, WroteNo},
		{"a write", []look{{"0-1-101", -1}, {"0-1-101", -1}}, WroteYes},
		{"only heartbeats", []look{{"0-1-101", 1}, {"0-1-102", 2}, {"0-1-103", 3}, {"0-1-103", 3}}, WroteNo},
		{"a heartbeat that the position has and the table not yet", []look{{"0-1-103", 2}, {"0-1-103", 3}}, WroteNo},
		{"a write among heartbeats", []look{{"0-1-101", 1}, {"0-1-103", 2}, {"0-1-103", 2}}, WroteYes},
		{"applied from the source", []look{{"0-2-140", -1}, {"0-2-140", -1}}, WroteNo},
		{"it stays so", []look{{"0-1-101", -1}, {"0-1-101", -1}, {"0-2-100", -1}, {"0-2-100", -1}}, WroteYes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := promotedRig(t, "pivot")
			for _, l := range tt.looks {
				f := r.source("pivot", l.position)
				if l.beats >= 0 {
					f = counted(f, uint64(l.beats))
				}
				r.peerBids()
				r.measures(f)
			}
			if got := r.o.peerState().Wrote; got != tt.want {
				t.Errorf("%s", got)
			}
		})
	}
	t.Run("a table that cannot be read", func(t *testing.T) {
		r := promotedRig(t, "pivot")
		for range 2 {
			f := r.source("pivot", "0-1-140")
			f.BeatDetail = "no such table"
			r.measures(f)
		}
		if got := r.o.peerState().Wrote; got != WroteNo {
			t.Errorf("%s", got) // as far as it was ever known
		}
	})
	t.Run("a daemon that does not know where it began", func(t *testing.T) {
		r := sourceRig(t, "pivot")
		r.measures(r.source("pivot", "0-1-140"))
		r.measures(r.source("pivot", "0-1-140"))
		if got := r.o.peerState().Wrote; got != WroteUnknown {
			t.Errorf("%s", got)
		}
		r.measures(r.source("pivot", "0-1-141"))
		r.measures(r.source("pivot", "0-1-141"))
		if got := r.o.peerState().Wrote; got != WroteYes {
			t.Errorf("after a write that it saw: %s", got)
		}
	})
}

// TestWhereWritingBegins: at the final positions of a switchover, which a forced one
// need not have reached.
func TestWhereWritingBegins(t *testing.T) {
	final := []Position{{Database: "pivot", Executed: at(t, "0-2-140")}}
	for _, tt := range []struct {
		name     string
		measured string
		forced   bool
		then     string // as measured later
		want     Wrote
	}{
		{"reached/no writes", "0-2-100", false, "0-2-140", WroteNo},
		{"reached/a write", "0-2-100", false, "0-1-141", WroteYes},
		{"forced and reached", "0-2-140", true, "0-1-141", WroteYes},
		{"forced and not reached", "0-2-100", true, "0-1-120", WroteUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := promotedRig(t, "pivot")
			r.measures(r.source("pivot", tt.measured))
			r.o.databases[0].Facts = r.source("pivot", tt.measured)
			r.o.beginWriting(final, tt.forced)
			for range 2 {
				r.measures(r.source("pivot", tt.then))
			}
			if got := r.o.peerState().Wrote; got != tt.want {
				t.Errorf("%s", got)
			}
		})
	}
}

// TestWroteIsRemembered: from the promotion on, also by the daemon that follows.
func TestWroteIsRemembered(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
	r.step(Started{Boot: 7, Memory: hooks.Memory{Epoch: 1, ActiveEpoch: 1, Role: hooks.Active, Finished: true}})
	var stored []Remembered
	facts := func() replication.Facts { return counted(r.source("pivot", "0-1-100"), 40) }
	r.lives(10*time.Millisecond, around{facts: facts})
	r.well()
	for _, e := range r.lives(5*time.Second, around{facts: facts}) {
		if e, ok := e.(Remember); ok {
			stored = e.Positions
		}
	}
	r.wantState(Active, PeerSilent)
	want := []Remembered{{Database: "pivot", Promoted: at(t, "0-1-100"), Beats: 40, BeatsKnown: true}}
	if diff := cmp.Diff(want, stored, cmp.Comparer(replication.Position.Equal)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if got := r.o.peerState().Wrote; got != WroteNo {
		t.Errorf("%s", got)
	}
}

// TestContestOfOneEpoch: two Actives of one epoch. Both nodes come to the same answer
// from the same facts, and never do both give way.
func TestContestOfOneEpoch(t *testing.T) {
	stays := func(t *testing.T, mine, theirs Wrote, priority uint8, heartbeat, link bool) bool {
		t.Helper()
		r := newRig(t, func(c *Config) {
			c.Databases = []string{"pivot"}
			c.Router.Priority, c.PeerPriority = priority, 254
			if priority == 254 {
				c.PeerPriority = 253
			}
		})
		var rs []Remembered
		if mine != WroteUnknown {
			rs = []Remembered{{Database: "pivot", Promoted: at(t, "0-2-100"), BeatsKnown: true}}
		}
		r.step(Started{Boot: 7, Leftover: true, Positions: rs, Memory: hooks.Memory{Epoch: 4, ActiveEpoch: 4, Role: hooks.Active, Finished: true}})
		position := "0-2-100"
		if mine == WroteYes {
			position = "0-1-120"
		}
		for range 3 {
			r.measures(r.source("pivot", position))
		}
		for range 20 {
			if heartbeat {
				r.proves(r.o.cfg.PeerPriority, 4)
			}
			if link {
				r.says(PeerState{State: Active, Holds: true, ActiveEpoch: 4, Epoch: 4, Wrote: theirs, HearsLink: SenseHeard})
			}
			r.run(100 * time.Millisecond)
			if !r.o.lease.held {
				return false
			}
		}
		return true
	}
	const unknown, no, yes = WroteUnknown, WroteNo, WroteYes
	for _, tt := range []struct {
		name         string
		mine, theirs Wrote
		strong, weak bool // this node stays, with the higher and with the lower priority
	}{
		{"neither wrote", no, no, true, false},
		{"both wrote", yes, yes, true, false},
		{"this one wrote", yes, no, true, true},
		{"the peer wrote", no, yes, false, false},
		{"not known of this one", unknown, yes, true, false},
		{"not known of the peer", yes, unknown, true, false},
		{"nothing known", unknown, unknown, true, false},
	} {
		for _, way := range []struct {
			name            string
			heartbeat, link bool
		}{{"both signs", true, true}, {"the link alone", false, true}} {
			t.Run(tt.name+"/"+way.name, func(t *testing.T) {
				if got := stays(t, tt.mine, tt.theirs, 254, way.heartbeat, way.link); got != tt.strong {
					t.Errorf("with the higher priority it stays: %t", got)
				}
				if got := stays(t, tt.mine, tt.theirs, 253, way.heartbeat, way.link); got != tt.weak {
					t.Errorf("with the lower priority it stays: %t", got)
				}
			})
		}
	}
	t.Run("without the link priority decides", func(t *testing.T) {
		if !stays(t, no, yes, 254, true, false) || stays(t, yes, no, 253, true, false) {
			t.Error("it does not")
		}
	})
	// What each sees of the other may be older than what that knows of itself.
	t.Run("never both give way", func(t *testing.T) {
		for _, a := range []Wrote{no, yes} {
			for _, b := range []Wrote{no, yes} {
				for sawA := no; sawA <= a; sawA++ {
					for sawB := no; sawB <= b; sawB++ {
						if !stays(t, a, sawB, 254, true, true) && !stays(t, b, sawA, 253, true, true) {
							t.Errorf("they wrote %s and %s and saw %s and %s", a, b, sawA, sawB)
						}
					}
				}
			}
		}
	})
}

// TestElectByWrites: two that were Active in one epoch and are not any more.
func TestElectByWrites(t *testing.T) {
	for _, tt := range []struct {
		mine, theirs Wrote
		want         election
	}{
		{WroteYes, WroteNo, electSelf},
		{WroteNo, WroteYes, electPeer},
		{WroteYes, WroteYes, electNeither},
		{WroteUnknown, WroteYes, electNeither},
	} {
		t.Run(tt.mine.String()+" and "+tt.theirs.String(), func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Databases = []string{"pivot"} })
			r.step(Started{Boot: 7, Memory: hooks.Memory{Epoch: 4, ActiveEpoch: 4, Role: hooks.Active, Finished: true}})
			r.measures(r.source("pivot", "0-1-100"))
			r.o.writing.wrote = tt.mine
			r.says(PeerState{
				State: Backup, Sources: AllSources, ActiveEpoch: 4, Epoch: 4, Wrote: tt.theirs,
				Positions: []Position{{Database: "pivot", Executed: at(t, "0-2-90")}},
			})
			if got := r.o.elect(); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
