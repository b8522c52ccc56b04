package replication

// What the gate says of one database and of one node: each row is a test, and a
// line of docs/gate.md.

import (
	"time"

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

// gateRow changes one database that could be promoted, and says what the gate
// makes of it.
type gateRow struct {
	name   string
	cause  Cause
	policy Policy
	change func(*Database)
	want   []string // "code: detail"
}

func (r gateRow) verdict() Verdict {
	d := orphan()
	if r.cause == Planned {
		d = goodReplica()
	}
	if r.change != nil {
		r.change(&d)
	}
	return Gate(now, r.policy, Question{Cause: r.cause, Health: HealthGood, Databases: []Database{d}})
}

func gateRows() []gateRow { return append(mariaDBRows(), mysqlRows()...) }

func mariaDBRows() []gateRow {
	return []gateRow{
		{"planned/nothing is wrong", Planned, policy, nil, nil},
		{"planned/never measured", Planned, policy, func(d *Database) { d.Facts = Facts{} }, []string{"unknown: database was not measured yet"}},
		{"planned/nobody listens", Planned, policy, func(d *Database) { d.Facts.Reach = ReachRefused }, []string{"unreachable: database is not running or not listening"}},
		{"planned/no answer in time", Planned, policy, func(d *Database) { d.Facts.Reach = ReachTimedOut }, []string{"unreachable: database did not answer in time"}},
		{"planned/shutting down", Planned, policy, func(d *Database) { d.Facts.Reach = ReachShuttingDown }, []string{"unreachable: database is shutting down"}},
		{"planned/too many connections is alive and not known", Planned, policy, func(d *Database) {
			d.Facts.Reach, d.Facts.ReachDetail = ReachTooManyConnections, "error 1040"
		}, []string{"unknown: too many connections: error 1040"}},
		{"planned/a server of another kind", Planned, policy, func(d *Database) {
			d.Facts.Reach, d.Facts.ReachDetail = ReachUnsupported, "MySQL 8.4.3"
		}, []string{"unknown: unsupported: MySQL 8.4.3"}},
		{"planned/measured too long ago", Planned, policy, func(d *Database) { d.Facts.MeasuredAt = now - 3*second }, []string{"unknown: facts are 3.0 s old, more than 2.0 s"}},
		{"planned/measured as long ago as allowed", Planned, Policy{MaxLag: time.Second, MaxAge: 4 * time.Second}, func(d *Database) { d.Facts.MeasuredAt = now - 3*second }, nil},
		{"planned/measured in the future", Planned, policy, func(d *Database) { d.Facts.MeasuredAt = now + second }, []string{"unknown: facts are from 1.0 s in the future"}},
		{"planned/channels unknown", Planned, policy, func(d *Database) { d.Facts.Channels = Unknown[[]Channel]() }, []string{"unknown: replication channels are unknown"}},
		{"planned/no channel", Planned, policy, func(d *Database) { d.Facts.Channels = Known([]Channel{}) }, []string{"not_replica: replicates from nobody"}},
		{"planned/IO thread stopped", Planned, policy, func(d *Database) {
			c := d.channel()
			c.IO, c.LastIOError = ThreadStopped, Known(ServerError{1236, "purged"})
		}, []string{"io_stopped: IO thread stopped: error 1236: purged"}},
		{"planned/IO thread connecting", Planned, policy, func(d *Database) { d.channel().IO = ThreadConnecting }, []string{"io_stopped: IO thread is still connecting to db1:3306"}},
		{"planned/IO thread unknown", Planned, policy, func(d *Database) { d.channel().IO = ThreadUnknown }, []string{"unknown: state of the IO thread is unknown"}},
		{"planned/SQL thread stopped", Planned, policy, func(d *Database) {
			c := d.channel()
			c.SQL, c.LastSQLError, c.SecondsBehind = ThreadStopped, Known(ServerError{1062, "Duplicate entry"}), Null[time.Duration]()
		}, []string{"sql_stopped: SQL thread stopped: error 1062: Duplicate entry", "unknown: Seconds_Behind is NULL"}},
		{"planned/SQL thread unknown", Planned, policy, func(d *Database) { d.channel().SQL = ThreadUnknown }, []string{"unknown: state of the SQL thread is unknown"}},
		{"planned/last error of the SQL thread unknown", Planned, policy, func(d *Database) { d.channel().LastSQLError = Null[ServerError]() }, []string{"unknown: last error of the SQL thread is NULL"}},
		{"planned/SQL thread runs and reports an error", Planned, policy, func(d *Database) { d.channel().LastSQLError = Known(ServerError{1205, ""}) }, []string{"sql_stopped: SQL thread runs and reports error 1205"}},
		{"planned/use of GTIDs unknown", Planned, policy, func(d *Database) { d.channel().UsingGTID = Unknown[bool]() }, []string{"unknown: whether GTIDs are in use is unknown"}},
		{"planned/without GTIDs", Planned, policy, func(d *Database) { d.channel().UsingGTID = Known(false) }, []string{"unknown: replicates without GTIDs, so what is missing cannot be told"}},
		{"planned/SQL_Delay unknown", Planned, policy, func(d *Database) { d.channel().SQLDelay = Null[time.Duration]() }, []string{"unknown: SQL_Delay is NULL"}},
		{"planned/delayed on purpose", Planned, policy, func(d *Database) { d.channel().SQLDelay = Known(time.Hour) }, []string{"lagging: delayed replica: SQL_Delay is 3600 s"}},
		{"planned/Seconds_Behind NULL is not zero", Planned, policy, func(d *Database) { d.channel().SecondsBehind = Null[time.Duration]() }, []string{"unknown: Seconds_Behind is NULL"}},
		{"planned/Seconds_Behind unknown", Planned, policy, func(d *Database) { d.channel().SecondsBehind = Unknown[time.Duration]() }, []string{"unknown: Seconds_Behind is unknown"}},
		{"planned/as late as allowed", Planned, policy, func(d *Database) { d.channel().SecondsBehind = Known(5 * time.Second) }, nil},
		{"planned/later than allowed", Planned, policy, func(d *Database) { d.channel().SecondsBehind = Known(6 * time.Second) }, []string{"lagging: 6.0 s behind by the server's reckoning, more than 5.0 s"}},
		{"planned/received unknown", Planned, policy, func(d *Database) { d.channel().Received = Null[Position]() }, []string{"unknown: received position is not known"}},
		{"planned/applied unknown", Planned, policy, func(d *Database) { d.Facts.Applied = Null[Position]() }, []string{"unknown: applied position is NULL"}},
		{"planned/binary log position unknown", Planned, policy, func(d *Database) { d.Facts.Executed = Unknown[Position]() }, []string{"unknown: server_id is known, binary log position is unknown"}},
		{"planned/server_id unknown", Planned, policy, func(d *Database) { d.Facts.ServerID = Unknown[uint32]() }, []string{"unknown: server_id is unknown, binary log position is known"}},
		{"planned/source's position never heard", Planned, policy, func(d *Database) { d.Heard = Heard{} }, []string{"unknown: position of the source was not heard yet"}},
		{"planned/source's position heard before the start only", Planned, policy, func(d *Database) {
			d.Heard = Heard{}
			d.Heard.Restore(position("0-1-4711"))
		}, []string{"unknown: position of the source was not heard yet"}},
		{"planned/source's position heard too long ago", Planned, policy, func(d *Database) { d.Heard = heard("0-1-4711", now-9*second) }, []string{"unknown: position of the source was heard 9.0 s ago, more than 2.0 s"}},
		{"planned/source's position heard in the future", Planned, policy, func(d *Database) { d.Heard = heard("0-1-4711", now+second) }, []string{"unknown: position of the source was heard 1.0 s in the future"}},
		{"planned/100 missing for a moment", Planned, policy, func(d *Database) { d.Heard.Note(position("0-1-4811"), now-second/4) }, nil},
		{"planned/both threads run, lag 0, and 100 missing for long", Planned, policy, func(d *Database) {
			d.Heard = heard("0-1-4711", now-30*second)
			d.Heard.Note(position("0-1-4750"), now-20*second)
			d.Heard.Note(position("0-1-4811"), now-second/4)
		}, []string{"lagging: 100 transactions behind 0-1-4811, missing for 20 s, more than 5.0 s"}},
		{"planned/filtered", Planned, policy, func(d *Database) {
			c := d.channel()
			c.Filtered, c.Filters = Known(true), "Replicate_Ignore_DB: scratch"
		}, []string{"unknown: replication is filtered by Replicate_Ignore_DB: scratch: what a filter drops counts as applied, so what is missing cannot be told"}},
		{"planned/filters unknown", Planned, policy, func(d *Database) { d.channel().Filtered = Unknown[bool]() }, []string{"unknown: whether replication is filtered is unknown"}},
		{"planned/server_id is the source's", Planned, policy, func(d *Database) { d.channel().SourceServerID = Known(uint32(2)) }, []string{"unknown: " + sameServerID(2)}},
		{"planned/source never reached, so without a server_id", Planned, policy, func(d *Database) {
			d.channel().SourceServerID = Known(uint32(0))
		}, nil},
		{"planned/source of another kind", Planned, policy, func(d *Database) { d.Heard = heard(uuidA+":1-9", now) }, []string{"unknown: positions do not compare: MariaDB here, MySQL at the source"}},
		{"planned/received is gone", Planned, policy, func(d *Database) { d.MaxReceived = position("0-1-4720") }, []string{"behind_source: 9 transactions up to 0-1-4720 once received here are gone: the relay log was dropped before they were applied"}},
		{"planned/a write of its own", Planned, policy, func(d *Database) { d.Facts.Executed = Known(position("0-2-4712")) }, []string{"errant: wrote 0-2-4712 itself, beyond the 0-1-4711 it applied"}},
		{"planned/a write of its own in another domain", Planned, policy, func(d *Database) { d.Facts.Executed = Known(position("0-1-4711,9-2-1")) }, []string{"errant: wrote 9-2-1 itself, beyond the 0-1-4711 it applied"}},
		{"planned/another transaction in the place of the source's", Planned, policy, func(d *Database) { d.Facts.Applied = Known(position("0-3-4711")) }, []string{"errant: has 0-3-4711 where the source has 0-1-4711"}},
		{"planned/writes of its own, from when it was the source", Planned, policy, func(d *Database) {
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

		{"lost/nothing is wrong, IO thread connecting", SourceLost, policy, nil, nil},
		{"lost/IO thread stopped", SourceLost, policy, func(d *Database) { d.channel().IO = ThreadStopped }, nil},
		{"lost/no answer in time", SourceLost, policy, func(d *Database) { d.Facts.Reach = ReachTimedOut }, []string{"unreachable: database did not answer in time"}},
		{"lost/no channel", SourceLost, policy, func(d *Database) { d.Facts.Channels = Known([]Channel(nil)) }, []string{"not_replica: replicates from nobody"}},
		{"lost/SQL thread stopped", SourceLost, policy, func(d *Database) {
			c := d.channel()
			c.SQL, c.LastSQLError = ThreadStopped, Known(ServerError{1062, "Duplicate entry"})
		}, []string{"sql_stopped: SQL thread stopped: error 1062: Duplicate entry"}},
		{"lost/delayed on purpose", SourceLost, policy, func(d *Database) { d.channel().SQLDelay = Known(time.Minute) }, []string{"lagging: delayed replica: SQL_Delay is 60 s"}},
		{"lost/received and not applied", SourceLost, policy, func(d *Database) {
			d.Facts.Applied = Known(position("0-1-4706"))
		}, []string{
			"undrained: 5 transactions received and not applied, up to 0-1-4711",
			"behind_source: 5 transactions behind 0-1-4711, heard 0.5 s ago",
		}},
		{"lost/drained: received and not applied", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) {
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
		{"lost/filtered", SourceLost, policy, func(d *Database) {
			c := d.channel()
			c.Name, c.Filtered = "teams", Known(true)
		}, []string{"unknown: replication (channel teams) is filtered: what a filter drops counts as applied, so what is missing cannot be told"}},
		{"lost/server_id is the source's", SourceLost, policy, func(d *Database) { d.channel().SourceServerID = Known(uint32(2)) }, []string{"unknown: " + sameServerID(2)}},
		{"lost/drained: source of another kind", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) { d.Heard = heard(uuidA+":1-9", now) }, []string{"unknown: positions do not compare: MariaDB here, MySQL at the source"}},
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
		{"resume/a channel, stopped", Resume, policy, func(d *Database) { c := d.channel(); c.IO, c.SQL = ThreadStopped, ThreadStopped }, nil},
		{"resume/follows another", Resume, policy, nil, []string{"behind_source: replicates from db1:3306 (IO thread connecting, SQL thread running) though this node was active last"}},
		{"resume/a thread unknown", Resume, policy, func(d *Database) { c := d.channel(); c.IO, c.SQL = ThreadStopped, ThreadUnknown }, []string{"unknown: state of the replica threads is unknown"}},
		{"resume/channels unknown", Resume, policy, func(d *Database) { d.Facts.Channels = Null[[]Channel]() }, []string{"unknown: replication channels are NULL"}},
		{"resume/nobody listens", Resume, policy, func(d *Database) { d.Facts.Reach = ReachRefused }, []string{"unreachable: database is not running or not listening"}},
		{"resume/measured too long ago", Resume, policy, func(d *Database) { d.Facts.MeasuredAt = 0 }, []string{"unknown: facts are 100 s old, more than 2.0 s"}},
	}
}

type nodeRow struct {
	name   string
	policy Policy
	q      Question
	want   []Reason
}

func nodeRows() []nodeRow {
	return []nodeRow{
		{"no databases", policy, Question{Health: HealthGood}, nil},
		{"no databases, so nothing to lose", Policy{AfterLoss: Manual}, Question{Cause: SourceLost, Health: HealthGood}, nil},
		{"blocked", policy, Question{Health: HealthGood, Block: Hold{true, "new disk"}}, []Reason{{Blocked, "", "promotion of this node is blocked: new disk"}}},
		{"blocked without a reason", policy, Question{Cause: Resume, Health: HealthGood, Block: Hold{On: true}}, []Reason{{Blocked, "", "promotion of this node is blocked"}}},
		{"maintenance", policy, Question{Cause: SourceLost, Health: HealthGood, Maintenance: Hold{true, "kernel"}}, []Reason{{Maintenance, "", "in maintenance: kernel"}}},
		{"maintenance lets the holder resume", policy, Question{Cause: Resume, Health: HealthGood, Maintenance: Hold{On: true}}, nil},
		{"health not known yet", policy, Question{}, []Reason{{NotKnown, "", "health of this node is not known yet"}}},
		{"a health check fails", policy, Question{Health: HealthBad, HealthDetail: "eth0 has no carrier"}, []Reason{{Unhealthy, "", "eth0 has no carrier"}}},
		{"a health check fails, without a detail", policy, Question{Health: HealthBad}, []Reason{{Unhealthy, "", "a health check fails"}}},
		{"an operator decides", Policy{AfterLoss: Manual}, Question{Cause: SourceLost, Health: HealthGood, Databases: []Database{orphan()}}, []Reason{{Blocked, "", "the source is lost and after_loss is manual: an operator decides"}}},
		{"an operator decides, and asks for it", Policy{MaxLag: time.Second, AfterLoss: Manual}, Question{Health: HealthGood, Databases: []Database{goodReplica()}}, nil},
		{"a policy that does not exist", Policy{AfterLoss: 9}, Question{Cause: SourceLost, Health: HealthGood, Databases: []Database{orphan()}}, []Reason{{NotKnown, "", "policy after_loss invalid (9) is not one the gate knows"}}},
		{"a cause that does not exist", policy, Question{Cause: 9, Health: HealthGood}, []Reason{{NotKnown, "", "cause invalid (9) is not one the gate knows"}}},
	}
}
