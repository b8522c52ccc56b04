package mysql

// What a scenario needs of a server, real or fake. The fake ones stand in for the
// releases that are not at hand; the real ones keep them honest, because the same
// scenarios run on both.

import (
	"fmt"
	"testing"

	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/test/fakemysql"
)

type subject interface {
	database(t *testing.T, change ...func(*Config)) *Database
	insert(t *testing.T, n int)
	position(t *testing.T) replication.Position
	replicate(t *testing.T, source subject) // and wait until both threads run
	thread(t *testing.T, verb, thread string)
	lockTables(t *testing.T)
	readOnly(t *testing.T) bool
	hang(t *testing.T)
	resume(t *testing.T)
	kill(t *testing.T)
	mysql() bool
	tcpPort() int
}

// fakeVersions are one of each row of the table and of each recording.
var fakeVersions = []string{
	"5.7.44-log", "8.0.21", "8.0.25", "8.0.36", "8.4.3", "9.7.4",
	"10.5.8-MariaDB", "10.11.18-MariaDB", "11.8.6-MariaDB", "12.1.2-MariaDB",
}

// onAll runs a scenario on every real server and every fake one.
func onAll(t *testing.T, scenario func(t *testing.T, start func(t *testing.T, id int) subject)) {
	t.Helper()
	t.Parallel()
	for _, p := range products() {
		t.Run(p.name, func(t *testing.T) {
			on(t, func(t *testing.T) {
				scenario(t, func(t *testing.T, id int) subject { t.Helper(); return startServer(t, id) })
			})
		})
	}
	for _, version := range fakeVersions {
		t.Run("fake "+version, func(t *testing.T) {
			t.Parallel()
			scenario(t, func(t *testing.T, id int) subject { t.Helper(); return startFake(t, version, id) })
		})
	}
}

func pair(t *testing.T, start func(t *testing.T, id int) subject) (source, replica subject) {
	t.Helper()
	source, replica = start(t, 1), start(t, 2)
	replica.replicate(t, source)
	return source, replica
}

func (s *server) mysql() bool { return s.product.mysql }

func (s *server) tcpPort() int { return s.port }

func (s *server) replicate(t *testing.T, source subject) {
	t.Helper()
	if !s.product.mysql {
		s.follow(t, source.(*server))
		return
	}
	s.exec(t, fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=%d, SOURCE_USER='repl', "+
		"SOURCE_PASSWORD='repl', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, GET_SOURCE_PUBLIC_KEY=1", source.tcpPort()))
	s.exec(t, "SET GLOBAL super_read_only = 1")
	s.exec(t, "START REPLICA")
	channelBecomes(t, s.database(t, patient), threadsRun)
}

func threadsRun(c replication.Channel) bool {
	return c.IO == replication.ThreadRunning && c.SQL == replication.ThreadRunning
}

func (s *server) thread(t *testing.T, verb, thread string) {
	t.Helper()
	word := "SLAVE"
	if s.product.mysql {
		word = "REPLICA"
	}
	s.exec(t, verb+" "+word+" "+thread)
}

func (s *server) lockTables(t *testing.T) {
	t.Helper()
	c, err := openHandle(t, s.socket(), "app", "app", "app").Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execAll(t, c, "LOCK TABLES t WRITE")
}

func (s *server) readOnly(t *testing.T) bool {
	t.Helper()
	variable := "read_only"
	if s.product.mysql {
		variable = "super_read_only"
	}
	return s.value(t, "SELECT @@GLOBAL."+variable) != "0"
}

// fake is a server of test/fakemysql.
type fake struct {
	*fakemysql.Server
	id      int
	mariadb bool
}

func startFake(t *testing.T, version string, id int) *fake {
	t.Helper()
	s, err := fakemysql.Start(fakemysql.Config{
		Version: version, ServerID: uint32(id), Accounts: map[string]string{"tanist": secret},
		Native: version[0] == '5',
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &fake{Server: s, id: id, mariadb: parseVersion(version).family == familyMariaDB}
}

func (f *fake) mysql() bool { return !f.mariadb }

func (f *fake) tcpPort() int { return f.Port() }

func (f *fake) database(t *testing.T, change ...func(*Config)) *Database {
	t.Helper()
	c := Config{
		Name: fmt.Sprintf("db%d", f.id), Address: f.Address(), User: "tanist",
		Password: func() (string, error) { return secret, nil },
	}
	for _, f := range change {
		f(&c)
	}
	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func (f *fake) insert(t *testing.T, n int) {
	t.Helper()
	f.Change(func(s *fakemysql.State) { s.Write(uint64(n)) })
}

func (f *fake) position(t *testing.T) (p replication.Position) {
	t.Helper()
	f.Read(func(s fakemysql.State) { p = mustPosition(t, s.Position()) })
	return p
}

func (f *fake) replicate(t *testing.T, source subject) {
	t.Helper()
	f.Change(func(s *fakemysql.State) {
		s.Channels = []*fakemysql.Channel{{Host: "127.0.0.1", Port: source.tcpPort(), IO: true, SQL: true, AutoPosition: true}}
		s.Close()
	})
	channelBecomes(t, f.database(t, patient), threadsRun)
}

func (f *fake) thread(t *testing.T, verb, thread string) {
	t.Helper()
	f.Change(func(s *fakemysql.State) {
		io, sql := thread != "SQL_THREAD", thread != "IO_THREAD"
		for _, c := range s.Channels {
			if verb == "START" {
				s.Start(c, io, sql)
				continue
			}
			c.IO, c.SQL = c.IO && !io, c.SQL && !sql
		}
	})
}

// clientID is far from the ids of real connections.
const clientID = 1_000_000

func (f *fake) lockTables(t *testing.T) {
	t.Helper()
	f.Change(func(s *fakemysql.State) {
		s.Sessions = append(s.Sessions, fakemysql.Session{ID: clientID, User: "app", Command: "Sleep", Locks: true})
	})
}

func (f *fake) readOnly(t *testing.T) (closed bool) {
	t.Helper()
	f.Read(func(s fakemysql.State) { closed = s.Closed() })
	return closed
}

func (f *fake) hang(t *testing.T) { t.Helper(); f.Hang() }

func (f *fake) resume(t *testing.T) { t.Helper(); f.Resume() }

func (f *fake) kill(t *testing.T) {
	t.Helper()
	if err := f.Server.Close(); err != nil {
		t.Log(err) // a connection that was gone already
	}
}
