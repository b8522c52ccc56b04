package replication

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

func row(epoch, count uint64) []Beat {
	return []Beat{{Server: 9, Epoch: 99, Count: 99}, {Server: 1, Epoch: epoch, Count: count}}
}

func TestBeatLag(t *testing.T) {
	var h Heard
	if _, ok := h.BeatLag(row(7, 100), 5*second); ok {
		t.Fatal("no count was heard, and there is a lag")
	}
	h.NoteBeat(Beat{}, second) // a source without a table
	h.NoteBeat(Beat{1, 7, 10}, 10*second)
	h.NoteBeat(Beat{1, 7, 10}, 11*second) // said again, it is no younger
	h.NoteBeat(Beat{1, 7, 11}, 12*second)
	h.NoteBeat(Beat{1, 7, 12}, 13*second)
	for name, tc := range map[string]struct {
		rows  []Beat
		at    mono.Instant
		lag   time.Duration
		known bool
	}{
		"no row at all":                {nil, 20 * second, 10 * time.Second, true},
		"only another server's":        {row(7, 100)[:1], 20 * second, 10 * time.Second, true},
		"an older count":               {row(7, 9), 20 * second, 10 * time.Second, true},
		"an older epoch":               {row(6, 100), 20 * second, 10 * time.Second, true},
		"some of it":                   {row(7, 10), 20 * second, 8 * time.Second, true},
		"all of it":                    {row(7, 12), 14 * second, 0, true},
		"more than was heard":          {row(7, 13), 14 * second, 0, true},
		"a newer epoch":                {row(8, 1), 14 * second, 0, true},
		"all, and nothing heard since": {row(7, 12), 17 * second, 0, false},
		"a clock that went back":       {row(7, 10), 11 * second, 0, true},
	} {
		if lag, known := h.BeatLag(tc.rows, tc.at); lag != tc.lag || known != tc.known {
			t.Errorf("%s: %s, %v, want %s, %v", name, lag, known, tc.lag, tc.known)
		}
	}

	copied := h
	h.SettleBeats(row(7, 11))
	if lag, _ := h.BeatLag(row(7, 11), 20*second); lag != 7*time.Second {
		t.Errorf("after settling: %s", lag)
	}
	h.SettleBeats(row(7, 12))
	if lag, ok := h.BeatLag(row(7, 9), 20*second); !ok || lag != 7*time.Second {
		t.Errorf("the row went back: %s, %v", lag, ok)
	}
	if lag, _ := copied.BeatLag(row(7, 9), 20*second); lag != 10*time.Second {
		t.Errorf("the copy changed: %s", lag)
	}
	for _, anew := range []Beat{{1, 7, 3}, {1, 6, 50}, {2, 1, 1}} {
		one := h
		one.NoteBeat(anew, 30*second)
		if lag, ok := one.BeatLag(nil, 31*second); !ok || lag != time.Second {
			t.Errorf("began anew with %+v: %s, %v", anew, lag, ok)
		}
	}
}

func TestBeatsNeverLookYounger(t *testing.T) {
	var h Heard
	for i := uint64(1); i <= 1000; i++ {
		h.NoteBeat(Beat{1, 7, i}, mono.Instant(i)*second)
	}
	if n := len(h.beats.pending); n > maxPending {
		t.Fatalf("%d counts pending", n)
	}
	for here := uint64(0); here < 1000; here++ {
		lag, ok := h.BeatLag(row(7, here), 1000*second)
		if least := time.Duration(999-here) * time.Second; !ok || lag < least {
			t.Fatalf("count %d is here: %s, %v, want %s at least", here, lag, ok, least)
		}
	}
}

// The table is a witness more: it can close the gate and open none.
func TestGateHearsHeartbeat(t *testing.T) {
	d := goodReplica()
	d.Heard.NoteBeat(Beat{1, 7, 10}, now-8*second)
	d.Heard.NoteBeat(Beat{1, 7, 11}, now-second)
	ask := func(cause Cause, rows Optional[[]Beat]) (Verdict, DatabaseVerdict) {
		d := d
		d.Facts.Beats = rows
		v := Gate(now, policy, Question{Cause: cause, Health: HealthGood, Databases: []Database{d}})
		return v, v.Databases[0]
	}
	for name, tc := range map[string]struct {
		rows Optional[[]Beat]
		open bool
		lag  time.Duration
		from LagSource
	}{
		"behind by 8 s":            {Known(row(7, 9)), false, 8 * time.Second, LagHeartbeat},
		"the newest is on its way": {Known(row(7, 10)), true, time.Second, LagHeartbeat},
		"all of it":                {Known(row(7, 11)), true, 0, LagHeartbeat},
		"not readable":             {Unknown[[]Beat](), true, 0, LagServer},
	} {
		v, got := ask(Planned, tc.rows)
		if lag, ok := got.Lag.Get(); v.Open != tc.open || !ok || lag != tc.lag || got.LagFrom != tc.from {
			t.Errorf("%s: open %v, lag %s from %s; %v", name, v.Open, got.Lag, got.LagFrom, v.Reasons)
		}
	}
	want := "pivot: lagging: heartbeat 11 of server 1 is known of and not in the table here, the oldest missing for 8.0 s, more than 5.0 s"
	if v, _ := ask(Planned, Known(row(7, 9))); len(v.Reasons) != 1 || v.Reasons[0].String() != want {
		t.Errorf("%v", v.Reasons)
	}
	if v, got := ask(SourceLost, Known(row(7, 9))); !v.Open || got.LagFrom != LagNone {
		t.Errorf("the source is lost: %v, lag from %s", v.Reasons, got.LagFrom)
	}
}

func TestFactsOwnBeat(t *testing.T) {
	f := Facts{Beats: Known(row(7, 3))}
	if b := f.Beat(); b != (Beat{}) {
		t.Errorf("of a server that is not known: %+v", b)
	}
	f.ServerID = Known[uint32](1)
	if b := f.Beat(); b != (Beat{1, 7, 3}) {
		t.Errorf("%+v", b)
	}
	f.ServerID = Known[uint32](2)
	if b := f.Beat(); b != (Beat{}) {
		t.Errorf("of a server that has no row: %+v", b)
	}
}
