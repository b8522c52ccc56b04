package mysql

// Following on MySQL, release by release, with servers made for it.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/test/fakemysql"
)

// source is a fake as others follow it.
func (f *fake) source() Source {
	return Source{Host: "127.0.0.1", Port: uint16(f.Port()), User: "tanist", Password: func() (string, error) { return secret, nil }}
}

// startFakePair makes a source that is open and a database that is closed and
// follows nobody.
func startFakePair(t *testing.T, version string) (source, replica *fake) {
	t.Helper()
	source, replica = startFake(t, version, 1), startFake(t, version, 2)
	for _, f := range []*fake{source, replica} {
		f.Change(func(st *fakemysql.State) { st.Grants = []string{"GRANT ALL PRIVILEGES ON *.* TO `tanist`@`localhost`"} })
	}
	source.insert(t, 3)
	replica.Change(func(st *fakemysql.State) { st.Close() })
	return source, replica
}

func changes(f *fake) []string {
	return slices.DeleteFunc(f.Statements(), func(s string) bool { return !strings.HasPrefix(s, "CHANGE") })
}

func TestFollowOnMySQL(t *testing.T) {
	const (
		ends    = ", %[1]s_CONNECT_RETRY=1, %[1]s_HEARTBEAT_PERIOD=1, %[1]s_SSL=0, %[1]s_SSL_VERIFY_SERVER_CERT=0, %[1]s_SSL_CA='', %[1]s_SSL_CERT='', %[1]s_SSL_KEY='', %[1]s_AUTO_POSITION=1, %[1]s_RETRY_COUNT=86400, %[1]s_PASSWORD='" + secret + "'"
		old     = "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%[2]d, MASTER_USER='tanist'" + ends
		renamed = "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=%[2]d, SOURCE_USER='tanist'" + ends
	)
	for _, tc := range []struct{ version, word, want string }{
		{"5.7.44", "MASTER", old + " FOR CHANNEL ''"},
		{"8.0.21", "MASTER", old + ", GET_MASTER_PUBLIC_KEY=1 FOR CHANNEL ''"},
		{"8.0.22", "MASTER", old + ", GET_MASTER_PUBLIC_KEY=1 FOR CHANNEL ''"},
		{"8.0.23", "SOURCE", renamed + ", GET_SOURCE_PUBLIC_KEY=1 FOR CHANNEL ''"},
		{"8.0.36", "SOURCE", renamed + ", GET_SOURCE_PUBLIC_KEY=1 FOR CHANNEL ''"},
		{"9.7.4", "SOURCE", renamed + ", GET_SOURCE_PUBLIC_KEY=1 FOR CHANNEL ''"},
	} {
		t.Run(tc.version, func(t *testing.T) {
			t.Parallel()
			source, replica := startFakePair(t, tc.version)
			d := replica.database(t, patient)
			if err := d.CheckRejoin(timeout(t, patience), source.source()); err != nil {
				t.Fatal(err)
			}
			if err := d.Follow(timeout(t, patience), source.source()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{fmt.Sprintf(tc.want, tc.word, source.Port())}, changes(replica)); diff != "" {
				t.Error(diff)
			}
			if _, err := d.CatchUp(timeout(t, patience), source.position(t)); err != nil {
				t.Error(err)
			}
			// A second time nothing is changed.
			if following, err := d.Following(timeout(t, patience), source.source()); !following || err != nil {
				t.Errorf("following %v, %v", following, err)
			}
			if err := d.Follow(timeout(t, patience), source.source()); err != nil || len(changes(replica)) != 0 {
				t.Errorf("changed again: %v", err)
			}
			settings, err := d.ResetReplication(timeout(t, patience))
			want := fmt.Sprintf(`host=127.0.0.1 port=%d user="tanist" gtid=yes tls=no`, source.Port())
			if err != nil || settings != want {
				t.Errorf("%q, want %q: %v", settings, want, err)
			}
			if has, err := d.HasChannels(timeout(t, patience)); err != nil || has {
				t.Errorf("has channels %v, %v", has, err)
			}
		})
	}
}

