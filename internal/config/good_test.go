package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
	"github.com/tanist-ha/tanist/replication/discover"
)

// same compares what the file says, not where it says it.
func same(a, b *File) string {
	return cmp.Diff(a, b,
		cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "src" || p.String() == "positions" || p.String() == "Name" }, cmp.Ignore()),
		cmp.AllowUnexported(File{}),
		cmp.Comparer(func(a, b discover.Text) bool { return a.String() == b.String() }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }))
}

func mustParse(t *testing.T, file string) *File {
	t.Helper()
	f, err := parseFile(t, filepath.Join("testdata", "good", file))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// minimal is testdata/good/minimal.yaml: every default of the contract.
func minimal() *File {
	return &File{
		Nodes:    [2]Node{{Label: "primary", Addresses: addrs("10.77.0.11")}, {Label: "reserve", Addresses: addrs("10.77.0.12")}},
		KeyFile:  "/etc/tanist/cluster.key",
		PeerPort: 7511,
		Log:      Log{Level: LevelInfo, Format: FormatAuto},
		Engine:   "/var/run/docker.sock",
		Instances: []Instance{{
			Name: "compass", Interface: "eth0", VRID: 51,
			VIPs:     []netip.Prefix{netip.MustParsePrefix("10.77.0.100/24")},
			Priority: [2]uint8{254, 253},
			Lease:    2 * time.Second,
			Heartbeat: Heartbeat{
				Version: 3, Mode: Unicast, AdvertInterval: 250 * time.Millisecond, Auth: AuthNone, Checksum: ChecksumAuto,
			},
			GARP: GARP{Repeat: 5, Interval: 0, Delay: 5 * time.Second, Refresh: 30 * time.Second},
			Gate: Gate{MaxLag: 5 * time.Second, MaxMissing: 0, DrainTimeout: 60 * time.Second, AfterLoss: replication.Exact},
			Promote: hooks.Plan{
				{Name: "replication stop", Timeout: 30 * time.Second, Action: hooks.Replication{Verb: hooks.StopReplication}},
				{Name: "writes open", Timeout: 30 * time.Second, Action: hooks.Writes{Open: true}},
				{Name: "vip acquire", Timeout: 30 * time.Second, Action: hooks.VIP{Acquire: true}},
			},
			Demote: hooks.Plan{
				{Name: "writes close", Timeout: 30 * time.Second, Action: hooks.Writes{}},
				{Name: "vip release", Timeout: 30 * time.Second, Action: hooks.VIP{}},
			},
		}},
	}
}

func TestDefaults(t *testing.T) {
	for _, file := range []string{"minimal.yaml", "crlf.yaml", "bom.yaml"} {
		if diff := same(minimal(), mustParse(t, file)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestFull(t *testing.T) {
	step := func(name string, a hooks.Action) hooks.Step {
		return hooks.Step{Name: name, Timeout: hooks.DefaultTimeout, Action: a}
	}
	want := &File{
		Nodes: [2]Node{
			{Label: "primary", Addresses: addrs("10.77.0.11", "10.77.1.11")},
			{Label: "reserve", Hostname: "db2.example.net", Addresses: addrs("10.77.0.12", "10.77.1.12")},
		},
		KeyFile:  "/etc/tanist/pair.key",
		PeerPort: 7600, HTTP: &HTTP{Listen: netip.MustParseAddrPort("[::1]:7512")},
		Log:    Log{Level: LevelDebug, Format: FormatJSON},
		Engine: "/var/run/docker.sock",
		Instances: []Instance{{
			Name: "compass", Interface: "eth0", VRID: 51,
			VIPs:         []netip.Prefix{netip.MustParsePrefix("10.77.0.100/24"), netip.MustParsePrefix("10.77.0.101/32")},
			Priority:     [2]uint8{200, 100},
			Preempt:      true,
			PreemptDelay: 90 * time.Second,
			Lease:        3 * time.Second,
			StartupDelay: 10 * time.Second,
			Heartbeat: Heartbeat{
				Version: 3, Mode: Unicast, AdvertInterval: time.Second, Auth: AuthNone, Checksum: ChecksumKeepalived,
			},
			GARP: GARP{Repeat: 3, Interval: 20 * time.Millisecond, Refresh: time.Minute},
			Databases: []Database{
				{
					Name: "pivot", Address: Address{Kind: UnixSocket, Path: "/run/mysqld/mysqld.sock"},
					User: "supervisor", PasswordFile: "/etc/tanist/mysql.password",
					ReplicateFrom: &ReplicateFrom{User: "repl", PasswordFile: "/etc/tanist/repl.password", Port: 3306},
				},
				{Name: "team-a", Address: Address{Kind: TCP, Host: "fd00::1", Port: 3307}, User: "tanist", Unit: "mariadb@team-a.service", HeartbeatTable: Table{"tanist", "heart-beat"}},
				{
					Name: "team-b", Address: Address{Kind: TCP, Host: "db.example.net", Port: 3308}, User: "tanist",
					ReplicateFrom: &ReplicateFrom{
						User: "repl", Host: "db.{{.Peer}}.example.net", Port: 3399, TLS: &TLS{CA: "/etc/mysql/ca.pem"},
					},
				},
			},
			Gate: Gate{MaxLag: 0, MaxMissing: 7, DrainTimeout: 2 * time.Minute, AfterLoss: replication.Drained},
			Promote: hooks.Plan{
				{Name: "replication stop", Timeout: 10 * time.Second, Action: hooks.Replication{Verb: hooks.StopReplication}},
				step("writes open", hooks.Writes{Open: true}),
				step("vip acquire", hooks.VIP{Acquire: true}),
				step("yaml master_service_label", hooks.YAML{File: "/opt/compass/values.yaml", Key: "master_service_label", Value: "{{.Active}}"}),
				{
					Name: "yaml master_service_label (2)", Timeout: hooks.DefaultTimeout, Drift: hooks.RepairDrift,
					Action: hooks.YAML{File: "/opt/other/values.yaml", Key: "master_service_label", Value: "true"},
				},
				{Name: "start the sync", Timeout: hooks.DefaultTimeout, OnError: hooks.Continue, Action: hooks.Unit{Verb: hooks.StartUnit, Name: "lsyncd.service"}},
				step("unit restart compass@{{.Node}}.service", hooks.Unit{Verb: hooks.RestartUnit, Name: "compass@{{.Node}}.service"}),
				step("exec /usr/local/bin/tell-us", hooks.Exec{
					Command: []string{"/usr/local/bin/tell-us", "{{.Event}}", "{{.Node}}", "3"},
					Verify:  []string{"/usr/bin/test", "-e", "/run/told"},
					User:    "nobody",
					Env:     map[string]string{"EPOCH": "{{.Epoch}}", "PORT": "3306", "DEBUG": "true", "NOTHING": ""},
				}),
			},
			Demote: hooks.Plan{
				step("writes close", hooks.Writes{}),
				step("vip release", hooks.VIP{}),
				step("unit stop lsyncd.service", hooks.Unit{Verb: hooks.StopUnit, Name: "lsyncd.service"}),
				step("unit disable lsyncd.timer", hooks.Unit{Verb: hooks.DisableUnit, Name: "lsyncd.timer"}),
				step("replication none", hooks.Replication{Verb: hooks.NoReplication}),
			},
			Fence:  hooks.Plan{},
			Health: []HealthCheck{},
		}},
	}
	second := minimal().Instances[0]
	second.Name, second.Interface, second.VRID = "web", "eth1", 52
	second.VIPs = []netip.Prefix{netip.MustParsePrefix("10.77.1.100/24")}
	second.Heartbeat.Auth = AuthHMAC // there is a key
	want.Instances = append(want.Instances, second)
	if diff := same(want, mustParse(t, "full.yaml")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Families mix; the first address says which one is advertised.
func TestIPv6(t *testing.T) {
	f := mustParse(t, "ipv6.yaml")
	if diff := cmp.Diff(addrs("10.77.0.12", "fd00::12"), f.Nodes[1].Addresses, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var got []string
	for _, in := range f.Instances {
		for _, p := range in.VIPs {
			got = append(got, p.String())
		}
	}
	want := []string{
		"fd00::100/64", "fe80::100/64", "10.77.0.100/24", "fe80::101/64", "fd00::101/128", "10.77.0.102/24", "fd00::102/64",
	}
	if diff := cmp.Diff(want, got); diff != "" || len(f.Notices) != 0 {
		t.Errorf("%v, -want +got:\n%s", f.Notices, diff)
	}
}

// What a heartbeat can be asked for, and what it is when it is not.
func TestHeartbeat(t *testing.T) {
	const file = `
%s
nodes: {primary: {addresses: [10.77.0.11]}, reserve: {addresses: [10.77.0.12]}}
instances: [{name: compass, interface: eth0, vrid: 255, vips: [10.77.0.100/24]%s}]
`
	plain := minimal().Instances[0].Heartbeat
	with := func(f func(*Heartbeat)) Heartbeat { h := plain; f(&h); return h }
	for _, tt := range []struct {
		key, heartbeat string
		want           Heartbeat
	}{
		{"", "", plain},
		{"key_file: /k", "", with(func(h *Heartbeat) { h.Auth = AuthHMAC })},
		{"key_file: /k", ", heartbeat: {mode: multicast}", with(func(h *Heartbeat) { h.Auth, h.Mode = AuthHMAC, Multicast })},
		{"key_file: /k", ", heartbeat: {auth: none}", plain},
		{"", ", heartbeat: {auth: hmac}", with(func(h *Heartbeat) { h.Auth = AuthHMAC })},
		{"key_file: /k", ", heartbeat: {auth: permissive}", with(func(h *Heartbeat) { h.Auth = AuthPermissive })},
		{"", ", heartbeat: {version: 2}", with(func(h *Heartbeat) { h.Version, h.AdvertInterval = 2, time.Second })},
	} {
		f, err := Parse("x.yaml", fmt.Appendf(nil, file, tt.key, tt.heartbeat))
		if err != nil {
			t.Errorf("%s%s: %v", tt.key, tt.heartbeat, err)
			continue
		}
		if diff := cmp.Diff(tt.want, f.Instances[0].Heartbeat); diff != "" {
			t.Errorf("%s%s (-want +got):\n%s", tt.key, tt.heartbeat, diff)
		}
	}
}

// Notices do not stop a start, but are said.
func TestNotices(t *testing.T) {
	f := mustParse(t, "notices.yaml")
	golden(t, filepath.Join("testdata", "good", "notices.txt"), Problems(f.Notices).Error()+"\n")
}

// The contract's own example is understood whole.
func TestContractExample(t *testing.T) {
	f, err := parseFile(t, filepath.Join("testdata", "contract.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if f.HTTP == nil || f.HTTP.Listen != netip.MustParseAddrPort("127.0.0.1:7512") {
		t.Errorf("http: %+v", f.HTTP)
	}
}

// What health entries mean.
func TestHealthValues(t *testing.T) {
	const text = `
- {name: unit, unit: nginx.service, interval: 2s, timeout: 500ms, rise: 1, fall: 4, effect: fault}
- {name: process, process: nginx}
- {name: tcp, tcp: "[::1]:80"}
- {name: http, http: "http://127.0.0.1/health"}
- {name: exec, exec: {command: [/bin/true, x], user: nobody}}
- {name: list, exec: [/bin/true]}
- {name: mysql, mysql: pivot}
- {name: disk, disk: {path: /srv, min_free: 0.5%}}
- {name: link, link: eth1}
- {name: gateway, gateway: 10.77.0.1}
- {name: gateway6, gateway: "fe80::1%eth0"}
- {name: file, file: /run/ready}
- {name: fresh, file: {path: /run/stamp, max_age: 90s, contains: all well}}
`
	_, src, _ := normalise("t", []byte(text))
	root, problem := tree([]byte(text), src)
	if problem != nil {
		t.Fatal(problem)
	}
	d := newDecoder(src)
	got := d.value(root, "health").health()
	for _, p := range d.problems {
		t.Errorf("refused: %v", p)
	}
	check := func(name string, c Check) HealthCheck {
		return HealthCheck{Name: name, Check: c, Interval: time.Second, Timeout: time.Second, Rise: 2, Fall: 3, Effect: health.Yield}
	}
	want := []HealthCheck{
		{Name: "unit", Check: UnitCheck{"nginx.service"}, Interval: 2 * time.Second, Timeout: 500 * time.Millisecond, Rise: 1, Fall: 4, Effect: health.Fault},
		check("process", ProcessCheck{"nginx"}),
		check("tcp", TCPCheck{Host: "::1", Port: 80}),
		check("http", HTTPCheck{"http://127.0.0.1/health"}),
		check("exec", ExecCheck{Command: []string{"/bin/true", "x"}, User: "nobody"}),
		check("list", ExecCheck{Command: []string{"/bin/true"}}),
		check("mysql", MySQLCheck{"pivot"}),
		check("disk", DiskCheck{Path: "/srv", MinFree: 0.5}),
		check("link", LinkCheck{"eth1"}),
		check("gateway", GatewayCheck{netip.MustParseAddr("10.77.0.1")}),
		check("gateway6", GatewayCheck{netip.MustParseAddr("fe80::1%eth0")}),
		check("file", FileCheck{Path: "/run/ready"}),
		check("fresh", FileCheck{Path: "/run/stamp", MaxAge: 90 * time.Second, Contains: "all well"}),
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLoad(t *testing.T) {
	f, err := Load(filepath.Join("testdata", "good", "minimal.yaml"))
	if err != nil || f.Name != filepath.Join("testdata", "good", "minimal.yaml") {
		t.Fatalf("got %v, %v", f, err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: got %v", err)
	}
	var problems Problems
	if _, err := Load(t.TempDir()); err == nil || errors.As(err, &problems) {
		t.Errorf("a directory: got %v", err)
	}
	big := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(big, []byte(strings.Repeat("# padding\n", MaxSize/10+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big); !errors.As(err, &problems) || problems[0].Line != 0 {
		t.Errorf("a huge file: got %v", err)
	}
}

// A file of exactly the bound is read; what would recurse without end is not.
func TestBounds(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "good", "minimal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	full := append(slices.Clone(text), []byte("#"+strings.Repeat("x", MaxSize-len(text)-1))...)
	if _, err := Parse("f", full); err != nil {
		t.Errorf("%d bytes: %v", len(full), err)
	}
	if _, err := Parse("f", append(full, '\n')); err == nil {
		t.Errorf("%d bytes accepted", len(full)+1)
	}
	for _, unit := range []string{"[", "{a: ", "- ", "? ", ": ", "&a ", "!a ", "{[", "[[\n", "a: &a x\n", "- *a\n"} {
		if _, err := Parse("f", []byte(strings.Repeat(unit, MaxSize/len(unit)))); err == nil {
			t.Errorf("%q without end accepted", unit)
		}
	}
}
