package mysql

// What only a server made for it can be brought to do.

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/test/fakemysql"
)

func text(s string) *string { return &s }

// A row of each dialect, with what servers were seen to put into it.
func TestChannelFromRow(t *testing.T) {
	const (
		one   = "acdeba71-e54d-11f1-aed2-02fc00000001"
		two   = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
		multi = one + ":1-5:11-18,\n" + two + ":1-3,\n" + "ffffffff-71ca-11e1-9e33-c80aa9429562:1-5:report:1-2"
	)
	const mysql57, mysql8022, mysql97, mariadb = "5.7.44-log", "8.0.25", "9.7.4", "10.11.18-MariaDB"
	for _, tc := range []struct {
		name, version string
		row           map[string]*string
		check         func(t *testing.T, c replication.Channel)
	}{
		{"seconds behind NULL", mysql57, map[string]*string{"Seconds_Behind_Master": nil}, secondsNull},
		{"seconds behind NULL", mysql97, map[string]*string{"Seconds_Behind_Source": nil}, secondsNull},
		{"seconds behind NULL", mariadb, map[string]*string{"Seconds_Behind_Master": nil}, secondsNull},
		{"nothing received", mysql57, map[string]*string{"Retrieved_Gtid_Set": text("")}, received("")},
		{"nothing received", mariadb, map[string]*string{"Gtid_IO_Pos": text("")}, received("")},
		{"many lines and UUIDs", mysql57, map[string]*string{"Retrieved_Gtid_Set": text(one + ":1-5:11-18,\n" + two + ":1-3")}, received(one + ":1-5:11-18," + two + ":1-3")},
		{"many lines, UUIDs and tags", mysql97, map[string]*string{"Retrieved_Gtid_Set": text(multi)}, received(multi)},
		{"many domains", mariadb, map[string]*string{"Gtid_IO_Pos": text("0-1-5,7-2-9")}, received("0-1-5,7-2-9")},
		{"received NULL", mysql8022, map[string]*string{"Retrieved_Gtid_Set": nil}, func(t *testing.T, c replication.Channel) {
			t.Helper()
			if !c.Received.IsNull() {
				t.Errorf("received %s", c.Received)
			}
		}},
		{"received makes no sense", mysql97, map[string]*string{"Retrieved_Gtid_Set": text("0-1-5:")}, func(t *testing.T, c replication.Channel) {
			t.Helper()
			if c.Received.IsKnown() || c.Received.IsNull() {
				t.Errorf("received %s", c.Received)
			}
		}},
		{"IO thread connecting with an error", mysql97, map[string]*string{
			"Replica_IO_Running": text("Connecting"), "Last_IO_Errno": text("2003"), "Last_IO_Error": text("error connecting to source\n'repl@b:3306'"),
		}, func(t *testing.T, c replication.Channel) {
			t.Helper()
			want := replication.Known(replication.ServerError{Number: 2003, Text: "error connecting to source 'repl@b:3306'"})
			if c.IO != replication.ThreadConnecting || !c.LastIOError.Equal(want) {
				t.Errorf("IO %s, %s", c.IO, c.LastIOError)
			}
		}},
		{"IO thread preparing", mariadb, map[string]*string{"Slave_IO_Running": text("Preparing")}, func(t *testing.T, c replication.Channel) {
			t.Helper()
			if c.IO != replication.ThreadConnecting {
				t.Errorf("IO %s", c.IO)
			}
		}},
		{"a word nobody knows", mysql97, map[string]*string{"Replica_SQL_Running": text("Perhaps")}, func(t *testing.T, c replication.Channel) {
			t.Helper()
			if c.SQL != replication.ThreadUnknown {
				t.Errorf("SQL %s", c.SQL)
			}
		}},
		{"SQL thread stopped with an error", mysql57, map[string]*string{
			"Slave_SQL_Running": text("No"), "Last_SQL_Errno": text("1062"), "Last_SQL_Error": text("Duplicate entry"),
		}, func(t *testing.T, c replication.Channel) {
			t.Helper()
			if last, _ := c.LastSQLError.Get(); c.SQL != replication.ThreadStopped || last.Number != 1062 {
				t.Errorf("SQL %s, %s", c.SQL, c.LastSQLError)
			}
		}},
		{"delayed and filtered", mysql8022, map[string]*string{
			"SQL_Delay": text("3600"), "Replicate_Do_DB": text("a,b"), "Replicate_Rewrite_DB": text("(x,y)"),
		}, func(t *testing.T, c replication.Channel) {
			t.Helper()
			if !c.SQLDelay.Equal(replication.Known(time.Hour)) || !c.Filtered.Equal(replication.Known(true)) ||
				c.Filters != "Replicate_Do_DB=a,b; Replicate_Rewrite_DB=(x,y)" {
				t.Errorf("delay %s, filtered %s: %s", c.SQLDelay, c.Filtered, c.Filters)
			}
		}},
		{"by file and position", mysql57, map[string]*string{"Auto_Position": text("0")}, usingGTID(false)},
		{"by file and position", mariadb, map[string]*string{"Using_Gtid": text("No")}, usingGTID(false)},
		{"by current_pos", mariadb, map[string]*string{"Using_Gtid": text("Current_Pos")}, usingGTID(true)},
	} {
		t.Run(tc.version+" "+tc.name, func(t *testing.T) {
			f := startFake(t, tc.version, 2)
			f.Change(func(s *fakemysql.State) {
				s.Channels = []*fakemysql.Channel{{Name: "c", Host: "127.0.0.1", IO: true, SQL: true, AutoPosition: true, Row: tc.row}}
			})
			facts := f.database(t, patient).Measure(t.Context())
			c := onlyChannel(t, facts)
			if c.Name != "c" {
				t.Errorf("name %q", c.Name)
			}
			tc.check(t, c)
		})
	}
}

