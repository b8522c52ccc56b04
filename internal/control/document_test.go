package control

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

var update = flag.Bool("update", false, "write golden files")

const second = mono.Instant(time.Second)

// full is a status in which everything has a value.
func full() failover.Status {
	position, err := replication.ParsePosition("0-1-4711")
	if err != nil {
		panic(err)
	}
	return failover.Status{
		Instance: "compass", Node: "reserve", Peer: "primary", Now: 100 * second,
		State: failover.Refused, Why: failover.Why{Reason: failover.GateClosed, Detail: "pivot is behind"},
		Since: 90 * time.Second, Role: hooks.Standby, Epoch: 7, ActiveEpoch: 6,
		Gate: replication.Verdict{
			Reasons: []replication.Reason{{Code: replication.Lagging, Database: "pivot", Detail: "7.2 s behind"}},
			Databases: []replication.DatabaseVerdict{{
				Name: "pivot", Lag: replication.Known(7250 * time.Millisecond), Missing: replication.Known(uint64(12)),
			}},
		},
		Databases: []replication.Database{{Name: "pivot", Facts: replication.Facts{
			Name: "pivot", MeasuredAt: 99 * second, Reach: replication.Reachable,
			ReadOnly: replication.Known(true), Executed: replication.Known(position), Applied: replication.Known(position),
			Channels: replication.Known([]replication.Channel{{IO: replication.ThreadRunning, SQL: replication.ThreadStopped}}),
		}}},
		Health: []health.Status{
			{Check: health.Check{Name: "nginx", Effect: health.Yield}, Verdict: health.Failing, Detail: "inactive"},
			{Check: health.Check{Name: "http", Effect: health.Yield}, Verdict: health.Flapping, Hold: time.Minute, Until: 130 * second, Detail: "200 OK"},
			{Check: health.Check{Name: "disk", Effect: health.Fault}},
		},
		Last: &failover.Transition{
			Epoch: 7, Role: hooks.Standby, Planned: true, Reason: failover.Requested, Ending: hooks.Completed,
			Duration: 123400 * time.Microsecond,
			Steps:    []hooks.Result{{Name: "writes close", Outcome: hooks.Changed, Duration: 3200 * time.Microsecond}},
		},
		PeerKnown: true, PeerFresh: true, PeerAge: 40 * time.Millisecond,
		PeerState: failover.PeerState{
			State: failover.Active, Why: failover.Why{Reason: failover.Requested}, ActiveEpoch: 7, Holds: true,
			Stamp: 3600 * second,
			Drift: []failover.Drift{{
				Step: "label", Kind: "yaml", Title: "yaml label", Outcome: hooks.Unchanged, Detail: "x says \"a\", not \"b\"; somebody else keeps changing it",
				Since: 3540 * second, Repair: failover.Contested,
			}},
			Labels: []failover.Label{{Step: "label", File: "/opt/values.yaml", Key: "label", Value: "primary", Wanted: "primary"}},
		},
		Drift: []failover.Drift{
			{Step: "lsyncd", Kind: "unit", Title: "unit stop lsyncd.service", Outcome: hooks.Changed, Detail: "lsyncd.service runs", Since: 10 * second},
			{Step: "mount", Kind: "exec", Title: "exec /bin/mount", Outcome: hooks.TimedOut, Detail: "no answer", Since: 99 * second, Repair: failover.Repairing},
		},
	}
}

