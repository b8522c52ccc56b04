package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

var update = flag.Bool("update", false, "write golden files")

type ran struct {
	code           int
	stdout, stderr string
}

func tanist(t *testing.T, args ...string) ran {
	t.Helper()
	var out, errOut bytes.Buffer
	code := execute(t.Context(), args, &out, &errOut)
	return ran{code, out.String(), errOut.String()}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

// All mistakes at once, each with its place and a caret, for every command that
// reads the file.
func TestBadConfiguration(t *testing.T) {
	for _, command := range []string{"check", "run", "release"} {
		got := tanist(t, command, "--config", "testdata/bad.yaml", "--node", "primary", "--state-dir", t.TempDir())
		if got.code != 1 || got.stdout != "" {
			t.Errorf("%s: exit status %d, stdout %q", command, got.code, got.stdout)
		}
		// release says first that nothing is known of an earlier daemon.
		_, problems, found := strings.Cut(got.stderr, "writes stay as they are\n")
		if found != (command == "release") {
			t.Errorf("%s: %s", command, got.stderr)
		}
		if !found {
			problems = got.stderr
		}
		golden(t, "bad.txt", problems)
	}
}

func TestKeygenNeverReplacesAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "cluster.key")
	if got := tanist(t, "keygen", path); got.code != 0 {
		t.Fatalf("keygen: %+v", got)
	}
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(bytes.TrimSpace(key)) != 2*keySize {
		t.Errorf("key of %d characters", len(bytes.TrimSpace(key)))
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
	got := tanist(t, "keygen", path)
	if got.code != 1 || !strings.Contains(got.stderr, "exists") {
		t.Errorf("a second keygen: %+v", got)
	}
	if again, _ := os.ReadFile(path); !bytes.Equal(key, again) {
		t.Error("the key was replaced")
	}
	if got := tanist(t, "keygen", filepath.Join(filepath.Dir(path), "other")); got.code != 0 {
		t.Fatalf("keygen: %+v", got)
	}
	if other, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "other")); bytes.Equal(key, other) {
		t.Error("two keys are the same")
	}
}

func TestCheckMaster(t *testing.T) {
	for _, tc := range []struct {
		state string
		held  bool
		word  string
		code  int
	}{
		{"active", true, "active", 0},
		{"active", false, "unknown", 2}, // the kernel disagrees
		{"backup", false, "standby", 1},
		{"backup", true, "unknown", 2}, // the kernel disagrees
		{"refused", false, "standby", 1},
		{"fault", false, "standby", 1},
		{"promoting", true, "promoting", 1},
		{"demoting", true, "demoting", 1},
		{"conflict", false, "unknown", 2},
		{"initialize", false, "unknown", 2},
	} {
		f := serve(t, tc.state, tc.held)
		got := tanist(t, "check-master", "--socket", f.socket)
		if got.code != tc.code || got.stdout != tc.word+"\n" || got.stderr == "" {
			t.Errorf("%s, held %v: %+v, want %s and %d", tc.state, tc.held, got, tc.word, tc.code)
		}
		if quiet := tanist(t, "check-master", "--quiet", "--socket", f.socket); quiet != (ran{code: tc.code}) {
			t.Errorf("%s, quiet: %+v", tc.state, quiet)
		}
		other := tanist(t, "check-master", "--instance", "other", "--socket", f.socket)
		if want := (control.Question{Instance: "other", Alone: true}); f.question != want {
			t.Errorf("%s: the daemon is asked for %+v, more than %+v", tc.state, f.question, want)
		}
		if other.code != 2 || other.stdout != "unknown\n" {
			t.Errorf("an instance that is not there: %+v", other)
		}
	}
	got := tanist(t, "check-master", "--socket", filepath.Join(t.TempDir(), "none"))
	if got.code != 2 || got.stdout != "unknown\n" || !strings.Contains(got.stderr, "no daemon answers") {
		t.Errorf("without a daemon: %+v", got)
	}
}