func secondsNull(t *testing.T, c replication.Channel) {
	t.Helper()
	if !c.SecondsBehind.IsNull() {
		t.Errorf("seconds behind %s", c.SecondsBehind)
	}
}

func received(want string) func(*testing.T, replication.Channel) {
	return func(t *testing.T, c replication.Channel) {
		t.Helper()
		if p := mustPosition(t, want); !c.Received.Equal(replication.Known(p)) {
			t.Errorf("received %s, want %s", c.Received, p)
		}
	}
}

func usingGTID(want bool) func(*testing.T, replication.Channel) {
	return func(t *testing.T, c replication.Channel) {
		t.Helper()
		if !c.UsingGTID.Equal(replication.Known(want)) {
			t.Errorf("using GTID %s, want %v", c.UsingGTID, want)
		}
	}
}

// What the variables say, in each word for it.
func TestVariables(t *testing.T) {
	for _, tc := range []struct {
		name, version string
		variables     map[string]string
		good          func(f replication.Facts) bool
	}{
		{"gtid_mode permissive", "8.4.3", map[string]string{"gtid_mode": "ON_PERMISSIVE"}, func(f replication.Facts) bool { return f.GTIDMode.Equal(replication.Known(false)) }},
		{"gtid_mode ON", "5.7.44", map[string]string{"gtid_mode": "ON"}, func(f replication.Facts) bool { return f.GTIDMode.Equal(replication.Known(true)) }},
		{"gtid_mode unheard of", "5.7.44", map[string]string{"gtid_mode": "MAYBE"}, func(f replication.Facts) bool { return !f.GTIDMode.IsKnown() }},
		{"events disabled", "8.0.21", map[string]string{"event_scheduler": "DISABLED"}, func(f replication.Facts) bool { return f.EventScheduler.Equal(replication.Known(false)) }},
		{"events on", "10.11.18-MariaDB", map[string]string{"event_scheduler": "ON"}, func(f replication.Facts) bool { return f.EventScheduler.Equal(replication.Known(true)) }},
		{"purged in lines", "9.7.4", map[string]string{"gtid_purged": "acdeba71-e54d-11f1-aed2-02fc00000001:1-5,\n3e11fa47-71ca-11e1-9e33-c80aa9429562:1"}, func(f replication.Facts) bool {
			p, _ := f.Purged.Get()
			set, ok := p.GTIDSet()
			return ok && set.Count() == 6
		}},
		{"read_only NO_LOCK", "12.1.2-MariaDB", map[string]string{"read_only": "NO_LOCK"}, func(f replication.Facts) bool { return f.ReadOnly.Equal(replication.Known(true)) }},
		{"read_only NO_LOCK_NO_ADMIN", "12.1.2-MariaDB", map[string]string{"read_only": "NO_LOCK_NO_ADMIN"}, func(f replication.Facts) bool { return f.ReadOnly.Equal(replication.Known(true)) }},
		{"read_only OFF", "12.1.2-MariaDB", map[string]string{"read_only": "OFF"}, func(f replication.Facts) bool { return f.ReadOnly.Equal(replication.Known(false)) }},
		{"read_only unheard of", "12.1.2-MariaDB", map[string]string{"read_only": "SOMETIMES"}, func(f replication.Facts) bool { return !f.ReadOnly.IsKnown() }},
		{"skip_replica_start", "8.4.3", map[string]string{"skip_replica_start": "1"}, func(f replication.Facts) bool { return f.SkipReplicaStart.Equal(replication.Known(true)) }},
		{"skip_replica_start is no variable", "8.0.21", nil, func(f replication.Facts) bool { return !f.SkipReplicaStart.IsKnown() }},
	} {
		t.Run(tc.version+" "+tc.name, func(t *testing.T) {
			s := startFake(t, tc.version, 1)
			s.Change(func(st *fakemysql.State) { st.Variables = tc.variables })
			f := s.database(t, patient).Measure(t.Context())
			wantReach(t, f, replication.Reachable)
			if !tc.good(f) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// Semi-sync by the name of the plugin that is loaded, and by none.
func TestSemiSync(t *testing.T) {
	known := replication.SemiSync{
		SourceStatus: replication.Known(true), NoTx: replication.Known(uint64(3)), Clients: replication.Known(uint64(1)),
		Waiting: replication.Known(uint64(2)), Patience: replication.Known(2500 * time.Millisecond),
	}
	both := known
	both.ReplicaEnabled = replication.Known(true)
	alone := known
	alone.Patience = replication.Known(time.Duration(0))
	for _, tc := range []struct {
		name, source, replica, waits string
		want                         replication.SemiSync
	}{
		{"source", "source", "replica", "ON", known},
		{"master", "master", "slave", "1", known},
		{"waits for nobody", "source", "replica", "OFF", alone},
		{"both sides", "source", "replica", "ON", both},
		{"replica only", "", "", "", replication.SemiSync{ReplicaEnabled: replication.Known(true)}},
		{"no plugin", "", "", "", replication.SemiSync{}},
		{"plugin goes", "source", "", "", replication.SemiSync{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := startFake(t, "8.4.3", 1)
			s.Change(func(st *fakemysql.State) {
				if tc.source != "" {
					prefix := "Rpl_semi_sync_" + tc.source
					st.Status = [][2]string{{prefix + "_status", "ON"}, {prefix + "_no_tx", "3"}, {prefix + "_clients", "1"}, {prefix + "_wait_sessions", "2"}}
				}
				if tc.name == "both sides" || tc.name == "replica only" {
					st.Status = append(st.Status, [2]string{"Rpl_semi_sync_replica_status", "OFF"})
					st.Variables["rpl_semi_sync_replica_enabled"] = "ON"
				}
				if tc.replica != "" {
					st.Variables["rpl_semi_sync_"+tc.source+"_timeout"] = "2500"
					st.Variables["rpl_semi_sync_"+tc.source+"_wait_no_"+tc.replica] = tc.waits
				}
			})
			f := s.database(t, patient).Measure(t.Context())
			wantReach(t, f, replication.Reachable)
			if diff := cmp.Diff(tc.want, f.SemiSync); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Every error that a server sends instead of a greeting.
func TestReachOfAnError(t *testing.T) {
	for number, want := range map[uint16]replication.Reach{
		1040: replication.ReachTooManyConnections, 1203: replication.ReachTooManyConnections,
		1044: replication.ReachAccessDenied, 1045: replication.ReachAccessDenied, 1698: replication.ReachAccessDenied,
		1820: replication.ReachAccessDenied, 1862: replication.ReachAccessDenied, 4151: replication.ReachAccessDenied,
		1129: replication.ReachHostBlocked, 1130: replication.ReachHostBlocked,
		1053: replication.ReachShuttingDown, 1105: replication.ReachFailed,
	} {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			s := startFake(t, "8.4.3", 1)
			s.Refuse(number, "no")
			d := s.database(t, patient)
			wantReach(t, d.Measure(t.Context()), want)
			s.Refuse(0, "")
			wantReach(t, d.Measure(t.Context()), replication.Reachable)
		})
	}
	t.Run("a server nobody speaks", func(t *testing.T) {
		wantReach(t, startFake(t, "5.6.51-log", 1).database(t, patient).Measure(t.Context()), replication.ReachUnsupported)
	})
	t.Run("cut connection", func(t *testing.T) {
		s := startFake(t, "8.4.3", 1)
		d := s.database(t, patient)
		for range 3 {
			wantReach(t, d.Measure(t.Context()), replication.Reachable)
			s.Disconnect()
		}
	})
	t.Run("late answers", func(t *testing.T) {
		s := startFake(t, "8.4.3", 1)
		s.Delay(200 * time.Millisecond)
		d := s.database(t, func(c *Config) { c.MeasureTimeout = 300 * time.Millisecond })
		wantReach(t, d.Measure(t.Context()), replication.ReachTimedOut)
	})
}

// A full queue of a TCP listener: the kernel takes no connection, and says nothing.
func TestFullAcceptQueue(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("tcp:127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	for range 4 {
		d, err := Open(Config{
			Name: "d", Address: address, User: "u", Password: func() (string, error) { return secret, nil },
			MeasureTimeout: 100 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		wantReach(t, d.Measure(t.Context()), replication.ReachTimedOut)
	}
}

func TestWithoutPrivileges(t *testing.T) {
	s := startFake(t, "8.4.3", 1)
	s.Change(func(st *fakemysql.State) {
		st.Denied["REPLICATION CLIENT"], st.Denied["PROCESS"] = true, true
		st.Grants = []string{"GRANT USAGE ON *.* TO `tanist`@`localhost`", "GRANT CONNECTION_ADMIN,SYSTEM_VARIABLES_ADMIN ON *.* TO `tanist`@`localhost`"}
	})
	d := s.database(t, patient)
	f := d.Measure(t.Context())
	// Replicas whose sessions are not shown are not no replicas.
	if f.Reach != replication.Reachable || f.Channels.IsKnown() || f.ReplicasConnected.IsKnown() || !f.Executed.IsKnown() {
		t.Errorf("%+v", f)
	}
	missing, err := d.Grants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Missing{
		{"REPLICATION CLIENT", "GRANT REPLICATION CLIENT ON *.* TO `tanist`@`localhost`"},
		{"REPLICATION_SLAVE_ADMIN", "GRANT REPLICATION_SLAVE_ADMIN ON *.* TO `tanist`@`localhost`"},
		{"PROCESS", "GRANT PROCESS ON *.* TO `tanist`@`localhost`"},
	}
	if diff := cmp.Diff(want, missing); diff != "" {
		t.Error(diff)
	}
	for version, grants := range map[string]string{"8.0.21": "GRANT SUPER, PROCESS ON *.* TO `tanist`@`localhost`", "5.7.44": "GRANT ALL PRIVILEGES ON *.* TO 'tanist'@'localhost'"} {
		s := startFake(t, version, 1)
		s.Change(func(st *fakemysql.State) { st.Grants = []string{grants} })
		if missing, err := s.database(t, patient).Grants(t.Context()); err != nil || len(missing) != 0 {
			t.Errorf("%s with %s: %v, %v", version, grants, missing, err)
		}
	}
}

// A session that may not be killed stays, because super_read_only binds it too.
func TestCloseWithASessionOfTheSystem(t *testing.T) {
	s := startFake(t, "8.4.3", 1)
	s.Change(func(st *fakemysql.State) {
		st.ReadOnly = true // and not super_read_only: not closed to all
		st.Sessions = []fakemysql.Session{
			{ID: clientID, User: "root", Command: "Sleep", System: true},
			{ID: clientID + 1, User: "app", Command: "Query"},
			{ID: clientID + 2, User: "system user", Command: "Connect"},
			{ID: clientID + 3, User: "repl", Command: "Binlog Dump GTID"},
			{ID: clientID + 4, User: "event_scheduler", Command: "Daemon"},
		}
	})
	if _, err := s.database(t, patient).CloseWrites(timeout(t, patience), 0); err != nil {
		t.Fatal(err)
	}
	var left []uint64
	s.Read(func(st fakemysql.State) {
		if !st.SuperReadOnly {
			t.Error("super_read_only is off")
		}
		for _, session := range st.Sessions {
			left = append(left, session.ID)
		}
	})
	if diff := cmp.Diff([]uint64{clientID, clientID + 2, clientID + 3, clientID + 4}, left); diff != "" {
		t.Error(diff)
	}
}

// MySQL's STOP waits for an applier behind a client's lock, without end as it is
// configured. It is bounded for the time of stopping, and what the server could
// not wait for is waited for here.
func TestStopBehindALock(t *testing.T) {
	for _, version := range []string{"5.7.44", "8.0.25", "8.4.3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			source, replica := startFake(t, version, 1), startFake(t, version, 2)
			replica.replicate(t, source)
			source.insert(t, 1)
			d := replica.database(t, patient)
			if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
				t.Fatal(err)
			}
			replica.Change(func(st *fakemysql.State) { st.ApplierBlocked = true })
			replica.Statements()
			// It ends well only because the lock goes while it waits.
			go func() {
				var sent []string
				for len(sent) == 0 || !strings.HasPrefix(sent[len(sent)-1], "STOP") || strings.Contains(sent[len(sent)-1], "IO_THREAD") {
					sent = append(sent, replica.Statements()...)
					if pause(t.Context(), 5*time.Millisecond) != nil {
						return
					}
				}
				if pause(t.Context(), (stopSeconds+1)*time.Second) == nil {
					replica.Change(func(st *fakemysql.State) { st.ApplierBlocked = false })
				}
			}()
			if err := d.StopReplication(timeout(t, patience)); err != nil {
				t.Error(err)
			}
			replica.Read(func(st fakemysql.State) {
				if st.StopTimeout != 31536000 || st.Channels[0].SQL {
					t.Errorf("timeout is left at %d, SQL thread runs %v", st.StopTimeout, st.Channels[0].SQL)
				}
			})
		})
	}
}

// The order in which threads are touched, on each family: SQL started before IO
// is stopped.
func TestOrderOfStopping(t *testing.T) {
	for version, want := range map[string][]string{
		"5.7.44":           {"SET GLOBAL rpl_stop_slave_timeout = 5", "START SLAVE SQL_THREAD FOR CHANNEL 'c'", "STOP SLAVE IO_THREAD FOR CHANNEL 'c'", "STOP SLAVE", "SET GLOBAL rpl_stop_slave_timeout = 31536000"},
		"8.0.25":           {"SET GLOBAL rpl_stop_slave_timeout = 5", "START REPLICA SQL_THREAD FOR CHANNEL 'c'", "STOP REPLICA IO_THREAD FOR CHANNEL 'c'", "STOP REPLICA", "SET GLOBAL rpl_stop_slave_timeout = 31536000"},
		"9.7.4":            {"SET GLOBAL rpl_stop_replica_timeout = 5", "START REPLICA SQL_THREAD FOR CHANNEL 'c'", "STOP REPLICA IO_THREAD FOR CHANNEL 'c'", "STOP REPLICA", "SET GLOBAL rpl_stop_replica_timeout = 31536000"},
		"10.11.18-MariaDB": {"START SLAVE 'c' SQL_THREAD", "STOP SLAVE 'c' IO_THREAD", "STOP ALL SLAVES"},
	} {
		t.Run(version, func(t *testing.T) {
			source, replica := startFake(t, version, 1), startFake(t, version, 2)
			source.insert(t, 5)
			replica.Change(func(st *fakemysql.State) {
				st.Channels = []*fakemysql.Channel{{Name: "c", Host: "127.0.0.1", Port: source.Port(), IO: true, AutoPosition: true}}
			})
			d := replica.database(t, patient)
			if err := d.StopReplication(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(replica.Statements(), func(s string) bool { return strings.Contains(s, "sql_mode") })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if !replica.position(t).Equal(source.position(t)) {
				t.Error("not all was applied")
			}
		})
	}
}