func documentOf(s failover.Status) Document {
	yes, no, heard := true, false, int64(40)
	held := netip.MustParseAddr("10.77.0.100")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	in := NewInstance(now, s, Extra{
		VIPs: []netip.Prefix{netip.MustParsePrefix("10.77.0.100/24"), netip.MustParsePrefix("10.77.0.101/24")}, Interface: "eth0",
		Held:   func(a netip.Addr) bool { return a == held },
		Units:  []Unit{{Name: "lsyncd.service", Active: "active", Running: true}},
		Labels: []Label{{File: "/opt/values.yaml", Key: "label", Value: "primary"}},
		Heartbeat: &Heartbeat{
			Auth: "permissive", LastHeardMS: &heard, Proved: &no, Doubt: "auth_missing", Checksum: "rfc", PeerChecksum: "pseudo_header",
			Mismatch: []string{"interval"}, Dropped: map[string]uint64{"checksum": 3}, Unproved: map[string]uint64{"auth_missing": 9},
		},
		Sampled: func(check string) time.Time {
			if check == "nginx" {
				return now.Add(-1500 * time.Millisecond)
			}
			return time.Time{}
		},
	})
	return Document{
		Heartbeat: []HeartbeatPath{
			{Local: "10.77.0.12", Peer: "10.77.0.11", Up: true, LastHeardMS: &heard, Dropped: map[string]uint64{"ttl": 1}},
			{Interface: "eth0", Peer: "224.0.0.18", Error: "no such device", Dropped: map[string]uint64{}},
		},
		Node: s.Node, Epoch: uint64(s.Epoch), Version: "test", Instances: []Instance{in},
		Peer: Peer{
			Label: s.Peer, Reachable: s.PeerFresh,
			Paths:     []Path{{Address: "10.77.0.11", Heard: true, HearsUs: &yes, LastHeardMS: &heard}, {Address: "10.77.1.11"}},
			Instances: []PeerInstance{NewPeerInstance(s)},
		},
	}
}

