package web

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const (
	rulesFile     = "../../packaging/prometheus/tanist.rules.yml"
	ruleTests     = "../../packaging/prometheus/tests"
	dashboardFile = "../../packaging/grafana/tanist.json"
)

// promtool is Prometheus' own checker.
func promtool(t *testing.T, dir, stdin string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("needs promtool of Debian's prometheus: `make setup` installs it")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

type ruleGroups struct {
	Groups []struct {
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

func load(t *testing.T, file string, parse func([]byte, any) error, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = parse(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func yamlParser(b []byte, into any) error { return yaml.Unmarshal(b, into) }

func TestRules(t *testing.T) {
	var rules ruleGroups
	load(t, rulesFile, yamlParser, &rules)
	alerts := map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if alerts[r.Alert] || r.Annotations["summary"] == "" || len(r.Annotations["description"]) < 60 {
				t.Errorf("%s: %+v", r.Alert, r.Annotations)
			}
			if s := r.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			alerts[r.Alert] = true
			wantMetrics(t, r.Alert, r.Expr)
		}
	}
	// Each one is tried: it fires, and is quiet on a healthy pair.
	var tests struct {
		Tests []struct {
			Name           string
			AlertRuleTests []struct {
				Alertname string `yaml:"alertname"`
				ExpAlerts []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	load(t, ruleTests+"/tanist.yml", yamlParser, &tests)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, c := range tests.Tests {
		for _, a := range c.AlertRuleTests {
			if len(a.ExpAlerts) > 0 {
				fires[a.Alertname] = true
			} else if c.Name == "a healthy pair" {
				quiet[a.Alertname] = true
			}
		}
	}
	for name := range alerts {
		if !fires[name] || !quiet[name] {
			t.Errorf("%s: it is tried that it fires: %t, that it is quiet: %t", name, fires[name], quiet[name])
		}
	}
	promtool(t, "", "", "check", "rules", rulesFile)
	promtool(t, ruleTests, "", "test", "rules", "tanist.yml")
}

// A real scrape is as Prometheus wants it.
func TestPromtoolOfAScrape(t *testing.T) {
	promtool(t, "", gathered(t, full()), "check", "metrics")
}

func TestDashboard(t *testing.T) {
	type datasource struct{ Type, UID string }
	type variable struct {
		Name, Type string
		Query      any
		Datasource datasource
	}
	type panel struct {
		ID         int
		Type       string
		Title      string
		Datasource datasource
		GridPos    struct{ H, W, X, Y int }
		Targets    []struct {
			Expr, RefID string
			Datasource  datasource
		}
	}
	var d struct {
		UID, Title    string
		SchemaVersion int
		Panels        []panel
		Templating    struct{ List []variable }
		Annotations   struct {
			List []struct {
				Name, Expr string
				Datasource datasource
			}
		}
	}
	load(t, dashboardFile, func(b []byte, into any) error { return json.Unmarshal(b, into) }, &d)
	if d.UID != "tanist" || d.Title == "" || d.SchemaVersion < 30 {
		t.Errorf("%s, %s, %d", d.UID, d.Title, d.SchemaVersion)
	}
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name+" "+v.Type)
		if q, ok := v.Query.(map[string]any); ok {
			wantMetrics(t, "variable "+v.Name, fmt.Sprint(q["query"]))
		}
	}
	if !slices.Equal(names, []string{"datasource datasource", "instance query", "node query"}) {
		t.Errorf("variables: %v", names)
	}
	ours := datasource{"prometheus", "${datasource}"}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.W < 1 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %s: %+v", p.ID, p.Title, p.GridPos)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource != ours || len(p.Targets) == 0 {
			t.Errorf("panel %s: %+v, %d expressions", p.Title, p.Datasource, len(p.Targets))
		}
		for _, q := range p.Targets {
			if q.Datasource != ours || q.RefID == "" {
				t.Errorf("panel %s: %+v", p.Title, q)
			}
			wantMetrics(t, p.Title, q.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		if a.Datasource != ours {
			t.Errorf("annotation %s: %+v", a.Name, a.Datasource)
		}
		wantMetrics(t, a.Name, a.Expr)
	}
}

// wantMetrics holds that an expression names only metrics that there are, with labels
// that they have.
func wantMetrics(t *testing.T, where, expr string) {
	t.Helper()
	found := false
	named := regexp.MustCompile(`\b((?:tanist|process|go)_[a-z0-9_]+|up)\b(\{[^}]*\})?`)
	for _, m := range named.FindAllStringSubmatch(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(expr, `""`), -1) {
		found = true
		if m[1] == "up" || !strings.HasPrefix(m[1], "tanist_") {
			continue
		}
		name := m[1]
		i := slices.IndexFunc(families[:], func(f family) bool {
			return f.name == name || f.kind == histogram && slices.Contains([]string{f.name + "_bucket", f.name + "_sum", f.name + "_count"}, name)
		})
		if i < 0 {
			if !announced(name) {
				t.Errorf("%s: there is no %s", where, name)
			}
			continue
		}
		for _, l := range regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`).FindAllStringSubmatch(m[2], -1) {
			if own := append([]string{"node", "job", "le"}, families[i].allLabels()...); !slices.Contains(own, l[1]) {
				t.Errorf("%s: %s has no label %s", where, name, l[1])
			}
		}
	}
	if !found {
		t.Errorf("%s: no metric in %q", where, expr)
	}
}

// announced are metrics that rules and dashboard already have a place for.
func announced(name string) bool { return name == "tanist_blocked" || name == "tanist_maintenance" }
