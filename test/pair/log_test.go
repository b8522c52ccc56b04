package pair

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// messageID is that of a kind of line, as the docs have it.
func messageID(t *testing.T, kind string) string {
	t.Helper()
	docs, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?m)^\\| `" + kind + "` \\| `([0-9a-f]{32})` ").FindSubmatch(docs)
	if m == nil {
		t.Fatalf("docs/logs.md knows no %s", kind)
	}
	return string(m[1])
}

// A switchover is found in a real journald by its MESSAGE_ID, with its fields, and in
// tanist history with who wanted it.
func TestASwitchoverInTheJournal(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{}, true)
	if got := tanist(t, s, s.Primary, "switchover", "--reason", "a drill"); got.Code != 0 {
		t.Fatalf("%+v", got)
	}
	find := func(n *lab.Node, match ...string) (entries []map[string]any) {
		var out strings.Builder
		_, err := n.Run(within(t), lab.Command{
			Argv: append([]string{"journalctl", "-u", "tanist.service", "-o", "json", "--no-pager"}, match...), Stdout: &out,
		})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			var e map[string]any
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			entries = append(entries, e)
		}
		return entries
	}
	for n, want := range map[*lab.Node]map[string]string{
		s.Primary: {"NODE": "primary", "KIND": "demote", "FROM": "active", "TO": "standby"},
		s.Reserve: {"NODE": "reserve", "KIND": "promote", "FROM": "backup", "TO": "active"},
	} {
		found := find(n, "MESSAGE_ID="+messageID(t, "transition"), "PLANNED=true")
		if len(found) != 1 {
			t.Fatalf("%s: %d transitions", n.Hostname, len(found))
		}
		want["INSTANCE"], want["REASON"], want["RESULT"] = site.Instance, "requested", "completed"
		got := map[string]string{}
		for name := range want {
			got[name], _ = found[0][name].(string)
		}
		if diff := cmp.Diff(want, got); diff != "" || found[0]["EPOCH"] == "" || found[0]["DURATION_MS"] == "" {
			t.Errorf("%s: %s", n.Hostname, diff)
		}
	}
	told := find(s.Primary, "MESSAGE_ID="+messageID(t, "command"))
	if len(told) != 1 || told[0]["COMMAND"] != "switchover" || told[0]["WHY"] != "a drill" || told[0]["BY"] != "root" {
		t.Errorf("%v", told)
	}
	history := tanist(t, s, s.Primary, "history")
	if !strings.Contains(history.Stdout, "told to: switchover timeout=1m0s\n  by        root\n  why       a drill\n") {
		t.Errorf("%s", history.Stdout)
	}
}
