package mysql

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/test/fakemysql"
)

// manyDatabases starts n fake servers and measures each once, as a daemon that
// has run for a while has.
func manyDatabases(t testing.TB, n int) []*Database {
	t.Helper()
	databases := make([]*Database, n)
	for i := range databases {
		s, err := fakemysql.Start(fakemysql.Config{Version: fakeVersions[i%len(fakeVersions)], ServerID: uint32(i + 1), Accounts: map[string]string{"tanist": secret}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		databases[i], err = Open(Config{
			Name: fmt.Sprintf("db%d", i), Address: s.Address(), User: "tanist", Password: func() (string, error) { return secret, nil },
			MeasureTimeout: 5 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { databases[i].Close() })
	}
	measureAll(t, databases)
	return databases
}

func measureAll(t testing.TB, databases []*Database) {
	t.Helper()
	for _, f := range MeasureAll(context.Background(), databases, 32) {
		if f.Reach != replication.Reachable {
			t.Errorf("%s: %s %s", f.Name, f.Reach, f.ReachDetail)
		}
	}
}

// More servers hang than are measured at a time, and have the longest patience:
// the others are measured while they do.
func TestHangingServersDoNotHoldUpARound(t *testing.T) {
	const parallel, hanging, well = 4, 6, 10
	var servers []*fake
	var databases []*Database
	for i := range hanging + well {
		s := startFake(t, "8.4.3", i+1)
		servers = append(servers, s)
		databases = append(databases, s.database(t, patient))
	}
	measureAll(t, databases)
	for _, s := range servers[:hanging] {
		s.Hang()
	}
	asked := func(s *fake) (n uint64) { s.Read(func(st fakemysql.State) { n = st.Asked }); return n }
	var before []uint64
	for _, s := range servers {
		before = append(before, asked(s))
	}
	done := make(chan []replication.Facts, 1)
	go func() { done <- MeasureAll(context.Background(), databases, parallel) }()
	for i, s := range servers[hanging:] {
		eventually(t, "a server to be asked", func() (bool, error) { return asked(s) > before[hanging+i], nil })
	}
	if len(done) > 0 {
		t.Error("the round was over before its hanging servers went on")
	}
	for _, s := range servers[:hanging] {
		s.Resume()
	}
	for _, f := range <-done {
		wantReach(t, f, replication.Reachable)
	}
}

func TestRoundOf256Databases(t *testing.T) {
	databases := manyDatabases(t, 256)
	began := time.Now()
	measureAll(t, databases)
	took := time.Since(began)
	t.Logf("a round of 256 databases took %s", took)
	if took > 5*time.Second {
		t.Errorf("a round of 256 databases took %s", took)
	}
}

func BenchmarkRoundOf256Databases(b *testing.B) {
	databases := manyDatabases(b, 256)
	for b.Loop() {
		measureAll(b, databases)
	}
}
