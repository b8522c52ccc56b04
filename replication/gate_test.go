package replication

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/mono"
)

const now = 100 * second

func position(s string) Position {
	p, err := ParsePosition(s)
	if err != nil {
		panic(err)
	}
	return p
}

func heard(s string, at mono.Instant) Heard {
	var h Heard
	h.Note(position(s), at)
	return h
}

// goodReplica is a replica at 0-1-4711 that has everything.
func goodReplica() Database {
	return Database{
		Name:        "pivot",
		Heard:       heard("0-1-4711", now-second/2),
		MaxReceived: position("0-1-4711"),
		Facts: Facts{
			Name: "pivot", MeasuredAt: now - second/10, Reach: Reachable,
			ServerID: Known(uint32(2)), ReadOnly: Known(true),
			Executed: Known(position("0-1-4711")), Applied: Known(position("0-1-4711")),
			ReplicasConnected: Known(uint64(0)), LongestTransaction: Known(time.Duration(0)),
			Channels: Known([]Channel{{
				SourceHost: "db1", SourcePort: 3306, IO: ThreadRunning, SQL: ThreadRunning,
				LastIOError: Known(ServerError{}), LastSQLError: Known(ServerError{}),
				SecondsBehind: Known(time.Duration(0)), Received: Known(position("0-1-4711")),
				UsingGTID: Known(true), SQLDelay: Known(time.Duration(0)), Filtered: Known(false),
			}}),
		},
	}
}

// orphan is the same replica after its source died.
func orphan() Database {
	d := goodReplica()
	c := d.channel()
	c.IO = ThreadConnecting
	c.SecondsBehind = Null[time.Duration]()
	c.LastIOError = Known(ServerError{2003, "Can't connect"})
	return d
}

func (d *Database) channel() *Channel {
	channels, _ := d.Facts.Channels.Get()
	own := append([]Channel(nil), channels...)
	d.Facts.Channels = Known(own)
	return &own[0]
}

var policy = Policy{MaxLag: 5 * time.Second}