// With TLS the source's key is not asked for, and what was asked for is seen to be so.
func TestFollowWithTLSOnMySQL(t *testing.T) {
	s := Source{Host: "b", Port: 3306, User: "r", TLS: &SourceTLS{CA: "/ca", Cert: "/c", Key: "/k"}}
	statement, parameters := followSource("c'd", s, `p'\`)
	for _, want := range []string{"SOURCE_SSL=1", "SOURCE_SSL_VERIFY_SERVER_CERT=1", "SOURCE_SSL_CA='/ca'", "GET_SOURCE_PUBLIC_KEY=0", `SOURCE_PASSWORD='p''\\'`, "FOR CHANNEL 'c''d'"} {
		if !strings.Contains(statement, want) {
			t.Errorf("no %s in %s", want, statement)
		}
	}
	if len(parameters) != 0 {
		t.Error("MySQL takes no parameters there")
	}
}

// Each refusal comes before anything is changed.
func TestFollowRefusesOnMySQL(t *testing.T) {
	const other = "acdeba71-e54d-11f1-aed2-02fc00000001"
	for _, tc := range []struct {
		name   string
		change func(source, replica *fake)
		good   func(error) bool
	}{
		{"errant", func(_, r *fake) { r.insert(t, 2) }, func(err error) bool {
			e, ok := errors.AsType[*ErrantError](err)
			return ok && e.Count == 2 && slices.Equal(e.Errant, []string{"00000002-0000-0000-0000-000000000002:1-2"})
		}},
		{"purged", func(s, _ *fake) {
			s.Change(func(st *fakemysql.State) { st.Variables["gtid_purged"], st.Executed[other] = other+":1-7", 7 })
		}, func(err error) bool {
			e, ok := errors.AsType[*RejoinError](err)
			return ok && len(e.Reasons) == 1 && e.Reasons[0].Code == replication.RejoinPurged && strings.Contains(err.Error(), other+":1-7")
		}},
		{"no GTIDs", func(s, _ *fake) {
			s.Change(func(st *fakemysql.State) { st.Variables["gtid_mode"] = "OFF_PERMISSIVE" })
		}, func(err error) bool {
			e, ok := errors.AsType[*RejoinError](err)
			return ok && e.Reasons[0].Code == replication.RejoinGTIDOff
		}},
		{"a copy with its UUID", func(_, r *fake) {
			r.Change(func(st *fakemysql.State) { st.Variables["server_uuid"] = "00000001-0000-0000-0000-000000000001" })
		}, func(err error) bool {
			e, ok := errors.AsType[*SelfError](err)
			return ok && e.UUID != "" && !e.Same
		}},
		{"open", func(_, r *fake) {
			r.Change(func(st *fakemysql.State) { st.ReadOnly, st.SuperReadOnly = false, false })
		}, func(err error) bool { return errors.Is(err, ErrWritesOpen) }},
		{"source closed", func(s, _ *fake) { s.Change((*fakemysql.State).Close) }, func(err error) bool {
			_, ok := errors.AsType[*SourceError](err)
			return ok
		}},
		{"source without the privilege", func(s, _ *fake) { s.Change(func(st *fakemysql.State) { st.Grants = nil }) }, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "REPLICATION SLAVE")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			source, replica := startFakePair(t, "8.4.3")
			tc.change(source, replica)
			err := replica.database(t, patient).Follow(timeout(t, patience), source.source())
			if !tc.good(err) {
				t.Errorf("%T: %v", err, err)
			}
			if sent := changes(replica); len(sent) != 0 {
				t.Errorf("sent %q", sent)
			}
		})
	}
}

// The event scheduler goes with the role on each family, and the mark of who
// stopped it outlives the daemon where the server keeps one.
func TestEventsOnFakes(t *testing.T) {
	for version, remembers := range map[string]bool{"5.7.44": false, "8.0.21": true, "9.7.4": true, "10.11.18-MariaDB": true} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, version, 1)
			state := func() (s string) { f.Read(func(st fakemysql.State) { s = st.Events }); return s }
			f.Change(func(st *fakemysql.State) { st.Events = "ON" })
			closed := func(d *Database) {
				t.Helper()
				if _, err := d.CloseWrites(timeout(t, patience), 0); err != nil || state() != "OFF" {
					t.Fatalf("closed, events %s: %v", state(), err)
				}
			}
			opens := func(d *Database, want string) {
				t.Helper()
				if err := d.OpenWrites(timeout(t, patience), time.Now().Add(patience)); err != nil || state() != want {
					t.Errorf("opened, events %s, want %s: %v", state(), want, err)
				}
			}
			d := f.database(t, patient)
			closed(d)
			opens(d, "ON")
			closed(d)
			// As another daemon finds it.
			want := "OFF"
			if remembers {
				want = "ON"
			}
			opens(f.database(t, patient), want)
			list, err := d.Advise(timeout(t, patience))
			told := slices.ContainsFunc(list, func(a Advice) bool { return strings.Contains(a.What, "event scheduler") })
			if !strings.Contains(version, "MariaDB") && (err != nil || told == remembers) {
				t.Errorf("%v, %v", list, err)
			}
			f.Change((*fakemysql.State).Close)
			list, err = f.database(t, patient).Advise(timeout(t, patience))
			if slices.ContainsFunc(list, func(a Advice) bool { return strings.Contains(a.What, "comes up writable") }) {
				t.Errorf("%v, %v", list, err)
			}
			// Off by its configuration, it stays off.
			f.Change(func(st *fakemysql.State) { st.Events, st.EventsSet = "OFF", false })
			d = f.database(t, patient)
			closed(d)
			opens(d, "OFF")
		})
	}
}
