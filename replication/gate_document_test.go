package replication

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the generated part of docs/gate.md")

const (
	tableBegin = "<!-- gate table: begin, written by go test ./replication -update -->"
	tableEnd   = "<!-- gate table: end -->"
)

// TestDocumentedTable holds docs/gate.md to the rows that TestGateDatabase and
// TestGateNode play.
func TestDocumentedTable(t *testing.T) {
	path := filepath.Join("..", "docs", "gate.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	_, after, foundEnd := strings.Cut(rest, tableEnd)
	if !found || !foundEnd {
		t.Fatalf("%s: the marks %q and %q are not both there", path, tableBegin, tableEnd)
	}
	want := before + tableBegin + "\n\n" + documentRows(t) + "\n" + tableEnd + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s is not what go test ./replication -update writes (-want +got):\n%s", path, diff)
	}
}

// TestDocumentedCodes requires a line for every code an operator can meet, and a
// row that shows it.
func TestDocumentedCodes(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "gate.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := documentRows(t)
	for c := IOStopped; int(c) < len(codeNames); c++ {
		if !strings.Contains(string(text), fmt.Sprintf("\n| `%s` | ", c)) {
			t.Errorf("%s is not explained", c)
		}
		if !strings.Contains(table, fmt.Sprintf("`%s: ", c)) {
			t.Errorf("%s is in no row", c)
		}
	}
}

func documentRows(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, section := range []struct {
		title  string
		prefix string // of a row's name
		policy bool
	}{
		{"A node", "", true},
		{"Planned", "planned/", false},
		{"Planned, what is different on MySQL", "planned/MySQL: ", false},
		{"Source lost", "lost/", true},
		{"Source lost, what is different on MySQL", "lost/MySQL: ", true},
		{"Resume", "resume/", false},
	} {
		fmt.Fprintf(&b, "### %s\n\n", section.title)
		columns, rows := []string{"what is seen", "policy", "gate", "reasons"}, documentDatabase(section.prefix, section.policy)
		switch {
		case section.prefix == "":
			columns, rows = slices.Insert(columns, 1, "cause"), documentNode()
		case !section.policy:
			columns = slices.Delete(columns, 1, 2)
		}
		b.WriteString("| " + strings.Join(columns, " | ") + " |\n" + strings.Repeat("|---", len(columns)) + "|\n")
		if len(rows) == 0 {
			t.Errorf("%s has no rows", section.title)
		}
		b.WriteString(strings.Join(rows, "") + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func documentDatabase(prefix string, policy bool) []string {
	var rows []string
	for _, r := range gateRows() {
		name, found := strings.CutPrefix(r.name, prefix)
		if !found || strings.HasPrefix(name, "MySQL: ") {
			continue
		}
		// What the policy column says need not stand in the name.
		_, plain, cut := strings.Cut(name, ": ")
		if cut && policy && strings.HasPrefix(name, r.policy.AfterLoss.String()) {
			name = plain
		}
		before := []string{name}
		if policy {
			before = append(before, documentPolicy(r.policy))
		}
		rows = append(rows, documentRow(before, r.want))
	}
	return rows
}

func documentNode() []string {
	var rows []string
	for _, r := range nodeRows() {
		var reasons []string
		for _, reason := range r.want {
			reasons = append(reasons, reason.String())
		}
		rows = append(rows, documentRow([]string{r.name, r.q.Cause.String(), documentPolicy(r.policy)}, reasons))
	}
	return rows
}

// documentRow adds what the gate says to the cells before it.
func documentRow(cells, reasons []string) string {
	gate, why := "open", ""
	if len(reasons) > 0 {
		gate, why = "closed", "`"+strings.Join(reasons, "`; `")+"`"
	}
	cells = append(cells, gate, why)
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "|", `\|`)
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// documentPolicy names what is not the default.
func documentPolicy(p Policy) string {
	switch {
	case p.AfterLoss == Exact && p.MaxMissing == 0:
		return ""
	case p.MaxMissing > 0:
		return fmt.Sprintf("%s, max_missing %d", p.AfterLoss, p.MaxMissing)
	default:
		return p.AfterLoss.String()
	}
}
