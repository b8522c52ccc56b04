package keepalived

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		`interface eth0`:                      {"interface", "eth0"},
		"priority\t100   \t":                  {"priority", "100"},
		`vrrp_instance "VI 1"`:                {"vrrp_instance", "VI 1"},
		`script "/bin/sh -c 'a b'" x`:         {"script", "/bin/sh -c 'a b'", "x"},
		`notify_master '/bin/x "y"' user grp`: {"notify_master", `/bin/x "y"`, "user", "grp"},
		`auth_pass a"b`:                       {"auth_pass", `a"b`},
		`""`:                                  {""},
	} {
		if diff := cmp.Diff(want, split(line)); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
	for line, want := range map[string]string{
		"a # b": "a", "a!b": "a", `a "# b" ! c`: `a "# b"`, `pass a\#b\!c # d`: "pass a#b!c", "\t x \t": "x", "#": "", `"\"#"`: `"\"#"`,
	} {
		if got := uncomment(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// What the checks of howtos become.
func TestQuestion(t *testing.T) {
	for script, want := range map[string]string{
		`killall -0 haproxy`:                     "process haproxy",
		`/usr/bin/killall -0 mysqld`:             "process mysqld",
		`pidof nginx`:                            "process nginx",
		`pgrep -x sshd`:                          "process sshd",
		`pgrep -f "a b"`:                         `exec [/usr/bin/env, pgrep, -f, "a b"]`,
		`</dev/tcp/127.0.0.1/80`:                 `tcp "127.0.0.1:80"`,
		`/bin/systemctl is-active --quiet nginx`: "unit nginx.service",
		`systemctl is-active app@1.service`:      "unit app@1.service",
		`/etc/keepalived/check.sh 1`:             `exec [/etc/keepalived/check.sh, "1"]`,
		`check.sh`:                               `exec [/usr/bin/env, check.sh]`,
		`pidof nginx || exit 1`:                  `exec [/bin/sh, -c, "pidof nginx || exit 1"]`,
		`/bin/echo {{.Active}}`:                  `exec [/bin/echo, "{{\"{{\"}}.Active}}"]`,
		`/bin/sh -c 'mysql -e "select 1" | cat'`: `exec [/bin/sh, -c, "mysql -e \"select 1\" | cat"]`,
	} {
		kind, value := check{command: quotedWords(script, true)}.question()
		if got := kind + " " + value; got != want {
			t.Errorf("%s: %s, want %s", script, got, want)
		}
	}
}

// An account that is not root's goes with its program, whichever of the events it is for.
func TestAccounts(t *testing.T) {
	got := imported(t, `
global_defs { script_user keepalived_script }
vrrp_script c {
  script "/bin/check"
  user nobody
}
vrrp_instance A {
  interface eth0
  virtual_router_id 1
  unicast_src_ip 192.0.2.11
  unicast_peer { 192.0.2.12 }
  virtual_ipaddress { 192.0.2.1/24 }
  track_script { c }
  notify_master "/bin/up" app app
  notify_backup "/bin/down"
  notify_stop "/bin/down" root
}`)
	for _, want := range []string{
		"exec: {command: [/bin/check], user: nobody}", "{command: [/bin/up], user: app}",
		`"case $1 in demote) exec /bin/down ;; esac", notify, "{{.Event}}"], user: keepalived_script}`,
		`"case $1 in stop) exec /bin/down ;; esac", notify, "{{.Event}}"]}`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %s:\n%s", want, got)
		}
	}
}

func imported(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keepalived.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Import(path, "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	return string(got.YAML)
}

func TestNoImport(t *testing.T) {
	for text, want := range map[string]string{
		"vrrp_instance A {\n interface eth0\n":        "is not closed",
		"global_defs { router_id x }":                 "no vrrp_instance",
		"$A=$A $A\nvrrp_instance $A {}":               "more than what can be read",
		"include keepalived.conf\nvrrp_instance A {}": "more than what can be read",
		strings.Repeat("a {\n", 100):                  "in one another",
	} {
		path := filepath.Join(t.TempDir(), "keepalived.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Import(path, "", Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := Import(filepath.Join(t.TempDir(), "none"), "", Options{}); err == nil {
		t.Error("a file that is not there was read")
	}
}
