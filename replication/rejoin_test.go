package replication

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// oldMySQL and newMySQL are a pair after a failover that lost nothing.
func oldMySQL() Facts {
	return Facts{
		Reach: Reachable, ServerID: Known(uint32(1)), ServerUUID: Known(uuidA), ReadOnly: Known(true), GTIDMode: Known(true),
		Executed: Known(position(uuidA + ":1-204")), Applied: Known(position(uuidA + ":1-204")), Purged: Known(Position{}),
		Channels: Known([]Channel{}), LogReplicaUpdates: Known(true),
	}
}

func newMySQL() Facts {
	f := oldMySQL()
	f.ServerID, f.ServerUUID, f.ReadOnly = Known(uint32(2)), Known(uuidB), Known(false)
	f.Executed = Known(position(uuidA + ":1-204," + uuidB + ":1-7"))
	f.Applied, f.Purged = f.Executed, Known(position(uuidA+":1-100"))
	// The settings of its old channel outlive a promotion.
	f.Channels = Known([]Channel{{IO: ThreadStopped, SQL: ThreadStopped, SourceServerID: Known(uint32(1)), SourceUUID: Known(uuidA)}})
	return f
}

func oldMariaDB() Facts {
	return Facts{
		Reach: Reachable, ServerID: Known(uint32(4011)), ReadOnly: Known(true),
		Executed: Known(position("0-4011-204")), Applied: Known(Position{}), BinlogState: Known(binlogState("0-4011-204")),
		Channels: Known([]Channel{}), LogReplicaUpdates: Known(true),
	}
}

func newMariaDB() Facts {
	f := oldMariaDB()
	f.ServerID, f.ReadOnly = Known(uint32(4012)), Known(false)
	f.Executed, f.Applied = Known(position("0-4012-206")), Known(position("0-4011-204"))
	f.BinlogState = Known(binlogState("0-4011-204,0-4012-206"))
	f.Channels = Known([]Channel{{IO: ThreadStopped, SQL: ThreadStopped, SourceServerID: Known(uint32(4011))}})
	return f
}

const mariaDBPurged = "warning: purged: whether the source still has all that is missing here does not show on a MariaDB: " +
	"if not, the IO thread stops with error 1236"

