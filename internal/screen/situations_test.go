package screen

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication"
)

// The situations that an operator meets, as documents of a node of the pair.

var noon = time.Date(2026, 3, 2, 3, 4, 5, 0, time.UTC) // at night

type situation struct {
	name string
	says string // for docs/status.md
	doc  control.Document
}

func before(d time.Duration) time.Time { return noon.Add(-d) }

func label(value, wanted string) control.Label {
	return control.Label{File: "/opt/compass/values.yaml", Key: "master_service_label", Value: value, Wanted: &wanted}
}

func reason(code replication.Code, database, detail string) control.GateReason {
	return control.GateReason{Code: code, Database: database, Detail: detail}
}

// primary is the active half, reserve the standby.
func primary() control.Instance {
	in := half("primary", "active")
	in.Reason, in.VIPs[0].Held = "elected", true
	in.Databases = []control.Database{{Name: "pivot", Role: "source", ReadOnly: new(false), Position: new("0-1-4711"), AgeMS: new(int64(210))}}
	in.Units[0].Running, in.Units[0].Active = true, "active"
	in.LastTransition = &control.Transition{
		Epoch: 7, Kind: "promote", Planned: true, Reason: "requested", Result: "completed", DurationMS: 151.2,
		Steps: []control.Step{
			{Name: "replication stop", Result: "changed", DurationMS: 12.4},
			{Name: "writes open", Result: "changed", DurationMS: 3.9},
			{Name: "vip acquire", Result: "changed", DurationMS: 0.8},
			{Name: "unit start lsyncd.service", Result: "changed", DurationMS: 131.1},
		},
	}
	return in
}

func reserve() control.Instance {
	in := half("reserve", "backup")
	in.Reason = "peer_active"
	in.Databases = []control.Database{{
		Name: "pivot", Role: "replica", ReadOnly: new(true), IORunning: new(true), SQLRunning: new(true), LagSeconds: new(0.2), LagFrom: "positions",
		Position: new("0-1-4711"), MissingTransactions: new(uint64(0)), AgeMS: new(int64(180)),
	}}
	in.Heartbeat.LastHeardMS, in.Heartbeat.Proved = new(int64(90)), new(true)
	return in
}

func half(node, state string) control.Instance {
	return control.Instance{
		Name: "compass", State: state, Since: before(76 * time.Hour), Epoch: 7,
		VIPs: []control.VIP{{Address: "10.77.0.100/24", Interface: "eth0"}}, Gate: control.Gate{Open: true, Reasons: []control.GateReason{}},
		Health: []control.Health{{Name: "nginx", OK: new(true), Effect: "yield", Verdict: "well", AgeMS: new(int64(400))}},
		Units:  []control.Unit{{Name: "lsyncd.service", Active: "inactive"}}, Labels: []control.Label{label("primary", "primary")},
		Heartbeat: &control.Heartbeat{Auth: "hmac", Checksum: "rfc"},
	}
}

// pair is the document of the node with mine, whose peer last reported theirs.
func pair(node, other string, mine, theirs control.Instance) control.Document {
	addresses := map[string][2]string{"primary": {"10.77.0.11", "10.77.1.11"}, "reserve": {"10.77.0.12", "10.77.1.12"}}
	half := func(node, other string, in control.Instance, heard int64) control.Document {
		doc := control.Document{Node: node, Epoch: 7, Version: "1.0.0", Instances: []control.Instance{in}, Journal: &control.Journal{Writable: true}}
		doc.Peer = control.Peer{Label: other, Reachable: true}
		for i, a := range addresses[other] {
			doc.Peer.Paths = append(doc.Peer.Paths, control.Path{Address: a, Heard: true, HearsUs: new(true), LastHeardMS: new(heard + int64(i))})
			beat := control.HeartbeatPath{Local: addresses[node][i], Peer: a, Up: true, Dropped: map[string]uint64{}}
			if in.State != "active" {
				beat.LastHeardMS = new(heard + 50)
			}
			doc.Heartbeat = append(doc.Heartbeat, beat)
		}
		return doc
	}
	doc, report := half(node, other, mine, 40), half(other, node, theirs, 35)
	doc.Peer.Report, doc.Peer.ReportAgeMS = &report, new(int64(120))
	doc.Peer.Instances = []control.PeerInstance{said(theirs)}
	doc.Peer.Authenticated, doc.Peer.ClockOffsetMS, doc.Peer.ClockUncertaintyMS = true, new(1.2), new(0.4)
	doc.Peer.Configuration = &control.Difference{}
	return doc
}