func TestGateDatabase(t *testing.T) {
	type change = func(*Database)
	for _, tc := range []struct {
		name   string
		cause  Cause
		policy Policy
		change change
		want   []string // "code: detail"
	}{
		{"planned/good", Planned, policy, nil, nil},
		{"planned/never measured", Planned, policy, func(d *Database) { d.Facts = Facts{} }, []string{"unknown: database was not measured yet"}},
		{"planned/refused", Planned, policy, func(d *Database) { d.Facts.Reach = ReachRefused }, []string{"unreachable: database is not running or not listening"}},
		{"planned/timed out", Planned, policy, func(d *Database) { d.Facts.Reach = ReachTimedOut }, []string{"unreachable: database did not answer in time"}},
		{"planned/shutting down", Planned, policy, func(d *Database) { d.Facts.Reach = ReachShuttingDown }, []string{"unreachable: database is shutting down"}},
		{"planned/too many connections is alive and not known", Planned, policy, func(d *Database) {
			d.Facts.Reach, d.Facts.ReachDetail = ReachTooManyConnections, "error 1040"
		}, []string{"unknown: too many connections: error 1040"}},
		{"planned/unsupported", Planned, policy, func(d *Database) {
			d.Facts.Reach, d.Facts.ReachDetail = ReachUnsupported, "MySQL 8.4.3"
		}, []string{"unknown: unsupported: MySQL 8.4.3"}},
		{"planned/old facts", Planned, policy, func(d *Database) { d.Facts.MeasuredAt = now - 3*second }, []string{"unknown: facts are 3.0 s old, more than 2.0 s"}},
		{"planned/older facts allowed", Planned, Policy{MaxLag: time.Second, MaxAge: 4 * time.Second}, func(d *Database) { d.Facts.MeasuredAt = now - 3*second }, nil},
		{"planned/facts from the future", Planned, policy, func(d *Database) { d.Facts.MeasuredAt = now + second }, []string{"unknown: facts are from 1.0 s in the future"}},
		{"planned/channels unknown", Planned, policy, func(d *Database) { d.Facts.Channels = Unknown[[]Channel]() }, []string{"unknown: replication channels are unknown"}},
		{"planned/no channel", Planned, policy, func(d *Database) { d.Facts.Channels = Known([]Channel{}) }, []string{"not_replica: replicates from nobody"}},
		{"planned/io stopped", Planned, policy, func(d *Database) {
			c := d.channel()
			c.IO, c.LastIOError = ThreadStopped, Known(ServerError{1236, "purged"})
		}, []string{"io_stopped: IO thread stopped: error 1236: purged"}},
		{"planned/io connecting", Planned, policy, func(d *Database) { d.channel().IO = ThreadConnecting }, []string{"io_stopped: IO thread is still connecting to db1:3306"}},
		{"planned/io unknown", Planned, policy, func(d *Database) { d.channel().IO = ThreadUnknown }, []string{"unknown: state of the IO thread is unknown"}},
		{"planned/sql stopped", Planned, policy, func(d *Database) {
			c := d.channel()
			c.SQL, c.LastSQLError, c.SecondsBehind = ThreadStopped, Known(ServerError{1062, "Duplicate entry"}), Null[time.Duration]()
		}, []string{"sql_stopped: SQL thread stopped: error 1062: Duplicate entry", "unknown: Seconds_Behind is NULL"}},
		{"planned/sql unknown", Planned, policy, func(d *Database) { d.channel().SQL = ThreadUnknown }, []string{"unknown: state of the SQL thread is unknown"}},
		{"planned/sql error unknown", Planned, policy, func(d *Database) { d.channel().LastSQLError = Null[ServerError]() }, []string{"unknown: last error of the SQL thread is NULL"}},
		{"planned/sql error while it runs", Planned, policy, func(d *Database) { d.channel().LastSQLError = Known(ServerError{1205, ""}) }, []string{"sql_stopped: SQL thread runs and reports error 1205"}},
		{"planned/gtid unknown", Planned, policy, func(d *Database) { d.channel().UsingGTID = Unknown[bool]() }, []string{"unknown: whether GTIDs are in use is unknown"}},
		{"planned/without gtid", Planned, policy, func(d *Database) { d.channel().UsingGTID = Known(false) }, []string{"unknown: replicates without GTIDs, so what is missing cannot be told"}},
		{"planned/delay unknown", Planned, policy, func(d *Database) { d.channel().SQLDelay = Null[time.Duration]() }, []string{"unknown: SQL_Delay is NULL"}},
		{"planned/delayed", Planned, policy, func(d *Database) { d.channel().SQLDelay = Known(time.Hour) }, []string{"lagging: delayed replica: SQL_Delay is 3600 s"}},
		{"planned/seconds behind NULL is not zero", Planned, policy, func(d *Database) { d.channel().SecondsBehind = Null[time.Duration]() }, []string{"unknown: Seconds_Behind is NULL"}},
		{"planned/seconds behind unknown", Planned, policy, func(d *Database) { d.channel().SecondsBehind = Unknown[time.Duration]() }, []string{"unknown: Seconds_Behind is unknown"}},
		{"planned/at max lag", Planned, policy, func(d *Database) { d.channel().SecondsBehind = Known(5 * time.Second) }, nil},
		{"planned/over max lag", Planned, policy, func(d *Database) { d.channel().SecondsBehind = Known(6 * time.Second) }, []string{"lagging: 6.0 s behind by the server's reckoning, more than 5.0 s"}},
		{"planned/received unknown", Planned, policy, func(d *Database) { d.channel().Received = Null[Position]() }, []string{"unknown: received position is not known"}},
		{"planned/applied unknown", Planned, policy, func(d *Database) { d.Facts.Applied = Null[Position]() }, []string{"unknown: applied position is NULL"}},
		{"planned/executed unknown", Planned, policy, func(d *Database) { d.Facts.Executed = Unknown[Position]() }, []string{"unknown: server_id is known, binary log position is unknown"}},
		{"planned/server id unknown", Planned, policy, func(d *Database) { d.Facts.ServerID = Unknown[uint32]() }, []string{"unknown: server_id is unknown, binary log position is known"}},
		{"planned/never heard", Planned, policy, func(d *Database) { d.Heard = Heard{} }, []string{"unknown: position of the source was not heard yet"}},
		{"planned/heard before the start only", Planned, policy, func(d *Database) {
			d.Heard = Heard{}
			d.Heard.Restore(position("0-1-4711"))
		}, []string{"unknown: position of the source was not heard yet"}},
		{"planned/heard long ago", Planned, policy, func(d *Database) { d.Heard = heard("0-1-4711", now-9*second) }, []string{"unknown: position of the source was heard 9.0 s ago, more than 2.0 s"}},
		{"planned/heard in the future", Planned, policy, func(d *Database) { d.Heard = heard("0-1-4711", now+second) }, []string{"unknown: position of the source was heard 1.0 s in the future"}},
		{"planned/missing for a moment", Planned, policy, func(d *Database) { d.Heard.Note(position("0-1-4811"), now-second/4) }, nil},
		{"planned/both threads run, lag 0, and 100 missing for long", Planned, policy, func(d *Database) {
			d.Heard = heard("0-1-4711", now-30*second)
			d.Heard.Note(position("0-1-4750"), now-20*second)
			d.Heard.Note(position("0-1-4811"), now-second/4)
		}, []string{"lagging: 100 transactions behind 0-1-4811, missing for 20 s, more than 5.0 s"}},
		{"planned/received is gone", Planned, policy, func(d *Database) { d.MaxReceived = position("0-1-4720") }, []string{"behind_source: 9 transactions up to 0-1-4720 once received here are gone: the relay log was dropped before they were applied"}},
		{"planned/errant", Planned, policy, func(d *Database) { d.Facts.Executed = Known(position("0-2-4712")) }, []string{"errant: wrote 0-2-4712 itself, beyond the 0-1-4711 it applied"}},
		{"planned/errant in a domain of its own", Planned, policy, func(d *Database) { d.Facts.Executed = Known(position("0-1-4711,9-2-1")) }, []string{"errant: wrote 9-2-1 itself, beyond the 0-1-4711 it applied"}},
		{"planned/diverged", Planned, policy, func(d *Database) { d.Facts.Applied = Known(position("0-3-4711")) }, []string{"errant: has 0-3-4711 where the source has 0-1-4711"}},
		{"planned/once its own writes are applied", Planned, policy, func(d *Database) {
			d.Facts.Executed = Known(position("0-2-4711"))
			d.Facts.Applied = Known(position("0-2-4711"))
			d.Heard = heard("0-2-4711", now)
		}, nil},
		{"planned/a second channel counts", Planned, policy, func(d *Database) {
			first := *d.channel()
			second := first
			second.Name, second.IO = "teams", ThreadStopped
			d.Facts.Channels = Known([]Channel{first, second})
		}, []string{"io_stopped: IO thread stopped (channel teams)"}},

		{"lost/good", SourceLost, policy, nil, nil},
		{"lost/io stopped", SourceLost, policy, func(d *Database) { d.channel().IO = ThreadStopped }, nil},
		{"lost/unreachable", SourceLost, policy, func(d *Database) { d.Facts.Reach = ReachTimedOut }, []string{"unreachable: database did not answer in time"}},
		{"lost/no channel", SourceLost, policy, func(d *Database) { d.Facts.Channels = Known([]Channel(nil)) }, []string{"not_replica: replicates from nobody"}},
		{"lost/sql stopped", SourceLost, policy, func(d *Database) {
			c := d.channel()
			c.SQL, c.LastSQLError = ThreadStopped, Known(ServerError{1062, "Duplicate entry"})
		}, []string{"sql_stopped: SQL thread stopped: error 1062: Duplicate entry"}},
		{"lost/delayed", SourceLost, policy, func(d *Database) { d.channel().SQLDelay = Known(time.Minute) }, []string{"lagging: delayed replica: SQL_Delay is 60 s"}},
		{"lost/undrained", SourceLost, policy, func(d *Database) {
			d.Facts.Applied = Known(position("0-1-4706"))
		}, []string{
			"undrained: 5 transactions received and not applied, up to 0-1-4711",
			"behind_source: 5 transactions behind 0-1-4711, heard 0.5 s ago",
		}},
		{"lost/undrained under drained", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) {
			d.Facts.Applied = Known(position("0-1-4710"))
		}, []string{"undrained: 1 transaction received and not applied, up to 0-1-4711"}},
		{"lost/received unknown", SourceLost, policy, func(d *Database) { d.channel().Received = Null[Position]() }, []string{"unknown: received position is not known"}},
		{"lost/exact: behind", SourceLost, policy, func(d *Database) { d.Heard = heard("0-1-4723", now-second*4/10) }, []string{"behind_source: 12 transactions behind 0-1-4723, heard 0.4 s ago"}},
		{"lost/exact: behind what was heard before the start", SourceLost, policy, func(d *Database) {
			d.Heard = Heard{}
			d.Heard.Restore(position("0-1-4712"))
		}, []string{"behind_source: 1 transaction behind 0-1-4712, heard before this daemon started"}},
		{"lost/exact: heard before the start", SourceLost, policy, func(d *Database) {
			d.Heard = Heard{}
			d.Heard.Restore(position("0-1-4711"))
		}, nil},
		{"lost/exact: as many missing as allowed", SourceLost, Policy{MaxMissing: 12}, func(d *Database) { d.Heard = heard("0-1-4723", now) }, nil},
		{"lost/exact: more missing than allowed", SourceLost, Policy{MaxMissing: 11}, func(d *Database) { d.Heard = heard("0-1-4723", now) }, []string{"behind_source: 12 transactions behind 0-1-4723, heard 0.0 s ago, more than the 11 that may be missing"}},
		{"lost/exact: never heard", SourceLost, policy, func(d *Database) { d.Heard = Heard{} }, []string{"unknown: position of the lost source was never heard, so what is missing cannot be told: an operator decides"}},
		{"lost/drained: behind", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) { d.Heard = heard("0-1-4723", now) }, nil},
		{"lost/drained: never heard", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) { d.Heard = Heard{} }, nil},
		{"lost/drained: received is gone", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) { d.MaxReceived = position("0-1-4716") }, []string{"behind_source: 5 transactions up to 0-1-4716 once received here are gone: the relay log was dropped before they were applied"}},
		{"lost/own writes do not fill a gap", SourceLost, Policy{MaxMissing: 3}, func(d *Database) {
			d.Facts.Executed = Known(position("0-2-4720"))
			d.Heard = heard("0-1-4721", now)
		}, []string{
			"errant: wrote 0-2-4720 itself, beyond the 0-1-4711 it applied",
			"behind_source: 10 transactions behind 0-1-4721, heard 0.0 s ago, more than the 3 that may be missing",
		}},

		{"resume/no channel", Resume, policy, func(d *Database) { d.Facts.Channels = Known([]Channel{}) }, nil},
		{"resume/stopped channel", Resume, policy, func(d *Database) { c := d.channel(); c.IO, c.SQL = ThreadStopped, ThreadStopped }, nil},
		{"resume/replicates", Resume, policy, nil, []string{"behind_source: replicates from db1:3306 (IO thread connecting, SQL thread running) though this node was active last"}},
		{"resume/thread unknown", Resume, policy, func(d *Database) { c := d.channel(); c.IO, c.SQL = ThreadStopped, ThreadUnknown }, []string{"unknown: state of the replica threads is unknown"}},
		{"resume/channels unknown", Resume, policy, func(d *Database) { d.Facts.Channels = Null[[]Channel]() }, []string{"unknown: replication channels are NULL"}},
		{"resume/refused", Resume, policy, func(d *Database) { d.Facts.Reach = ReachRefused }, []string{"unreachable: database is not running or not listening"}},
		{"resume/old facts", Resume, policy, func(d *Database) { d.Facts.MeasuredAt = 0 }, []string{"unknown: facts are 100 s old, more than 2.0 s"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := orphan()
			if tc.cause == Planned {
				d = goodReplica()
			}
			if tc.change != nil {
				tc.change(&d)
			}
			v := Gate(now, tc.policy, Question{Cause: tc.cause, Health: HealthGood, Databases: []Database{d}})
			var got []string
			for _, r := range v.Reasons {
				if r.Database != "pivot" {
					t.Errorf("reason %v names no database", r)
				}
				got = append(got, r.Code.String()+": "+r.Detail)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if v.Open != (len(tc.want) == 0) || v.Databases[0].Open != v.Open {
				t.Errorf("open %v, database open %v", v.Open, v.Databases[0].Open)
			}
		})
	}
}