func TestRejoin(t *testing.T) {
	mysql := func(change func(q *RejoinQuestion)) RejoinQuestion {
		q := RejoinQuestion{Replica: oldMySQL(), Source: newMySQL()}
		change(&q)
		return q
	}
	mariaDB := func(change func(q *RejoinQuestion)) RejoinQuestion {
		q := RejoinQuestion{Replica: oldMariaDB(), Source: newMariaDB()}
		change(&q)
		return q
	}
	for _, tc := range []struct {
		name    string
		q       RejoinQuestion
		allowed bool
		want    []string
	}{
		{"MySQL/nothing lost", mysql(func(*RejoinQuestion) {}), true, nil},
		{"MySQL/errant", mysql(func(q *RejoinQuestion) {
			q.Replica.Executed = Known(position(uuidA + ":1-207"))
		}), false, []string{"errant: has what the source lacks: 3 transactions: " + uuidA + ":205-207"}},
		{"MySQL/errant and discarded", mysql(func(q *RejoinQuestion) {
			q.Replica.Executed, q.Discard = Known(position(uuidA+":1-207")), true
		}), true, []string{"warning: errant: has what the source lacks: 3 transactions: " + uuidA + ":205-207"}},
		{"MySQL/executed unknown", mysql(func(q *RejoinQuestion) { q.Replica.Executed = Null[Position]() }), false, []string{
			"unknown: what it has that the source lacks cannot be told: gtid_executed is NULL, that of the source is known",
			"unknown: gtid_purged of the source is known, gtid_executed is NULL",
		}},
		{"MySQL/its own source", RejoinQuestion{Replica: oldMySQL(), Source: oldMySQL()}, false, []string{
			"self: " + sameServerID(1), "self: " + sameServerUUID(uuidA),
		}},
		{"MySQL/auto.cnf was copied", mysql(func(q *RejoinQuestion) {
			q.Source.ServerUUID = Known("3E11FA47-71CA-11E1-9E33-C80AA9429562")
		}), false, []string{"self: " + sameServerUUID(uuidA)}},
		{"MySQL/server_id was copied", mysql(func(q *RejoinQuestion) { q.Source.ServerID = Known(uint32(1)) }), false, []string{"self: " + sameServerID(1)}},
		{"MySQL/who it is unknown", mysql(func(q *RejoinQuestion) {
			q.Source.ServerID, q.Source.ServerUUID = Unknown[uint32](), Null[string]()
		}), false, []string{
			"unknown: server_id is known, that of the source is unknown",
			"unknown: server_uuid is known, that of the source is NULL",
		}},
		{"MySQL/GTIDs off", mysql(func(q *RejoinQuestion) { q.Source.GTIDMode = Known(false) }), false, []string{
			"gtid_off: gtid_mode of the source is not ON, so what is missing cannot be told",
		}},
		{"MySQL/gtid_mode unknown", mysql(func(q *RejoinQuestion) { q.Replica.GTIDMode = Unknown[bool]() }), false, []string{
			"unknown: gtid_mode of the replica is unknown",
		}},
		{"MySQL/purged up to here", mysql(func(q *RejoinQuestion) { q.Source.Purged = Known(position(uuidA + ":1-204")) }), true, nil},
		{"MySQL/purged beyond", mysql(func(q *RejoinQuestion) { q.Source.Purged = Known(position(uuidA + ":1-204," + uuidB + ":1-3")) }), false, []string{
			"purged: the source has purged 3 transactions that are not here: " + uuidB + ":1-3: a fresh copy of its data is needed",
		}},
		{"MySQL/purged unknown", mysql(func(q *RejoinQuestion) { q.Source.Purged = Unknown[Position]() }), false, []string{
			"unknown: gtid_purged of the source is unknown, gtid_executed is known",
		}},
		{"MySQL/a ring", mysql(func(q *RejoinQuestion) {
			q.Source.Channels = Known([]Channel{{Name: "back", IO: ThreadConnecting, SQL: ThreadRunning, SourceUUID: Known(uuidA)}})
		}), false, []string{"circular: the source follows this database: IO thread connecting, SQL thread running (channel back)"}},
		{"MySQL/the source follows another", mysql(func(q *RejoinQuestion) {
			q.Source.Channels = Known([]Channel{{IO: ThreadRunning, SQL: ThreadRunning, SourceServerID: Known(uint32(1)), SourceUUID: Known(uuidC)}})
		}), true, nil},
		{"MySQL/channels unknown", mysql(func(q *RejoinQuestion) { q.Source.Channels = Unknown[[]Channel]() }), false, []string{
			"unknown: replication channels of the source are unknown",
		}},
		{"MySQL/writable", mysql(func(q *RejoinQuestion) { q.Replica.ReadOnly = Known(false) }), true, []string{
			"warning: writable: read_only is false: what is written here from now on is not in this answer",
		}},

		{"MariaDB/nothing lost", mariaDB(func(*RejoinQuestion) {}), true, []string{mariaDBPurged}},
		{"MariaDB/errant", mariaDB(func(q *RejoinQuestion) {
			q.Replica.BinlogState, q.Replica.Executed = Known(binlogState("0-4011-207")), Known(position("0-4011-207"))
		}), false, []string{"errant: has what the source lacks: 3 transactions: 0-4011-205..207", mariaDBPurged}},
		{"MariaDB/a ring", mariaDB(func(q *RejoinQuestion) {
			q.Source.Channels = Known([]Channel{{IO: ThreadRunning, SQL: ThreadStopped, SourceServerID: Known(uint32(4011))}})
		}), false, []string{mariaDBPurged, "circular: the source follows this database: IO thread running, SQL thread stopped"}},
		{"MariaDB/state unknown", mariaDB(func(q *RejoinQuestion) { q.Replica.BinlogState = Unknown[BinlogState]() }), false, []string{
			"unknown: what it has that the source lacks cannot be told: gtid_binlog_state is unknown, that of the source is known", mariaDBPurged,
		}},
		{"MariaDB/state unknown and discarded", mariaDB(func(q *RejoinQuestion) {
			q.Replica.BinlogState, q.Discard = Unknown[BinlogState](), true
		}), true, []string{
			"warning: unknown: what it has that the source lacks cannot be told: gtid_binlog_state is unknown, that of the source is known", mariaDBPurged,
		}},
		{"MariaDB/its own source", RejoinQuestion{Replica: oldMariaDB(), Source: oldMariaDB(), Discard: true}, false, []string{"self: " + sameServerID(4011), mariaDBPurged}},
		{"MariaDB/updates not logged", mariaDB(func(q *RejoinQuestion) {
			q.Replica.LogReplicaUpdates, q.Source.LogReplicaUpdates = Known(false), Unknown[bool]()
		}), true, []string{
			mariaDBPurged,
			"warning: not_logged: log_slave_updates of the replica is off: it cannot send on what it applied, and a replica of it may stop with error 1236",
			"warning: not_logged: whether the source logs what it applies is unknown",
		}},

		{"two kinds", RejoinQuestion{Replica: oldMySQL(), Source: newMariaDB()}, false, []string{
			"flavor: replica is a MySQL, source a MariaDB: their GTIDs do not mix",
		}},
		{"kind unknown", mariaDB(func(q *RejoinQuestion) {
			q.Source.Executed, q.Source.Applied, q.Source.BinlogState = Unknown[Position](), Unknown[Position](), Unknown[BinlogState]()
		}), false, []string{"unknown: what kind of server it is was not read: replica MariaDB, source none"}},
		{"neither answers", RejoinQuestion{Replica: Facts{Reach: ReachRefused}, Source: Facts{Reach: ReachAccessDenied, ReachDetail: "error 1045"}}, false, []string{
			"unreachable: replica: refused", "unreachable: source: access denied: error 1045",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := Rejoin(tc.q)
			var got []string
			for _, r := range v.Reasons {
				got = append(got, r.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if v.Allowed != tc.allowed {
				t.Errorf("allowed %v", v.Allowed)
			}
		})
	}
}

// Whatever is not read, the answer is never a yes without a word.
func TestRejoinUnknownIsClosed(t *testing.T) {
	for name, forget := range map[string]func(*Facts){
		"reach":       func(f *Facts) { f.Reach = ReachUnknown },
		"server_id":   func(f *Facts) { f.ServerID = Unknown[uint32]() },
		"server_uuid": func(f *Facts) { f.ServerUUID = Unknown[string]() },
		"gtid_mode":   func(f *Facts) { f.GTIDMode = Null[bool]() },
		"executed":    func(f *Facts) { f.Executed = Unknown[Position]() },
		"everything":  func(f *Facts) { *f = Facts{} },
	} {
		for _, who := range []string{"replica", "source"} {
			q := RejoinQuestion{Replica: oldMySQL(), Source: newMySQL(), Discard: name != "executed"}
			if who == "replica" {
				forget(&q.Replica)
			} else {
				forget(&q.Source)
			}
			if v := Rejoin(q); v.Allowed || len(v.Reasons) == 0 {
				t.Errorf("%s of the %s unknown: allowed %v, %v", name, who, v.Allowed, v.Reasons)
			}
		}
	}
}