func said(in control.Instance) control.PeerInstance {
	return control.PeerInstance{
		Name: in.Name, State: in.State, Reason: in.Reason, Detail: in.Detail, Epoch: in.Epoch, Holds: in.VIPs[0].Held, AgeMS: 40,
		Gate: in.Gate, Labels: in.Labels, Drift: in.Drift,
	}
}

func situations() []situation {
	healthy := pair("primary", "reserve", primary(), reserve())
	return []situation{
		{"healthy", "The usual case: `primary` is active, `reserve` could take over at once.", healthy},
		{"lagging", "The replica is late: the gate of `reserve` is closed until it has caught up.", lagging()},
		{"peer-gone", "`reserve` is off, or cut off altogether: `primary` goes on alone.", peerGone()},
		{"one-way", "What `reserve` sends arrives, what `primary` sends does not, on either path.", oneWay()},
		{"flooded", "Somebody floods a path with forged advertisements in the peer's name: nothing moves, and the paths work.", flood()},
		{"conflict", "A silent host still answers for the address.", conflict()},
		{"maintenance", "Somebody works on the pair: nothing moves by itself.", maintenance()},
		{"blocked", "Somebody keeps `reserve` from being promoted.", blocked()},
		{"promoting", "A failover under way: which step runs, and for what it waits.", promoting()},
		{"refused", "`primary` is gone and `reserve` lacks transactions that it had: nobody serves.", refused()},
		{"drift", "Somebody started on the standby what runs on the active node only.", drift()},
		{"no-databases", "A pair without databases.", noDatabases()},
		{"first-start", "Right after the first start of the first node.", firstStart()},
		{"hung-loop", "The daemon itself hangs: what it knew last, and what the kernel has now.", hungLoop()},
		{"forty", "Many instances: a line for each, and more of those that are not well.", forty()},
		{"split", "Both nodes were active for a while, cut off from each other; `reserve` gave way and is in conflict.", split()},
		{"different", "The files of the two nodes differ, and so do their clocks.", different()},
		{"lost", "After a failover that left transactions of the lost source behind.", lost()},
	}
}

func lagging() control.Document {
	theirs := reserve()
	theirs.Databases[0].LagSeconds, theirs.Databases[0].MissingTransactions = new(47.2), new(uint64(3120))
	theirs.Databases[0].Position = new("0-1-1591")
	theirs.Gate = control.Gate{Reasons: []control.GateReason{reason(replication.Lagging, "pivot", "47.2 s behind, more than 5.0 s")}}
	return pair("primary", "reserve", primary(), theirs)
}

func peerGone() control.Document {
	doc := pair("primary", "reserve", primary(), reserve())
	doc.Peer.Reachable = false
	doc.Peer.ReportAgeMS, doc.Peer.Instances[0].AgeMS = new(int64(724_000)), 723_500
	for i := range doc.Peer.Paths {
		doc.Peer.Paths[i].Heard, doc.Peer.Paths[i].HearsUs, doc.Peer.Paths[i].LastHeardMS = false, new(false), new(int64(723_500))
		doc.Peer.Paths[i].Error = "no route to host"
	}
	return doc
}

