package screen

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication"
)

var update = flag.Bool("update", false, "write golden files and pictures")

// words stand in for those of the command, which have their own test.
func words() Words {
	return Words{
		Reason: func(name string) string {
			return map[string]string{
				"elected": "both nodes were up and none was active", "peer_active": "the other node is active", "requested": "an operator's switchover, or the other node's leave",
				"address_answers": "the silent host still answered for the address", "starting": "the daemon just started", "gate_closed": "the gate was closed",
				"peer_silent": "nothing was heard of the other node", "newer_epoch": "another active node has a newer epoch",
			}[name]
		},
		Loss: func(control.Loss) string {
			return "proved 3, at most about 5, by what was heard 0.2 s before: 0-1-4709 to 0-1-4711"
		},
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

func at80(doc control.Document) []Line {
	return Draw(doc, Options{Now: noon, Got: noon, Width: 80, Words: words()})
}

func TestSituations(t *testing.T) {
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			lines := at80(s.doc)
			golden(t, "testdata/"+s.name+".txt", Text(lines, false, true))
			for i, l := range lines {
				if w := width(l); w > 80 {
					t.Errorf("line %d has %d columns: %s", i+1, w, Text([]Line{l}, false, true))
				}
			}
			golden(t, "testdata/"+s.name+".ansi", Text(lines, true, true))
		})
	}
}

// What a dead peer's connections still look like is no word of it.
func TestSilentPeer(t *testing.T) {
	doc := peerGone()
	for i := range doc.Peer.Paths {
		doc.Peer.Paths[i].HearsUs = new(true) // TCP has not noticed yet
	}
	text := Text(Draw(doc, Options{Now: noon, Got: noon, Width: 120, Words: Words{Reason: func(string) string { return "" }, Loss: func(control.Loss) string { return "" }}}), false, true)
	if strings.Contains(text, "firewall") || !strings.Contains(text, "look whether reserve is up") {
		t.Error(text)
	}
	here := &doc.Instances[0]
	here.State, here.Gate = "refused", control.Gate{Reasons: []control.GateReason{reason(replication.NotReplica, "pivot", "replicates from nobody")}}
	text = Text(Draw(doc, Options{Now: noon, Got: noon, Width: 200, Words: Words{Reason: func(string) string { return "" }, Loss: func(control.Loss) string { return "" }}}), false, true)
	if strings.Contains(text, "rejoin") || !strings.Contains(text, "bring reserve back") {
		t.Error(text)
	}
}

// The states of the peer come several times a second, its report seldom.
func TestStatesYoungerThanTheReport(t *testing.T) {
	draw := func(change func(p *control.Peer)) string {
		doc := drift()
		change(&doc.Peer)
		return Text(Draw(doc, Options{Now: noon, Got: noon, Width: 200, Words: words()}), false, true)
	}
	const runs, should = "reserve: unit lsyncd: lsyncd.service runs", "should be primary"
	was := func(p *control.Peer) { // before the drift
		p.Report.Instances[0].Drift = []control.Drift{{Step: "discover", Kind: "discover", Detail: "two files name one port"}}
		p.Report.Instances[0].Labels = []control.Label{label("primary", "primary")}
	}
	text := draw(was)
	for _, want := range []string{runs, should, "reserve: discover: two files name one port"} {
		if !strings.Contains(text, want) {
			t.Errorf("it says nothing of %q:\n%s", want, text)
		}
	}
	text = draw(func(p *control.Peer) { // after it, and the states that are left are older
		was(p)
		p.Instances[0].AgeMS = 10 * *p.ReportAgeMS
	})
	if strings.Contains(text, runs) || strings.Contains(text, should) {
		t.Errorf("of older states:\n%s", text)
	}
	text = draw(func(p *control.Peer) { // a label that a plan is about to set
		was(p)
		p.Instances[0].State = "demoting"
	})
	if strings.Contains(text, should) {
		t.Errorf("while it demotes:\n%s", text)
	}
	many := make([]control.Drift, mostSaid+4)
	for i := range many {
		many[i] = control.Drift{Step: "step", Kind: "unit", SinceSeconds: new(1.0)}
	}
	text = draw(func(p *control.Peer) {
		p.Report.Instances[0].Drift, p.Instances[0].Drift = many, many[:mostSaid]
	})
	if !strings.Contains(text, "17 more such things on reserve") {
		t.Errorf("of many:\n%s", text)
	}
}

// A step that has no name of its own is called by its kind and what it is about.
func TestDriftName(t *testing.T) {
	for step, want := range map[string]string{"lsyncd": "unit lsyncd", "unit stop lsyncd.service": "unit stop lsyncd.service", "unit": "unit", "units": "unit units"} {
		if got := driftName(control.Drift{Kind: "unit", Step: step}); got != want {
			t.Errorf("%q: %q", step, got)
		}
	}
}

// To a group anybody sends: nobody's name is in it.
func TestFloodOfAGroup(t *testing.T) {
	doc := flood()
	doc.Heartbeat[0].Interface, doc.Heartbeat[0].Peer = "eth0", "ff02::12"
	text := strings.Join(strings.Fields(Text(at80(doc), false, true)), " ")
	for _, want := range []string{"advertisements that the cluster key did not seal, to ff02::12 on eth0; they are kept out", "tcpdump -c 20 -eni any proto 112 shows"} {
		if !strings.Contains(text, want) {
			t.Errorf("no word of %q:\n%s", want, text)
		}
	}
}