func TestGateNode(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy Policy
		q      Question
		want   []Reason
	}{
		{"no databases", policy, Question{Health: HealthGood}, nil},
		{"no databases, manual", Policy{AfterLoss: Manual}, Question{Cause: SourceLost, Health: HealthGood}, nil},
		{"blocked", policy, Question{Health: HealthGood, Block: Hold{true, "new disk"}}, []Reason{{Blocked, "", "promotion of this node is blocked: new disk"}}},
		{"blocked resume", policy, Question{Cause: Resume, Health: HealthGood, Block: Hold{On: true}}, []Reason{{Blocked, "", "promotion of this node is blocked"}}},
		{"maintenance", policy, Question{Cause: SourceLost, Health: HealthGood, Maintenance: Hold{true, "kernel"}}, []Reason{{Maintenance, "", "in maintenance: kernel"}}},
		{"maintenance lets the holder resume", policy, Question{Cause: Resume, Health: HealthGood, Maintenance: Hold{On: true}}, nil},
		{"health unknown", policy, Question{}, []Reason{{NotKnown, "", "health of this node is not known yet"}}},
		{"unhealthy", policy, Question{Health: HealthBad, HealthDetail: "eth0 has no carrier"}, []Reason{{Unhealthy, "", "eth0 has no carrier"}}},
		{"unhealthy, nameless", policy, Question{Health: HealthBad}, []Reason{{Unhealthy, "", "a health check fails"}}},
		{"manual", Policy{AfterLoss: Manual}, Question{Cause: SourceLost, Health: HealthGood, Databases: []Database{orphan()}}, []Reason{{Blocked, "", "the source is lost and after_loss is manual: an operator decides"}}},
		{"manual and planned", Policy{MaxLag: time.Second, AfterLoss: Manual}, Question{Health: HealthGood, Databases: []Database{goodReplica()}}, nil},
		{"policy unknown", Policy{AfterLoss: 9}, Question{Cause: SourceLost, Health: HealthGood, Databases: []Database{orphan()}}, []Reason{{NotKnown, "", "policy after_loss invalid (9) is not one the gate knows"}}},
		{"cause unknown", policy, Question{Cause: 9, Health: HealthGood}, []Reason{{NotKnown, "", "cause invalid (9) is not one the gate knows"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := Gate(now, tc.policy, tc.q)
			if diff := cmp.Diff(tc.want, v.Reasons); diff != "" {
				t.Error(diff)
			}
			if v.Open != (len(tc.want) == 0) {
				t.Errorf("open %v", v.Open)
			}
		})
	}
}

