package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// manyInstances is a document of a node that has much to tell.
func manyInstances(n int) *Document {
	doc := &Document{
		Node: "primary", Version: "1.0.0", Heartbeat: []HeartbeatPath{},
		Peer: Peer{Label: "reserve", Report: &Document{Node: "reserve"}, Paths: []Path{{Address: "192.0.2.12"}}},
	}
	yes, position := true, strings.Repeat("01234567-89ab-cdef-0123-456789abcdef:1-1000,", 4)
	for i := range n {
		in := Instance{
			Name: fmt.Sprint("team", i), State: "backup", Reason: "peer_active", VIPs: []VIP{{Address: "192.0.2.100/24", Interface: "eth0"}},
			Gate: Gate{Open: true, Reasons: []GateReason{}}, Labels: []Label{{File: "/srv/a.yaml", Key: "master", Value: "primary"}},
			Databases:      []Database{{Name: "pivot", Role: "replica", Position: &position}},
			Health:         []Health{{Name: "nginx", OK: &yes, Verdict: "well"}, {Name: "disk", Verdict: "unknown"}},
			Units:          []Unit{{Name: "lsyncd.service", Active: "active", Running: true}},
			LastTransition: &Transition{Epoch: 7, Kind: "demote", Steps: []Step{}},
			Heartbeat:      &Heartbeat{Dropped: map[string]uint64{"ttl": 1}},
		}
		for j := range 6 {
			in.LastTransition.Steps = append(in.LastTransition.Steps, Step{Name: fmt.Sprint("step ", j), Result: "applied", DurationMS: 12.5})
		}
		doc.Instances = append(doc.Instances, in)
		doc.Peer.Instances = append(doc.Peer.Instances, PeerInstance{Name: in.Name})
	}
	return doc
}

// A report is within its limit, says what is missing, and lacks no more than it must.
func TestEncodeReport(t *testing.T) {
	const instances = 100
	one, _, err := EncodeReport(manyInstances(instances), CutNothing, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	whole := len(one)
	for _, test := range []struct {
		limit     int
		least     Cut
		cut       Cut
		says      []string
		instances int
	}{
		{limit: whole, cut: CutNothing, instances: instances},
		{limit: whole - 1, cut: CutSteps, says: []string{"steps"}, instances: instances},
		{limit: whole, least: CutPositions, cut: CutPositions, says: []string{"steps", "positions"}, instances: instances},
		{limit: whole * 72 / 100, cut: CutPositions, says: []string{"steps", "positions"}, instances: instances},
		{limit: whole * 56 / 100, cut: CutDetails, says: []string{"steps", "positions", "details"}, instances: instances},
		{limit: whole / 10, cut: CutInstances, says: []string{"steps", "positions", "details", "instances"}},
	} {
		body, cut, err := EncodeReport(manyInstances(instances), test.least, test.limit)
		if err != nil || cut != test.cut || len(body) > test.limit {
			t.Errorf("of %d bytes at most %d: %d bytes, without %v, %v; want without %v", whole, test.limit, len(body), cut, err, test.cut)
		}
		var doc Document
		if err := json.Unmarshal(body, &doc); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.says, doc.Cut); diff != "" {
			t.Errorf("limit %d: it says otherwise (-want +got):\n%s", test.limit, diff)
		}
		if doc.Peer.Report != nil || len(doc.Peer.Instances) != 0 || len(doc.Peer.Paths) != 1 {
			t.Errorf("limit %d: of the peer it tells %+v", test.limit, doc.Peer)
		}
		if n := len(doc.Instances); n == 0 || test.instances != 0 && n != test.instances {
			t.Errorf("limit %d: %d instances", test.limit, n)
		}
		in := doc.Instances[0]
		if has := len(in.LastTransition.Steps) > 0; has != (cut < CutSteps) {
			t.Errorf("without %v: steps %v", cut, has)
		}
		if has := in.Databases[0].Position != nil; has != (cut < CutPositions) {
			t.Errorf("without %v: position %v", cut, has)
		}
		if n := len(in.Health); n != 2 && cut < CutDetails || n != 1 && cut >= CutDetails {
			t.Errorf("without %v: %d checks", cut, n)
		}
	}
	if body, _, err := EncodeReport(manyInstances(1), CutNothing, 100); err == nil {
		t.Errorf("into 100 bytes went %s", body)
	}
}

func TestTheirSide(t *testing.T) {
	ms := func(n int64) *int64 { return &n }
	yes, no := true, false
	doc := Document{
		Peer: Peer{
			Paths: []Path{{Address: "192.0.2.12"}, {Address: "198.51.100.12", HearsUs: &yes}, {Address: "203.0.113.12"}},
		},
		Heartbeat: []HeartbeatPath{
			{Local: "192.0.2.11", Peer: "192.0.2.12"},
			{Local: "198.51.100.11", Peer: "198.51.100.12"},
			{Interface: "eth1", Local: "10.0.0.1", Peer: "224.0.0.18"},
			{Interface: "eth0", Local: "10.0.1.1", Peer: "224.0.0.18"},
		},
	}
	report := &Document{
		Peer: Peer{Paths: []Path{ // the peer hears us by the second path only
			{Address: "198.51.100.11", Heard: true, LastHeardMS: ms(80)}, {Address: "192.0.2.11"},
		}},
		Heartbeat: []HeartbeatPath{
			{Local: "192.0.2.12", Peer: "192.0.2.11"},
			{Local: "198.51.100.12", Peer: "198.51.100.11", LastHeardMS: ms(20)},
			{Interface: "eth1", Local: "10.0.0.2", Peer: "224.0.0.18", LastHeardMS: ms(30)},
		},
	}
	doc.TheirSide(report, []string{"192.0.2.11", "198.51.100.11", "203.0.113.11"}, 500*time.Millisecond)
	if diff := cmp.Diff([]Path{
		{Address: "192.0.2.12", HearsUs: &no, PeerHeard: &no},
		{Address: "198.51.100.12", HearsUs: &yes, PeerHeard: &yes, PeerHeardMSAgo: ms(580)},
		{Address: "203.0.113.12"},
	}, doc.Peer.Paths); diff != "" {
		t.Errorf("paths of the link (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]HeartbeatPath{
		{Local: "192.0.2.11", Peer: "192.0.2.12", PeerHeard: &no},
		{Local: "198.51.100.11", Peer: "198.51.100.12", PeerHeard: &yes, PeerHeardMSAgo: ms(520)},
		{Interface: "eth1", Local: "10.0.0.1", Peer: "224.0.0.18", PeerHeard: &yes, PeerHeardMSAgo: ms(530)},
		{Interface: "eth0", Local: "10.0.1.1", Peer: "224.0.0.18"},
	}, doc.Heartbeat); diff != "" {
		t.Errorf("paths of the heartbeat (-want +got):\n%s", diff)
	}
}

