package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/systemd"
)

func result(name string, o hooks.Outcome, d time.Duration) hooks.Result {
	return hooks.Result{Name: name, Outcome: o, Duration: d}
}

// Steps of both nodes are told once each, as they begin and as they end; what was
// there before the command is not.
func TestWatcher(t *testing.T) {
	status := func(here, there []hooks.Result) failover.Status {
		return failover.Status{
			Node: "primary", Peer: "reserve", Last: &failover.Transition{Steps: here},
			PeerFresh: true, PeerState: failover.PeerState{Steps: there},
		}
	}
	const ms = time.Millisecond
	var out bytes.Buffer
	old := []hooks.Result{result("label", hooks.Changed, 3*ms), result("vip", hooks.Changed, ms)}
	w := newWatcher(status(old, nil), func(l control.Line) { showLine(&out, l) })
	w.look(status(old, nil))
	// The next transition has a step of the same name, and ended between two looks.
	w.look(status([]hooks.Result{result("label", hooks.Changed, 4*ms), result("vip", hooks.Pending, 0)}, nil))
	took := []hooks.Result{result("vip", hooks.Running, 0)}
	w.look(status([]hooks.Result{result("label", hooks.Changed, 4*ms), result("vip", hooks.Running, 0)}, took))
	took[0] = result("vip", hooks.Changed, 1500*time.Microsecond)
	gone := status([]hooks.Result{result("label", hooks.Changed, 4*ms), result("vip", hooks.Running, 0)}, took)
	gone.PeerFresh = false
	w.look(gone) // what a silent peer said last is not news
	failed := result("vip", hooks.Failed, 2*ms)
	failed.Detail = "no such device"
	w.look(status([]hooks.Result{result("label", hooks.Changed, 4*ms), failed}, took))
	showLine(&out, control.Line{Reasons: []control.GateReason{
		{Code: replication.Lagging, Database: "pivot", Detail: "7.0 s behind"}, {Code: replication.Blocked, Detail: "promotion of this node is blocked: disk swap (uid 0)"},
	}})
	golden(t, "progress.txt", out.String())
}

func TestStatusLeavesTheTerminalAlone(t *testing.T) {
	doc := document("active", true)
	doc.Instances[0].Databases[0].Error = "error \x1b[2J\a1236:\nx"
	doc.Instances[0].Health[0] = control.Health{Name: "nginx", Effect: "yield"}
	var b bytes.Buffer
	if err := printStatus(&b, doc, time.Now()); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\a") {
		t.Errorf("%q", b.String())
	}
	if !regexp.MustCompile(`\n  nginx +no sample yet +—\n`).MatchString(b.String()) {
		t.Errorf("a check without a sample:\n%s", b.String())
	}
}

