package web

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/replication"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// full is a node of which there is something of everything.
func full() Facts {
	yes, no, lagged, lost := true, false, 1.25, uint64(3)
	in := control.Instance{
		Name: "compass", State: "backup", Reason: "gate_closed", Epoch: 7,
		VIPs: []control.VIP{{Address: "192.0.2.100/24", Held: true}, {Address: "192.0.2.101/24"}},
		Gate: control.Gate{Reasons: []control.GateReason{
			{Code: replication.Lagging, Database: "pivot", Detail: "1.25 s"}, {Code: replication.Unhealthy, Detail: "nginx"}, {Code: replication.Unhealthy, Detail: "disk"},
		}},
		Databases: []control.Database{{Name: "pivot", LagSeconds: &lagged, MissingTransactions: &lost, ReadOnly: &yes}, {Name: "unknown"}},
		Health: []control.Health{
			{Name: "nginx", OK: &no, Effect: "yield", Verdict: health.Flapping.String()},
			{Name: "disk", OK: &yes, Effect: "fault", Verdict: health.Well.String()},
			{Name: "new", Effect: "fault", Verdict: health.Unknown.String()},
		},
		Drift: []control.Drift{{Step: "label", Kind: "yaml", State: "would change", Repair: "waiting"}, {Step: "label", Kind: "yaml", State: "would change", Repair: "waiting"}},
	}
	durations := func(counts ...uint64) node.Durations {
		return node.Durations{Bounds: []time.Duration{10 * time.Millisecond, time.Second}, Counts: counts, Sum: 2500 * time.Millisecond}
	}
	return Facts{
		StatusAnswer: of(control.Document{
			Node: "primary", Version: "1.2.3", Instances: []control.Instance{in}, Journal: &control.Journal{Refused: 2, Awaiting: 1},
			Peer: control.Peer{Paths: []control.Path{{Address: "192.0.2.12", Heard: true}, {Address: "198.51.100.12"}}},
		}),
		Counters: map[string]node.Counters{"compass": {
			Sent: 40, Received: 2, Renewed: 20, NotRenewed: 1, AdvertisementLateness: durations(39, 1, 0),
			Transitions:    map[node.TransitionEnd]uint64{{Role: hooks.Active, Ending: hooks.Completed}: 2},
			TransitionTime: map[hooks.Role]node.Durations{hooks.Active: durations(0, 1, 1)},
			Steps:          map[node.StepEnd]uint64{{Name: "vip acquire", Outcome: hooks.Changed}: 2, {Name: "a \"step\"\\\n\xff", Outcome: hooks.Failed}: 1},
			StepTime:       map[string]node.Durations{"vip acquire": durations(2, 0, 0)},
		}},
		Dropped: map[string]map[string]uint64{"compass": {"ttl": 1, "checksum": 0}},
		Process: Process{
			Events: 4, LogLines: 5, Refused: map[string]uint64{"wrong_key": 3, "stranger": 0}, Readers: 3, Cut: map[string]uint64{"too_slow": 2},
			Notices: map[string]uint64{"delivered": 7, "dropped": 0}, Paths: []Path{{Peer: "192.0.2.12", Up: true, Dropped: map[string]uint64{"ttl": 1}}},
		},
	}
}

func gathered(t *testing.T, f Facts) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(scrape{f}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	return w.Body.String()
}

func TestScrape(t *testing.T) {
	got := gathered(t, full())
	const golden = "testdata/scrape.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, f := range families { // there is something of everything
		if !strings.Contains(got, "# TYPE "+f.name+" ") {
			t.Errorf("%s is not in it", f.name)
		}
	}
}

// What Prometheus' own checker says of the names, the types and the help.
func TestLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(scrape{full()})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The names that scripts rely on, each with its instance.
func TestContract(t *testing.T) {
	for name, labels := range map[string]string{
		"tanist_state": "", "tanist_vip_held": "", "tanist_epoch": "", "tanist_gate_open": "", "tanist_replication_lag_seconds": "",
		"tanist_replication_missing_transactions": "", "tanist_adverts_total": "", "tanist_dropped_packets_total": "reason",
		"tanist_transitions_total": "kind,result", "tanist_transition_seconds": "", "tanist_step_seconds": "step",
		"tanist_heartbeat_lateness_seconds": "", "tanist_lease_renewals_total": "", "tanist_peer_path_up": "",
	} {
		i := slices.IndexFunc(families[:], func(f family) bool { return f.name == name })
		if i < 0 || families[i].node || labels != "" && strings.Join(families[i].labels, ",") != labels {
			t.Errorf("%s: %d", name, i)
		}
	}
}

// Nothing that a file or a program can say breaks a scrape.
func TestNamesThatCannotBeSent(t *testing.T) {
	f := full()
	in := &f.Document.Instances[0]
	in.Name, in.Reason = "\xff\"\\\n", "\x00"
	in.Databases = append(in.Databases, in.Databases[0], in.Databases[0])
	f.Document.Instances = append(f.Document.Instances, *in, control.Instance{})
	gathered(t, f)
	gathered(t, Facts{})
}

func TestMetricsOverHTTP(t *testing.T) {
	f := full()
	w := get(t, running(t, always(f.Document.Instances...)), http.MethodGet, "/metrics")
	for _, want := range []string{`tanist_epoch{instance="compass"} 7`, "go_goroutines "} {
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d, want %s", w.Code, want)
		}
	}
}

// The table of docs/metrics.md is the families.
func TestDocumented(t *testing.T) {
	const path = "../../docs/metrics.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, f := range families {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", f.name, f.kind, strings.Join(f.allLabels(), ", "), f.help)
	}
	rows := regexp.MustCompile("(?m)(^\\| `tanist_\\w+` \\| (gauge|counter|histogram) .*\n)+")
	if *update {
		text = []byte(strings.Replace(string(text), rows.FindString(string(text)), want.String(), 1))
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want.String(), rows.FindString(string(text))); diff != "" {
		t.Errorf("-families +%s (go test ./internal/web -update writes it):\n%s", path, diff)
	}
}
