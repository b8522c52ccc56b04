package replication

// The rows of a MySQL replica: what differs from MariaDB is whose transactions
// can be told apart.

import "strings"

// onMySQL returns the same replica on MySQL: it follows uuidA, is uuidB, and was
// once the source itself.
func onMySQL(d Database) Database {
	const all = uuidA + ":1-4711," + uuidB + ":1-20"
	d.Heard = heard(all, now-second/2)
	d.MaxReceived = position(uuidA + ":4001-4711")
	d.Facts.ServerUUID, d.Facts.GTIDMode = Known(uuidB), Known(true)
	d.Facts.Executed, d.Facts.Applied = Known(position(all)), Known(position(all))
	c := d.channel()
	c.Received = Known(position(uuidA + ":4001-4711"))
	c.SourceServerID, c.SourceUUID = Known(uint32(1)), Known(uuidA)
	return d
}

// executes replaces what a MySQL has executed, which is what it has applied.
func (d *Database) executes(s string) {
	d.Facts.Executed, d.Facts.Applied = Known(position(s)), Known(position(s))
}

// mysqlRows are about onMySQL; a change gets that replica.
func mysqlRows() []gateRow {
	rows := []gateRow{
		{"planned/nothing is wrong", Planned, policy, nil, nil},
		{"planned/100 missing for a moment", Planned, policy, func(d *Database) { d.Heard.Note(position(uuidA+":1-4811,"+uuidB+":1-20"), now-second/4) }, nil},
		{"planned/a gap of 3, missing for long", Planned, policy, func(d *Database) {
			d.Heard = heard(uuidA+":1-4711", now-20*second)
			d.Heard.Note(position(uuidA+":1-4711,"+uuidB+":1-20"), now-second/4)
			d.executes(uuidA + ":1-4600:4604-4711," + uuidB + ":1-20")
		}, []string{
			"lagging: 3 transactions behind " + uuidA + ":1-4711," + uuidB + ":1-20, missing for 20 s, more than 5.0 s",
		}},
		{"planned/received is gone", Planned, policy, func(d *Database) { d.MaxReceived = position(uuidA + ":4001-4720") }, []string{
			"behind_source: 9 transactions up to " + uuidA + ":4001-4720 once received here are gone: the relay log was dropped before they were applied",
		}},
		{"planned/received after the source's last word", Planned, policy, func(d *Database) {
			d.executes(uuidA + ":1-4720," + uuidB + ":1-20")
			d.channel().Received = Known(position(uuidA + ":4001-4720"))
		}, nil},
		{"planned/received after the source's last word, and forgotten", Planned, policy, func(d *Database) {
			d.executes(uuidA + ":1-4720," + uuidB + ":1-20")
			d.channel().Received = Known(Position{})
		}, nil},
		{"planned/the source's first write is younger than its last word", Planned, policy, func(d *Database) {
			d.executes(uuidA + ":1-4711," + uuidB + ":1-20," + uuidC + ":1")
			d.channel().SourceUUID = Known(uuidC)
		}, nil},
		{"planned/writes of its own", Planned, policy, func(d *Database) { d.executes(uuidA + ":1-4711," + uuidB + ":1-20:22-23") }, []string{
			"errant: wrote 2 transactions itself that the source lacks: " + uuidB + ":22-23",
		}},
		{"planned/a write of its own under a tag", Planned, policy, func(d *Database) { d.executes(uuidA + ":1-4711," + uuidB + ":1-20:tag:1") }, []string{
			"errant: wrote 1 transaction itself that the source lacks: " + uuidB + ":tag:1",
		}},
		{"planned/a server that the source does not know", Planned, policy, func(d *Database) {
			d.executes(uuidA + ":1-4711," + uuidB + ":1-20," + uuidC + ":5")
		}, []string{"errant: has 1 transaction of a server that the source does not know: " + uuidC + ":5"}},
		{"planned/the same, and it was received", Planned, policy, func(d *Database) {
			d.executes(uuidA + ":1-4711," + uuidB + ":1-20," + uuidC + ":5")
			d.channel().Received = Known(position(uuidA + ":4001-4711," + uuidC + ":5"))
		}, nil},
		{"planned/the same, and it was received before the server forgot what it received", Planned, policy, func(d *Database) {
			d.executes(uuidA + ":1-4711," + uuidB + ":1-20," + uuidC + ":5")
			d.channel().Received = Known(Position{})
			d.MaxReceived = position(uuidA + ":4001-4711," + uuidC + ":5")
		}, nil},
		{"planned/more of a third server that the source knows", Planned, policy, func(d *Database) {
			d.Heard = heard(uuidA+":1-4711,"+uuidB+":1-20,"+uuidC+":1-4", now)
			d.executes(uuidA + ":1-4711," + uuidB + ":1-20," + uuidC + ":1-5")
		}, nil},
		{"planned/a server that the source does not know, and whether it is the source unknown", Planned, policy, func(d *Database) {
			d.executes(uuidA + ":1-4711," + uuidB + ":1-20," + uuidC + ":5")
			d.channel().SourceUUID = Unknown[string]()
		}, []string{
			"unknown: server_uuid of the source is unknown",
			"unknown: has " + uuidC + ":5 of a server that the source does not know, unless it is the source: its server_uuid is not known",
		}},
		{"planned/a server that the source does not know, while the source was never reached", Planned, policy, func(d *Database) {
			d.executes(uuidA + ":1-4711," + uuidB + ":1-20," + uuidC + ":5")
			d.channel().SourceUUID = Known("")
		}, []string{
			"unknown: has " + uuidC + ":5 of a server that the source does not know, unless it is the source: its server_uuid is not known",
		}},
		{"planned/server_id unknown", Planned, policy, func(d *Database) { d.Facts.ServerID = Unknown[uint32]() }, []string{
			"unknown: server_uuid is known, server_id is unknown, gtid_executed is known",
		}},
		{"planned/server_uuid unknown", Planned, policy, func(d *Database) { d.Facts.ServerUUID = Null[string]() }, []string{
			"unknown: server_uuid is NULL, server_id is known, gtid_executed is known",
		}},
		{"planned/server_uuid is none", Planned, policy, func(d *Database) { d.Facts.ServerUUID = Known("db2") }, []string{
			`unknown: server_uuid cannot be read: "db2" is not a UUID`,
		}},
		{"planned/server_uuid is the source's", Planned, policy, func(d *Database) { d.channel().SourceUUID = Known(uuidB) }, []string{
			"unknown: " + sameServerUUID(uuidB),
		}},
		{"planned/gtid_mode is not ON", Planned, policy, func(d *Database) { d.Facts.GTIDMode = Known(false) }, []string{
			"unknown: gtid_mode is not ON, so a transaction can be without a GTID and what is missing cannot be told",
		}},
		{"planned/without auto-position", Planned, policy, func(d *Database) { d.channel().UsingGTID = Known(false) }, []string{
			"unknown: replicates without GTIDs, so what is missing cannot be told",
		}},

		{"lost/nothing is wrong, IO thread connecting", SourceLost, policy, nil, nil},
		{"lost/received and not applied", SourceLost, policy, func(d *Database) { d.executes(uuidA + ":1-4700:4703-4711," + uuidB + ":1-20") }, []string{
			"undrained: 2 transactions received and not applied, up to " + uuidA + ":4001-4711",
			"behind_source: 2 transactions behind " + uuidA + ":1-4711," + uuidB + ":1-20, heard 0.5 s ago",
		}},
		{"lost/exact: behind", SourceLost, policy, func(d *Database) { d.Heard = heard(uuidA+":1-4714,"+uuidB+":1-20", now) }, []string{
			"behind_source: 3 transactions behind " + uuidA + ":1-4714," + uuidB + ":1-20, heard 0.0 s ago",
		}},
		{"lost/exact: as many missing as allowed", SourceLost, Policy{MaxMissing: 3}, func(d *Database) { d.Heard = heard(uuidA+":1-4714,"+uuidB+":1-20", now) }, nil},
		{"lost/writes of its own", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) { d.executes(uuidA + ":1-4711," + uuidB + ":1-22") }, []string{
			"errant: wrote 2 transactions itself that the source lacks: " + uuidB + ":21-22",
		}},
		{"lost/drained: behind", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) { d.Heard = heard(uuidA+":1-4714,"+uuidB+":1-20", now) }, nil},
		{"lost/drained: never heard, and all is the source's", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) {
			d.Heard = Heard{}
			d.executes(uuidA + ":1-4711")
		}, nil},
		{"lost/drained: never heard, and some is its own", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) { d.Heard = Heard{} }, []string{
			"unknown: wrote " + uuidB + ":1-20 itself, and what the source has was never heard",
		}},
		{"lost/drained: never heard, and some is of a third server", SourceLost, Policy{AfterLoss: Drained}, func(d *Database) {
			d.Heard = Heard{}
			d.executes(uuidA + ":1-4711," + uuidC + ":1-5")
		}, []string{"unknown: has " + uuidC + ":1-5 of another server than its source, and what the source has was never heard"}},
	}
	for i, r := range rows {
		rows[i].name = strings.Replace(r.name, "/", "/MySQL: ", 1)
		rows[i].change = func(d *Database) {
			*d = onMySQL(*d)
			if r.change != nil {
				r.change(d)
			}
		}
	}
	return rows
}