func TestSwitchoverStatus(t *testing.T) {
	for _, tc := range []struct {
		result string
		code   int
	}{{"done", 0}, {"incomplete", 1}, {"refused", 3}, {"rolled_back", 4}, {"timed_out", 5}} {
		f := serve(t, "active", true)
		f.lines = []control.Line{
			{Node: "primary", Step: &control.Step{Name: "writes close", Result: "changed", DurationMS: 1.5}},
			{
				Outcome: &control.Outcome{Result: tc.result, Reason: "gate_closed"},
				Reasons: []control.GateReason{{Code: replication.Lagging, Database: "pivot", Detail: "7.0 s behind"}},
			},
		}
		got := tanist(t, "switchover", "--to", "reserve", "--timeout", "5s", "--socket", f.socket)
		if got.code != tc.code || !strings.Contains(got.stdout, "writes close") || !strings.Contains(got.stdout, "pivot lags: 7.0 s behind") {
			t.Errorf("%s: %+v, want exit status %d", tc.result, got, tc.code)
		}
		want := control.SwitchoverRequest{To: "reserve", TimeoutMS: 5000, UID: uint32(os.Getuid())}
		if diff := cmp.Diff(want, f.asked); diff != "" {
			t.Errorf("the daemon was asked %s", diff)
		}
	}
	for _, args := range [][]string{
		{"switchover", "--force"},
		{"switchover", "--timeout", "0s"},
		{"switchover", "--timeout", "2h"},
		{"switchover", "extra"},
		{"switchover", "--socket", filepath.Join(t.TempDir(), "none")},
	} {
		if got := tanist(t, args...); got.code != 1 || got.stderr == "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

func TestStatus(t *testing.T) {
	f := serve(t, "backup", false)
	var doc control.Document
	if err := json.Unmarshal([]byte(tanist(t, "status", "--json", "--socket", f.socket).stdout), &doc); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.doc, doc); diff != "" {
		t.Errorf("status --json: %s", diff)
	}
	var b bytes.Buffer
	if err := printStatus(&b, f.doc, f.doc.Instances[0].Since.Add(90*time.Second)); err != nil {
		t.Fatal(err)
	}
	golden(t, "status.txt", b.String())
}

func TestSchemaAndVersion(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(tanist(t, "config", "schema").stdout), &schema); err != nil || schema["$schema"] == nil {
		t.Errorf("config schema: %v, %v", schema["$schema"], err)
	}
	if got := tanist(t, "version"); got.code != 0 || !strings.HasPrefix(got.stdout, "tanist ") {
		t.Errorf("version: %+v", got)
	}
	if got := tanist(t, "completion", "bash"); got.code != 0 || !strings.Contains(got.stdout, "tanist") {
		t.Errorf("completion: %d", got.code)
	}
}

// fake is a daemon with a fixed answer behind a real control socket.
type fake struct {
	socket   string
	doc      control.Document
	question control.Question // the last one, once the answer is there
	lines    []control.Line
	asked    control.SwitchoverRequest

	replication []control.ReplicationLine
	replicated  control.ReplicationRequest
	refusal     error
	announced   []control.Announced
	plan        control.Plan
	held        []control.HoldRequest
	answer      control.HoldAnswer
	events      http.HandlerFunc
}

func (f *fake) Replication(_ context.Context, r control.ReplicationRequest, news func(control.ReplicationLine)) error {
	f.replicated = r
	for _, l := range f.replication {
		news(l)
	}
	return f.refusal
}

func (f *fake) Commanded(context.Context, control.Command) error { return nil }

func (f *fake) Events(w http.ResponseWriter, r *http.Request) { f.events.ServeHTTP(w, r) }

func (f *fake) Refused(control.Refusal) {}

func (f *fake) Hold(_ context.Context, _ failover.HoldKind, r control.HoldRequest) (control.HoldAnswer, error) {
	f.held = append(f.held, r)
	return f.answer, f.refusal
}

func (f *fake) Status(_ context.Context, q control.Question) (control.StatusAnswer, error) {
	f.question = q
	return control.StatusAnswer{Document: f.doc}, nil
}