func oneWay() control.Document {
	doc := pair("primary", "reserve", primary(), reserve())
	for i := range doc.Peer.Paths {
		doc.Peer.Paths[i].HearsUs, doc.Peer.Paths[i].Error = new(false), "i/o timeout"
		doc.Peer.Report.Peer.Paths[i].Heard, doc.Peer.Report.Peer.Paths[i].LastHeardMS = false, new(int64(12_400))
		doc.Peer.Report.Heartbeat[i].LastHeardMS = new(int64(12_300))
	}
	return doc
}

func flood() control.Document {
	doc := pair("primary", "reserve", primary(), reserve())
	doc.Heartbeat[0].Flooded = true
	doc.Heartbeat[0].Dropped = map[string]uint64{"auth_key": 41_233, "auth_missing": 2_207}
	return doc
}

func conflict() control.Document {
	mine := reserve()
	mine.State, mine.Reason, mine.Since = "conflict", "address_answers", before(41*time.Second)
	mine.Detail = "10.77.0.100 is answered for by 52:54:00:12:34:56, the hardware of primary"
	mine.Heartbeat.LastHeardMS = new(int64(43_900))
	doc := pair("reserve", "primary", mine, primary())
	doc.Peer.Reachable, doc.Peer.ReportAgeMS, doc.Peer.Instances[0].AgeMS = false, new(int64(44_100)), 44_000
	for i := range doc.Peer.Paths {
		doc.Peer.Paths[i].Heard, doc.Peer.Paths[i].HearsUs, doc.Peer.Paths[i].LastHeardMS = false, nil, new(int64(44_000))
		doc.Heartbeat[i].LastHeardMS = new(int64(43_900))
	}
	return doc
}

func maintenance() control.Document {
	mine, theirs := primary(), reserve()
	hold := &control.Hold{Reason: "kernel update of both hosts", Until: noon.Add(42 * time.Minute)}
	mine.Maintenance, theirs.Maintenance = hold, hold
	theirs.Gate = control.Gate{Reasons: []control.GateReason{reason(replication.Maintenance, "", "kernel update of both hosts")}}
	return pair("primary", "reserve", mine, theirs)
}

func blocked() control.Document {
	theirs := reserve()
	theirs.Block = &control.Hold{Reason: "disk is being replaced", Until: noon.Add(2 * time.Hour)}
	theirs.Gate = control.Gate{Reasons: []control.GateReason{reason(replication.Blocked, "", "promotion of this node is blocked: disk is being replaced (uid 0)")}}
	return pair("primary", "reserve", primary(), theirs)
}

func promoting() control.Document {
	mine := reserve()
	mine.State, mine.Reason, mine.Since, mine.Epoch = "promoting", "requested", before(2*time.Second), 8
	mine.Waiting = &control.Waiting{For: "reserve to catch up", Left: 1840}
	mine.LastTransition = &control.Transition{
		Epoch: 8, Kind: "promote", Planned: true, Reason: "requested", Result: "running", DurationMS: 2031,
		Steps: []control.Step{
			{Name: "replication stop", Result: "running", DurationMS: 1987},
			{Name: "writes open", Result: "pending"},
			{Name: "vip acquire", Result: "pending"},
			{Name: "unit start lsyncd.service", Result: "pending"},
		},
	}
	theirs := primary()
	theirs.State, theirs.Reason, theirs.Since = "demoting", "requested", before(2*time.Second)
	theirs.Databases[0].ReadOnly = new(true)
	theirs.LastTransition = &control.Transition{
		Epoch: 8, Kind: "demote", Planned: true, Reason: "requested", Result: "running", DurationMS: 2040,
		Steps: []control.Step{
			{Name: "writes close", Result: "changed", DurationMS: 18.2}, {Name: "vip release", Result: "pending"}, {Name: "replication follow", Result: "pending"},
		},
	}
	return pair("reserve", "primary", mine, theirs)
}

