package discover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func text(t *testing.T, s string) Text {
	t.Helper()
	if s == "" {
		return Text{}
	}
	parsed, err := ParseText(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return parsed
}

func where(t *testing.T, field string, in ...string) *Condition {
	t.Helper()
	p, err := ParsePath(field)
	if err != nil {
		t.Fatal(err)
	}
	return &Condition{Field: p, In: in}
}

// teams is a rule for one JSON file per team.
func teams(t *testing.T, dir string) Rule {
	t.Helper()
	return Rule{
		Files: filepath.Join(dir, "*_company.json"), Name: text(t, "team-{{.Match}}"),
		Host: text(t, ".mysql.host"), Port: text(t, ".mysql.port"), Where: where(t, ".status", "1", "2"),
	}
}

func team(status, port int) string {
	return fmt.Sprintf(`{"status": %d, "mysql": {"host": "d1-%[2]d", "port": %[2]d, "user": "root", "pass": "s3cret"}}`, status, port)
}

type folder struct {
	t   *testing.T
	dir string
}

func newFolder(t *testing.T) folder {
	t.Helper()
	return folder{t, t.TempDir()}
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f folder) write(name, content string) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(f.path(name), old, old); err != nil {
		f.t.Fatal(err)
	}
}

func (f folder) remove(name string) {
	f.t.Helper()
	if err := os.Remove(f.path(name)); err != nil {
		f.t.Fatal(err)
	}
}

// say is a result in short: NAME ADDRESS, and the problems, the folder left out.
func (f folder) say(r Result) (found, problems []string) {
	for _, d := range r.Found {
		found = append(found, d.Name+" "+d.Address.String())
	}
	for _, p := range r.Problems {
		problems = append(problems, strings.ReplaceAll(strings.TrimPrefix(p.Error(), f.dir+"/"), f.dir, "DIR"))
	}
	return found, problems
}