func (f *fake) Switchover(_ context.Context, r control.SwitchoverRequest, news func(control.Line)) error {
	f.asked = r
	for _, l := range f.lines {
		news(l)
	}
	return nil
}

func serve(t *testing.T, state string, held bool) *fake {
	t.Helper()
	f := &fake{socket: filepath.Join(t.TempDir(), "s"), doc: document(state, held)}
	s, err := control.Listen(f.socket, f)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-over; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return f
}

func document(state string, held bool) control.Document {
	yes, no, lag, pos, missing, heard, age := true, false, 7.25, "0-1-4711", uint64(12), int64(40), int64(150)
	return control.Document{
		Node: "reserve", Epoch: 7, Version: "test",
		Instances: []control.Instance{{
			Name: "compass", State: state, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Reason: "peer_active", Epoch: 6,
			VIPs: []control.VIP{{Address: "10.77.0.100/24", Interface: "eth0", Held: held}},
			Gate: control.Gate{Reasons: []control.GateReason{{Code: replication.Lagging, Database: "pivot", Detail: "7.2 s behind, more than 5.0 s"}}},
			Databases: []control.Database{{
				Name: "pivot", Role: "replica", ReadOnly: &yes, IORunning: &yes, SQLRunning: &no, LagSeconds: &lag, LagFrom: "positions",
				Position: &pos, MissingTransactions: &missing, AgeMS: &age,
			}},
			Health: []control.Health{{Name: "nginx", OK: &no, Effect: "yield", Detail: "inactive", AgeMS: &age}},
			Units:  []control.Unit{{Name: "lsyncd.service", Active: "active"}},
			Labels: []control.Label{{File: "/opt/values.yaml", Key: "master_service_label", Value: "primary", Wanted: new("reserve")}},
			Drift: []control.Drift{{
				Step: "label", Kind: "yaml", State: "would change", Detail: `/opt/values.yaml says "primary", not "reserve"`,
				SinceSeconds: new(12.0), Repair: "repair",
			}},
			LastTransition: &control.Transition{
				Epoch: 7, Kind: "demote", Planned: true, Reason: "requested", Result: "completed", DurationMS: 123.4,
				Steps: []control.Step{{Name: "writes close", Result: "changed", DurationMS: 3.2}},
			},
			Heartbeat: &control.Heartbeat{
				Auth: "hmac", LastHeardMS: &heard, Proved: &yes, SecondKey: true, Checksum: "rfc", PeerChecksum: "rfc",
				Mismatch: []string{"interval", "addresses"}, Dropped: map[string]uint64{"auth_tag": 3}, Unproved: map[string]uint64{},
			},
		}},
		Heartbeat: []control.HeartbeatPath{
			{Local: "10.77.0.12", Peer: "10.77.0.11", Up: true, LastHeardMS: &heard, Dropped: map[string]uint64{"ttl": 2, "auth_tag": 3}},
			{Interface: "eth1", Peer: "224.0.0.18", Error: "look up interface eth1: no such device", Dropped: map[string]uint64{}},
		},
		Peer: control.Peer{
			Label: "primary", Reachable: true, Authenticated: true,
			Paths: []control.Path{
				{Address: "10.77.0.11", Heard: true, HearsUs: &yes, LastHeardMS: &heard},
				{Address: "10.77.1.11", HearsUs: &no, Error: "connection refused"},
			},
			Instances: []control.PeerInstance{{
				Name: "compass", State: "active", Reason: "requested", Epoch: 7, Holds: true, AgeMS: 40,
				Gate: control.Gate{Open: true, Reasons: []control.GateReason{}}, Steps: []control.Step{},
				Labels: []control.Label{{File: "/opt/values.yaml", Key: "master_service_label", Value: "primary", Wanted: new("primary")}},
				Drift: []control.Drift{{
					Step: "lsyncd", Kind: "unit", State: "cannot", Detail: "no answer in 5s", SinceSeconds: new(0.5), Repair: "report",
				}},
			}},
		},
	}
}