func refused() control.Document {
	mine := reserve()
	mine.State, mine.Reason, mine.Detail, mine.Since = "refused", "gate_closed", "", before(94*time.Second)
	mine.Databases[0].IORunning, mine.Databases[0].LagSeconds, mine.Databases[0].MissingTransactions = new(false), nil, new(uint64(17))
	mine.Heartbeat.LastHeardMS = new(int64(95_800))
	mine.Gate = control.Gate{Reasons: []control.GateReason{reason(replication.BehindSource, "pivot", "17 transactions that the source had are missing: 0-1-4695 to 0-1-4711")}}
	doc := pair("reserve", "primary", mine, primary())
	doc.Peer.Reachable, doc.Peer.ReportAgeMS, doc.Peer.Instances[0].AgeMS = false, new(int64(96_000)), 95_900
	for i := range doc.Peer.Paths {
		doc.Peer.Paths[i].Heard, doc.Peer.Paths[i].HearsUs, doc.Peer.Paths[i].LastHeardMS = false, new(false), new(int64(95_900))
		doc.Peer.Paths[i].Error, doc.Heartbeat[i].LastHeardMS = "no route to host", new(int64(95_800))
	}
	return doc
}

func drift() control.Document {
	theirs := reserve()
	theirs.Units[0].Running, theirs.Units[0].Active = true, "active"
	theirs.Labels = []control.Label{label("reserve", "primary")}
	theirs.Drift = []control.Drift{
		{Step: "lsyncd", Kind: "unit", State: "would change", Detail: "lsyncd.service runs, and should be stopped", SinceSeconds: new(312.0), Repair: "report"},
		{Step: "label", Kind: "yaml", State: "would change", Detail: `/opt/compass/values.yaml says "reserve", not "primary"`, SinceSeconds: new(4.0), Repair: "repair"},
	}
	return pair("primary", "reserve", primary(), theirs)
}

func split() control.Document {
	mine := primary()
	mine.Witness = &control.Witness{Kind: "gateway", OK: new(true), AgeMS: new(int64(900))}
	theirs := reserve()
	theirs.State, theirs.Reason, theirs.Since, theirs.Wrote = "conflict", "newer_epoch", before(3*time.Minute), "yes"
	theirs.Witness = mine.Witness
	theirs.Databases[0].Role, theirs.Databases[0].IORunning, theirs.Databases[0].SQLRunning, theirs.Databases[0].LagSeconds = "none", nil, nil, nil
	theirs.Gate = control.Gate{Reasons: []control.GateReason{reason(replication.Errant, "pivot", "12 transactions that the source lacks: 0-2-4712 to 0-2-4723")}}
	theirs.Divergence = []control.Divergence{{Database: "pivot", Transactions: "0-2-4712 to 0-2-4723", Count: 12}}
	return pair("primary", "reserve", mine, theirs)
}

func different() control.Document {
	mine := primary()
	mine.OneWay = []control.OneWay{{Witness: "heartbeat", Direction: "to_peer", Since: before(95 * time.Second)}}
	doc := pair("primary", "reserve", mine, reserve())
	doc.Peer.ClocksDiffer, doc.Peer.ClockOffsetMS = true, new(-73_400.0)
	doc.Peer.Configuration = &control.Difference{Instances: []string{"compass"}, OnlyThere: []string{"billing"}, Keys: true}
	return doc
}

func noDatabases() control.Document {
	mine, theirs := primary(), reserve()
	mine.Databases, theirs.Databases = nil, nil
	return pair("primary", "reserve", mine, theirs)
}

func firstStart() control.Document {
	in := half("primary", "initialize")
	in.Since, in.Epoch, in.Reason = before(800*time.Millisecond), 0, "starting"
	in.Gate = control.Gate{Reasons: []control.GateReason{reason(replication.NotKnown, "pivot", "not measured yet")}}
	in.Databases = []control.Database{{Name: "pivot", Role: "unknown"}}
	in.Health[0] = control.Health{Name: "nginx", Effect: "yield", Verdict: "unknown"}
	in.Labels[0].Wanted = nil
	return control.Document{
		Node: "primary", Version: "1.0.0", Instances: []control.Instance{in}, Journal: &control.Journal{Writable: true},
		Heartbeat: []control.HeartbeatPath{{Local: "10.77.0.11", Peer: "10.77.0.12", Up: true}},
		Peer:      control.Peer{Label: "reserve", Paths: []control.Path{{Address: "10.77.0.12", HearsUs: new(false), Error: "connection refused"}}},
	}
}

