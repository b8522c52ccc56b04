package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/systemd"
)

func TestReplicationStatuses(t *testing.T) {
	yes := true
	f := serve(t, "backup", false)
	for _, tc := range []struct {
		lines   []control.ReplicationLine
		refusal error
		want    ran
	}{
		{
			[]control.ReplicationLine{{Database: "a", Result: "done"}, {Database: "b", Result: "unchanged"}},
			nil,
			ran{stdout: "a: done\nb: unchanged\n"},
		},
		{
			[]control.ReplicationLine{{Database: "a", Result: "waiting", Detail: "7 to go"}, {Database: "a", Result: "done"}},
			nil,
			ran{stdout: "a: done\n"}, // progress is for terminals
		},
		{
			[]control.ReplicationLine{{Database: "a", Result: "refused", Detail: "has 1 transaction"}, {Database: "b", Result: "done"}},
			nil,
			ran{code: 1, stdout: "b: done\n", stderr: "a: refused: has 1 transaction\n"},
		},
		{
			[]control.ReplicationLine{{Database: "a", Result: "done", Status: &control.Database{Role: "replica", ReadOnly: &yes, IORunning: &yes, SQLRunning: &yes}}},
			nil,
			ran{stdout: "a: replica, read-only, IO running, SQL running\n"},
		},
		{nil, errPlanRuns, ran{code: 1, stderr: "tanist: " + errPlanRuns.Error() + "\n"}},
	} {
		f.replication, f.refusal = tc.lines, tc.refusal
		got := tanist(t, "replication", "stop", "--all", "--socket", f.socket)
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(ran{})); diff != "" {
			t.Error(diff)
		}
	}
	f.replication, f.refusal = []control.ReplicationLine{{Database: "a", Result: "waiting"}, {Database: "a", Result: "done"}}, nil
	got := tanist(t, "replication", "rejoin", "a", "--discard", "--reason", "it burnt", "--timeout", "5s", "--json", "--socket", f.socket)
	want := ran{stdout: `{"database":"a","result":"waiting"}` + "\n" + `{"database":"a","result":"done"}` + "\n"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(ran{})); diff != "" {
		t.Error(diff)
	}
	asked := control.ReplicationRequest{Verb: "rejoin", Databases: []string{"a"}, Discard: true, Reason: "it burnt", TimeoutMS: 5000, UID: uint32(os.Getuid())}
	if diff := cmp.Diff(asked, f.replicated); diff != "" {
		t.Error(diff)
	}
}

func TestReplicationMisused(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"explode"},
		{"stop"},
		{"stop", "a", "--all"},
		{"follow", "--all", "--timeout", "0s"},
		{"follow", "--all", "--discard"},
		{"rejoin", "--all", "--discard"},
		{"wait", "--timeout", "soon"},
	} {
		got := tanist(t, append([]string{"replication"}, args...)...)
		if got.code != exitUsage || got.stdout != "" || got.stderr == "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

// testServer is one of a pair.
type testServer struct {
	mariadb
	id int
	db *sql.DB // one connection as root
}

func startServer(t *testing.T, id int) *testServer {
	t.Helper()
	m := launch(t, id, "--log-slave-updates", "--skip-slave-start")
	m.root.SetMaxOpenConns(1)
	s := &testServer{mariadb: m, id: id, db: m.root}
	s.exec(t, "SET sql_log_bin = 0", "CREATE USER tanist@localhost IDENTIFIED BY 'hidden'", "GRANT ALL ON *.* TO tanist@localhost",
		"CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'hidden-too'", "GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1'",
		"CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)", "SET sql_log_bin = 1")
	return s
}

func (s *testServer) exec(t *testing.T, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := s.db.Exec(q); err != nil {
			t.Fatalf("server %d: %s: %v", s.id, q, err)
		}
	}
}

func (s *testServer) value(t *testing.T, q string) string {
	t.Helper()
	var v sql.NullString
	if err := s.db.QueryRow(q).Scan(&v); err != nil {
		t.Fatalf("server %d: %s: %v", s.id, q, err)
	}
	return v.String
}

