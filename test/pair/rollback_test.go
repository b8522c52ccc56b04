package pair

import (
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// A switchover is taken back at each point before the address moves: a step fails on
// the old node once its writes are closed, one fails on the new node at each place of
// its plan, or the new node does not catch up in time. Then the old node takes writes
// again, and nothing that it acknowledged is missing.

// refuser is a step that fails while its file is there.
const refuser = `#!/bin/sh
[ ! -e /run/refuse-$1 ] || { echo "the test refuses $1"; exit 1; }
`

func refuserStep(name string) string {
	return "      - exec: {command: [/usr/local/sbin/refuser, " + name + "]}\n"
}

// refusing is a configuration with a refuser wherever something can be taken back.
func refusing() string {
	config := site.ManyConfig(1, "", true)
	for _, at := range []struct{ before, name string }{
		{"      - replication: stop\n", "first"},
		{"      - writes: open\n", "stopped"},
		{"      - vip: acquire\n", "open"},
		{"      - vip: release\n", "closed"},
	} {
		config = strings.Replace(config, at.before, refuserStep(at.name)+at.before, 1)
	}
	return config
}

func TestRollBack(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{Databases: 1, Config: refusing()}, false)
	for _, n := range s.Nodes() {
		if err := n.WriteFile("/usr/local/sbin/refuser", []byte(refuser), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitSettled(within(t), s.Primary); err != nil {
		t.Fatal(err)
	}
	w := writers(t, s, s.Primary, 1)
	refuses := func(n *lab.Node, point string) func(*testing.T) func() {
		return func(t *testing.T) func() {
			file := "/run/refuse-" + point
			if err := n.WriteFile(file, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := n.Remove(file); err != nil {
					t.Error(err)
				}
			}
		}
	}
	held := func(t *testing.T) func() {
		release, err := s.HoldTable(within(t), s.Databases[0], s.Reserve)
		if err != nil {
			t.Fatal(err)
		}
		// A replica that has everything has nothing to catch up with.
		if err := w.AwaitFrom(within(t), s.ServerID(s.Primary), time.Now()); err != nil {
			release()
			t.Fatal(err)
		}
		return release
	}
	for _, tt := range []struct {
		name  string
		begin func(*testing.T) func()
		code  int
		says  string
	}{
		{"a step of the old node, after its writes are closed", refuses(s.Primary, "closed"), 4, "the test refuses closed"},
		{"the first step of the new node", refuses(s.Reserve, "first"), 4, "the test refuses first"},
		{"a step of the new node, after its threads are stopped", refuses(s.Reserve, "stopped"), 4, "the test refuses stopped"},
		{"a step of the new node, after its writes are open", refuses(s.Reserve, "open"), 4, "the test refuses open"},
		{"the new node does not catch up in time", held, 5, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			end := tt.begin(t)
			begun := time.Now()
			r, err := s.Tanist(within(t), s.Primary, "switchover", "--timeout", "3s")
			if err != nil {
				t.Fatal(err)
			}
			if r.Code != tt.code && !(tt.code == 5 && r.Code == 3) || !strings.Contains(r.Stdout+r.Stderr, tt.says) {
				t.Errorf("exit status %d, want %d:\n%s%s", r.Code, tt.code, r.Stdout, r.Stderr)
			}
			end()
			if err := w.AwaitFrom(within(t), s.ServerID(s.Primary), time.Now()); err != nil {
				t.Fatal(err)
			}
			if err := s.AwaitSettled(within(t), s.Primary); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s; the longest time without a row: %s", strings.TrimSpace(r.Stderr), pause(w, s.Databases[0], begun).Round(time.Millisecond))
		})
	}
	w.Stop()
	if err := s.AwaitEqual(within(t), s.Primary); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Nodes() {
		rows, err := s.Rows(within(t), w, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if len(r.Missing) > 0 || len(r.Duplicated) > 0 || r.Found == 0 {
				t.Errorf("%s of %s: %d rows there, %d missing, %d twice", r.Database.Name(), n.Hostname, r.Found, len(r.Missing), len(r.Duplicated))
			}
		}
	}
}

// pause is the longest time between two acknowledged rows since an instant.
func pause(w *site.Writers, d site.Database, since time.Time) time.Duration {
	acks := w.Acks(d)
	var most time.Duration
	for i := 1; i < len(acks); i++ {
		if acks[i].At.After(since) {
			most = max(most, acks[i].At.Sub(acks[i-1].At))
		}
	}
	return most
}
