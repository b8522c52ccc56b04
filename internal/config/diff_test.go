package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const running = `nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
log: {level: info, format: console}
instances:
  - name: a
    interface: eth0
    vrid: 51
    vips: [192.0.2.100/24, 192.0.2.101/24]
  - name: b
    interface: eth0
    vrid: 52
    vips: [192.0.2.110/24]
    databases:
      - {name: pivot, address: "unix:/run/pivot.sock", user: tanist, password_file: /etc/tanist/pivot}
`

// without is the running file with instance b cut.
func without(t *testing.T) string {
	t.Helper()
	head, _, ok := strings.Cut(running, "  - name: b\n")
	if !ok {
		t.Fatal("no instance b")
	}
	return head
}

func parsed(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse("tanist.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCompare(t *testing.T) {
	const added = "  - {name: c, interface: eth0, vrid: 53, vips: [192.0.2.120/24]}\n"
	change := func(from, to string) string {
		if !strings.Contains(running, from) {
			t.Fatalf("no %q in the running file", from)
		}
		return strings.Replace(running, from, to, 1)
	}
	changedA := Diff{Changed: []Pair{{0, 0}}}
	tests := map[string]struct {
		next string
		want Diff
	}{
		"same":                  {running, Diff{}},
		"comments-and-defaults": {change("    vrid: 51\n", "    vrid: 51   # as before\n    preempt: false\n"), Diff{}},
		"priority":              {change("    vrid: 51\n", "    vrid: 51\n    priority: {primary: 100, reserve: 90}\n"), changedA},
		"garp":                  {change("    vrid: 51\n", "    vrid: 51\n    garp: {repeat: 2}\n"), changedA},
		"vip-gone":              {change(", 192.0.2.101/24]", "]"), changedA},
		"vip-new":               {change("101/24]", "101/24, 192.0.2.102/24]"), changedA},
		"prefix":                {change("192.0.2.101/24", "192.0.2.101/32"), changedA},
		"interface":             {change("interface: eth0", "interface: eth1"), changedA},
		"vrid":                  {change("vrid: 51", "vrid: 60"), changedA},
		"step":                  {change("    vrid: 51\n", "    vrid: 51\n    promote: [{vip: acquire}, {unit: {start: x.service}}]\n"), changedA},
		"step-environment":      {change("    vrid: 51\n", "    vrid: 51\n    promote: [{vip: acquire}, {exec: {command: [/bin/x], env: {A: b}}}]\n"), changedA},
		"password-file":         {change("/etc/tanist/pivot", "/etc/tanist/other"), Diff{Changed: []Pair{{1, 1}}}},
		"heartbeat-table":       {change("/etc/tanist/pivot", "/etc/tanist/pivot, heartbeat_table: a.b"), Diff{Changed: []Pair{{1, 1}}}},
		"discover":              {running + "    discover: [{files: /srv/*.json, host: .h}]\n", Diff{Changed: []Pair{{1, 1}}}},
		"docker-socket":         {"docker_socket: /run/docker.sock\n" + running, Diff{}}, // nothing uses it
		"level":                 {change("level: info", "level: debug"), Diff{LogLevel: true}},
		// The first one turns authentication on.
		"key-file": {"key_file: /etc/tanist/next.key\n" + running, Diff{KeyFile: true, Changed: []Pair{{0, 0}, {1, 1}}}},
		"http":     {"http: {listen: 127.0.0.1:7512}\n" + running, Diff{HTTP: true}},
		"added":    {running + added, Diff{Added: []int{2}}},
		"removed":  {without(t), Diff{Removed: []int{1}}},
		"all-at-once": {
			strings.Replace(without(t), "vrid: 51", "vrid: 61", 1) + added,
			Diff{Added: []int{1}, Changed: []Pair{{0, 0}}, Removed: []int{1}},
		},
		"reordered": {
			"nodes:" + strings.TrimPrefix(without(t)[:strings.Index(without(t), "  - name: a")], "nodes:") +
				running[strings.Index(running, "  - name: b"):] +
				without(t)[strings.Index(without(t), "  - name: a"):],
			Diff{},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Compare(parsed(t, running), parsed(t, tc.next))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if got.Empty() != (name == "same" || name == "comments-and-defaults" || name == "docker-socket" || name == "reordered") {
				t.Errorf("empty: %v", got.Empty())
			}
		})
	}
}