func TestGateOneBadDatabaseCloses(t *testing.T) {
	bad := goodReplica()
	bad.Name = "team7"
	bad.channel().IO = ThreadStopped
	v := Gate(now, policy, Question{Health: HealthGood, Databases: []Database{goodReplica(), bad, goodReplica()}})
	if diff := cmp.Diff([]Reason{{IOStopped, "team7", "IO thread stopped"}}, v.Reasons); diff != "" {
		t.Error(diff)
	}
	if v.Open || !v.Databases[0].Open || v.Databases[1].Open {
		t.Errorf("%+v", v)
	}
}

func TestGateReportsLoss(t *testing.T) {
	d := orphan()
	d.Facts.Applied = Known(position("0-1-4706"))
	d.Heard = heard("0-1-4611", now-2*second)
	d.Heard.Note(position("0-1-4721"), now-second) // 110 a second
	v := Gate(now, policy, Question{Cause: SourceLost, Health: HealthGood, Databases: []Database{d}})
	want := []DatabaseVerdict{{
		Name: "pivot", Missing: Known(uint64(15)), Unapplied: Known(uint64(5)), AtMost: Known(uint64(125)),
		HeardAge: Known(time.Second),
	}}
	if diff := cmp.Diff(want, v.Databases); diff != "" {
		t.Error(diff)
	}

	d = goodReplica()
	d.channel().SecondsBehind = Known(time.Second)
	d.Heard = heard("0-1-4711", now-30*second)
	d.Heard.Note(position("0-1-4712"), now-2*second)
	v = Gate(now, policy, Question{Health: HealthGood, Databases: []Database{d}})
	if lag, _ := v.Databases[0].Lag.Get(); lag != 2*time.Second || v.Databases[0].LagFrom != LagPositions {
		t.Errorf("lag %v from %v", lag, v.Databases[0].LagFrom)
	}
}

