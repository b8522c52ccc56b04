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
