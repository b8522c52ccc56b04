package mysql

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

func TestMeasureReplica(t *testing.T) { onEach(t, testMeasureReplica) }

func testMeasureReplica(t *testing.T) {
	source, replica := startPair(t)
	src, rep := source.database(t, patient), replica.database(t, patient)
	ctx := context.Background()
	source.insert(t, 3)
	at := source.position(t)
	if _, err := rep.CatchUp(timeout(t, patience), at); err != nil {
		t.Fatal(err)
	}

	t.Run("source", func(t *testing.T) {
		before := bootTime()
		f := src.Measure(ctx)
		if f.MeasuredAt.Before(before) || f.MeasuredAt.After(bootTime()) {
			t.Errorf("measured at %v, not after %v", f.MeasuredAt, before)
		}
		state, _ := replication.ParseBinlogState(at.String())
		want := replication.Facts{
			Name: "db1", MeasuredAt: f.MeasuredAt, Reach: replication.Reachable, Version: f.Version,
			ServerID: replication.Known(uint32(1)), ReadOnly: replication.Known(false),
			Executed: replication.Known(at), BinlogState: replication.Known(state), Applied: replication.Known(replication.Position{}),
			Channels: replication.Known([]replication.Channel{}), ReplicasConnected: replication.Known(uint64(1)),
			LongestTransaction: replication.Known(time.Duration(0)),
			LogReplicaUpdates:  replication.Known(true), EventScheduler: replication.Known(false),
			SemiSync: replication.SemiSync{
				SourceStatus: replication.Known(false), NoTx: replication.Known(uint64(0)), Clients: replication.Known(uint64(0)),
				Patience: replication.Known(10 * time.Second), Waiting: replication.Known(uint64(0)), ReplicaEnabled: replication.Known(false),
			},
		}
		if diff := cmp.Diff(want, f); diff != "" {
			t.Error(diff)
		}
		if f.Role() != replication.RoleSource || !strings.Contains(f.Version, "MariaDB") {
			t.Errorf("%s, a %s", f.Version, f.Role())
		}
	})
	t.Run("running", func(t *testing.T) {
		f := channelBecomes(t, rep, func(c replication.Channel) bool { return c.SecondsBehind.Equal(replication.Known(time.Duration(0))) })
		want := replication.Channel{
			SourceHost: "127.0.0.1", SourcePort: uint16(source.port), IO: replication.ThreadRunning, SQL: replication.ThreadRunning,
			LastIOError: replication.Known(replication.ServerError{}), LastSQLError: replication.Known(replication.ServerError{}),
			SecondsBehind: replication.Known(time.Duration(0)), Received: replication.Known(at), UsingGTID: replication.Known(true),
			SQLDelay: replication.Known(time.Duration(0)), Filtered: replication.Known(false),
			SourceServerID: replication.Known(uint32(1)),
		}
		if diff := cmp.Diff(want, onlyChannel(t, f)); diff != "" {
			t.Error(diff)
		}
		if f.Role() != replication.RoleReplica || !f.Applied.Equal(replication.Known(at)) || !f.ReadOnly.Equal(replication.Known(true)) {
			t.Errorf("%+v", f)
		}
		if v := verdict(f, replication.Planned, at, at); !v.Open {
			t.Errorf("gate is closed: %v", v.Reasons)
		}
	})
	t.Run("io stopped", func(t *testing.T) {
		replica.exec(t, "STOP SLAVE IO_THREAD")
		defer replica.exec(t, "START SLAVE")
		f := channelBecomes(t, rep, func(c replication.Channel) bool { return c.IO == replication.ThreadStopped })
		c := onlyChannel(t, f)
		if !c.SecondsBehind.IsNull() || c.SQL != replication.ThreadRunning {
			t.Errorf("%+v", c)
		}
		wantCodes(t, verdict(f, replication.Planned, at, at), replication.IOStopped, replication.NotKnown)
	})
	t.Run("sql stopped with an error", func(t *testing.T) {
		replica.exec(t, "SET GLOBAL read_only = 0")
		replica.exec(t, "SET SESSION sql_log_bin = 1")
		c, err := replica.root.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, q := range []string{"SET SESSION sql_log_bin = 0", "INSERT INTO app.t (id) VALUES (1000)"} {
			if _, err := c.ExecContext(ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		source.exec(t, "INSERT INTO app.t (id) VALUES (1000)")
		f := channelBecomes(t, rep, func(c replication.Channel) bool { return c.SQL == replication.ThreadStopped })
		last, _ := onlyChannel(t, f).LastSQLError.Get()
		if last.Number != 1062 || !strings.Contains(last.Text, "Duplicate entry") || len(last.Text) > replication.MaxErrorText {
			t.Errorf("last error %v", last)
		}
		wantCodes(t, verdict(f, replication.SourceLost, source.position(t), at),
			replication.SQLStopped, replication.Undrained, replication.BehindSource)
		_, err = rep.CatchUp(timeout(t, patience), source.position(t))
		if stopped, ok := errors.AsType[*SQLThreadError](err); !ok || stopped.Last.Number != 1062 {
			t.Errorf("catching up: %v", err)
		}
		if err := rep.StopReplication(timeout(t, patience)); err == nil {
			t.Error("replication stopped with a transaction that cannot be applied")
		}
		if _, err := c.ExecContext(ctx, "DELETE FROM app.t WHERE id = 1000"); err != nil {
			t.Fatal(err)
		}
		if err := rep.StopReplication(timeout(t, patience)); err != nil {
			t.Error(err)
		}
		if got := replica.value(t, "SELECT COUNT(*) FROM app.t WHERE id = 1000"); got != "1" {
			t.Errorf("%s rows, want 1", got)
		}
	})
}

func verdict(f replication.Facts, cause replication.Cause, heard, received replication.Position) replication.Verdict {
	var h replication.Heard
	h.Note(heard, f.MeasuredAt)
	return replication.Gate(f.MeasuredAt, replication.Policy{MaxLag: 5 * time.Second}, replication.Question{
		Cause: cause, Health: replication.HealthGood,
		Databases: []replication.Database{{Name: f.Name, Facts: f, Heard: h, MaxReceived: received}},
	})
}

func wantCodes(t *testing.T, v replication.Verdict, want ...replication.Code) {
	t.Helper()
	var got []replication.Code
	for _, r := range v.Reasons {
		got = append(got, r.Code)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%v", diff, v.Reasons)
	}
}

func TestMeasureUnreachable(t *testing.T) { onEach(t, testMeasureUnreachable) }

func testMeasureUnreachable(t *testing.T) {
	s := startServer(t, 1)
	ctx := context.Background()
	pinned := s.database(t)
	if f := pinned.Measure(ctx); f.Reach != replication.Reachable {
		t.Fatalf("%s: %s", f.Reach, f.ReachDetail)
	}

	t.Run("wrong password", func(t *testing.T) {
		d := s.database(t, patient, func(c *Config) { c.Password = func() (string, error) { return secret + "x", nil } })
		wantReach(t, d.Measure(ctx), replication.ReachAccessDenied)
	})
	t.Run("no password to be had", func(t *testing.T) {
		d := s.database(t, patient, func(c *Config) { c.Password, c.PasswordFile = nil, filepath.Join(s.dir, "none") })
		wantReach(t, d.Measure(ctx), replication.ReachFailed)
	})
	t.Run("cancelled", func(t *testing.T) {
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		wantReach(t, s.database(t).Measure(cancelled), replication.ReachUnknown)
	})
	t.Run("idle connection killed", func(t *testing.T) {
		d := s.database(t, patient)
		d.Measure(ctx)
		for range 3 {
			s.exec(t, "KILL HARD CONNECTION "+fmtUint(d.probeID.Load()))
			wantReach(t, d.Measure(ctx), replication.Reachable)
		}
	})
	t.Run("hung", func(t *testing.T) {
		s.hang(t)
		defer s.resume(t)
		for name, d := range map[string]*Database{"pinned": pinned, "new": s.database(t)} {
			began := time.Now()
			wantReach(t, d.Measure(ctx), replication.ReachTimedOut)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s connection: took %s", name, took)
			}
		}
		// Every further connection waits in the backlog, until that is full too.
		d := s.database(t, func(c *Config) { c.MeasureTimeout = time.Millisecond })
		for range 200 {
			wantReach(t, d.Measure(ctx), replication.ReachTimedOut)
		}
	})
	t.Run("awake again", func(t *testing.T) {
		eventually(t, "an answer", func() (bool, error) { return pinned.Measure(ctx).Reach == replication.Reachable, nil })
	})
	t.Run("killed", func(t *testing.T) {
		s.kill(t)
		wantReach(t, pinned.Measure(ctx), replication.ReachRefused)
		wantReach(t, s.database(t).Measure(ctx), replication.ReachRefused)
	})
}

func wantReach(t *testing.T, f replication.Facts, want replication.Reach) {
	t.Helper()
	if f.Reach != want {
		t.Errorf("%s (%s), want %s", f.Reach, f.ReachDetail, want)
	}
	if strings.Contains(f.ReachDetail, secret) {
		t.Errorf("detail shows the password")
	}
	if f.Name == "" || f.MeasuredAt == 0 {
		t.Errorf("no name or instant: %+v", f)
	}
	if want != replication.Reachable && (f.Channels.IsKnown() || f.Applied.IsKnown() || f.ReadOnly.IsKnown()) {
		t.Errorf("facts of a server that did not answer: %+v", f)
	}
}

func TestTooManyConnectionsIsAlive(t *testing.T) { onEach(t, testTooManyConnectionsIsAlive) }

func testTooManyConnectionsIsAlive(t *testing.T) {
	s := startServer(t, 1)
	ctx := context.Background()
	pinned := s.database(t, patient)
	wantReach(t, pinned.Measure(ctx), replication.Reachable)
	s.exec(t, "SET GLOBAL max_connections = 10")
	app, root := openHandle(t, s.socket(), "app", "app", "app"), openHandle(t, s.socket(), "root", "", "")
	// Accounts with CONNECTION ADMIN get one more, which root takes. A connection
	// that was turned away counts for a moment yet, so fill until it stays full.
	var f replication.Facts
	eventually(t, "the server to be full", func() (bool, error) {
		for _, db := range []*sql.DB{app, root} {
			if _, err := db.Conn(ctx); err != nil && serverErrorNumber(err) != errTooManyConnections {
				return false, err
			}
		}
		f = s.database(t, patient).Measure(ctx)
		return f.Reach != replication.Reachable, nil
	})
	wantReach(t, f, replication.ReachTooManyConnections)
	if !f.Reach.Alive() || f.Reach.Down() {
		t.Error("a full server does not count as alive")
	}
	for name, d := range map[string]*Database{"over its own connection": pinned, "with none to spare": s.database(t, patient)} {
		if err := d.Ping(timeout(t, patience)); err != nil {
			t.Errorf("ping of a full server %s: %v", name, err)
		}
	}
	wantReach(t, pinned.Measure(ctx), replication.Reachable)
	if _, err := pinned.CloseWrites(timeout(t, patience), 0); err != nil {
		t.Errorf("a full server cannot be closed: %v", err)
	}
	if got := s.value(t, "SELECT @@GLOBAL.read_only"); got != "1" {
		t.Errorf("read_only is %s", got)
	}
}

func TestGrants(t *testing.T) { onEach(t, testGrants) }

func testGrants(t *testing.T) {
	s := startServer(t, 1)
	ctx := timeout(t, patience)
	d := s.database(t, patient)
	missing, err := d.Grants(ctx)
	if err != nil || len(missing) != 0 {
		t.Fatalf("%v, %v", missing, err)
	}

	s.exec(t, "CREATE USER `o'dd``name`@localhost IDENTIFIED BY '"+secret+"'")
	poor := s.database(t, patient, func(c *Config) { c.User = "o'dd`name" })
	f := poor.Measure(ctx)
	if f.Reach != replication.Reachable || f.Channels.IsKnown() || !f.ReadOnly.IsKnown() || !strings.Contains(f.ReachDetail, "1227") {
		t.Errorf("without privileges: %+v", f)
	}
	missing, err = poor.Grants(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range missing {
		names = append(names, m.Privilege)
		s.exec(t, m.Fix)
	}
	want := []string{"SLAVE MONITOR", "REPLICATION SLAVE ADMIN", "READ_ONLY ADMIN", "CONNECTION ADMIN", "PROCESS"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	again, err := s.database(t, patient, func(c *Config) { c.User = "o'dd`name" }).Grants(ctx)
	if err != nil || len(again) != 0 {
		t.Errorf("after the fixes: %v, %v", again, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	password := func() (string, error) { return secret, nil }
	for _, tc := range []struct {
		name, want string
		config     Config
	}{
		{"name", "no name", Config{Address: "unix:/s", User: "u", Password: password}},
		{"no address", "neither unix:PATH nor tcp:HOST:PORT", Config{Name: "d", User: "u", Password: password}},
		{"relative socket", "not absolute", Config{Name: "d", Address: "unix:s", User: "u", Password: password}},
		{"tcp without port", "not tcp:HOST:PORT", Config{Name: "d", Address: "tcp:host", User: "u", Password: password}},
		{"user", "no user", Config{Name: "d", Address: "tcp:[::1]:3306", Password: password}},
		{"password", "neither a password", Config{Name: "d", Address: "unix:/s", User: "u"}},
		{"two passwords", "both a password", Config{Name: "d", Address: "unix:/s", User: "u", Password: password, PasswordFile: "f"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Open(tc.config); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestParseReadOnly(t *testing.T) {
	for text, want := range map[string]string{
		"0": "false", "OFF": "false", "1": "true", "ON": "true", "NO_LOCK": "true", "NO_LOCK_NO_ADMIN": "true",
		"": "unknown", "2": "unknown", "SOMETIMES": "unknown",
	} {
		r := row{"read_only": {String: text, Valid: true}}
		if got := read(r, "read_only", parseReadOnly).String(); got != want {
			t.Errorf("%q reads as %s, want %s", text, got, want)
		}
	}
	if got := read(row{"read_only": {}}, "read_only", parseReadOnly); !got.IsNull() {
		t.Errorf("NULL reads as %s", got)
	}
	if got := read(row{}, "read_only", parseReadOnly); got.IsNull() || got.IsKnown() {
		t.Errorf("no column reads as %s", got)
	}
}

func TestMeasureNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	d, err := Open(Config{
		Name: "d", Address: "tcp:" + address, User: "u", Password: func() (string, error) { return secret, nil },
		Now: func() mono.Instant { return 7 },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	wantReach(t, d.Measure(context.Background()), replication.ReachRefused)
}

// The table of transactions is in the host's time and the session in UTC, and the
// server may have a zone of its own besides.
func TestTransactionAge(t *testing.T) { onEach(t, testTransactionAge) }

func testTransactionAge(t *testing.T) {
	s := startServer(t, 1, "--default-time-zone=+05:00")
	c, err := openHandle(t, s.socket(), "app", "app", "app").Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execAll(t, c, "BEGIN", "INSERT INTO t (id) VALUES (-1)")
	began := time.Now()
	d := s.database(t, patient)
	var age time.Duration
	eventually(t, "the transaction to age", func() (bool, error) {
		age, _ = d.Measure(t.Context()).LongestTransaction.Get()
		return age > 0, nil
	})
	if most := time.Since(began) + 2*time.Second; age > most {
		t.Errorf("a transaction younger than %s is %s old", most, age)
	}
}