func hungLoop() control.Document {
	mine := primary()
	mine.Stale, mine.AgeMS, mine.VIPs[0].Held = true, new(int64(14_200)), false
	doc := pair("primary", "reserve", mine, reserve())
	doc.LoopSilentMS = new(int64(14_000))
	doc.Peer.Instances[0].AgeMS, doc.Peer.ReportAgeMS = 14_240, new(int64(14_300))
	return doc
}

func forty() control.Document {
	doc := pair("primary", "reserve", primary(), reserve())
	report := doc.Peer.Report
	doc.Instances, report.Instances, doc.Peer.Instances = nil, nil, nil
	for i := range 40 {
		mine, theirs := primary(), reserve()
		switch i {
		case 7:
			theirs.Gate = control.Gate{Reasons: []control.GateReason{reason(replication.SQLStopped, "pivot", "1062: Duplicate entry '4711' for key 'PRIMARY'")}}
			theirs.Databases[0].SQLRunning = new(false)
			theirs.Databases[0].Error = "1062: Duplicate entry '4711' for key 'PRIMARY'"
		case 23:
			mine, theirs = reserve(), primary()
		}
		mine.Name = fmt.Sprintf("team-%02d", i)
		theirs.Name = mine.Name
		mine.VIPs[0].Address = fmt.Sprintf("10.77.0.%d/24", 100+i)
		theirs.VIPs[0].Address = mine.VIPs[0].Address
		doc.Instances, report.Instances = append(doc.Instances, mine), append(report.Instances, theirs)
		doc.Peer.Instances = append(doc.Peer.Instances, said(theirs))
	}
	return doc
}

func lost() control.Document {
	mine := reserve()
	mine.State, mine.Reason, mine.Since, mine.Epoch, mine.VIPs[0].Held = "active", "peer_silent", before(25*time.Minute), 8, true
	mine.Databases[0] = primary().Databases[0]
	mine.Units[0].Running, mine.Units[0].Active = true, "active"
	mine.Labels[0] = label("reserve", "reserve")
	mine.LastTransition = &control.Transition{
		Epoch: 8, Kind: "promote", Reason: "peer_silent", Result: "completed", DurationMS: 1204,
		Steps: []control.Step{
			{Name: "replication stop", Result: "changed", DurationMS: 1011},
			{Name: "writes open", Result: "changed", DurationMS: 4.4},
			{Name: "vip acquire", Result: "changed", DurationMS: 0.9},
			{Name: "unit start lsyncd.service", Result: "failed", DurationMS: 180.2, Detail: "the unit failed: exit status 255"},
		},
		Losses: []control.Loss{{Database: "pivot", Proved: new(uint64(3)), AtMost: new(uint64(5)), HeardSeconds: new(0.2), Transactions: "0-1-4709 to 0-1-4711"}},
	}
	theirs := half("primary", "backup")
	theirs.Reason, theirs.Since, theirs.Epoch = "peer_active", before(3*time.Minute), 7
	theirs.Labels[0] = label("reserve", "reserve")
	theirs.Databases = []control.Database{{Name: "pivot", Role: "none", ReadOnly: new(true), Position: new("0-1-4711"), AgeMS: new(int64(150))}}
	theirs.Gate = control.Gate{Reasons: []control.GateReason{reason(replication.Errant, "pivot", "3 transactions that the source lacks: 0-1-4709 to 0-1-4711")}}
	return pair("reserve", "primary", mine, theirs)
}
