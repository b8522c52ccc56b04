package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/replication"
)

// testFile is a configuration whose first instance has these databases and rules.
func testFile(t testing.TB, body string) *config.File {
	t.Helper()
	f, err := config.Parse("tanist.yaml", fmt.Appendf(nil, `
nodes: {primary: {addresses: [192.0.2.11]}, reserve: {addresses: [192.0.2.12]}}
instances:
  - name: compass
    interface: eth0
    vrid: 51
    vips: [192.0.2.100/24]
%s`, body))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func testDatabases(t testing.TB, f *config.File) databases {
	t.Helper()
	ds, err := openDatabases(opener{file: f, in: f.Instances[0]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ds.close)
	return ds
}

// factWords are the facts in short, in their order: NAME REACH.
func factWords(facts []replication.Facts) []string {
	var words []string
	for _, f := range facts {
		words = append(words, f.Name+" "+f.Reach.String())
	}
	return words
}

func details(ds databases) []string {
	var words []string
	for _, p := range ds.problems() {
		words = append(words, p.Step+": "+p.Detail)
	}
	return words
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Databases come and go with the files of a rule, and what is wrong with a file
// stands beside the list and takes nothing from it.
func TestDiscoveredDatabases(t *testing.T) {
	m := startMariaDB(t)
	dir := t.TempDir()
	ds := testDatabases(t, testFile(t, fmt.Sprintf(`
    databases: [{name: pivot, address: "unix:%[1]s/nobody"}]
    discover:
      - files: %[2]s/*_company.json
        name: team-{{.Match}}
        socket: .socket
        where: {field: .status, in: [1, 2]}
        password_file: %[3]s
`, m.dir, dir, m.password())))
	team := func(n int) string {
		link := filepath.Join(m.dir, fmt.Sprint("s", n))
		if err := os.Symlink(m.socket(), link); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"status": 2, "socket": %q}`, link)
	}
	file := func(n int) string { return filepath.Join(dir, fmt.Sprint(n, "_company.json")) }
	measured := func(relist bool, want ...string) {
		t.Helper()
		eventually(t, strings.Join(want, ", "), func() bool { return slices.Equal(factWords(ds.Measure(t.Context(), relist)), want) })
	}
	drift := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, details(ds)); diff != "" {
			t.Errorf("drift (-want +got):\n%s", diff)
		}
	}
	write(t, file(1), team(1))
	// The first operation of all finds them, whichever it is.
	st := ds.step(hooks.Writes{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := st.Apply(ctx); err != nil { // nobody writes to a server that is not there
		t.Fatalf("close writes: %v", err)
	}
	measured(false, "pivot refused", "team-1 reachable")
	if f := ds.Measure(t.Context(), false)[1]; f.ReadOnly != replication.Known(true) {
		t.Errorf("team-1 is read-only: %s", f.ReadOnly)
	}
	drift()

	write(t, file(2), team(2))
	before := ds.list[1]
	measured(false, "pivot refused", "team-1 reachable") // it is not time to look
	measured(true, "pivot refused", "team-1 reachable", "team-2 reachable")
	if ds.list[1] != before {
		t.Error("team-1 was opened again, though nothing of it changed")
	}
	write(t, file(2), team(2)[:20])
	write(t, file(3), "{")
	measured(true, "pivot refused", "team-1 reachable", "team-2 reachable")
	drift(
		"discover: "+file(2)+": ends in the middle of its JSON; what it said before stands",
		"discover: "+file(3)+": ends in the middle of its JSON",
	)
	write(t, file(3), team(3))
	if err := os.Remove(file(2)); err != nil {
		t.Fatal(err)
	}
	measured(false, "pivot refused", "team-1 reachable", "team-2 reachable")
	ds.tried = ds.tried.Add(-lookAgain) // while something is wrong it looks sooner
	measured(false, "pivot refused", "team-1 reachable", "team-3 reachable")
	drift()
	if err := os.Remove(file(3)); err != nil {
		t.Fatal(err)
	}
	ds.tried = ds.tried.Add(-lookAgain)
	measured(false, "pivot refused", "team-1 reachable", "team-3 reachable")
	ds.tried = ds.tried.Add(-lookEvery)
	measured(false, "pivot refused", "team-1 reachable")
	// Another address is another database.
	write(t, file(1), team(4))
	before = ds.list[1]
	measured(true, "pivot refused", "team-1 reachable")
	if ds.list[1] == before || before.users != 0 {
		t.Errorf("the old team-1 has %d users", before.users)
	}
	if f := before.Measure(t.Context()); f.Reach == replication.Reachable {
		t.Error("the old team-1 is not closed")
	}
}

// The label of the node is in the names of containers, whoever names them.
func TestContainerNames(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "7.json"), `{"port": 33157}`)
	for self, want := range []string{"container:db-primary container:team-primary-33157:/x.sock", "container:db-reserve container:team-reserve-33157:/x.sock"} {
		f := testFile(t, fmt.Sprintf(`
    databases: [{name: a, address: "container:db-{{.Node}}"}]
    discover: [{files: %s/*.json, container: "team-{{.Node}}-{{.port}}", socket: /x.sock, docker_socket: %s/none}]
`, dir, dir))
		ds, err := openDatabases(opener{file: f, self: self, in: f.Instances[0]}, nil)
		if err != nil {
			t.Fatal(err)
		}
		facts := ds.Measure(t.Context(), true)
		var got []string
		for _, d := range ds.list {
			got = append(got, d.cfg.Address.String())
		}
		if strings.Join(got, " ") != want || len(facts) != 2 || ds.list[1].cfg.Address.Engine != dir+"/none" {
			t.Errorf("%v, %v", got, factWords(facts))
		}
		ds.close()
	}
}

// A database that vanishes while something is done with it is closed after that.
func TestVanishesInUse(t *testing.T) {
	m := startMariaDB(t)
	dir := t.TempDir()
	ds := testDatabases(t, testFile(t, fmt.Sprintf("    discover: [{files: %s/*.json, socket: .s, password_file: %s}]\n", dir, m.password())))
	write(t, filepath.Join(dir, "a.json"), fmt.Sprintf(`{"s": %q}`, m.socket()))
	eventually(t, "the database", func() bool {
		return slices.Equal(factWords(ds.Measure(t.Context(), true)), []string{"a reachable"})
	})
	err := ds.each(t.Context(), func(d *database) error {
		if err := os.Remove(filepath.Join(dir, "a.json")); err != nil {
			return err
		}
		if facts := ds.Measure(t.Context(), true); len(facts) != 0 {
			return fmt.Errorf("it is listed still: %v", factWords(facts))
		}
		_, err := d.WritesOpen(t.Context())
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A file system that hangs holds nothing up, and is not silent.
func TestSlowLook(t *testing.T) {
	dir := t.TempDir()
	ds := testDatabases(t, testFile(t, fmt.Sprintf(`
    databases: [{name: pivot, address: "unix:/nobody"}]
    discover: [{files: %s/*.json, host: .h}]
`, dir)))
	write(t, filepath.Join(dir, "a.json"), `{"h": "127.0.0.1"}`)
	ds.looking <- struct{}{} // somebody looks and does not come back
	want := []string{"pivot refused"}
	for _, relist := range []bool{false, true} {
		if diff := cmp.Diff(want, factWords(ds.Measure(t.Context(), relist))); diff != "" {
			t.Errorf("relist %v (-want +got):\n%s", relist, diff)
		}
		if got := details(ds); len(got) != 1 || !strings.Contains(got[0], "the list of databases may be out of date") {
			t.Errorf("drift %q", got)
		}
	}
	<-ds.looking
	if facts := ds.Measure(t.Context(), true); len(facts) != 2 || details(ds) != nil {
		t.Errorf("%v, %q", factWords(facts), details(ds))
	}
}

// hungServers are sockets that take connections and never say a word.
func hungServers(t testing.TB, dir string, n int) []string {
	t.Helper()
	var paths []string
	for i := range n {
		path := filepath.Join(dir, fmt.Sprint("h", i))
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		paths = append(paths, path)
	}
	return paths
}

// many is a set of good databases, all of one server, with hung ones in between.
func many(t testing.TB, m mariadb, good, hung int) databases {
	t.Helper()
	f := testFile(t, "")
	in := &f.Instances[0]
	silent := hungServers(t, m.dir, hung)
	for i := range good + hung {
		path := m.socket()
		if i < hung { // the worst place: before all others
			path = silent[i]
		}
		in.Databases = append(in.Databases, config.Database{
			Name: fmt.Sprint("d", i), User: "tanist", PasswordFile: m.password(), Address: config.Address{Kind: config.UnixSocket, Path: path},
		})
	}
	return testDatabases(t, f)
}

// Databases that hang do not keep the others from being measured, nor closed.
func TestHungDatabases(t *testing.T) {
	m := startMariaDB(t)
	const good, hung = 60, 100
	ds := many(t, m, good, hung)
	for round := range 3 {
		began := time.Now()
		facts := ds.Measure(t.Context(), false)
		took := time.Since(began)
		count := map[replication.Reach]int{}
		for _, f := range facts {
			count[f.Reach]++
		}
		t.Logf("round %d: %s, %v", round, took.Round(time.Millisecond), count)
		if count[replication.ReachTimedOut] < hung || took > 5*time.Second {
			t.Errorf("round %d: %s, %v", round, took, count)
		}
		if round == 2 && count[replication.Reachable] != good {
			t.Errorf("%d of %d answered: %v", count[replication.Reachable], good, count)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var closed time.Duration
	began := time.Now()
	done := make(chan struct{})
	go func() { defer close(done); _ = ds.CloseWrites(ctx) }()
	eventually(t, "writes to be closed while others hang", func() bool {
		var n int
		if err := m.root.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&n); err != nil {
			t.Fatal(err)
		}
		closed = time.Since(began)
		return n == 1
	})
	select {
	case <-done:
		t.Error("the hung ones did not hang")
	default:
	}
	t.Logf("closed after %s", closed.Round(time.Millisecond))
	<-done
	if st, err := ds.step(hooks.Writes{}).Check(ctx); st != step.Cannot || err == nil {
		t.Errorf("the check of a set with hung databases: %v, %v", st, err)
	}
}

func BenchmarkMeasure256(b *testing.B) {
	m := startMariaDB(b)
	for _, hung := range []int{0, 40} {
		b.Run(fmt.Sprint("hung=", hung), func(b *testing.B) {
			ds := many(b, m, 256-hung, hung)
			ds.Measure(b.Context(), false) // connects
			ds.Measure(b.Context(), false)
			b.ResetTimer()
			var worst time.Duration
			for b.Loop() {
				began := time.Now()
				good := 0
				for _, f := range ds.Measure(b.Context(), false) {
					if f.Reach == replication.Reachable {
						good++
					}
				}
				if good != 256-hung {
					b.Fatalf("%d answered", good)
				}
				worst = max(worst, time.Since(began))
			}
			b.ReportMetric(float64(worst.Milliseconds()), "ms-worst")
		})
	}
}
