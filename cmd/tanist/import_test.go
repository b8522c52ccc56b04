package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestImportKeepalived(t *testing.T) {
	const corpus = "../../internal/keepalived/testdata/"
	got := tanist(t, "import", "keepalived", corpus+"fast-v3.conf", corpus+"fast-v3.peer.conf")
	if got.code != exitOK || !strings.Contains(got.stdout, "advert_interval: 50ms") {
		t.Errorf("%+v", got)
	}
	path := filepath.Join(t.TempDir(), "tanist.yaml")
	one := tanist(t, "import", "keepalived", corpus+"howto-minimal.conf", "-o", path)
	if one.code != exitOK || one.stdout != "" || !strings.Contains(one.stderr, "to be filled in: FILL-IN-PRIORITY-OF-reserve") {
		t.Errorf("%+v", one)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checked := tanist(t, "check", "--config", path, "--node", "primary")
	if checked.code != exitProblem || !strings.Contains(checked.stderr, "FILL-IN-PRIORITY-OF-reserve") || !strings.Contains(checked.stderr, "FILL-IN-ADDRESS-OF-reserve") {
		t.Errorf("check: %+v", checked)
	}
	again := tanist(t, "import", "keepalived", corpus+"fast-v3.conf", "--output", path)
	if after, _ := os.ReadFile(path); again.code != exitProblem || !strings.Contains(again.stderr, "exists") || string(after) != string(text) {
		t.Errorf("over an existing file: %+v", again)
	}
	both := tanist(t, "import", "keepalived", corpus+"definitions.conf", "--id", "main", "--peer-id", "other")
	if both.code != exitOK || both.stderr != "" || !strings.Contains(both.stdout, "priority: {nodeA: 120, nodeB: 110}") {
		t.Errorf("one file for both hosts: %+v", both)
	}
	for _, args := range [][]string{
		{"import"},
		{"import", "pacemaker", "x"},
		{"import", "keepalived"},
		{"import", "keepalived", "none.conf"},
		{"import", "keepalived", "a", "b", "c"},
		{"import", "keepalived", corpus + "definitions.conf", "--peer-id", "other"},
	} {
		if got := tanist(t, args...); got.code != exitProblem || got.stderr == "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}
