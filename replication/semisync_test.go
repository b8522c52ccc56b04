package replication

import (
	"testing"
	"time"
)

// waiting is what a source says that waits for its one replica.
func waiting() SemiSync {
	return SemiSync{
		SourceStatus: Known(true), NoTx: Known(uint64(7)), Clients: Known(uint64(1)), Waiting: Known(uint64(0)),
		Patience: Known(10 * time.Second),
	}
}

func TestLossBound(t *testing.T) {
	for _, tc := range []struct {
		name   string
		mysql  bool
		policy Policy
		change func(d *Database, s *SemiSync) // s is the source's last word
		want   string
	}{
		{"waited since the first word", false, policy, nil, "at most 0 transactions: semi-sync, on for 6.0 s, heard 0.5 s ago"},
		{"the same on MySQL", true, policy, nil, "at most 0 transactions: semi-sync, on for 6.0 s, heard 0.5 s ago"},
		{"a commit went unacknowledged, and it waits again", false, policy, func(_ *Database, s *SemiSync) { s.NoTx = Known(uint64(8)) }, "at most 0 transactions: semi-sync, on for 0.0 s, heard 0.5 s ago"},
		{"it gave up waiting", false, policy, func(_ *Database, s *SemiSync) { s.SourceStatus = Known(false) }, ""},
		{"status unknown", false, policy, func(_ *Database, s *SemiSync) { s.SourceStatus = Unknown[bool]() }, ""},
		{"count unknown", false, policy, func(_ *Database, s *SemiSync) { s.NoTx = Null[uint64]() }, ""},
		{"nobody acknowledges", false, policy, func(_ *Database, s *SemiSync) { s.Clients = Known(uint64(0)) }, ""},
		{"another can have acknowledged", false, policy, func(_ *Database, s *SemiSync) { s.Clients = Known(uint64(2)) }, ""},
		{"who acknowledges unknown", false, policy, func(_ *Database, s *SemiSync) { s.Clients = Unknown[uint64]() }, ""},
		{"this one does not acknowledge", false, policy, func(d *Database, _ *SemiSync) { d.Facts.SemiSync.ReplicaEnabled = Known(false) }, ""},
		{"whether this one does unknown", false, policy, func(d *Database, _ *SemiSync) { d.Facts.SemiSync = SemiSync{} }, ""},
		{"patience unknown", false, policy, func(_ *Database, s *SemiSync) { s.Patience = Unknown[time.Duration]() }, ""},
		{"no patience without a replica", false, policy, func(_ *Database, s *SemiSync) { s.Patience = Known(time.Duration(0)) }, ""},
		{"patience may have run out", false, policy, func(_ *Database, s *SemiSync) { s.Patience = Known(2500 * time.Millisecond) }, ""},
		{"patience lasts", false, policy, func(_ *Database, s *SemiSync) { s.Patience = Known(2501 * time.Millisecond) }, "at most 0 transactions: semi-sync, on for 6.0 s, heard 0.5 s ago"},
		{"its facts may be older", false, Policy{MaxAge: 9500 * time.Millisecond}, nil, ""},
		{"a commit waits, which a MariaDB counts", false, policy, func(_ *Database, s *SemiSync) { s.Waiting = Known(uint64(1)) }, "at most 0 transactions: semi-sync, on for 6.0 s, heard 0.5 s ago"},
		{"a commit waits, which a MySQL does not count", true, policy, func(_ *Database, s *SemiSync) { s.Waiting = Known(uint64(1)) }, ""},
		{"whether one waits unknown", true, policy, func(_ *Database, s *SemiSync) { s.Waiting = Unknown[uint64]() }, ""},
		{"something is missing", false, policy, func(d *Database, _ *SemiSync) { d.Heard.Note(position("0-1-4712"), now-second/2) }, ""},
		{"received and not applied is here", false, policy, func(d *Database, _ *SemiSync) { d.Facts.Applied = Known(position("0-1-4700")) }, "at most 0 transactions: semi-sync, on for 6.0 s, heard 0.5 s ago"},
		{"applied unknown", false, policy, func(d *Database, _ *SemiSync) { d.Facts.Applied = Null[Position]() }, ""},
		{"received unknown", false, policy, func(d *Database, _ *SemiSync) { d.channel().Received = Null[Position]() }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := orphan()
			if tc.mysql {
				d = onMySQL(d)
			}
			last, _ := d.Heard.Last()
			d.Heard = Heard{}
			d.Facts.SemiSync.ReplicaEnabled = Known(true)
			for at := now - 13*second/2; at < now-second/2; at += second {
				d.Heard.Note(last, at)
				d.Heard.NoteSemiSync(waiting(), at)
			}
			d.Heard.Note(last, now-second/2)
			word := waiting()
			if tc.change != nil {
				tc.change(&d, &word)
			}
			d.Heard.NoteSemiSync(word, now-second/2)
			v := Gate(now, tc.policy, Question{Cause: SourceLost, Health: HealthGood, Databases: []Database{d}})
			got := ""
			if bound, ok := v.Databases[0].Bound.Get(); ok {
				got = bound.String()
			}
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// A word about semi-sync speaks for the position it came with, and for no other.
func TestSemiSyncSpeaksForItsPosition(t *testing.T) {
	d := orphan()
	d.Facts.SemiSync.ReplicaEnabled = Known(true)
	d.Heard.NoteSemiSync(waiting(), now-second/2)
	bound := func(cause Cause) bool {
		v := Gate(now, policy, Question{Cause: cause, Health: HealthGood, Databases: []Database{d}})
		return v.Databases[0].Bound.IsKnown()
	}
	if !bound(SourceLost) || !bound(Planned) {
		t.Fatal("no bound to begin with")
	}
	if bound(Resume) {
		t.Error("who resumes has lost no source")
	}
	d.Heard.Note(position("0-1-4711"), now-second/4)
	if bound(SourceLost) {
		t.Error("a later word without semi-sync leaves the bound")
	}
	d.Heard = Heard{}
	d.Heard.Restore(position("0-1-4711"))
	d.Heard.NoteSemiSync(waiting(), now-second/2)
	if bound(SourceLost) {
		t.Error("a position from before the start has a bound")
	}
}
