package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/systemd"
)

const heartbeatGrant = "GRANT SELECT, INSERT, UPDATE ON hb.heartbeat TO tanist@localhost"

// The steps of the plans end heartbeats and let them begin again, a check says how
// the table is made, and the status says what is wrong with it.
func TestHeartbeatTable(t *testing.T) {
	m := startMariaDB(t)
	f := testFile(t, fmt.Sprintf(`
    databases:
      - {name: pivot, address: "unix:%s", password_file: %s, heartbeat_table: hb.heartbeat}
`, m.socket(), m.password()))
	ds := testDatabases(t, f)
	checked := func() []string {
		h := &hostCheck{file: f, units: systemd.NewUnits(systemd.UnitsConfig{})}
		h.databases(t.Context(), "instances[0]", f.Instances[0])
		var words []string
		for _, p := range h.problems {
			words = append(words, p.Message+" | "+p.Hint)
		}
		return words
	}
	beat := func() error { return ds.Beat(t.Context(), 4, newBootReader().now().Add(patience)) }
	trouble := func() string {
		facts := ds.Measure(t.Context(), false)
		if facts[0].Reach != replication.Reachable {
			t.Errorf("%+v", facts)
		}
		return facts[0].BeatDetail
	}

	const missing = "not there, or the account may not use it"
	if got := checked(); len(got) != 1 || !strings.Contains(got[0], missing) ||
		!strings.Contains(got[0], "CREATE TABLE IF NOT EXISTS `hb`.`heartbeat`") || !strings.Contains(got[0], "GRANT SELECT, INSERT, UPDATE ON `hb`.`heartbeat`") {
		t.Errorf("problems: %q", got)
	}
	if err := beat(); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("%v", err)
	}
	if d := trouble(); !strings.Contains(d, "heartbeat table") {
		t.Errorf("detail %q", d)
	}
	m.exec(t, "CREATE DATABASE hb")
	m.exec(t, "CREATE TABLE IF NOT EXISTS hb.heartbeat (server_id INT UNSIGNED NOT NULL PRIMARY KEY, epoch BIGINT UNSIGNED NOT NULL, beat BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB")
	m.exec(t, heartbeatGrant)
	if got := checked(); len(got) != 0 {
		t.Errorf("problems: %q", got)
	}

	run := func(open bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if out, detail := step.Execute(ctx, ds.step(hooks.Writes{Open: open})); out != hooks.Changed && out != hooks.Unchanged {
			t.Fatalf("open %v: %s %s", open, out, detail)
		}
	}
	value := func(q string) (s string) {
		t.Helper()
		if err := m.root.QueryRow(q).Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for i := range 3 {
		if err := beat(); err != nil {
			t.Fatal(err)
		}
		if got := value("SELECT MAX(beat) FROM hb.heartbeat"); got != fmt.Sprint(i+1) {
			t.Fatalf("count %s", got)
		}
		if d := trouble(); d != "" {
			t.Errorf("detail %q", d)
		}
		run(false)
		at := value("SELECT @@GLOBAL.gtid_binlog_pos")
		if err := beat(); err == nil {
			t.Error("a heartbeat after the close")
		}
		if got := value("SELECT @@GLOBAL.gtid_binlog_pos"); got != at {
			t.Errorf("it went from %s to %s", at, got)
		}
		if i == 1 { // somebody opens it by hand, and the step finds it open
			m.exec(t, "SET GLOBAL read_only = 0")
		}
		run(true)
	}
}
