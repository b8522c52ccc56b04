package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanist-ha/tanist/hooks"
)

// The files are reports of lsyncd 2.2.3, but for the names of the trees.
func TestLsyncdStatus(t *testing.T) {
	tests := []struct {
		file string
		want LsyncdStatus
	}{
		{"idle", LsyncdStatus{Sources: []string{"/srv/www/"}}},
		{"pending", LsyncdStatus{Delays: 6, Sources: []string{"/srv/www/"}}},
		{"active", LsyncdStatus{Delays: 9, Active: 4, Sources: []string{"/srv/www/", "/srv/mail/"}}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			path := filepath.Join("testdata", "lsyncd", tt.file)
			got, err := ReadLsyncdStatus(path)
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(LsyncdStatus{}, "Written")); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// lsyncd writes in place: whoever reads meanwhile sees a part.
			end := strings.Index(string(whole), "Inotify watching ")
			for n := range end + len("Inotify watching") {
				if s, err := parseLsyncdStatus(whole[:n]); !errors.Is(err, errHalfWritten) {
					t.Fatalf("%d bytes: %+v, %v", n, s, err)
				}
			}
		})
	}
}

func FuzzLsyncdStatus(f *testing.F) {
	for _, name := range []string{"idle", "pending", "active"} {
		b, err := os.ReadFile(filepath.Join("testdata", "lsyncd", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseLsyncdStatus(data)
		if err == nil && (s.Delays < s.Active || len(s.Sources) == 0) {
			t.Errorf("%+v", s)
		}
	})
}

// carrier is a real lsyncd from one directory to another.
type carrier struct {
	dir string
	cmd *exec.Cmd
}

func startLsyncd(t *testing.T, settings, sync string) *carrier {
	t.Helper()
	for _, program := range []string{"lsyncd", "rsync"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("no " + program + " on this machine")
		}
	}
	c := &carrier{dir: t.TempDir()}
	for _, d := range []string{"from", "to", "other"} {
		if err := os.Mkdir(filepath.Join(c.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf := fmt.Sprintf("settings { logfile = %q, statusFile = %q, nodaemon = true, insist = true, %s }\nsync { default.rsync, source = %q, target = %q, %s }\n",
		filepath.Join(c.dir, "log"), c.status(), settings, filepath.Join(c.dir, "from"), filepath.Join(c.dir, "to"), sync)
	if err := os.WriteFile(filepath.Join(c.dir, "conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command("lsyncd", filepath.Join(c.dir, "conf"))
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.end() })
	c.until(t, "it watches", func() bool {
		s, err := ReadLsyncdStatus(c.status())
		return err == nil && s.Delays == 0
	})
	return c
}

func (c *carrier) status() string { return filepath.Join(c.dir, "status") }

func (c *carrier) end() {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	_ = c.cmd.Wait()
}

func (c *carrier) until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not so after 20 s: " + what)
		}
	}
}

func (c *carrier) write(t *testing.T, from, n int) {
	t.Helper()
	for i := range n {
		if err := os.WriteFile(filepath.Join(c.dir, "from", fmt.Sprintf("f%d", from+i)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *carrier) arrived(t *testing.T) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(c.dir, "to"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// words is what a step said.
type words struct {
	mu   sync.Mutex
	said []string
}

func (w *words) say(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.said) == 0 || w.said[len(w.said)-1] != s {
		w.said = append(w.said, s)
	}
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.said, "\n")
}

// Whatever was written before the step began is there when it ends, though lsyncd
// itself waits for seconds before it does anything.
func TestLsyncdIsDrained(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, settings, sync string }{
		{"delays, an interval of a second", "statusInterval = 1", "delay = 2, maxDelays = 100000"},
		{"a report at once", "statusInterval = 0", "delay = 1, maxDelays = 100000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := startLsyncd(t, tt.settings, tt.sync)
			for round := range 3 {
				c.write(t, round*500, 500)
				var w words
				before := c.arrived(t) // all of them, where writing took longer than the delay
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
				out, detail := Execute(ctx, NewWait(hooks.Wait{Lsyncd: c.status()}, w.say))
				cancel()
				if out != hooks.Changed || detail != "" {
					t.Fatalf("%s %s\n%s", out, detail, &w)
				}
				if n := c.arrived(t); n != (round+1)*500 {
					t.Errorf("round %d: %d files arrived\n%s", round, n, &w)
				}
				if before <= round*500 && !strings.Contains(w.String(), "delays left") {
					t.Errorf("it said:\n%s", &w)
				}
			}
		})
	}
}