func TestDocumentGolden(t *testing.T) {
	got, err := json.MarshalIndent(documentOf(full()), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const path = "testdata/status.json"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

// The fields that the operator's contract names, each with its JSON types. What
// has no value is null where the contract lets a value be unknown, and an empty
// list or text elsewhere, never a missing field.
const contract = `
node string
epoch number
instances[].name string
instances[].state string
instances[].since string
instances[].reason string
instances[].epoch number
instances[].vips[].address string
instances[].vips[].interface string
instances[].vips[].held bool
instances[].gate.open bool
instances[].gate.reasons[].code string
instances[].gate.reasons[].database string
instances[].gate.reasons[].detail string
instances[].databases[].name string
instances[].databases[].role string
instances[].databases[].read_only bool|null
instances[].databases[].io_running bool|null
instances[].databases[].sql_running bool|null
instances[].databases[].lag_seconds number|null
instances[].databases[].position string|null
instances[].databases[].missing_transactions number|null
instances[].databases[].error string
instances[].health[].name string
instances[].health[].ok bool|null
instances[].health[].effect string
instances[].health[].detail string
instances[].units list
instances[].labels list
instances[].drift list
instances[].block null
instances[].maintenance null
instances[].last_transition.epoch number
instances[].last_transition.kind string
instances[].last_transition.planned bool
instances[].last_transition.reason string
instances[].last_transition.result string
instances[].last_transition.duration_ms number
instances[].last_transition.steps[].name string
instances[].last_transition.steps[].result string
instances[].last_transition.steps[].duration_ms number
peer.label string
peer.reachable bool
peer.paths[].address string
peer.paths[].heard bool
peer.paths[].hears_us bool|null
peer.paths[].last_heard_ms number|null
peer.instances list
`

func TestDocumentKeepsTheContract(t *testing.T) {
	unknown := full()
	unknown.Databases[0].Facts = replication.Facts{Name: "pivot", Reach: replication.ReachRefused, ReachDetail: "connection refused"}
	unknown.Gate.Databases[0] = replication.DatabaseVerdict{Name: "pivot"}
	seen := map[string]map[string]bool{}
	for _, s := range []failover.Status{full(), unknown} {
		b, err := json.Marshal(documentOf(s))
		if err != nil {
			t.Fatal(err)
		}
		var doc any
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		types("", doc, seen)
	}
	for line := range strings.Lines(strings.TrimSpace(contract)) {
		path, kinds, _ := strings.Cut(strings.TrimSpace(line), " ")
		want, got := strings.Split(kinds, "|"), []string(nil)
		for kind := range seen[path] {
			got = append(got, kind)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// types notes the JSON type of every field below v.
func types(path string, v any, seen map[string]map[string]bool) {
	kind := "null"
	switch v := v.(type) {
	case bool:
		kind = "bool"
	case float64:
		kind = "number"
	case string:
		kind = "string"
	case []any:
		kind = "list"
		for _, e := range v {
			types(path+"[]", e, seen)
		}
	case map[string]any:
		kind = "object"
		for name, e := range v {
			types(strings.TrimPrefix(path+"."+name, "."), e, seen)
		}
	}
	if seen[path] == nil {
		seen[path] = map[string]bool{}
	}
	seen[path][kind] = true
}

// A node that knows nothing yet says so, in lists that are there.
func TestDocumentOfAFreshNode(t *testing.T) {
	in := NewInstance(time.Now(), failover.Status{Instance: "compass"}, Extra{})
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"state":"initialize"`, `"vips":[]`, `"gate":{"open":true,"reasons":[]}`, `"databases":[]`, `"health":[]`,
		`"units":[]`, `"labels":[]`, `"drift":[]`, `"block":null`, `"maintenance":null`, `"last_transition":null`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	p, err := json.Marshal(NewPeerInstance(failover.Status{Instance: "compass"}))
	if err != nil || !strings.Contains(string(p), `"steps":[]`) {
		t.Errorf("%s, %v", p, err)
	}
}

func TestThreadsOfAllChannels(t *testing.T) {
	run, stop, unknown := replication.ThreadRunning, replication.ThreadStopped, replication.ThreadUnknown
	for _, tc := range []struct {
		channels []replication.ThreadState
		want     string
	}{
		{nil, "null"},
		{[]replication.ThreadState{unknown}, "null"},
		{[]replication.ThreadState{run}, "true"},
		{[]replication.ThreadState{run, run}, "true"},
		{[]replication.ThreadState{run, stop}, "false"},
		{[]replication.ThreadState{stop, run}, "false"},
	} {
		var cs []replication.Channel
		for _, s := range tc.channels {
			cs = append(cs, replication.Channel{IO: s, SQL: s})
		}
		db := newDatabase(replication.Database{Facts: replication.Facts{
			Reach: replication.Reachable, Channels: replication.Known(cs),
		}}, replication.DatabaseVerdict{}, 0)
		io, _ := json.Marshal(db.IORunning)
		sql, _ := json.Marshal(db.SQLRunning)
		if string(io) != tc.want || string(sql) != tc.want {
			t.Errorf("%v: IO %s, SQL %s, want %s", tc.channels, io, sql, tc.want)
		}
	}
}

// What is wrong with the heartbeat table stands behind what is worse.
func TestHeartbeatTrouble(t *testing.T) {
	for want, f := range map[string]replication.Facts{
		"table is full":    {Reach: replication.Reachable, BeatDetail: "table is full"},
		"timed out: hangs": {Reach: replication.ReachTimedOut, ReachDetail: "hangs", BeatDetail: "table is full"},
	} {
		if db := newDatabase(replication.Database{Facts: f}, replication.DatabaseVerdict{LagFrom: replication.LagHeartbeat}, 0); db.Error != want || db.LagFrom != "heartbeat_table" {
			t.Errorf("error %q, want %q; lag from %s", db.Error, want, db.LagFrom)
		}
	}
}

func TestTransitionResult(t *testing.T) {
	for _, tc := range []struct {
		last failover.Transition
		want string
	}{
		{failover.Transition{Running: true}, "running 5000"},
		{failover.Transition{Ending: hooks.Unfinished}, "running 5000"}, // it waits for the other node
		{failover.Transition{Ending: hooks.Completed, Duration: time.Second}, "completed 1000"},
		{failover.Transition{Ending: hooks.Aborted, Duration: time.Second}, "aborted 1000"},
		{failover.Transition{Ending: hooks.Interrupted, Duration: time.Second}, "interrupted 1000"},
	} {
		got := newTransition(failover.Status{Last: &tc.last, LastAge: 5 * time.Second})
		if s := fmt.Sprintf("%s %.0f", got.Result, got.DurationMS); s != tc.want {
			t.Errorf("%+v: %s, want %s", tc.last, s, tc.want)
		}
	}
}

// The words of status are the contract's.
func TestWords(t *testing.T) {
	var states []string
	for s := failover.Initialize; s <= failover.Conflict; s++ {
		states = append(states, s.String())
	}
	slices.Sort(states)
	want := []string{"active", "backup", "conflict", "demoting", "fault", "initialize", "promoting", "refused"}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}
	for _, code := range []string{
		"io_stopped", "sql_stopped", "lagging", "unknown", "undrained", "behind_source", "errant", "unreachable",
		"not_replica", "blocked", "maintenance", "unhealthy",
	} {
		var r GateReason
		if err := json.Unmarshal([]byte(`{"code":"`+code+`"}`), &r); err != nil || r.Code.String() != code {
			t.Errorf("gate code %s reads as %s: %v", code, r.Code, err)
		}
	}
}