// The words are part of the operator's contract.
func TestCodeWords(t *testing.T) {
	want := "io_stopped sql_stopped lagging unknown undrained behind_source errant unreachable not_replica blocked maintenance unhealthy"
	var got []string
	for c := IOStopped; c <= Unhealthy; c++ {
		text, err := c.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Code
		if err := back.UnmarshalText(text); err != nil || back != c {
			t.Errorf("%s reads back as %v, %v", text, back, err)
		}
		got = append(got, string(text))
	}
	if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
		t.Error(diff)
	}
	var c Code
	if c.UnmarshalText(nil) == nil {
		t.Error("the empty code reads")
	}
	if _, err := c.MarshalText(); err == nil {
		t.Error("the empty code prints")
	}
}

// worse are changes after which a database is a poorer candidate, or less is known of it.
var worse = map[string]func(*Database, *rand.Rand){
	"measured never":    func(d *Database, _ *rand.Rand) { d.Facts = Facts{} },
	"measured earlier":  func(d *Database, r *rand.Rand) { d.Facts.MeasuredAt -= mono.Instant(r.Int64N(int64(10 * second))) },
	"not reached":       func(d *Database, r *rand.Rand) { d.Facts.Reach = []Reach{0, 2, 3, 4, 5, 6, 7, 8, 9, 200}[r.IntN(10)] },
	"channels unknown":  func(d *Database, _ *rand.Rand) { d.Facts.Channels = Unknown[[]Channel]() },
	"channels NULL":     func(d *Database, _ *rand.Rand) { d.Facts.Channels = Null[[]Channel]() },
	"applied unknown":   func(d *Database, _ *rand.Rand) { d.Facts.Applied = Unknown[Position]() },
	"applied NULL":      func(d *Database, _ *rand.Rand) { d.Facts.Applied = Null[Position]() },
	"applied less":      func(d *Database, r *rand.Rand) { d.Facts.Applied = lessOf(d.Facts.Applied, r) },
	"executed unknown":  func(d *Database, _ *rand.Rand) { d.Facts.Executed = Null[Position]() },
	"server id unknown": func(d *Database, _ *rand.Rand) { d.Facts.ServerID = Unknown[uint32]() },
	"errant write": func(d *Database, r *rand.Rand) {
		d.Facts.Executed = Known(PositionOf(GTID{0, 2, 4800 + r.Uint64N(100)}))
	},
	"vanished":          func(d *Database, r *rand.Rand) { d.MaxReceived = PositionOf(GTID{0, 1, 4800 + r.Uint64N(100)}) },
	"heard more":        func(d *Database, r *rand.Rand) { hearMore(d, r) },
	"heard nothing":     func(d *Database, _ *rand.Rand) { d.Heard = Heard{} },
	"io thread":         func(d *Database, r *rand.Rand) { d.channel().IO = worseThread(d.channel().IO, r) },
	"sql thread":        func(d *Database, r *rand.Rand) { d.channel().SQL = worseThread(d.channel().SQL, r) },
	"sql error":         func(d *Database, _ *rand.Rand) { d.channel().LastSQLError = Known(ServerError{1062, "x"}) },
	"sql error unknown": func(d *Database, _ *rand.Rand) { d.channel().LastSQLError = Null[ServerError]() },
	"lag NULL":          func(d *Database, _ *rand.Rand) { d.channel().SecondsBehind = Null[time.Duration]() },
	"lag more":          func(d *Database, r *rand.Rand) { moreLag(d.channel(), r) },
	"received unknown":  func(d *Database, _ *rand.Rand) { d.channel().Received = Null[Position]() },
	"no gtid":           func(d *Database, _ *rand.Rand) { d.channel().UsingGTID = Known(false) },
	"gtid unknown":      func(d *Database, _ *rand.Rand) { d.channel().UsingGTID = Null[bool]() },
	"delayed":           func(d *Database, _ *rand.Rand) { d.channel().SQLDelay = Known(time.Minute) },
	"delay unknown":     func(d *Database, _ *rand.Rand) { d.channel().SQLDelay = Unknown[time.Duration]() },
	"a bad channel more": func(d *Database, _ *rand.Rand) {
		c := *d.channel()
		all, _ := d.Facts.Channels.Get()
		d.Facts.Channels = Known(append(all, Channel{Name: "x", Received: c.Received}))
	},
}