// look looks and compares.
func (f folder) look(finder *Finder, found, problems []string) {
	f.t.Helper()
	gotFound, gotProblems := f.say(finder.Look(f.t.Context()))
	if diff := cmp.Diff(found, gotFound); diff != "" {
		f.t.Errorf("found (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(problems, gotProblems); diff != "" {
		f.t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// One file after the other appears, changes and vanishes.
func TestLook(t *testing.T) {
	f := newFolder(t)
	finder := New(Config{Rules: []Rule{teams(t, f.dir)}})
	f.look(finder, nil, nil)
	f.write("10_company.json", team(2, 33160))
	f.write("9_company.json", team(1, 33159))
	f.write("7_company.json", team(10, 33157)) // hibernated
	f.write("other.json", "{")
	f.write(".11_company.json", "{") // hidden: a version that is being written
	f.look(finder, []string{"team-10 tcp:d1-33160:33160", "team-9 tcp:d1-33159:33159"}, nil)
	f.write("7_company.json", team(2, 33157))
	f.write("9_company.json", team(50, 33159)) // deleted
	f.remove("10_company.json")
	f.look(finder, []string{"team-7 tcp:d1-33157:33157"}, nil)
	f.remove("7_company.json")
	f.look(finder, nil, nil)
}

// Whatever is wrong with a file is one error that says where, tells nothing of
// what the file holds, and leaves the database that it told of before.
func TestBadFiles(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"empty":           {"", "is empty"},
		"blank":           {" \n", "is empty"},
		"half":            {team(2, 33150)[:40], "ends in the middle of its JSON"},
		"half a word":     {`{"status": 2, "mysql": {"host": "s3cr`, "ends in the middle of its JSON"},
		"syntax":          {"{\n\"status\": s3cret}", "is not valid JSON (line 2)"},
		"two documents":   {team(2, 33150) + "\n" + team(2, 33150), "has something after the end of its JSON (line 2)"},
		"rest of longer":  {team(2, 33150) + "}", "has something after the end of its JSON (line 1)"},
		"not UTF-8":       {"{\"status\": \"\xff\"}", "is not UTF-8"},
		"too big":         {strings.Repeat(" ", MaxFileSize+1), "has more than 1048576 bytes"},
		"a list":          {"[1]", ".status is missing"},
		"no filter":       {`{"mysql": {"host": "h", "port": 1}}`, ".status is missing"},
		"filter of lists": {`{"status": [2]}`, ".status is not a value to compare"},
		"no port":         {`{"status": 2, "mysql": {"host": "h"}}`, ".mysql.port is missing"},
		"null port":       {`{"status": 2, "mysql": {"host": "h", "port": null}}`, ".mysql.port is null, not text or a number"},
		"port of lists":   {`{"status": 2, "mysql": {"host": "h", "port": []}}`, ".mysql.port is not text or a number"},
		"port of truth":   {`{"status": 2, "mysql": {"host": "h", "port": true}}`, ".mysql.port is true or false, not text or a number"},
		"port 0":          {`{"status": 2, "mysql": {"host": "h", "port": 0}}`, ".mysql.port is no port from 1 to 65535"},
		"port 65536":      {`{"status": 2, "mysql": {"host": "h", "port": 65536}}`, ".mysql.port is no port from 1 to 65535"},
		"port 1.5":        {`{"status": 2, "mysql": {"host": "h", "port": 1.5}}`, ".mysql.port is no port from 1 to 65535"},
		"port of secrets": {`{"status": 2, "mysql": {"host": "h", "port": "s3cret"}}`, ".mysql.port is no port from 1 to 65535"},
		"empty host":      {`{"status": 2, "mysql": {"host": "", "port": 1}}`, ".mysql.host is empty text, not text or a number"},
		"host of secrets": {`{"status": 2, "mysql": {"host": "s3cret!", "port": 1}}`, ".mysql.host is no host name or address"},
		"unspecified":     {`{"status": 2, "mysql": {"host": "0.0.0.0", "port": 1}}`, ".mysql.host is no host name or address"},
		"inside a scalar": {`{"status": 2, "mysql": "s3cret"}`, ".mysql.port is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			finder := New(Config{Rules: []Rule{teams(t, f.dir)}})
			f.write("1_company.json", tt.content)
			f.look(finder, nil, []string{"1_company.json: " + tt.want})
			f.write("1_company.json", team(2, 33150))
			want := []string{"team-1 tcp:d1-33150:33150"}
			f.look(finder, want, nil)
			f.write("1_company.json", tt.content)
			for range 2 {
				f.look(finder, want, []string{"1_company.json: " + tt.want + "; what it said before stands"})
			}
			f.remove("1_company.json")
			f.look(finder, nil, nil)
		})
	}
}

// What is no regular file is neither opened nor waited for.
func TestNoRegularFile(t *testing.T) {
	f := newFolder(t)
	if err := unix.Mkfifo(f.path("1_company.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"2_company.json": "/dev/zero", "3_company.json": f.dir, "4_company.json": "nowhere", "5_company.json": "5_company.json",
		"6_company.json": "real",
	} {
		if err := os.Symlink(target, f.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	f.write("real", team(1, 33156))
	f.look(New(Config{Rules: []Rule{teams(t, f.dir)}}), []string{"team-6 tcp:d1-33156:33156"}, []string{
		"1_company.json: is not a regular file",
		"2_company.json: is not a regular file",
		"3_company.json: is not a regular file",
		"4_company.json: is a symbolic link to nothing",
		"5_company.json: cannot be read: too many levels of symbolic links",
	})
}

// Two files that tell of one name or one address: the one that was there first
// stays, whatever they are called.
func TestDistinct(t *testing.T) {
	f := newFolder(t)
	rule := teams(t, f.dir)
	rule.Name = text(t, ".name")
	named := func(name string, port int) string {
		return fmt.Sprintf(`{"status": 1, "name": %q, "mysql": {"host": "h", "port": %d}}`, name, port)
	}
	finder := New(Config{Rules: []Rule{rule}, Others: []Found{{Name: "pivot", Address: Address{Host: "h", Port: 3306}}}})
	f.write("5_company.json", named("a", 1))
	f.look(finder, []string{"a tcp:h:1"}, nil)
	f.write("1_company.json", named("a", 2))
	f.write("2_company.json", named("b", 1))
	f.write("3_company.json", named("pivot", 3))
	f.write("4_company.json", named("c", 3306))
	f.write("6_company.json", named("d", 6))
	f.write("7_company.json", named("d", 7))
	for range 2 {
		f.look(finder, []string{"a tcp:h:1", "d tcp:h:6"}, []string{
			"1_company.json: gives the name a, which DIR/5_company.json has",
			"2_company.json: gives the address tcp:h:1, which DIR/5_company.json has",
			"3_company.json: gives the name pivot, which the database pivot has",
			"4_company.json: gives the address tcp:h:3306, which the database pivot has",
			"7_company.json: gives the name d, which DIR/6_company.json has",
		})
	}
	// Half written, the first one still has its name.
	f.write("5_company.json", "{")
	f.write("2_company.json", named("a", 9))
	found, _ := f.say(finder.Look(t.Context()))
	if diff := cmp.Diff([]string{"a tcp:h:1", "d tcp:h:6"}, found); diff != "" {
		t.Error(diff)
	}
}

// Directories that cannot be listed take no database away.
func TestDirectories(t *testing.T) {
	f := newFolder(t)
	rule := teams(t, filepath.Join(f.dir, "domains", "d*"))
	finder := New(Config{Rules: []Rule{rule}})
	f.look(finder, nil, []string{"domains: does not exist"})
	for _, d := range []string{"domains/d1", "domains/d2", "domains/other"} {
		if err := os.MkdirAll(f.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f.write("domains/dfile", "")
	f.write("domains/d1/1_company.json", team(1, 33151))
	f.write("domains/d2/2_company.json", team(1, 33152))
	f.write("domains/other/3_company.json", team(1, 33153))
	both := []string{"team-1 tcp:d1-33151:33151", "team-2 tcp:d1-33152:33152"}
	f.look(finder, both, nil)
	if err := os.Rename(f.path("domains"), f.path("away")); err != nil {
		t.Fatal(err)
	}
	f.look(finder, both, []string{"domains: does not exist"})
	if err := os.Rename(f.path("away"), f.path("domains")); err != nil {
		t.Fatal(err)
	}
	f.look(finder, both, nil)
	if err := os.RemoveAll(f.path("domains/d1")); err != nil {
		t.Fatal(err)
	}
	f.look(finder, both[1:], nil)
}

// A directory whose file system is not mounted is empty, and no reason to forget.
func TestUnmounted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: not root, so nothing can be mounted")
	}
	f := newFolder(t)
	dir := f.path("teams")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("SKIPPED: a tmpfs cannot be mounted here: %v", err)
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(unmount)
	finder := New(Config{Rules: []Rule{teams(t, dir)}})
	f.write("teams/1_company.json", team(1, 33151))
	f.look(finder, []string{"team-1 tcp:d1-33151:33151"}, nil)
	unmount()
	for range 2 {
		f.look(finder, []string{"team-1 tcp:d1-33151:33151"}, []string{"teams: is on another file system than before, and nothing in it matches"})
	}
}

// A file that the pattern names outright is expected to be there.
func TestNamedFile(t *testing.T) {
	f := newFolder(t)
	rule := teams(t, f.dir)
	rule.Files, rule.Name = f.path("only.json"), text(t, "only")
	finder := New(Config{Rules: []Rule{rule}})
	f.look(finder, nil, []string{"only.json: does not exist"})
	f.write("only.json", team(1, 33151))
	f.look(finder, []string{"only tcp:d1-33151:33151"}, nil)
	f.remove("only.json")
	f.look(finder, []string{"only tcp:d1-33151:33151"}, []string{"only.json: does not exist; what it said before stands"})
}

// Half of a YAML file can be a valid one with another port.
func TestYAML(t *testing.T) {
	f := newFolder(t)
	rule := Rule{
		Files: f.path("*.yml"), Name: text(t, ".databases.0.name"), Port: text(t, ".databases.0.port"), Host: text(t, ".databases.0.host"),
		Where: where(t, ".databases.0.on", "true"),
	}
	finder := New(Config{Rules: []Rule{rule}})
	f.write("a.yml", "databases:\n- &x {name: 007, on: true, host: \"::1\", port: 33150}\n- *x\n")
	f.look(finder, []string{"007 tcp:[::1]:33150"}, nil)
	rule.Name = text(t, "{{.databases.1.name}}")
	f.look(New(Config{Rules: []Rule{rule}}), []string{"007 tcp:[::1]:33150"}, nil)
	if err := os.WriteFile(f.path("a.yml"), []byte("databases:\n- &x {name: 007, on: true, host: \"::1\", port: 331}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.look(finder, []string{"007 tcp:[::1]:33150"}, []string{"a.yml: is being written; what it said before stands"})
	f.write("a.yml", "databases: [{")
	f.look(finder, []string{"007 tcp:[::1]:33150"}, []string{"a.yml: is not valid YAML (line 2); what it said before stands"})
	f.write("a.yml", "a: 1\n---\nb: 2\n")
	f.look(finder, []string{"007 tcp:[::1]:33150"}, []string{"a.yml: has more than one document; what it said before stands"})
	f.write("a.yml", "# nothing\n")
	f.look(finder, []string{"007 tcp:[::1]:33150"}, []string{"a.yml: is empty; what it said before stands"})
}

// Each way to say where a database is.
func TestAddress(t *testing.T) {
	const content = `{"id": 12, "mysql": {"host": "10.0.0.1", "port": "33150", "socket": "/run/a.sock"}, "c": "box"}`
	vars := Vars{Node: "primary", Peer: "reserve", Instance: "web"}
	for name, tt := range map[string]struct {
		rule Rule
		want Found
		err  string
	}{
		"host": {
			rule: Rule{Host: text(t, ".mysql.host"), Port: text(t, ".mysql.port")},
			want: Found{Name: "12", Address: Address{Host: "10.0.0.1", Port: 33150}, Port: 33150},
		},
		"host without a port": {
			rule: Rule{Host: text(t, "localhost")},
			want: Found{Name: "12", Address: Address{Host: "localhost", Port: 3306}},
		},
		"socket": {
			rule: Rule{Socket: text(t, ".mysql.socket"), Port: text(t, "3307"), Unit: text(t, "mariadb@{{.id}}.service")},
			want: Found{Name: "12", Address: Address{Socket: "/run/a.sock"}, Port: 3307, Unit: "mariadb@12.service"},
		},
		"container": {
			rule: Rule{Container: text(t, "compass-{{.Node}}-mysql-{{ .mysql.port }}"), Host: text(t, ".mysql.host"), Port: text(t, ".mysql.port")},
			want: Found{Name: "12", Address: Address{Container: "compass-primary-mysql-33150"}, Port: 33150},
		},
		"socket in a container": {
			rule: Rule{Name: text(t, "{{.Instance}}-{{.Peer}}-{{.id}}-{{.Match}}"), Container: text(t, ".c"), Socket: text(t, "/tmp/{{.id}}.sock")},
			want: Found{Name: "web-reserve-12-12", Address: Address{Container: "box", Socket: "/tmp/12.sock"}},
		},
		"no name":        {rule: Rule{Name: text(t, "a b"), Host: text(t, "h")}, err: "a b gives no name"},
		"bad container":  {rule: Rule{Container: text(t, ".mysql.socket")}, err: ".mysql.socket is no name of a container"},
		"bad socket":     {rule: Rule{Socket: text(t, "/run/../{{.id}}")}, err: "/run/../{{.id}} is no path of a socket"},
		"long socket":    {rule: Rule{Socket: text(t, "/"+strings.Repeat("x", 107))}, err: "is no path of a socket"},
		"bad unit":       {rule: Rule{Host: text(t, "h"), Unit: text(t, "mariadb@{{.mysql.socket}}.service")}, err: "is no name of a service"},
		"no service":     {rule: Rule{Host: text(t, "h"), Unit: text(t, "mariadb@{{.id}}")}, err: "is no name of a service"},
		"nothing at all": {err: "the rule names no host, socket or container"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.rule.Files = "/teams/*_company.json"
			got, ok, err := tt.rule.read("/teams/12_company.json", []byte(content), vars)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			tt.want.File = "/teams/12_company.json"
			if !ok || err != nil || got != tt.want {
				t.Errorf("got %+v, %v, %v; want %+v", got, ok, err, tt.want)
			}
		})
	}
}

// The bounds hold, and say so.
func TestBounds(t *testing.T) {
	f := newFolder(t)
	for i := range MaxDatabases + 1 {
		f.write(fmt.Sprintf("%05d_company.json", i), team(1, i+1))
	}
	finder := New(Config{Rules: []Rule{teams(t, f.dir)}})
	r := finder.Look(t.Context())
	if len(r.Found) != MaxDatabases || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Error(), "01024_company.json: is one too many") {
		t.Errorf("%d found, %v", len(r.Found), r.Problems)
	}
	for i := range MaxFiles {
		f.write(fmt.Sprintf("a%05d_company.json", i), team(50, 1))
	}
	r = finder.Look(t.Context())
	if len(r.Found) != MaxDatabases || len(r.Problems) < 1 || !strings.Contains(r.Problems[0].Error(), "has 5121 files that match, more than 4096") {
		t.Errorf("%d found, %v", len(r.Found), r.Problems)
	}
}

// A look that has no time forgets nothing.
func TestEndedLook(t *testing.T) {
	f := newFolder(t)
	f.write("1_company.json", team(1, 33151))
	finder := New(Config{Rules: []Rule{teams(t, f.dir)}})
	want := []string{"team-1 tcp:d1-33151:33151"}
	f.look(finder, want, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	found, problems := f.say(finder.Look(ctx))
	if diff := cmp.Diff(want, found); diff != "" || len(problems) != 1 {
		t.Errorf("%s%v", diff, problems)
	}
}

func TestMatched(t *testing.T) {
	for _, tt := range []struct{ pattern, file, want string }{
		{"/d/*_company.json", "/d/12_company.json", "12"},
		{"/d/*", "/d/12", "12"},
		{"/*/a*b", "/x/aab", "a"},
		{"/d/*_*.json", "/d/12_x.json", ""},
		{"/d/?*.json", "/d/12.json", ""},
		{"/d/x.json", "/d/x.json", ""},
	} {
		if got := matched(tt.pattern, tt.file); got != tt.want {
			t.Errorf("%s %s: %q", tt.pattern, tt.file, got)
		}
		if OneWildcard(tt.pattern) != (tt.want != "") {
			t.Errorf("%s: OneWildcard is wrong", tt.pattern)
		}
	}
}

// A text for one place on all nodes names no field.
func TestFill(t *testing.T) {
	vars := Vars{Node: "primary", Peer: "reserve", Instance: "web"}
	if got, err := text(t, "a-{{.Node}}-{{ .Peer }}-{{.Instance}}").Fill(vars); got != "a-primary-reserve-web" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, s := range []string{".a", "{{.id}}", "a-{{.Match}}", "{{.Node.x}}"} {
		if got, err := text(t, s).Fill(vars); err == nil {
			t.Errorf("%s: %q", s, got)
		}
	}
}

// What is checked apart, lengths, is checked.
func TestLengths(t *testing.T) {
	label, long := strings.Repeat("a", 63), strings.Repeat("a", 64)
	for _, tc := range []struct {
		what string
		is   func(string) bool
		good []string
		bad  []string
	}{
		{"name", validName, []string{"a", label}, []string{"", "-a", "a b", long}},
		{"container", validContainer, []string{"a", strings.Repeat("a", 255)}, []string{"", ".a", strings.Repeat("a", 256)}},
		{
			"host", validHost,
			[]string{"a", "db_1.example.", label, label + "." + label, "192.0.2.1", "2001:db8::1"},
			[]string{"", ".", "a..b", "-a", "a-", "a-.b", long, "a." + long, long + ".a", strings.Repeat("a.", 127) + "a", "0.0.0.0"},
		},
	} {
		for _, s := range tc.good {
			if !tc.is(s) {
				t.Errorf("%q is no %s", s, tc.what)
			}
		}
		for _, s := range tc.bad {
			if tc.is(s) {
				t.Errorf("%q is a %s", s, tc.what)
			}
		}
	}
}
