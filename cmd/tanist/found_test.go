package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An operator names what a rule has found; all of them are more than are known while
// a file cannot be read.
func TestReplicationOfDiscoveredDatabases(t *testing.T) {
	one, two := startServer(t, 1), startServer(t, 2)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "own"), "hidden\n")
	write(t, filepath.Join(dir, "repl"), "hidden-too\n")
	file := filepath.Join(dir, "tanist.yaml")
	write(t, file, fmt.Sprintf(`
nodes: {primary: {addresses: [127.0.0.1]}, reserve: {addresses: [192.0.2.12]}}
instances:
  - name: compass
    interface: lo
    vrid: 51
    vips: [192.0.2.100/24]
    discover:
      - files: %[1]s/*.json
        name: team-{{.Match}}
        socket: .socket
        port: .port
        password_file: %[1]s/own
        replicate_from: {user: repl, password_file: %[1]s/repl}
`, dir))
	run := func(code int, want string, args ...string) {
		t.Helper()
		got := tanist(t, append([]string{"replication"}, append(args, "--config", file, "--node", "reserve", "--state-dir", dir,
			"--socket", filepath.Join(dir, "none"), "--timeout", "30s")...)...)
		if out := got.stdout + got.stderr; got.code != code || !strings.Contains(out, want) {
			t.Errorf("%v: %+v, want exit status %d and %q", args, got, code, want)
		}
	}
	run(1, "the instance has no databases", "status")
	write(t, filepath.Join(dir, "1.json"), fmt.Sprintf(`{"socket": %q, "port": %d}`, two.socket(), one.port))
	two.exec(t, "SET GLOBAL read_only = 1")
	one.exec(t, "INSERT INTO app.t VALUES (1)")
	run(1, `no database is called "pivot": there are team-1`, "follow", "pivot")
	run(0, "team-1: done", "follow", "team-1")
	run(0, "team-1: done", "wait")
	if n := two.value(t, "SELECT COUNT(*) FROM app.t"); n != "1" {
		t.Errorf("%s rows", n)
	}
	write(t, filepath.Join(dir, "2.json"), "{")
	run(1, "2.json: ends in the middle of its JSON", "follow", "--all")
	run(1, "2.json: ends in the middle of its JSON", "status")
	run(0, "team-1: unchanged", "follow", "team-1")
}

// The watch goes along with the list, and a server that hangs is fenced by the name
// that its rule gives.
func TestDiscoveredAreWatchedAndFenced(t *testing.T) {
	servers := []*testServer{startServer(t, 1), startServer(t, 2)}
	dir := t.TempDir()
	ds := testDatabases(t, testFile(t, fmt.Sprintf(`
    discover: [{files: "%[1]s/*.json", socket: .socket, password_file: "%[1]s/own"}]
`, dir)))
	write(t, filepath.Join(dir, "own"), "hidden")
	file := func(i int) string { return filepath.Join(dir, strconv.Itoa(i)+".json") }
	for i, s := range servers {
		write(t, file(i), fmt.Sprintf(`{"socket": %q}`, s.socket()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watching, stop := context.WithCancel(ctx)
	ended, watched := make(chan string, 8), make(chan struct{})
	go func() { defer close(watched); ds.Watch(watching, func(name string) { ended <- name }) }()

	measured := func(words ...string) {
		t.Helper()
		eventually(t, strings.Join(words, ", "), func() bool {
			return strings.Join(factWords(ds.Measure(ctx, true)), ", ") == strings.Join(words, ", ")
		})
	}
	measured("0 reachable", "1 reachable")
	if err := ds.Fence(ctx, "2"); err == nil || !strings.Contains(err.Error(), "no database is called that") {
		t.Errorf("nobody's name: %v", err)
	}
	if err := servers[0].process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	measured("0 timed out", "1 reachable")
	if err := ds.Fence(ctx, "0"); err != nil {
		t.Fatal(err)
	}
	if name := <-ended; name != "0" {
		t.Errorf("%s ended", name)
	}
	measured("0 refused", "1 reachable")

	if err := os.Remove(file(1)); err != nil {
		t.Fatal(err)
	}
	measured("0 refused")
	if err := ds.Fence(ctx, "1"); err == nil {
		t.Error("fenced what is no longer there")
	}
	stop()
	select {
	case <-watched:
	case <-time.After(patience):
		t.Fatal("the watch goes on")
	}
	if len(ended) != 0 {
		t.Errorf("%s ended", <-ended)
	}
}
