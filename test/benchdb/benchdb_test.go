package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
)

func TestParse(t *testing.T) {
	for _, args := range [][]string{
		{"-databases", "0"},
		{"-databases", "65"},
		{"-scenario", "none"},
		{"-n", "0"},
		{"-n-compass", "1001"},
		{"-rate", "0"},
		{"x"},
	} {
		if o, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q is taken: %+v", args, o)
		}
	}
	o, err := parse([]string{"-scenario", "kill, compass", "-databases", "4"}, io.Discard)
	if err != nil || len(o.scenarios) != 2 || o.scenarios[1].name != "compass" || len(o.databases) != 1 {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestFirstSilent(t *testing.T) {
	const log = `1795255000.100000 reserve tanist[30]: state instance=compass state=backup epoch=1 reason=peer_silent detail="an old one"
1795255001.000000 reserve tanist[30]: state instance=compass state=backup epoch=1 reason=peer_active
1795255002.250000 reserve tanist[30]: state instance=compass state=backup epoch=2 reason=peer_silent detail="applying what was received"
1795255002.300000 reserve tanist[30]: state instance=compass state=promoting epoch=3 reason=peer_silent
`
	got, err := firstSilent(log, time.UnixMilli(1795255001500))
	if err != nil || got != 750*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := firstSilent(log, time.UnixMilli(1795255003000)); err == nil {
		t.Errorf("nothing was to be found, and was after %v", got)
	}
}

// made is a report of trials whose figures are all the same but for their names.
func made(trials ...Trial) string {
	r := report{Trials: trials, options: options{scenarios: scenarios()}}
	var text strings.Builder
	r.print(&text)
	return text.String()
}

func TestReport(t *testing.T) {
	good := Trial{Scenario: "switchover", Databases: 1, Gap: 20 * time.Millisecond}
	slow := Trial{Scenario: "switchover", Databases: 1, Gap: 90 * time.Millisecond, Lost: 1}
	for _, tt := range []struct {
		name  string
		given []Trial
		want  []string
	}{
		{"the median counts", []Trial{good, good, slow}, []string{"| 1 | 3 | 20 / 90 |  | ok, median ≤ 50 |"}},
		{"each counts", []Trial{good, good, slow}, []string{"| 1 | 3 | 0 / 1 |  | **no**, each ≤ 0 |", "Not met:"}},
		{"a failure breaks", []Trial{good, {Scenario: "switchover", Databases: 1, Failed: "never"}}, []string{"20 / 20 (failed 1×)", "**no**, median", "Failed: switchover, 1 databases: never"}},
		{"nothing but failures", []Trial{{Scenario: "stop", Databases: 1, Failed: "never"}}, []string{"| failed 1× |  | **no**, median ≤ 3000 |"}},
		{"side by side", []Trial{good, {Scenario: "compass", Databases: 1, Gap: 10 * time.Second}}, []string{"| 20 / 20 | 10000 / 10000 | ok"}},
		{"beyond detection", []Trial{{Scenario: "power", Databases: 32, Served: 900 * time.Millisecond, Detected: 700 * time.Millisecond}}, []string{"| 32 | 1 | 200 / 200 |  | ok, median ≤ 1000 |"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := made(tt.given...)
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
		})
	}
	if got := made(good); !strings.Contains(got, "Every expectation was met.") {
		t.Errorf("a good one:\n%s", got)
	}
}

// TestTrial runs one planned switchover, whose figures are the machine's.
func TestTrial(t *testing.T) {
	lab.Require(t)
	o, err := parse([]string{"-scenario", "switchover", "-databases", "2", "-n", "1"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := run(ctx, o, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "ailed") || !strings.Contains(got, "| planned switchover | acknowledged rows lost | 2 | 1 | 0 / 0 |  | ok, each ≤ 0 |") {
		t.Errorf("%s", got)
	}
}