// nodeConfig writes the configuration of a node with one database, whose peer's is
// on the other server.
func nodeConfig(t *testing.T, own, peer *testServer) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"own": "hidden\n", "repl": "hidden-too\n",
		"tanist.yaml": fmt.Sprintf(`
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
instances:
  - name: compass
    interface: lo
    vrid: 51
    vips: [192.0.2.100/24]
    databases:
      - name: pivot
        address: unix:%s
        password_file: %s/own
        replicate_from: {user: repl, password_file: %s/repl, host: 127.0.0.1, port: %d}
`, own.socket(), dir, dir, peer.port),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "tanist.yaml")
}

// The whole way there and back, without a daemon: a new replica, a failover that
// loses two transactions, a refusal, and a return over the loss is the daemon's.
func TestReplicationWithoutADaemon(t *testing.T) {
	one, two := startServer(t, 1), startServer(t, 2)
	configs := map[*testServer]string{one: nodeConfig(t, one, two), two: nodeConfig(t, two, one)}
	state := t.TempDir()
	book, _, err := journal.Open(filepath.Join(state, "journal")) // as a daemon left it
	if err := errors.Join(err, book.Close()); err != nil {
		t.Fatal(err)
	}
	run := func(s *testServer, args ...string) ran {
		t.Helper()
		node := map[int]string{1: "primary", 2: "reserve"}[s.id]
		got := tanist(t, append([]string{"replication"}, append(args, "--config", configs[s], "--node", node,
			"--state-dir", state, "--socket", filepath.Join(t.TempDir(), "none"), "--timeout", "30s")...)...)
		if strings.Contains(got.stdout+got.stderr, "hidden") {
			t.Errorf("%v shows a password: %+v", args, got)
		}
		return got
	}
	is := func(got ran, code int, text string) {
		t.Helper()
		if out := got.stdout + got.stderr; got.code != code || !strings.Contains(out, text) {
			t.Errorf("%+v, want exit status %d and %q", got, code, text)
		}
	}

	is(run(two, "status"), 1, "it does not replicate")
	is(run(two, "follow", "pivot"), 1, "writes are open")
	is(run(two, "follow", "other"), 1, `no database is called "other": there are pivot`)
	two.exec(t, "SET GLOBAL read_only = 1")
	is(run(two, "start", "pivot"), 1, "has no channel to start")
	is(run(two, "wait"), 1, "has no channel")
	one.exec(t, "INSERT INTO app.t VALUES (1), (2)")
	is(run(two, "follow", "pivot"), 0, "pivot: done")
	is(run(two, "follow", "--all"), 0, "pivot: unchanged")
	is(run(two, "rejoin", "--all"), 0, "pivot: unchanged")
	is(run(two, "wait"), 0, "pivot: done")
	is(run(two, "status"), 0, "pivot: replica, read-only, IO running, SQL running")
	is(run(two, "stop", "pivot"), 0, "pivot: done")
	is(run(two, "stop", "pivot"), 0, "pivot: unchanged")
	is(run(two, "status"), 1, "a thread does not run")
	is(run(two, "start", "pivot"), 0, "pivot: done")
	is(run(two, "start", "pivot"), 0, "pivot: unchanged")
	is(run(two, "wait", "pivot"), 0, "pivot: done")
	if n := two.value(t, "SELECT COUNT(*) FROM app.t"); n != "2" {
		t.Errorf("%s rows", n)
	}

	is(run(two, "stop", "pivot"), 0, "pivot: done")
	one.exec(t, "INSERT INTO app.t VALUES (3)", "INSERT INTO app.t VALUES (4)", "SET GLOBAL read_only = 1")
	two.exec(t, "SET GLOBAL read_only = 0", "INSERT INTO app.t VALUES (10)")
	for _, verb := range []string{"follow", "rejoin"} {
		is(run(one, verb, "pivot"), 1, "has 2 transactions that source 127.0.0.1:"+strconv.Itoa(two.port)+" lacks: 0-1-2..3")
	}
	is(run(one, "rejoin", "pivot", "--discard", "--reason", "tested"), 1, "only the daemon journals")
	if n := one.value(t, "SELECT @@GLOBAL.gtid_binlog_pos"); n != "0-1-3" {
		t.Errorf("position %s: something was discarded", n)
	}
	held, err := journal.Read(filepath.Join(state, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	verbs := map[string]int{}
	for _, e := range held.Entries {
		verbs[e.Record.Command]++
	}
	want := map[string]int{"replication follow": 5, "replication rejoin": 3, "replication start": 3, "replication stop": 3}
	if diff := cmp.Diff(want, verbs); diff != "" {
		t.Errorf("journaled:\n%s", diff)
	}
}

// The steps of a demotion and of an active node, carried out as in a plan.
func TestFollowAndResetSteps(t *testing.T) {
	one, two := startServer(t, 1), startServer(t, 2)
	file, err := config.Load(nodeConfig(t, two, one))
	if err != nil {
		t.Fatal(err)
	}
	ds, err := openDatabases(opener{file: file, self: 1, in: file.Instances[0]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ds.close()
	s := steps{databases: ds, turn: &turn{}}
	follow, reset := hooks.Replication{Verb: hooks.FollowPeer}, hooks.Replication{Verb: hooks.ResetReplication}
	expect := func(wantOutcome hooks.Outcome, text string) func(hooks.Outcome, string) {
		return func(out hooks.Outcome, detail string) {
			t.Helper()
			if out != wantOutcome || !strings.Contains(detail, text) {
				t.Errorf("%s: %s, want %s: %s", out, detail, wantOutcome, text)
			}
		}
	}
	ran := func(a hooks.Action) (hooks.Outcome, string) {
		r := s.Run(t.Context(), hooks.Step{Action: a}, nil)
		return r.Outcome, r.Detail
	}
	one.exec(t, "INSERT INTO app.t VALUES (1)")
	expect(hooks.Changed, "")(s.Check(t.Context(), follow)) // as before writes: close
	expect(hooks.Failed, "writes are open")(ran(follow))
	two.exec(t, "SET GLOBAL read_only = 1")
	expect(hooks.Changed, "")(ran(follow))
	expect(hooks.Unchanged, "")(ran(follow))
	expect(hooks.Changed, "")(s.Check(t.Context(), reset))
	expect(hooks.Changed, fmt.Sprintf(`pivot: host=127.0.0.1 port=%d user="repl" gtid=yes tls=no`, one.port))(ran(reset))
	expect(hooks.Unchanged, "")(ran(reset))

	from := ds.list[0].source
	ds.list[0].source = nil
	expect(hooks.Failed, "no replicate_from")(ran(follow))
	ds.list[0].source = from
	expect(hooks.Changed, "")(ran(follow))
	ds.list[0].source = nil
	expect(hooks.Unchanged, "")(ran(reset)) // it would not know the way back
	if n := two.value(t, "SELECT COUNT(*) FROM app.t"); n != "1" {
		eventually(t, "the row", func() bool { return two.value(t, "SELECT COUNT(*) FROM app.t") == "1" })
	}
}

// What a rejoin discards is put away and written down before it is gone.
func TestRejoinDiscards(t *testing.T) {
	one, two := startServer(t, 1), startServer(t, 2)
	file, err := config.Load(nodeConfig(t, one, two))
	if err != nil {
		t.Fatal(err)
	}
	ds, err := openDatabases(opener{file: file, in: file.Instances[0]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ds.close()
	one.exec(t, "INSERT INTO app.t VALUES (1)")
	if got := tanist(t, "replication", "follow", "pivot", "--config", nodeConfig(t, two, one), "--node", "reserve", "--socket", "/none"); got.code != 1 {
		t.Fatal("writes were open")
	}
	two.exec(t, "SET GLOBAL read_only = 1")
	if got := tanist(t, "replication", "follow", "pivot", "--config", nodeConfig(t, two, one), "--node", "reserve", "--socket", "/none"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	eventually(t, "the row", func() bool { return two.value(t, "SELECT COUNT(*) FROM app.t") == "1" })
	two.exec(t, "STOP SLAVE", "RESET SLAVE ALL")
	one.exec(t, "INSERT INTO app.t VALUES (2)", "SET GLOBAL read_only = 1")
	two.exec(t, "SET GLOBAL read_only = 0", "INSERT INTO app.t VALUES (3)")

	dir := t.TempDir()
	var written []string
	full := errors.New("no space left")
	r := replicator{databases: ds, discards: dir, record: func(context.Context, string) error { return full }}
	req := control.ReplicationRequest{Verb: control.ReplicationRejoin, Discard: true, Reason: "the host burnt", TimeoutMS: 30_000}
	var lines []control.ReplicationLine
	news := func(l control.ReplicationLine) { lines = append(lines, l) }
	if err := r.run(t.Context(), req, news); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || lines[0].Result != control.ReplicationRefused || !strings.Contains(lines[0].Detail, full.Error()) {
		t.Fatalf("without a journal: %+v", lines)
	}
	if p := one.value(t, "SELECT @@GLOBAL.gtid_binlog_pos"); p != "0-1-2" {
		t.Fatalf("position %s: discarded without a record", p)
	}
	r.record, lines = func(_ context.Context, text string) error { written = append(written, text); return nil }, nil
	if err := r.run(t.Context(), req, news); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || lines[0].Result != control.ReplicationDone || !strings.Contains(lines[0].Detail, "make the database anew") {
		t.Fatalf("%+v", lines)
	}
	if len(written) != 1 || !strings.Contains(written[0], "discarded 0-1-2 (1)") || !strings.HasSuffix(written[0], ": the host burnt") {
		t.Errorf("recorded %q", written)
	}
	kept, _ := filepath.Glob(filepath.Join(dir, "pivot", "*", "bin.000001"))
	if len(kept) != 1 {
		t.Errorf("kept %q", kept)
	}
	for _, file := range kept {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "INSERT INTO app.t VALUES (2)") {
			t.Errorf("%s does not hold the transaction: %v", file, err)
		}
	}
	eventually(t, "the source's row", func() bool { return one.value(t, "SELECT COUNT(*) FROM app.t WHERE id = 3") == "1" })
}

// A database that can find its way back needs what a reset needs; for another one
// there is advice.
func TestCheckOfTheWayBack(t *testing.T) {
	one := startServer(t, 1)
	one.exec(t, "CREATE USER poor@localhost IDENTIFIED BY 'hidden'",
		"GRANT SLAVE MONITOR, REPLICATION SLAVE ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN, PROCESS ON *.* TO poor@localhost")
	with, err := config.Load(nodeConfig(t, one, one))
	if err != nil {
		t.Fatal(err)
	}
	in := with.Instances[0]
	in.Databases[0].User = "poor"
	h := &hostCheck{file: with, units: systemd.NewUnits(systemd.UnitsConfig{})}
	h.databases(t.Context(), "instances[0]", in)
	if len(h.problems) != 1 || !strings.Contains(h.problems[0].Hint, "GRANT RELOAD ON *.* TO `poor`@`localhost`") || hasNotice(h.notices, "skip-slave-start") {
		t.Errorf("problems %v, notices %v", h.problems, h.notices)
	}
	in.Databases[0].ReplicateFrom = nil
	h = &hostCheck{file: with, units: systemd.NewUnits(systemd.UnitsConfig{})}
	h.databases(t.Context(), "instances[0]", in)
	if len(h.problems) != 0 || !hasNotice(h.notices, "skip-slave-start") {
		t.Errorf("problems %v, notices %v", h.problems, h.notices)
	}
}

// By the daemon: it keeps its hands off, journals who discarded what, and logs no
// password.
func TestReplicationByTheDaemon(t *testing.T) {
	if !inside(t) {
		return
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"veth0", "veth1"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	addAddress(t, "veth0", "192.0.2.11/24")
	one, two := startServer(t, 1), startServer(t, 2)
	one.exec(t, "INSERT INTO app.t VALUES (1)")
	two.exec(t, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='repl', MASTER_PASSWORD='hidden-too', MASTER_USE_GTID=slave_pos", one.port), "START SLAVE")
	eventually(t, "the row", func() bool { return two.value(t, "SELECT COUNT(*) FROM app.t") == "1" })
	two.exec(t, "STOP SLAVE", "RESET SLAVE ALL", "INSERT INTO app.t VALUES (3)")
	one.exec(t, "INSERT INTO app.t VALUES (2)")

	file := nodeConfig(t, one, two)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte("interface: lo"), []byte("interface: veth0"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	common := []string{"--config", file, "--node", "primary", "--socket", filepath.Join(dir, "s"), "--state-dir", dir}
	with := func(args ...string) []string { return append(args, common...) }
	p := startTanist(t, with("run")...)
	eventually(t, "the database to be closed", func() bool { return one.value(t, "SELECT @@GLOBAL.read_only") == "1" })
	eventually(t, "a refusal of the role", func() bool { return tanist(t, with("check-master")...).code == masterStandby })

	// The plans of the start may still be at work on the databases.
	var got ran
	run := func(args ...string) ran {
		eventually(t, "the turn", func() bool {
			got = tanist(t, with(append([]string{"replication"}, args...)...)...)
			return !strings.Contains(got.stderr, errPlanRuns.Error()) && !strings.Contains(got.stderr, errPlanCame.Error())
		})
		return got
	}
	if got := run("status"); got.code != 1 || !strings.Contains(got.stderr, "pivot: ") {
		t.Errorf("status: %+v", got)
	}
	if got := run("rejoin", "pivot"); got.code != 1 || !strings.Contains(got.stderr, "lacks: 0-1-2") {
		t.Errorf("rejoin: %+v", got)
	}
	if got := run("rejoin", "pivot", "--discard", "--reason", "the host burnt"); got.code != 0 || !strings.Contains(got.stdout, "make the database anew") {
		t.Fatalf("rejoin --discard: %+v\n%s", got, p.stderr)
	}
	if got := run("wait", "--all"); got.code != 0 {
		t.Errorf("wait: %+v", got)
	}
	if n := one.value(t, "SELECT COUNT(*) FROM app.t WHERE id = 3"); n != "1" {
		t.Errorf("the source's row is not there: %s", n)
	}
	if err := one.process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the daemon to be told of the end", func() bool {
		return strings.Contains(p.stderr.String(), "the server of a database has ended")
	})
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != exitOK || strings.Contains(p.stderr.String(), "hidden") {
		t.Errorf("exit status %d\n%s", code, p.stderr)
	}
	j, entries, err := journal.Open(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var overrides []string
	for _, e := range entries {
		if e.Record.Kind == hooks.Override {
			overrides = append(overrides, e.Record.Reason)
		}
	}
	if len(overrides) != 1 || !strings.Contains(overrides[0], "discarded 0-1-2 (1)") || !strings.HasSuffix(overrides[0], "the host burnt") {
		t.Errorf("journaled %q", overrides)
	}
}

// The databases of an active node follow nobody, whatever they look like.
func TestReplicationOfAnActiveNode(t *testing.T) {
	one, two := startServer(t, 1), startServer(t, 2)
	file, err := config.Load(nodeConfig(t, one, two))
	if err != nil {
		t.Fatal(err)
	}
	ds, err := openDatabases(opener{file: file, in: file.Instances[0]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ds.close()
	one.exec(t, "SET GLOBAL read_only = 1")
	r := replicator{databases: ds, active: "primary is active"}
	for _, req := range []control.ReplicationRequest{
		{Verb: control.ReplicationStart},
		{Verb: control.ReplicationFollow},
		{Verb: control.ReplicationRejoin},
		{Verb: control.ReplicationRejoin, Discard: true, Reason: "x"},
		{Verb: control.ReplicationWait},
	} {
		req.TimeoutMS = 30_000
		err := r.run(t.Context(), req, func(l control.ReplicationLine) {
			if l.Result != control.ReplicationRefused || !strings.Contains(l.Detail, "primary is active: its databases are the source") {
				t.Errorf("%s: %+v", req.Verb, l)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
	if n := one.value(t, "SELECT @@GLOBAL.gtid_slave_pos"); n != "" {
		t.Errorf("gtid_slave_pos is %s", n)
	}
}

func hasNotice(notices config.Problems, words string) bool {
	return slices.ContainsFunc(notices, func(p config.Problem) bool { return strings.Contains(p.Hint, words) })
}