// A rule is compared with all that it says.
func TestCompareDiscovery(t *testing.T) {
	with := func(head, rules string) *File {
		return parsed(t, head+strings.Replace(running, "    vrid: 51\n", "    vrid: 51\n    discover: "+rules+"\n", 1))
	}
	const rule = "[{files: /srv/*.json, container: .c, where: {field: .s, in: [1]}, tls: {ca: /ca.pem}}]"
	old := with("", rule)
	for name, tc := range map[string]struct {
		next *File
		want Diff
	}{
		"same":          {with("", rule), Diff{}},
		"where":         {with("", strings.Replace(rule, "[1]", "[1, 2]", 1)), Diff{Changed: []Pair{{0, 0}}}},
		"field":         {with("", strings.Replace(rule, ".c", ".d", 1)), Diff{Changed: []Pair{{0, 0}}}},
		"tls":           {with("", strings.Replace(rule, "/ca.pem", "/ca.pem, verify: ca", 1)), Diff{Changed: []Pair{{0, 0}}}},
		"docker-socket": {with("docker_socket: /run/docker.sock\n", rule), Diff{Changed: []Pair{{0, 0}}}},
	} {
		got, err := Compare(old, tc.next)
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	moved := parsed(t, running+"    discover: "+rule+"\n")
	if _, err := Compare(old, moved); err == nil || !strings.Contains(err.Error(), "the discovery in /srv/*.json moves from instance a to b in one reload") {
		t.Errorf("a rule that moves: %v", err)
	}
}

// What no reload may do is refused at its place, all of it at once.
func TestCompareRefuses(t *testing.T) {
	const restart = " is not what the daemon runs with, and it cannot change while it runs"
	c := func(body string) string { return without(t) + "  - name: c\n    interface: eth0\n" + body }
	tests := map[string]struct {
		next string
		want []string // place and message
	}{
		"nodes":      {strings.Replace(running, "192.0.2.12]", "192.0.2.13]", 1), []string{"2:3: nodes" + restart}},
		"labels":     {strings.ReplaceAll(running, "reserve", "second"), []string{"2:3: nodes" + restart}},
		"peer-port":  {running + "peer_port: 7600\n", []string{"16:12: peer_port" + restart}},
		"log-format": {strings.Replace(running, "console", "json", 1), []string{"4:28: log.format" + restart}},
		"address-moves": {
			strings.Replace(strings.Replace(running, ", 192.0.2.101/24]", "]", 1), "192.0.2.110/24]", "192.0.2.110/24, 192.0.2.101/24]", 1),
			[]string{"13:28: the virtual address 192.0.2.101 moves from instance a to b in one reload"},
		},
		"address-to-a-new-instance": {
			c("    vrid: 53\n    vips: [192.0.2.110/24]\n"),
			[]string{"13:12: the virtual address 192.0.2.110 moves from instance b to c in one reload"},
		},
		"vrids-swap": {
			strings.NewReplacer("vrid: 51", "vrid: 52", "vrid: 52", "vrid: 51").Replace(running),
			[]string{"8:11: the vrid 52 moves from instance b to a in one reload", "12:11: the vrid 51 moves from instance a to b in one reload"},
		},
		"vrid-of-a-removed-instance": {
			c("    vrid: 52\n    vips: [192.0.2.120/24]\n"),
			[]string{"12:11: the vrid 52 moves from instance b to c in one reload"},
		},
		"database-moves": {
			c("    vrid: 53\n    vips: [192.0.2.120/24]\n    databases: [{name: x, address: \"unix:/run/pivot.sock\", user: x, password_file: /x}]\n"),
			[]string{"14:36: the database at unix:/run/pivot.sock moves from instance b to c in one reload"},
		},
		"renamed": {
			strings.Replace(running, "name: b", "name: c", 1),
			[]string{"10:11: instance b is renamed to c, which no reload can do"},
		},
		"several": {
			strings.Replace(strings.Replace(running, "name: b", "name: c", 1), "console", "json", 1),
			[]string{"4:28: log.format" + restart, "10:11: instance b is renamed to c, which no reload can do"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Compare(parsed(t, running), parsed(t, tc.next))
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want Problems", err)
			}
			var got []string
			for _, p := range problems {
				line, _, _ := strings.Cut(p.Error(), "\n")
				got = append(got, strings.TrimPrefix(line, "tanist.yaml:"))
				if p.Hint == "" {
					t.Errorf("no hint: %s", p.Message)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