func TestCompare(t *testing.T) {
	of := func(version, global string, keys []string, ins ...InstanceDigest) *Document {
		return &Document{Version: version, Host: &Host{KeyIDs: keys, Configuration: Configuration{Global: global, Instances: ins}}}
	}
	a, b := InstanceDigest{"a", "1"}, InstanceDigest{"b", "2"}
	here := of("1", "g", []string{"k"}, a, b)
	none := func() *Difference {
		return &Difference{Instances: []string{}, OnlyHere: []string{}, OnlyThere: []string{}}
	}
	with := func(set func(*Difference)) *Difference {
		d := none()
		set(d)
		return d
	}
	for _, test := range []struct {
		name  string
		there *Document
		want  *Difference
	}{
		{"nothing said", nil, nil},
		{"an older release", &Document{Version: "0"}, nil},
		{"the same in another order", of("1", "g", []string{"k"}, b, a), none()},
		{"the same of another release", of("2", "g", []string{"k"}, a, b), none()},
		{"one instance", of("1", "g", []string{"k"}, a, InstanceDigest{"b", "3"}), with(func(d *Difference) { d.Instances = []string{"b"} })},
		{"one instance of another release", of("2", "g", []string{"k"}, a, InstanceDigest{"b", "3"}), with(func(d *Difference) { d.OtherRelease = true })},
		{"one missing, one more", of("1", "g", []string{"k"}, a, InstanceDigest{"c", "3"}), with(func(d *Difference) { d.OnlyHere, d.OnlyThere = []string{"b"}, []string{"c"} })},
		{"the nodes", of("1", "h", []string{"k"}, a, b), with(func(d *Difference) { d.Global = true })},
		{"a second key", of("1", "g", []string{"k", "l"}, a, b), with(func(d *Difference) { d.Keys = true })},
	} {
		got := Compare(here, test.there)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if got != nil && got.Any() != (test.want.Global || test.want.Keys || len(test.want.Instances) > 0 || len(test.want.OnlyHere) > 0) {
			t.Errorf("%s: any %v", test.name, got.Any())
		}
	}
}

// What the other node says is another release's, or nobody's.
func TestDecodeReport(t *testing.T) {
	body, _, err := EncodeReport(manyInstances(3), CutNothing, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	want := manyInstances(3)
	want.Peer.Report, want.Peer.Instances = nil, []PeerInstance{}
	r, err := ReadReport(body)
	if err != nil || !bytes.Equal(r.JSON, body) {
		t.Fatalf("%v, it came as %s and is %s", err, body, r.JSON)
	}
	if doc, err := r.Whole(); err != nil || !cmp.Equal(want, doc) {
		t.Errorf("%v, %s", err, cmp.Diff(want, doc))
	}
	want.Instances, want.Peer.Instances = nil, nil
	if diff := cmp.Diff(want, &r.Head); diff != "" {
		t.Errorf("what is no instance (-want +got):\n%s", diff)
	}
	newer := `{"node":"reserve","quorum":{"x":1},"instances":[{"name":"a","gate":{"reasons":[{"code":"moon_phase","why":3},{"code":"lagging"}]}}],
		"peer":{"report":{"node":"primary"},"instances":[{"name":"a"}]}}`
	if r, err = ReadReport([]byte(newer)); err != nil || r.Head.Node != "reserve" || bytes.Contains(r.JSON, []byte("primary")) {
		t.Fatalf("%+v, %v", r, err)
	}
	doc, err := r.Whole()
	if err != nil || doc.Node != "reserve" || doc.Peer.Report != nil || len(doc.Peer.Instances) != 0 {
		t.Fatalf("%+v, %v", doc, err)
	}
	text, err := json.Marshal(doc.Instances[0].Gate.Reasons)
	if want := `[{"code":"?","database":"","detail":""},{"code":"lagging","database":"","detail":""}]`; err != nil || string(text) != want {
		t.Errorf("codes are passed on as %s, %v", text, err)
	}
	for name, bad := range map[string]string{
		"nothing": "", "no JSON": "hello", "a list": "[]", "another type": `{"node":{}}`,
		"instances without end": `{"instances":[` + strings.Repeat("{},", maxReported) + `{}]}`,
		"nulls without end":     `{"instances":[` + strings.Repeat("null,", maxReported) + `null]}`,
		"the peer's instances":  `{"peer":{"instances":[` + strings.Repeat("{},", maxReported) + `{}]}}`,
		"too deep":              strings.Repeat(`{"peer":{"report":`, 20_000),
	} {
		if r, err := ReadReport([]byte(bad)); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
}
