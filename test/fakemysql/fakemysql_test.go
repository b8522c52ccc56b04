package fakemysql

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
)

const patience = 20 * time.Second

func start(t *testing.T, c Config) (*Server, *sql.DB) {
	t.Helper()
	if c.Accounts == nil {
		c.Accounts = map[string]string{"u": "secret"}
	}
	s, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, handle(t, s, "u", "secret")
}

func handle(t *testing.T, s *Server, user, password string) *sql.DB {
	t.Helper()
	c := driver.NewConfig()
	network, address, _ := strings.Cut(s.Address(), ":")
	c.Net, c.Addr, c.User, c.Passwd, c.Logger = network, address, user, password, &driver.NopLogger{}
	connector, err := driver.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

func errno(err error) uint16 {
	if e, ok := errors.AsType[*driver.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// Every statement gets the answer, or the error number, that the real server gave.
func TestAnswersAsRecorded(t *testing.T) {
	data, err := os.ReadFile("testdata/answers.tsv")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	servers := strings.Split(lines[0], "\t")[1:]
	for i, name := range servers {
		t.Run(name, func(t *testing.T) {
			product, version, _ := strings.Cut(name, " ")
			if product == "MariaDB" {
				version += "-MariaDB"
			}
			for _, line := range lines[1:] {
				fields := strings.Split(line, "\t")
				// Each on a server of its own: what one does must not tell on the next.
				s, db := start(t, Config{Version: version, ServerID: 1})
				if s.kind.mariadb {
					// A server that never was a replica still has its unnamed connection.
					s.Change(func(st *State) { st.Channels = []*Channel{{Received: Set{}}} })
				}
				_, err := db.Exec(fields[0])
				got := "ok"
				if err != nil {
					got = strconv.Itoa(int(errno(err)))
				}
				if want := fields[1+i]; got != want {
					t.Errorf("%s: %s, want %s (%v)", fields[0], got, want, err)
				}
				s.Close()
			}
		})
	}
}

// The status has the recorded columns, in their order, under the words of the
// release.
func TestStatusColumns(t *testing.T) {
	for _, tc := range []struct {
		version, statement string
		columns            int
		has, hasNot        []string
	}{
		{"5.7.44-log", "SHOW SLAVE STATUS", 57, []string{"Slave_IO_Running", "Master_UUID", "Exec_Master_Log_Pos", "Channel_Name"}, []string{"Get_master_public_key", "Replica_IO_Running"}},
		{"8.0.21", "SHOW SLAVE STATUS", 59, []string{"Slave_IO_Running", "Master_public_key_path"}, []string{"Network_Namespace"}},
		{"8.0.36", "SHOW SLAVE STATUS", 60, []string{"Slave_IO_Running", "Network_Namespace"}, []string{"Source_Host"}},
		{"8.0.36", "SHOW REPLICA STATUS", 60, []string{"Replica_IO_Running", "Source_UUID"}, []string{"Master_Host"}},
		{"8.4.3", "SHOW REPLICA STATUS", 60, []string{"Replica_SQL_Running", "Seconds_Behind_Source"}, []string{"Slave_SQL_Running"}},
		{"10.5.23-MariaDB", "SHOW ALL SLAVES STATUS", 61, []string{"Connection_name", "Gtid_IO_Pos"}, []string{"Replicate_Rewrite_DB"}},
		{"10.11.18-MariaDB", "SHOW ALL REPLICAS STATUS", 62, []string{"Slave_IO_Running", "Gtid_Slave_Pos"}, []string{"Replica_IO_Running"}},
		{"11.8.6-MariaDB", "SHOW ALL SLAVES STATUS", 65, []string{"Master_Slave_time_diff"}, nil},
	} {
		t.Run(tc.version+" "+tc.statement, func(t *testing.T) {
			s, db := start(t, Config{Version: tc.version, ServerID: 1})
			s.Change(func(st *State) { st.Channels = []*Channel{{Name: "c"}} })
			rows, err := db.Query(tc.statement)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			names, err := rows.Columns()
			if err != nil || len(names) != tc.columns {
				t.Errorf("%d columns, want %d, %v", len(names), tc.columns, err)
			}
			all := " " + strings.Join(names, " ") + " "
			for _, name := range tc.has {
				if !strings.Contains(all, " "+name+" ") {
					t.Errorf("no column %s in%s", name, all)
				}
			}
			for _, name := range tc.hasNot {
				if strings.Contains(all, " "+name+" ") {
					t.Errorf("column %s", name)
				}
			}
			if !rows.Next() || rows.Err() != nil {
				t.Errorf("no row: %v", rows.Err())
			}
		})
	}
}

func TestAuthenticates(t *testing.T) {
	accounts := map[string]string{"u": "secret", "open": ""}
	for name, c := range map[string]Config{
		"caching_sha2_password": {Version: "8.4.3"}, "mysql_native_password": {Version: "5.7.44", Native: true},
		"MariaDB": {Version: "11.8.6-MariaDB"}, "unix socket": {Version: "8.4.3", Address: "unix:" + t.TempDir() + "/s"},
	} {
		t.Run(name, func(t *testing.T) {
			c.Accounts = accounts
			s, good := start(t, c)
			var version string
			if err := good.QueryRow("SELECT VERSION()").Scan(&version); err != nil || version != c.Version {
				t.Errorf("%q, %v", version, err)
			}
			if err := handle(t, s, "open", "").Ping(); err != nil {
				t.Errorf("no password: %v", err)
			}
			for user, password := range map[string]string{"u": "wrong", "nobody": "secret", "open": "something"} {
				if err := handle(t, s, user, password).Ping(); errno(err) != 1045 {
					t.Errorf("%s with %q: %v", user, password, err)
				}
			}
		})
	}
}

func TestPreparedStatementsAreRefused(t *testing.T) {
	_, db := start(t, Config{Version: "8.4.3"})
	if _, err := db.Exec("DO ?", 1); errno(err) != 1047 {
		t.Errorf("%v", err)
	}
}

// A hung server accepts, takes statements, answers nothing, and works them off
// when it goes on, though nobody waits any more.
func TestHangKeepsWhatWasSent(t *testing.T) {
	s, db := start(t, Config{Version: "8.4.3"})
	db.SetMaxOpenConns(1)
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	s.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, "INSERT INTO t VALUES (1)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	executed := func() (n uint64) {
		s.Read(func(st State) { n = st.Executed[s.own()] })
		return n
	}
	if executed() != 0 {
		t.Error("a hung server wrote")
	}
	s.Resume()
	eventually(t, func() bool { return executed() == 1 })
}

func eventually(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if done() {
			return
		}
	}
	t.Fatal("waited in vain")
}

func TestFaults(t *testing.T) {
	s, db := start(t, Config{Version: "8.4.3"})
	db.SetMaxOpenConns(1)
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	s.Refuse(1040, "Too many connections")
	if err := handle(t, s, "u", "secret").Ping(); errno(err) != 1040 {
		t.Errorf("full: %v", err)
	}
	if err := db.Ping(); err != nil {
		t.Errorf("a connection that was there: %v", err)
	}
	s.Refuse(0, "")
	s.Delay(50 * time.Millisecond)
	began := time.Now()
	if err := db.Ping(); err != nil || time.Since(began) < 50*time.Millisecond {
		t.Errorf("delayed: %v after %s", err, time.Since(began))
	}
	s.Delay(0)
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.Disconnect()
	if err := c.PingContext(t.Context()); err == nil {
		t.Error("the connection outlived its end")
	}
}

func TestReplicates(t *testing.T) {
	source, db := start(t, Config{Version: "8.4.3", ServerID: 1})
	replica, there := start(t, Config{Version: "8.4.3", ServerID: 2})
	for _, q := range []string{
		"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=" + strconv.Itoa(source.Port()) + ", SOURCE_AUTO_POSITION=1 FOR CHANNEL 'x'",
		"SET GLOBAL super_read_only = 1", "START REPLICA FOR CHANNEL 'x'",
	} {
		if _, err := there.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	for range 3 {
		if _, err := db.Exec("INSERT INTO t VALUES (1)"); err != nil {
			t.Fatal(err)
		}
	}
	var result, executed string
	set := source.config.UUID + ":1-3"
	if err := there.QueryRow("SELECT WAIT_FOR_EXECUTED_GTID_SET('" + set + "', 5)").Scan(&result); err != nil || result != "0" {
		t.Errorf("%q, %v", result, err)
	}
	if err := there.QueryRow("SELECT WAIT_FOR_EXECUTED_GTID_SET('" + source.config.UUID + ":1-4', 0.01)").Scan(&result); err != nil || result != "1" {
		t.Errorf("%q, %v", result, err)
	}
	if err := there.QueryRow("SELECT @@GLOBAL.gtid_executed").Scan(&executed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(set, executed); diff != "" {
		t.Error(diff)
	}
	if _, err := there.Exec("INSERT INTO t VALUES (1)"); errno(err) != 1290 {
		t.Errorf("%v", err)
	}
	if got := replica.Statements(); len(got) != 4 {
		t.Errorf("%q", got)
	}
}
