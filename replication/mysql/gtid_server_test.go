package mysql

// A property: GTID sets mean here what a MySQL server takes them for. Package
// replication tests the same against a naive model; this asks the one that decides.

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

func TestGTIDSetsAgainstServer(t *testing.T) {
	program := os.Getenv("TANIST_TEST_MYSQLD")
	if program == "" {
		t.Skip("SKIPPED: TANIST_TEST_MYSQLD names no MySQL server, so GTID sets were not tried against one")
	}
	db := startGTIDServer(t, program)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const one = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	var answer string
	// Servers before 8.3 know no tags.
	tags := db.QueryRowContext(ctx, "SELECT GTID_SUBTRACT(?, '')", one+":tag:1").Scan(&answer) == nil
	subsets := 0
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 11))
		textA, textB := randomGTIDText(r, tags), randomGTIDText(r, tags)
		a, b := mustGTIDSet(t, textA), mustGTIDSet(t, textB)
		var subset bool
		var minus, both, union string
		err := db.QueryRowContext(ctx, "SELECT GTID_SUBSET(?, ?), GTID_SUBTRACT(?, ?), GTID_SUBTRACT(?, GTID_SUBTRACT(?, ?)), GTID_SUBTRACT(?, '')",
			textA, textB, textA, textB, textA, textA, textB, strings.Trim(textA+","+textB, ",")).Scan(&subset, &minus, &both, &union)
		if err != nil {
			t.Fatalf("seed %d: A = %q, B = %q: %v", seed, textA, textB, err)
		}
		if subset {
			subsets++
		}
		if got := b.Contains(a); got != subset {
			t.Errorf("seed %d: B contains A: %v, the server says %v: A = %q, B = %q", seed, got, subset, textA, textB)
		}
		for what, pair := range map[string][2]replication.GTIDSet{
			"A−B": {a.Subtract(b), mustGTIDSet(t, minus)},
			"A∩B": {a.Intersect(b), mustGTIDSet(t, both)},
			"A∪B": {a.Union(b), mustGTIDSet(t, union)},
		} {
			if !pair[0].Equal(pair[1]) {
				t.Errorf("seed %d: %s is %s, the server says %s: A = %q, B = %q", seed, what, pair[0], pair[1], textA, textB)
			}
		}
		// What is written here must mean the same to the server.
		if err := db.QueryRowContext(ctx, "SELECT GTID_SUBTRACT(?, ?)", a.String(), textA).Scan(&answer); err != nil || answer != "" {
			t.Errorf("seed %d: of %s the server finds %q not in %q, %v", seed, a, answer, textA, err)
		}
	}
	if subsets < 10 {
		t.Errorf("only %d times was one in the other: the test shows little", subsets)
	}
}

// randomGTIDText returns a set over few servers and numbers, in no order.
func randomGTIDText(r *rand.Rand, tags bool) string {
	var elements []string
	for range r.IntN(4) {
		element := fmt.Sprintf("3E11fa47-71ca-11e1-9e33-c80aa942956%d", r.IntN(3))
		if tags && r.IntN(2) == 0 {
			element += []string{":blue", ":Red_1"}[r.IntN(2)]
		}
		for range 1 + r.IntN(4) {
			first := 1 + r.IntN(30)
			element += fmt.Sprintf(":%d-%d", first, first+r.IntN(8))
		}
		elements = append(elements, element)
	}
	return strings.Join(elements, ",\n")
}

func mustGTIDSet(t *testing.T, s string) replication.GTIDSet {
	t.Helper()
	set, err := replication.ParseGTIDSet(s)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// startGTIDServer runs an empty server that only its socket reaches.
func startGTIDServer(t *testing.T, program string) *sql.DB {
	t.Helper()
	// A short path: a unix socket's has at most 107 bytes.
	dir, err := os.MkdirTemp("", "tgtid") //nolint:usetesting // t.TempDir puts the test's name into the path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	options := []string{"--no-defaults", "--user=" + userName(), "--datadir=" + data}
	if out, err := exec.CommandContext(ctx, program, append(options, "--initialize-insecure")...).CombinedOutput(); err != nil {
		t.Fatalf("make a data directory: %v\n%s", err, out)
	}
	cmd := exec.Command(program, append(options, "--socket="+socket, "--pid-file="+filepath.Join(dir, "pid"), "--skip-networking",
		"--loose-mysqlx=OFF", "--performance-schema=OFF")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	db, err := sql.Open("mysql", "root@unix("+socket+")/?interpolateParams=true")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for db.PingContext(ctx) != nil {
		select {
		case <-exited:
			t.Fatalf("%s ended while it started", program)
		case <-ctx.Done():
			t.Fatalf("%s does not answer", program)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return db
}
