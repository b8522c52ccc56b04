package doctor

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/peer"
	"github.com/tanist-ha/tanist/internal/screen/picture"
)

var update = flag.Bool("update", false, "write the golden files anew")

// situations are what operators meet, by the name of the golden file. They are made
// of what the checks say, not written down by hand.
func situations(t *testing.T) map[string]Report {
	t.Helper()
	all := map[string]Report{}
	running := Running{
		Version: "0.6.0", File: "/etc/tanist/tanist.yaml", KeyFile: "/etc/tanist/cluster.key", Keys: []string{"1a2b3c4d"},
		Sections: map[string]string{"nodes": "1", "instances[compass].lease": "2"},
	}
	both := nodes()
	host := func(node string, u units, root map[string]string) []Finding {
		found := AtBoot(t.Context(), u, files(root), []string{"lsyncd.service"})
		found = append(found, Keepalived(t.Context(), u, files(root), compass())...)
		found = append(found, Network(t.Context(), u, files(root), compass())...)
		found = append(found, KernelSettings(files(root), compass())...)
		found = append(found, Synchronised(Clock{Synchronised: true, MaxError: 12 * time.Millisecond}))
		for i := range found {
			found[i].Node = node
		}
		return found
	}
	good := units{ownUnit: {Exists: true, Running: true, AtBoot: true}, "lsyncd.service": {Exists: true}}
	pair := func(change func(here, there *Sight), there Running, extra ...Finding) Report {
		mine, theirs := ends()
		change(&mine, &theirs)
		found := append(host(both[0], good, nil), host(both[1], good, nil)...)
		found = append(found, Paths(both, []Sight{mine}, []Sight{theirs}, Peer{})...)
		found = append(found, Agree(both, running, there)...)
		return NewReport(both, both[:], append(found, extra...))
	}
	nothing := func(_, _ *Sight) {}
	all["fine"] = pair(nothing, running, ClocksAgree(both, Offset{Ahead: time.Millisecond, Error: time.Millisecond}))
	all["firewall"] = pair(func(_, there *Sight) { there.Heard, there.In112 = 0, dropping() }, running)

	mineToo, theirsToo := groupEnds()
	theirsToo.Heard = 0
	beside, besideThere := besides(3)
	group := append(host(both[0], good, nil), host(both[1], good, nil)...)
	group = append(group, Paths(both, []Sight{beside}, []Sight{besideThere}, Peer{})...)
	group = append(group, Groups(both, View{[]Sight{beside}, []Group{mineToo}}, &View{[]Sight{besideThere}, []Group{theirsToo}}, Peer{})...)
	all["group"] = NewReport(both, both[:], append(group, Agree(both, running, running)...))

	other := running
	other.Keys, other.Sections = []string{"99999999"}, map[string]string{"nodes": "1", "instances[compass].lease": "3"}
	all["disagreement"] = pair(nothing, other, ClocksAgree(both, Offset{Ahead: 90 * time.Second, Error: time.Millisecond}))

	u := units{
		ownUnit: {Exists: true, Running: true}, "lsyncd.service": {Exists: true, Running: true, AtBoot: true},
		keepalivedUnit: {Exists: true, Running: true, AtBoot: true}, networkdUnit: {Exists: true, Running: true},
	}
	root := map[string]string{
		keepalivedFile: keepalivedText, "proc/4711/comm": "keepalived\n",
		"etc/systemd/network/10-eth0.network": "[Match]\nName=eth0\n\n[Network]\nAddress=10.77.0.11/24\nKeepConfiguration=static\n",
	}
	all["host"] = NewReport(both, both[:], append(host(both[0], u, root), host(both[1], good, nil)...))

	mine, _ := ends()
	mine.TCP, mine.TCPError = Unanswered, "i/o timeout"
	alone := append(host(both[0], good, nil), Unasked(both, "call doctor/open of reserve: the peer is not reachable", []Sight{mine}))
	alone = append(alone, Paths(both, []Sight{mine}, nil, Peer{Lives: true, Advertises: true})...)
	all["alone"] = NewReport(both, both[:1], alone)

	mine, _ = ends()
	mine.HeardMS, mine.Sent, mine.Heard, mine.TCP = nil, 0, 0, Reset
	otherKey := append(host(both[0], good, nil), Unasked(both, "call doctor/open of reserve: the peer is not reachable", []Sight{mine}))
	otherKey = append(otherKey, Proofs(both, nil, []Refusal{refused(0, peer.ReasonWrongKey), refused(1, peer.ReasonWrongKey)}, running)...)
	otherKey = append(otherKey, Paths(both, []Sight{mine}, nil, Peer{Lives: true})...)
	all["other-key"] = NewReport(both, both[:1], otherKey)

	between := append(host(both[0], good, nil), Unasked(both, "call doctor/open of reserve: the peer is not reachable", []Sight{mine}))
	between = append(between, Meddling(both, []Refusal{refused(0, peer.ReasonForged), refused(1, peer.ReasonForged)}, 7511)...)
	between = append(between, Paths(both, []Sight{mine}, nil, Peer{Lives: true})...)
	all["between"] = NewReport(both, both[:1], between)

	stopped := units{ownUnit: {Exists: true, State: "failed (failed), result exit-code, 0 processes", AtBoot: true}, "lsyncd.service": {Exists: true}}
	mine, _ = ends()
	mine.HeardMS, mine.PatienceMS, mine.Sent, mine.Heard, mine.TCP = nil, 0, 0, 0, Refused
	down := []Finding{StoppedDaemon(t.Context(), stopped, "/run/tanist/tanist.sock", errors.New("no daemon answers on /run/tanist/tanist.sock"))}
	down = append(down, host(both[0], stopped, nil)...)
	down = append(down, Unasked(both, "no daemon runs on primary", []Sight{mine}))
	down = append(down, Paths(both, []Sight{mine}, nil, Peer{})...)
	all["no-daemon"] = NewReport(both, both[:1], down)
	return all
}

