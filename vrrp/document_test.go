package vrrp

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the generated part of docs/state-machines.md")

const (
	tableBegin = "<!-- vrrp table: begin, written by go test ./vrrp -update -->"
	tableEnd   = "<!-- vrrp table: end -->"
)

// TestDocumentedTable holds docs/state-machines.md to the rows that
// TestRouterStep plays.
func TestDocumentedTable(t *testing.T) {
	path := filepath.Join("..", "docs", "state-machines.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	_, after, foundEnd := strings.Cut(rest, tableEnd)
	if !found || !foundEnd {
		t.Fatalf("%s: the marks %q and %q are not both there", path, tableBegin, tableEnd)
	}
	want := before + tableBegin + "\n\n" + documentTable(t) + "\n" + tableEnd + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s is not what go test ./vrrp -update writes (-want +got):\n%s", path, diff)
	}
}

func documentTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, state := range []State{Initialize, Backup, Active} {
		fmt.Fprintf(&b, "#### %v\n\n", state)
		b.WriteString("| event | case | effects, in order | then | timer |\n|---|---|---|---|---|\n")
		for _, row := range rows() {
			if row.state == state {
				b.WriteString(documentRow(t, row))
			}
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func documentRow(t *testing.T, row row) string {
	t.Helper()
	section, name, _ := strings.Cut(row.clause, "/")
	rfc := "9568"
	if rest, older := strings.CutPrefix(section, "3768-"); older {
		rfc, section = "3768", rest
	}
	effects := make([]string, len(row.want))
	for i, eff := range row.want {
		effects[i] = documentEffect(eff)
	}
	if len(effects) == 0 {
		effects = []string{"none"}
	}
	return fmt.Sprintf("| %s | %s (RFC %s §%s) | %s | %v | %s |\n", reflect.TypeOf(row.event).Name(),
		strings.ReplaceAll(name, "-", " "), rfc, section, strings.Join(effects, "; "), row.end, documentTimer(t, row))
}

func documentEffect(eff Effect) string {
	switch eff := eff.(type) {
	case Send:
		if eff.Advertisement.Priority == 0 {
			return "Send priority 0"
		}
		return "Send"
	case Transition:
		return fmt.Sprintf("Transition to %v (%v)", eff.To, eff.Reason)
	case ActiveDown:
		return "ActiveDown"
	case Heard:
		if eff.Weaker {
			return "Heard, weaker"
		}
		return "Heard"
	case WeakerHeard:
		return "WeakerHeard"
	}
	return fmt.Sprintf("%T", eff)
}

// documentTimer names what the timer was set to, by its value.
func documentTimer(t *testing.T, row row) string {
	t.Helper()
	cfg := testConfig()
	if row.alter != nil {
		row.alter(&cfg)
	}
	r := routerIn(t, cfg, row.state)
	before, wasArmed := r.Deadline()
	r.Step(at(row.after), row.event, nil)
	ahead := row.timer.Sub(at(row.after))
	switch {
	case row.timer == stopped && !wasArmed:
		return "none"
	case row.timer == stopped:
		return "stopped"
	case wasArmed && row.timer == before && row.end == row.state:
		return "runs on"
	case row.end == Active && ahead <= cfg.Interval.Duration() && row.timer.Sub(0)%cfg.Interval.Duration() == 0:
		return "Adver_Timer = next multiple of Advertisement_Interval"
	case row.end == Backup && ahead == r.SkewTime():
		return "Active_Down_Timer = Skew_Time"
	case row.end == Backup && ahead == r.ActiveDownInterval():
		return "Active_Down_Timer = Active_Down_Interval"
	}
	t.Errorf("%s: no name for a timer %v ahead", row.clause, ahead)
	return ""
}