// A property: whatever the gate said, after any fact got worse it is not open
// where it was closed. Lost sources and living ones, every policy.
func TestGateNeverOpensWhenAFactGetsWorse(t *testing.T) {
	// Sorted, so that a seed means the same changes every time.
	names := slices.Sorted(maps.Keys(worse))
	opened := 0
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 1))
		cause := []Cause{Planned, SourceLost}[r.IntN(2)]
		p := Policy{MaxLag: time.Duration(r.IntN(8)) * time.Second, MaxMissing: r.Uint64N(20), AfterLoss: AfterLoss(r.IntN(3))}
		d := goodReplica()
		if cause == SourceLost {
			d = orphan()
		}
		var done []string
		open := true
		for step := 0; step < 4; step++ {
			v := Gate(now, p, Question{Cause: cause, Health: HealthGood, Databases: []Database{d}})
			if v.Open {
				opened++
			}
			if v.Open && !open {
				t.Fatalf("seed %d: %s, %+v: opened by %v", seed, cause, p, done)
			}
			open = v.Open
			channels, _ := d.Facts.Channels.Get()
			name := names[r.IntN(len(names))]
			if len(channels) == 0 && needsChannel(name) {
				break
			}
			worse[name](&d, r)
			done = append(done, name)
		}
	}
	if opened < 1000 {
		t.Errorf("the gate was open only %d times: the test shows little", opened)
	}
}