// An idle lsyncd does not write its status: it is asked, and nothing is carried
// for that.
func TestIdleLsyncdIsDrained(t *testing.T) {
	t.Parallel()
	c := startLsyncd(t, "statusInterval = 1", "delay = 1")
	var before time.Time
	c.until(t, "idle", func() bool {
		st, err := os.Stat(c.status())
		if err != nil {
			t.Fatal(err)
		}
		idle := st.ModTime().Equal(before) && time.Since(before) > 2*time.Second
		before = st.ModTime()
		return idle
	})
	logged, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	var w words
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if out, detail := Execute(ctx, NewWait(hooks.Wait{Lsyncd: c.status()}, w.say)); out != hooks.Changed {
		t.Fatalf("%s %s\n%s", out, detail, &w)
	}
	now, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(logged), string(now)); diff != "" {
		t.Errorf("lsyncd had something to do:\n%s", diff)
	}
}

func TestLsyncdThatHangs(t *testing.T) {
	t.Parallel()
	c := startLsyncd(t, "statusInterval = 1", "delay = 1")
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.write(t, 0, 10) // its last status still says that there are no delays
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	out, detail := Execute(ctx, NewWait(hooks.Wait{Lsyncd: c.status()}, nil))
	if out != hooks.TimedOut || !strings.Contains(detail, "lsyncd: no delays, making sure") {
		t.Errorf("%s %s", out, detail)
	}
	if n := c.arrived(t); n != 0 {
		t.Errorf("%d files arrived", n)
	}
}

func TestLsyncdThatEnds(t *testing.T) {
	t.Parallel()
	c := startLsyncd(t, "statusInterval = 1", "delay = 1")
	d := &drained{status: c.status(), proc: procWith(t, "lsyncd", 'S')}
	if state, err := d.standing(t.Context()); state != WouldChange || err != nil {
		t.Errorf("while it runs: %s, %v", state, err)
	}
	c.end()
	for _, proc := range []string{procWith(t, "lsyncd", 'Z'), procWith(t, "rsync", 'S')} {
		d := &drained{status: c.status(), proc: proc}
		if state, err := d.standing(t.Context()); state != Cannot || err == nil || !strings.Contains(err.Error(), "lsyncd does not run") {
			t.Errorf("%s, %v", state, err)
		}
	}
	missing := NewWait(hooks.Wait{Lsyncd: filepath.Join(c.dir, "none")}, nil)
	if state, err := missing.Check(t.Context()); state != Cannot || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s, %v", state, err)
	}
}

// procWith is a list of processes with one in it: other tests run an lsyncd too.
func procWith(t *testing.T, comm string, state byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "7"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"comm": comm + "\n", "stat": fmt.Sprintf("7 (%s) %c 1 7 7", comm, state)} {
		if err := os.WriteFile(filepath.Join(dir, "7", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A tree within another is not touched: that would be a change of the outer one.
func TestNestedTreesAreNotTouched(t *testing.T) {
	root := t.TempDir()
	inner := filepath.Join(root, "www", "inner")
	if err := os.MkdirAll(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	changed := func(path string) syscall.Timespec {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ctim
	}
	before := map[string]syscall.Timespec{}
	for _, d := range []string{root, inner} {
		before[d] = changed(d)
	}
	tick := filepath.Join(t.TempDir(), "tick") // of the clock that files are dated by
	for {
		if err := os.WriteFile(tick, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if changed(tick) != before[root] && changed(tick) != before[inner] {
			break
		}
	}
	d := &drained{}
	if err := d.ask(LsyncdStatus{Sources: []string{inner + "/", root + "/", filepath.Join(root, "www") + "/"}}); err != nil {
		t.Fatal(err)
	}
	if changed(root) == before[root] || changed(inner) != before[inner] {
		t.Error("not the outermost tree alone")
	}
}