// Asked wrongly, check-master does not answer like a standby.
func TestCheckMasterMisused(t *testing.T) {
	for _, args := range [][]string{
		{"check-master", "--bogus"},
		{"check-master", "compass"},
		{"check-master", "--instance"},
	} {
		if got := tanist(t, args...); got.code != masterUnknown || got.stdout != "" || got.stderr == "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

// Text goes to standard output, errors to standard error.
func TestSwitchoverStreams(t *testing.T) {
	f := serve(t, "active", true)
	f.lines = []control.Line{{Outcome: &control.Outcome{Result: "done", Reason: "requested"}}}
	for _, tc := range []struct {
		args []string
		want ran
	}{
		{nil, ran{stdout: "done\n"}},
		{[]string{"--dry-run"}, ran{stdout: "nothing stands in the way; nothing was changed\n"}},
		{[]string{"--json"}, ran{stdout: `{"outcome":{"result":"done","reason":"requested"}}` + "\n"}},
	} {
		got := tanist(t, append([]string{"switchover", "--socket", f.socket}, tc.args...)...)
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(ran{})); diff != "" {
			t.Errorf("%v: %s", tc.args, diff)
		}
	}
	f.lines = []control.Line{{Outcome: &control.Outcome{Result: "timed_out", Reason: "timed_out", Detail: "while this node closed"}}}
	want := ran{code: switchoverTimedOut, stderr: "timed out and rolled back: the time for it ran out: while this node closed\n"}
	if diff := cmp.Diff(want, tanist(t, "switchover", "--socket", f.socket), cmp.AllowUnexported(ran{})); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errOut bytes.Buffer
	if code := execute(ctx, []string{"switchover", "--socket", f.socket}, &out, &errOut); code != exitProblem || !strings.Contains(errOut.String(), "goes on") {
		t.Errorf("interrupted: %d, %s", code, errOut.String())
	}
}

// A status waits only a moment for systemd, and has the labels' values from their
// files.
func TestSurvey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	label := filepath.Join(dir, "values.yaml")
	if err := os.WriteFile(label, []byte("site: {active: primary}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "none.yaml")
	plan := hooks.Plan{
		{Action: hooks.VIP{Acquire: true}},
		{Action: hooks.YAML{File: label, Key: "site.active", Value: "{{.Active}}"}},
		{Action: hooks.Unit{Verb: hooks.StartUnit, Name: "lsyncd@{{.Node}}.service"}},
	}
	demote := append(append(hooks.Plan(nil), plan...), hooks.Step{Action: hooks.YAML{File: missing, Key: "a"}})
	units := systemd.NewUnits(systemd.UnitsConfig{Sockets: []string{filepath.Join(dir, "bus")}})
	t.Cleanup(func() { _ = units.Close() })
	file := &config.File{}
	file.Nodes[0].Label, file.Nodes[1].Label = "primary", "reserve"
	s := newSurvey(config.Instance{Name: "compass", Promote: plan, Demote: demote}, file, 1, units)
	if diff := cmp.Diff([]string{"lsyncd@reserve.service"}, s.names); diff != "" {
		t.Errorf("units: %s", diff)
	}
	nobody, leave := context.WithCancel(t.Context())
	leave()
	if is := s.latest(nobody); len(is.units) != 1 || is.units[0].Error != notSeen || len(is.labels) != 2 || is.labels[1].Error != notSeen || !is.unitsAt.IsZero() {
		t.Errorf("before the first look: %+v", is)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- s.run(ctx) }()
	eventually(t, "a look", func() bool {
		is := s.latest(t.Context())
		return !is.unitsAt.IsZero() && len(is.units) == 1 && is.units[0].Error != "" && !is.units[0].Running && len(is.labels) == 2
	})
	labels := s.latest(t.Context()).labels
	if labels[0] != (control.Label{File: label, Key: "site.active", Value: "primary"}) || labels[1].Error == "" {
		t.Errorf("labels: %+v", labels)
	}
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// A wait is told at once, then once in a second, with the rate at which it gets less.
func TestProgress(t *testing.T) {
	var p progress
	at := func(ms int, left uint64) *control.Waiting {
		s := failover.Status{Now: mono.Instant(time.Duration(ms) * time.Millisecond)}
		s.Waiting = failover.Waiting{For: "reserve to catch up", Left: left}
		return p.look(s)
	}
	if w := at(1000, 900); w == nil || w.Left != 900 || w.PerSecond != nil {
		t.Errorf("first: %+v", w)
	}
	if w := at(1500, 700); w != nil {
		t.Errorf("told again after half a second: %+v", w)
	}
	w := at(2000, 600)
	if w == nil || w.PerSecond == nil || *w.PerSecond != 300 || *w.SecondsLeft != 2 {
		t.Fatalf("after a second: %+v", w)
	}
	if got, want := waitingWords(*w), "waiting for reserve to catch up: 600 transactions left, 300/s, about 2 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if w := p.look(failover.Status{Now: mono.Instant(3 * time.Second)}); w != nil {
		t.Errorf("nothing is waited for: %+v", w)
	}
}