// Every change alone, and each combination of what is not known, closes a gate
// that was open, unless the policy allows for it.
func TestGateUnknownIsClosed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for name, change := range worse {
		if !strings.Contains(name, "unknown") && !strings.Contains(name, "NULL") && !strings.Contains(name, "never") {
			continue
		}
		for _, cause := range []Cause{Planned, SourceLost} {
			d := goodReplica()
			if cause == SourceLost {
				d = orphan()
			}
			change(&d, r)
			v := Gate(now, Policy{MaxLag: time.Hour, MaxMissing: 1 << 60, AfterLoss: Drained}, Question{Cause: cause, Health: HealthGood, Databases: []Database{d}})
			// Lag says nothing once the source is lost.
			if want := cause == SourceLost && name == "lag NULL"; v.Open != want {
				t.Errorf("%s, %s: open %v", cause, name, v.Open)
			}
		}
	}
}

func needsChannel(name string) bool {
	switch name {
	case "io thread", "sql thread", "sql error", "sql error unknown", "lag NULL", "lag more", "received unknown",
		"no gtid", "gtid unknown", "delayed", "delay unknown", "a bad channel more":
		return true
	}
	return false
}

func lessOf(p Optional[Position], r *rand.Rand) Optional[Position] {
	old, ok := p.Get()
	if !ok || old.Empty() {
		return p
	}
	g := old.GTIDs()[0]
	g.Sequence -= min(g.Sequence, r.Uint64N(20))
	return Known(PositionOf(g))
}

func hearMore(d *Database, r *rand.Rand) {
	last, _ := d.Heard.Last()
	g := last.GTIDs()
	if len(g) == 0 {
		return
	}
	g[0].Sequence += r.Uint64N(20)
	d.Heard.Note(PositionOf(g[0]), now-mono.Instant(r.Int64N(int64(second/4))))
}

func worseThread(s ThreadState, r *rand.Rand) ThreadState {
	if s != ThreadRunning {
		return ThreadUnknown
	}
	return []ThreadState{ThreadUnknown, ThreadStopped, ThreadConnecting}[r.IntN(3)]
}

func moreLag(c *Channel, r *rand.Rand) {
	if lag, ok := c.SecondsBehind.Get(); ok {
		c.SecondsBehind = Known(lag + time.Duration(r.IntN(10))*time.Second)
	}
}