func TestText(t *testing.T) {
	for name, r := range situations(t) {
		for _, verbose := range []bool{false, true} {
			file := filepath.Join("testdata", name+".txt")
			if verbose {
				file = filepath.Join("testdata", name+".verbose.txt")
			}
			t.Run(file, func(t *testing.T) {
				var out strings.Builder
				if err := r.Print(&out, Style{Verbose: verbose}); err != nil {
					t.Fatal(err)
				}
				golden(t, file, out.String())
			})
		}
	}
}

// pictured are the situations that docs/doctor.md shows, and what it calls them.
var pictured = map[string]string{
	"firewall":     "a firewall drops the heartbeat on one path",
	"host":         "three things on a host that will hurt later",
	"disagreement": "two files, two keys, two times",
	"other-key":    "the peer refuses to talk",
	"no-daemon":    "no daemon runs here",
}

// The pictures of docs are drawn from the text that the goldens hold.
func TestPicturesAreCurrent(t *testing.T) {
	const docs, columns = "../../docs", 120
	page, err := os.ReadFile(filepath.Join(docs, "doctor.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := situations(t)
	for name, says := range pictured {
		var out strings.Builder
		if err := all[name].Print(&out, Style{Colour: true, Width: columns}); err != nil {
			t.Fatal(err)
		}
		drawn, err := picture.SVG("tanist doctor: "+says, out.String(), columns)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join(docs, "doctor", name+".svg"), drawn)
		if shown := "![" + says + "](doctor/" + name + ".svg)"; !strings.Contains(string(page), shown) {
			t.Errorf("docs/doctor.md does not have %s", shown)
		}
	}
}

func TestJSON(t *testing.T) {
	b, err := json.MarshalIndent(situations(t)["firewall"], "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "firewall.json"), string(b)+"\n")
	var back Report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(situations(t)["firewall"], back); diff != "" {
		t.Errorf("read back (-want +got)\n%s", diff)
	}
}

// What a newer release says stays readable, and is not taken for fine.
func TestNewerRelease(t *testing.T) {
	var f Finding
	if err := json.Unmarshal([]byte(`{"severity":"catastrophe","code":"of_tomorrow","node":"reserve","what":"x"}`), &f); err != nil {
		t.Fatal(err)
	}
	if f.Severity != Problem || f.Code != "of_tomorrow" {
		t.Errorf("%+v", f)
	}
}

func TestColours(t *testing.T) {
	var plainText, coloured strings.Builder
	r := situations(t)["firewall"]
	if err := errors.Join(r.Print(&plainText, Style{}), r.Print(&coloured, Style{Colour: true})); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plainText.String(), "\x1b") || !strings.Contains(coloured.String(), red+r.Verdict+plain) {
		t.Errorf("%q", coloured.String())
	}
	stripped := strings.NewReplacer(red, "", yellow, "", green, "", bold, "", plain, "").Replace(coloured.String())
	if diff := cmp.Diff(plainText.String(), stripped); diff != "" {
		t.Errorf("colours change the text (-want +got)\n%s", diff)
	}
}

// On a terminal sentences are broken at its width, commands are not.
func TestWidth(t *testing.T) {
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for name, r := range situations(t) {
		for _, width := range []int{1, 40, 80, 200} {
			var whole, narrow strings.Builder
			if err := errors.Join(r.Print(&whole, Style{}), r.Print(&narrow, Style{Width: width})); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(words(whole.String()), words(narrow.String())); diff != "" {
				t.Errorf("%s at %d columns has other words (-want +got)\n%s", name, width, diff)
			}
			fixes := map[string]bool{}
			for _, f := range r.Findings {
				for _, line := range f.Fix {
					fixes[line] = true
				}
			}
			for _, line := range strings.Split(narrow.String(), "\n") {
				pasted := strings.TrimPrefix(strings.TrimSpace(line), "fix: ")
				if long := len(line) > width && strings.Contains(pasted, " "); width >= 80 && long && !fixes[pasted] {
					t.Errorf("%s: %d columns of %d: %q", name, len(line), width, line)
				}
				delete(fixes, pasted)
			}
			for _, f := range r.Findings {
				if f.Severity != OK && len(f.Fix) > 0 && fixes[f.Fix[0]] {
					t.Errorf("%s at %d columns breaks %q", name, width, f.Fix[0])
				}
			}
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", file, diff)
	}
}
