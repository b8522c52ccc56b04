package mysql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/replication"
)

// replSecret has every character that quoting can go wrong with.
const replSecret = `q'uo"te\d é?%_;--`

// source makes s a server that can be followed with an account of its own.
func (s *server) source(t *testing.T, change ...func(*Source)) Source {
	t.Helper()
	src := Source{
		Host: "127.0.0.1", Port: uint16(s.port), User: "repl",
		Password: func() (string, error) { return "repl", nil },
	}
	for _, f := range change {
		f(&src)
	}
	return src
}

// close closes writes as a demotion does.
func (s *server) close(t *testing.T, d *Database) replication.Position {
	t.Helper()
	p, err := d.CloseWrites(timeout(t, patience), 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mayReset gives Tanist's account what a reset needs.
func (s *server) mayReset(t *testing.T) {
	t.Helper()
	s.unlogged(t, "GRANT RELOAD ON *.* TO tanist@localhost")
}

// unlogged runs statements that do not go to the binary log.
func (s *server) unlogged(t *testing.T, statements ...string) {
	t.Helper()
	c, err := s.root.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, q := range slices.Concat([]string{"SET sql_log_bin = 0, sql_mode = ''"}, statements, []string{"SET sql_log_bin = 1"}) {
		if _, err := c.ExecContext(context.Background(), q); err != nil {
			t.Fatalf("server %d: %s: %v", s.id, q, err)
		}
	}
}

func mustFollow(t *testing.T, d *Database, src Source) {
	t.Helper()
	if err := d.Follow(timeout(t, patience), src); err != nil {
		t.Fatal(err)
	}
	if following, err := d.Following(timeout(t, patience), src); err != nil || !following {
		t.Fatalf("following %v after Follow, %v", following, err)
	}
}

// rows returns the whole table as text.
func (s *server) rows(t *testing.T) string {
	t.Helper()
	return s.value(t, "SELECT GROUP_CONCAT(id, ':', v ORDER BY id) FROM app.t")
}

// Two servers change places again and again, with writes on each as the source.
// The settings of the channel stay on the active one the first times, and are
// reset the other times.
func TestFollowBothWays(t *testing.T) {
	t.Parallel()
	servers := []*server{startServer(t, 1), startServer(t, 2)}
	dbs := []*Database{servers[0].database(t, patient), servers[1].database(t, patient)}
	servers[0].mayReset(t)
	servers[1].mayReset(t)
	servers[0].insert(t, 3)
	servers[1].exec(t, "SET GLOBAL read_only = 1")
	mustFollow(t, dbs[1], servers[0].source(t))
	for turn := range 6 {
		from, to := turn%2, 1-turn%2
		servers[from].insert(t, 5)
		at := servers[from].close(t, dbs[from])
		if _, err := dbs[to].CatchUp(timeout(t, patience), at); err != nil {
			t.Fatal(err)
		}
		if err := dbs[to].StopReplication(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		if turn >= 3 {
			if _, err := dbs[to].ResetReplication(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
		}
		if err := dbs[to].OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		servers[to].insert(t, 2)
		mustFollow(t, dbs[from], servers[to].source(t))
		servers[to].insert(t, 2)
		if _, err := dbs[from].CatchUp(timeout(t, patience), servers[to].position(t)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(servers[to].rows(t), servers[from].rows(t)); diff != "" {
			t.Fatalf("turn %d: tables differ: %s", turn, diff)
		}
	}
	if n := servers[0].value(t, "SELECT COUNT(*) FROM app.t"); n != "57" {
		t.Errorf("%s rows, want 57", n)
	}
}

// What is as it should be is left alone: a change would drop the relay log.
func TestFollowChangesNothingTwice(t *testing.T) {
	t.Parallel()
	source, replica := startServer(t, 1), startServer(t, 2)
	d := replica.database(t, patient)
	replica.exec(t, "SET GLOBAL read_only = 1")
	source.insert(t, 1)
	mustFollow(t, d, source.source(t))
	replica.exec(t, "SET GLOBAL general_log_file = 'general', GLOBAL general_log = 1")
	statements := func() (changing []string) {
		log, err := os.ReadFile(filepath.Join(replica.dir, "data", "general"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(log)) {
			for _, word := range []string{"CHANGE MASTER", "START SLAVE", "STOP SLAVE", "STOP ALL", "gtid_slave_pos ="} {
				if strings.Contains(line, word) {
					changing = append(changing, word)
				}
			}
		}
		return changing
	}

	mustFollow(t, d, source.source(t))
	if got := statements(); len(got) > 0 {
		t.Errorf("already following, and it sends %q", got)
	}
	replica.exec(t, "SET GLOBAL general_log = 0")
	replica.exec(t, "STOP SLAVE IO_THREAD")
	replica.exec(t, "SET GLOBAL general_log = 1")
	source.insert(t, 1)
	mustFollow(t, d, source.source(t))
	if diff := cmp.Diff([]string{"START SLAVE"}, statements()); diff != "" {
		t.Error(diff)
	}
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Error(err)
	}
}

// A position lost is one of the ways in which a former source breaks: it has never
// been a replica and its gtid_slave_pos is empty.
func TestFollowGoesOnFromWhatWasWritten(t *testing.T) {
	t.Parallel()
	old, active := startPair(t)
	d := old.database(t, patient)
	old.insert(t, 4)
	at := old.close(t, d)
	dActive := active.database(t, patient)
	if _, err := dActive.CatchUp(timeout(t, patience), at); err != nil {
		t.Fatal(err)
	}
	if err := dActive.StopReplication(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	if err := dActive.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	active.insert(t, 1)
	mustFollow(t, d, active.source(t))
	if got := old.value(t, "SELECT @@GLOBAL.gtid_slave_pos"); got != "0-1-4" && got != "0-2-5" {
		t.Errorf("gtid_slave_pos is %q", got)
	}
	for column, want := range map[string]string{"Using_Gtid": "Slave_Pos", "Connect_Retry": "1", "Slave_heartbeat_period": "1"} {
		if got := old.channelColumn(t, column); got != want {
			t.Errorf("%s is %q, want %q", column, got, want)
		}
	}
}

func (s *server) channelColumn(t *testing.T, column string) string {
	t.Helper()
	c, err := s.root.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := queryOne(context.Background(), c, "SHOW ALL SLAVES STATUS")
	if err != nil {
		t.Fatal(err)
	}
	return r[column].String
}

func TestFollowRefuses(t *testing.T) {
	t.Parallel()
	source := startServer(t, 1)
	own := startServer(t, 2)
	d := own.database(t, patient)
	own.exec(t, "SET GLOBAL read_only = 1")
	source.insert(t, 3)
	for _, tt := range []struct {
		name string
		src  Source
		want func(error) string
	}{
		{"itself", own.source(t), func(err error) string {
			if e, ok := errors.AsType[*SelfError](err); !ok || !e.Same || e.ServerID != 2 {
				return "want a SelfError"
			}
			return ""
		}},
		{"itself by another name", own.source(t, func(s *Source) { s.Host = "127.0.0.1" }), wantText("this very server")},
		{"a wrong password", source.source(t, func(s *Source) {
			s.Password = func() (string, error) { return "nobody-may-read-this", nil }
		}), wantSource("Access denied")},
		{"an account without the privilege", source.source(t, func(s *Source) {
			s.User, s.Password = "weak", func() (string, error) { return "weak", nil }
		}), wantSource("lacks the privilege REPLICATION SLAVE")},
		{"nobody there", source.source(t, func(s *Source) { s.Port = uint16(freePort(t)) }), wantSource("refused")},
		{"no password to be had", source.source(t, func(s *Source) {
			s.Password = func() (string, error) { return "", errors.New("locked away") }
		}), wantText("locked away")},
		{"no TLS there", source.source(t, func(s *Source) {
			s.TLS = &SourceTLS{CA: filepath.Join(own.dir, "none.pem")}
		}), wantSource("none.pem")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "an account without the privilege" {
				source.unlogged(t, "CREATE USER weak@'127.0.0.1' IDENTIFIED BY 'weak'")
			}
			for name, f := range map[string]func() error{
				"Follow":      func() error { return d.Follow(timeout(t, patience), tt.src) },
				"CheckRejoin": func() error { return d.CheckRejoin(timeout(t, patience), tt.src) },
				"Following": func() error {
					_, err := d.Following(timeout(t, patience), tt.src)
					return err
				},
			} {
				err := f()
				if err == nil {
					t.Fatalf("%s: no error", name)
				}
				if text := tt.want(err); text != "" {
					t.Errorf("%s: %s, got %v", name, text, err)
				}
				if strings.Contains(err.Error(), "nobody-may-read-this") {
					t.Errorf("%s: the password is in the error", name)
				}
			}
			unchanged(t, own)
		})
	}
}

// unchanged asks that a refusal changed nothing.
func unchanged(t *testing.T, s *server) {
	t.Helper()
	if n := s.value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'system user' AND COMMAND LIKE 'Slave%'"); n != "0" {
		t.Errorf("%s replica threads", n)
	}
	if p := s.value(t, "SELECT @@GLOBAL.gtid_slave_pos"); p != "" {
		t.Errorf("gtid_slave_pos is %s", p)
	}
	f := s.database(t, patient).Measure(context.Background())
	if channels, ok := f.Channels.Get(); !ok || len(channels) > 0 {
		t.Errorf("channels are %v", f.Channels)
	}
}

func wantText(want string) func(error) string {
	return func(err error) string {
		if !strings.Contains(err.Error(), want) {
			return "want " + want
		}
		return ""
	}
}

func wantSource(want string) func(error) string {
	return func(err error) string {
		if _, ok := errors.AsType[*SourceError](err); !ok {
			return "want a SourceError"
		}
		return wantText(want)(err)
	}
}

func TestFollowRefusesWhileWritesAreOpen(t *testing.T) {
	t.Parallel()
	source, own := startServer(t, 1), startServer(t, 2)
	d := own.database(t, patient)
	if err := d.Follow(timeout(t, patience), source.source(t)); !errors.Is(err, ErrWritesOpen) {
		t.Errorf("error %v", err)
	}
	// A dry run comes before the step that closes writes.
	if following, err := d.Following(timeout(t, patience), source.source(t)); err != nil || following {
		t.Errorf("following %v, %v", following, err)
	}
	if _, ok := errors.AsType[*SelfError](errOf(d.Following(timeout(t, patience), own.source(t)))); !ok {
		t.Error("a dry run finds itself a good source")
	}
	unchanged(t, own)
	source.exec(t, "SET GLOBAL read_only = 1")
	own.exec(t, "SET GLOBAL read_only = 1")
	if text := wantSource("not the active one")(d.Follow(timeout(t, patience), source.source(t))); text != "" {
		t.Error(text)
	}
	unchanged(t, own)
}

func errOf(_ bool, err error) error { return err }

// A source that a third server has to be refused for is found before the threads
// of a running channel are touched.
func TestFollowMovesToAnotherSource(t *testing.T) {
	t.Parallel()
	old, replica := startPair(t)
	d := replica.database(t, patient)
	old.insert(t, 3)
	at := old.position(t)
	if _, err := d.CatchUp(timeout(t, patience), at); err != nil {
		t.Fatal(err)
	}
	third := startServer(t, 3)
	err := d.Follow(timeout(t, patience), third.source(t))
	e, ok := errors.AsType[*ErrantError](err)
	if !ok || e.Count != 3 {
		t.Fatalf("want 3 errant transactions, got %v", err)
	}
	if runs, err := d.ReplicationRuns(timeout(t, patience)); err != nil || !runs {
		t.Errorf("runs %v, %v", runs, err)
	}
	third.exec(t, "SET GLOBAL read_only = 1")
	third.follow(t, old)
	if _, err := third.database(t, patient).CatchUp(timeout(t, patience), at); err != nil {
		t.Fatal(err)
	}
	third.exec(t, "SET GLOBAL read_only = 0")
	mustFollow(t, d, third.source(t))
	old.insert(t, 1)
	if _, err := d.CatchUp(timeout(t, patience), old.position(t)); err != nil {
		t.Error(err)
	}
	if got := replica.channelColumn(t, "Master_Port"); got != fmt.Sprint(third.port) {
		t.Errorf("follows port %s", got)
	}
}

func TestFollowKeepsAnUnappliedRelayLog(t *testing.T) {
	t.Parallel()
	source, replica := startPair(t)
	d := replica.database(t, patient)
	source.insert(t, 1)
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Fatal(err)
	}
	replica.exec(t, "STOP SLAVE SQL_THREAD")
	source.insert(t, 5)
	received := source.position(t)
	channelBecomes(t, d, func(c replication.Channel) bool { return c.Received.Equal(replication.Known(received)) })
	replica.exec(t, "STOP SLAVE IO_THREAD")
	replica.mayReset(t)
	for name, err := range map[string]error{
		"follow": d.Follow(timeout(t, patience), source.source(t)),
		"reset":  second(d.ResetReplication(timeout(t, patience))),
	} {
		if e, ok := errors.AsType[*UnappliedError](err); !ok || e.Missing != 5 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f := d.Measure(context.Background()); !onlyChannel(t, f).Received.Equal(replication.Known(received)) {
		t.Error("the received position is gone")
	}
}

func second(_ string, err error) error { return err }

// A password that was changed on the source is entered anew; nothing else shows
// that it differs.
func TestFollowRenewsThePassword(t *testing.T) {
	t.Parallel()
	source, replica := startServer(t, 1), startServer(t, 2)
	d := replica.database(t, patient)
	replica.exec(t, "SET GLOBAL read_only = 1")
	mustFollow(t, d, source.source(t))
	replica.exec(t, "STOP SLAVE IO_THREAD")
	source.unlogged(t, "SET PASSWORD FOR repl@'127.0.0.1' = PASSWORD('another')")
	replica.exec(t, "START SLAVE IO_THREAD")
	channelBecomes(t, d, func(c replication.Channel) bool {
		e, _ := c.LastIOError.Get()
		return e.Number == errAccessDenied
	})
	mustFollow(t, d, source.source(t, func(s *Source) {
		s.Password = func() (string, error) { return "another", nil }
	}))
}

// The server's logs hold everything that is logged, and never the password.
func TestFollowLogsNoPassword(t *testing.T) {
	t.Parallel()
	source := startServer(t, 1)
	replica := startServer(t, 2, "--general-log", "--general-log-file=general", "--slow-query-log", "--slow-query-log-file=slow",
		"--long-query-time=0", "--log-slow-disabled-statements=", "--log-warnings=9")
	source.unlogged(t, "ALTER USER repl@'127.0.0.1' IDENTIFIED BY "+quote(replSecret))
	d := replica.database(t, patient)
	replica.exec(t, "SET GLOBAL read_only = 1")
	source.insert(t, 1)
	src := source.source(t, func(s *Source) { s.Password = func() (string, error) { return replSecret, nil } })
	mustFollow(t, d, src)
	if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
		t.Fatal(err)
	}
	replica.exec(t, "FLUSH LOGS")
	seen := false
	for _, name := range []string{"data/general", "data/slow", "log"} {
		text, err := os.ReadFile(filepath.Join(replica.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		seen = seen || strings.Contains(string(text), "CHANGE MASTER")
		if strings.Contains(string(text), replSecret[:8]) || strings.Contains(string(text), `q\'uo`) || strings.Contains(string(text), `q''uo`) {
			t.Errorf("%s holds the password", name)
		}
	}
	if !seen {
		t.Error("the change is in no log: the test proves nothing")
	}
	binlogs, _ := filepath.Glob(filepath.Join(replica.dir, "data", "bin.0*"))
	for _, name := range binlogs {
		if text, err := os.ReadFile(name); err != nil || strings.Contains(string(text), "uo\"te") {
			t.Errorf("%s holds the password, %v", name, err)
		}
	}
}

// A source whose binary log no longer reaches back refuses the position when the IO
// thread runs already: that is no following, however often it is looked at.
func TestFollowRefusedByTheBinaryLog(t *testing.T) {
	t.Parallel()
	source, replica := startPair(t)
	d := replica.database(t, patient)
	if err := d.StopReplication(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	source.insert(t, 2)
	source.exec(t, "FLUSH BINARY LOGS")
	source.insert(t, 1)
	last := source.lastLog(t)
	// A log that the thread of the replica still reads is not purged.
	eventually(t, "the older logs are gone", func() (bool, error) {
		source.exec(t, "PURGE BINARY LOGS TO '"+last+"'")
		rows, err := source.root.Query("SHOW BINARY LOGS")
		if err != nil {
			return false, err
		}
		defer rows.Close()
		logs := 0
		for rows.Next() {
			logs++
		}
		return logs == 1, rows.Err()
	})
	replica.exec(t, "SET GLOBAL read_only = 1")
	for range 10 {
		err := d.Follow(timeout(t, patience), source.source(t))
		if e, ok := errors.AsType[*IOThreadError](err); !ok || e.Last.Number != errBinlogGone {
			t.Fatalf("behind %s: %v", last, err)
		}
	}
}

// errBinlogGone is ER_MASTER_FATAL_ERROR_READING_BINLOG.
const errBinlogGone = 1236

func (s *server) lastLog(t *testing.T) string {
	t.Helper()
	c, err := s.root.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := queryOne(context.Background(), c, "SHOW MASTER STATUS")
	if err != nil {
		t.Fatal(err)
	}
	return r["File"].String
}
