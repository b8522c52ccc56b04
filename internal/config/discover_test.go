package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/replication/discover"
)

// Every way to name a database that is not plainly where it is.
func TestDiscover(t *testing.T) {
	text := func(s string) discover.Text {
		t.Helper()
		got, err := discover.ParseText(s)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	const engine, other = "/run/docker.sock", "/run/user/1000/docker.sock"
	want := minimal()
	want.Engine = engine
	in := &want.Instances[0]
	in.Databases = []Database{
		{Name: "pivot", User: "tanist", Address: Address{Kind: Container, Container: "compass-{{.Node}}_mysql", Engine: engine}},
		{Name: "search", User: "tanist", Address: Address{Kind: Container, Container: "box", Path: "/tmp/my.sock", Engine: other}},
		{
			Name: "far", User: "tanist", Address: Address{Kind: TCP, Host: "db.example.net", Port: 3306},
			TLS: &TLS{CA: "/etc/ca.pem", Cert: "/etc/cert.pem", Key: "/etc/key.pem", Verify: VerifyCA},
		},
	}
	in.Discover = []Discovery{
		{
			Rule: discover.Rule{
				Files: "/srv/compass/d1/*_company.json", Name: text("team-{{.Match}}"), Port: text(".mysql.port"),
				Container: text("compass-{{.Node}}-mysql-{{.mysql.port}}"),
				Where:     &discover.Condition{Field: discover.Path{"status"}, In: []string{"1", "2"}},
			},
			Engine: engine, User: "root", PasswordFile: "/etc/tanist/team.password",
			ReplicateFrom: &ReplicateFrom{User: "repl", PasswordFile: "/etc/tanist/repl.password"},
		},
		{
			Rule:   discover.Rule{Files: "/srv/*/db.conf", Format: discover.YAML, Name: text(".name"), Socket: text("/run/{{.name}}.sock"), Container: text(".box")},
			Engine: other, User: "tanist",
		},
		{
			Rule: discover.Rule{Files: "/srv/only-*.yml", Host: text("127.0.0.1"), Port: text("3307"), Unit: text("mariadb@{{.Match}}.service")},
			User: "tanist", TLS: &TLS{CA: "/etc/ca.pem"}, ReplicateFrom: &ReplicateFrom{User: "repl", Port: 3308},
			HeartbeatTable: Table{"tanist", "heartbeat"},
		},
	}
	if diff := same(want, mustParse(t, "discover.yaml")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	at, err := in.Databases[0].Address.For(discover.Vars{Node: "reserve", Peer: "primary", Instance: "compass"})
	if err != nil || at.String() != "container:compass-reserve_mysql" {
		t.Errorf("on the reserve: %s, %v", at, err)
	}
}

// A database that a rule found has what the rule says, and the file's port where it
// says none.
func TestDiscovered(t *testing.T) {
	f := mustParse(t, "discover.yaml")
	rules := f.Instances[0].Discover
	for _, tt := range []struct {
		rule  int
		found discover.Found
		want  Database
	}{
		{
			0,
			discover.Found{Name: "team-7", Address: discover.Address{Container: "box"}, Port: 33157},
			Database{
				Name: "team-7", Address: Address{Kind: Container, Container: "box", Engine: "/run/docker.sock"},
				User: "root", PasswordFile: "/etc/tanist/team.password",
				ReplicateFrom: &ReplicateFrom{User: "repl", PasswordFile: "/etc/tanist/repl.password", Port: 33157},
			},
		},
		{
			1,
			discover.Found{Name: "a", Address: discover.Address{Container: "box", Socket: "/run/a.sock"}},
			Database{Name: "a", Address: Address{Kind: Container, Container: "box", Path: "/run/a.sock", Engine: "/run/user/1000/docker.sock"}, User: "tanist"},
		},
		{
			2,
			discover.Found{Name: "b", Address: discover.Address{Host: "127.0.0.1", Port: 3307}, Port: 3307, Unit: "mariadb@b.service"},
			Database{
				Name: "b", Address: Address{Kind: TCP, Host: "127.0.0.1", Port: 3307}, User: "tanist", TLS: &TLS{CA: "/etc/ca.pem"},
				Unit: "mariadb@b.service", HeartbeatTable: Table{"tanist", "heartbeat"}, ReplicateFrom: &ReplicateFrom{User: "repl", Port: 3308},
			},
		},
	} {
		got := rules[tt.rule].Database(tt.found)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.found.Name, diff)
		}
		back := got.Found()
		if back.Name != tt.found.Name || back.Address != tt.found.Address || back.Rule != -1 {
			t.Errorf("%s came back as %+v", tt.found.Name, back)
		}
	}
	// The rules are one's own, whatever a database found by them is changed to.
	if rules[0].ReplicateFrom.Port != 0 {
		t.Errorf("the rule has the port %d now", rules[0].ReplicateFrom.Port)
	}
}
