package step

// A foreign file and everybody else who writes it, or dies while it is written: other
// processes, strace to stop one at a system call, file systems of the test's own.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/test/sidebyside"
)

func TestMain(m *testing.M) {
	sidebyside.AtMost(6)
	os.Exit(m.Run())
}

const childRole = "TANIST_TEST_FILE_CHILD"

// TestFileChild is no test: other tests start it as a process of its own.
func TestFileChild(t *testing.T) {
	role, path, _ := strings.Cut(os.Getenv(childRole), " ")
	switch role {
	case "":
		t.Skip("runs only as a child of other tests")
	case "edit":
		if out, detail := Execute(t.Context(), toReserve(path)); !out.OK() {
			t.Fatal(out, detail)
		}
	default:
		rewrite(t, role, path)
	}
}

func child(ctx context.Context, role, path string, tracer ...string) *exec.Cmd {
	args := append(tracer, os.Args[0], "-test.run=^TestFileChild$", "-test.count=1")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childRole+"="+role+" "+path, "GOMAXPROCS=1", "GOGC=off")
	return cmd
}

func toReserve(path string) Step {
	return NewJSON(hooks.JSON{File: path, Set: []hooks.JSONKey{str("label", "reserve")}})
}

// counted is the file of these tests.
type counted struct {
	N     int    `json:"n"`
	Label string `json:"label"`
	Pad   string `json:"pad"`
}

func encode(c counted) []byte {
	return fmt.Appendf(nil, `{"n":%d,"label":%q,"pad":%q}`+"\n", c.N, c.Label, c.Pad)
}

// rewrite counts in a file until its standard input ends, and fails when a count of its
// own is gone. The role says how it writes.
func rewrite(t *testing.T, role, path string) {
	stop := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(stop)
	}()
	how, pause, _ := strings.Cut(role, "/")
	every, err := time.ParseDuration(pause)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		if err := rewriteOnce(how, path, n); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			fmt.Println("writing")
		}
		select {
		case <-stop:
			fmt.Println("wrote", n)
			return
		case <-tick.C:
		}
	}
}

func rewriteOnce(how, path string, n int) error {
	if how == "blind" {
		return os.WriteFile(path, encode(counted{n, "primary", ""}), 0o640)
	}
	if how == "locked" {
		f, err := lockLatest(path)
		if err != nil {
			return err
		}
		defer f.Close()
	}
	var c counted
	// An exchange that is taken back shows for a moment what was there before.
	for try := 1; ; try++ {
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &c)
		}
		switch {
		case err != nil:
			return fmt.Errorf("%q: %w", data, err)
		case n > 0 && c.N != n-1 && try == 3:
			return fmt.Errorf("wrote %d, and now it is %d", n-1, c.N)
		case n > 0 && c.N != n-1:
			time.Sleep(50 * time.Millisecond)
			continue
		}
		break
	}
	c.N = n
	if how == "renamed" {
		return errors.Join(os.WriteFile(path+".new", encode(c), 0o640), os.Rename(path+".new", path))
	}
	return os.WriteFile(path, encode(c), 0o640)
}

// lockLatest locks the file that has the name once the lock is held.
func lockLatest(path string) (*os.File, error) {
	for {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return nil, err
		}
		if identical(f, path) {
			return f, nil
		}
		f.Close()
	}
}

// TestStepBesideAnotherWriter: another program rewrites the file twenty times a second,
// or as fast as it can, while the step runs again and again. Nothing that the program
// wrote is lost, and every run ends within its deadline and says how.
func TestStepBesideAnotherWriter(t *testing.T) {
	t.Parallel()
	const rounds = 24
	for _, role := range []string{"in-place/50ms", "renamed/50ms", "locked/50ms", "blind/50ms", "in-place/1ms", "renamed/1ms", "locked/1ms"} {
		t.Run(strings.ReplaceAll(role, "/", "-every-"), func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, "label.json", string(encode(counted{0, "primary", strings.Repeat("x", 20000)})))
			cmd := child(t.Context(), role, path)
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var printed bytes.Buffer
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := stdout.Read(make([]byte, len("writing\n"))); err != nil {
				t.Fatal(err)
			}
			outcomes := map[hooks.Outcome]int{}
			spread := time.NewTicker(17 * time.Millisecond) // over some of the other's writes
			defer spread.Stop()
			for i := range rounds {
				<-spread.C
				label := []string{"reserve", "primary"}[i%2]
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				out, detail := Execute(ctx, NewJSON(hooks.JSON{File: path, Set: []hooks.JSONKey{str("label", label)}}))
				cancel()
				outcomes[out]++
				stated := strings.Contains(detail, "somebody else") || strings.Contains(detail, "applied, and")
				if !out.OK() && (out != hooks.Failed || !stated) {
					t.Errorf("%v: %q", out, detail)
				}
			}
			stdin.Close()
			_, _ = printed.ReadFrom(stdout)
			if err := cmd.Wait(); err != nil {
				t.Errorf("the other writer: %v\n%s", err, printed.String())
			}
			t.Log(outcomes)
			if role == "locked/50ms" && outcomes[hooks.Changed] != rounds {
				t.Errorf("beside a writer that locks: %v", outcomes)
			}
			// As fast as it can, on a machine that is busy, the other one leaves no room.
			if strings.HasSuffix(role, "50ms") && outcomes[hooks.Changed] == 0 {
				t.Error("not one run came through")
			}
			onlyFile(t, path)
		})
	}
}

// onlyFile fails when anything is left beside a file.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(list) != 1 || list[0].Name() != filepath.Base(path) {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

func tracer(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace: apt-get install strace")
	}
	return path
}

// TestStepKilledAtEverySystemCall kills a process at each of the system calls by which
// it replaces a file: the file is the old one or the new one, and the next run leaves
// nothing else.
func TestStepKilledAtEverySystemCall(t *testing.T) {
	t.Parallel()
	strace := tracer(t)
	var kills, news atomic.Int32
	t.Run("call", func(t *testing.T) {
		for _, call := range []string{"openat", "flock", "write", "fchown", "fchmod", "flistxattr", "fsync", "fcntl", "renameat2", "unlinkat"} {
			t.Run(call, func(t *testing.T) {
				t.Parallel()
				k, n := killAtEach(t, strace, call)
				kills.Add(k)
				news.Add(n)
			})
		}
	})
	t.Logf("%d kills, the new file in place after %d", kills.Load(), news.Load())
	if kills.Load() < 15 || news.Load() == 0 || news.Load() == kills.Load() {
		t.Errorf("%d kills, %d after the exchange: the calls are not those of a replacement", kills.Load(), news.Load())
	}
}

// killAtEach kills a process at its first call, another at its second, until one makes
// no more; it returns how often, and how often the new file was in place.
func killAtEach(t *testing.T, strace, call string) (kills, news int32) {
	t.Helper()
	path := writeFile(t, "label.json", "")
	before, after := encode(counted{1, "primary", "x"}), encode(counted{1, "reserve", "x"})
	for n := 1; ; n++ {
		if err := os.WriteFile(path, before, 0o640); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := child(ctx, "edit", path, strace, "-f", "-qq", "-o", "/dev/null",
			"-P", path, "-P", leftoverOf(path), "-P", filepath.Dir(path),
			"-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n))
		out, err := cmd.CombinedOutput()
		cancel()
		if err == nil {
			return kills, news // so often it is not called
		}
		if !killed(err) {
			t.Fatalf("%s %d: %v\n%s", call, n, err, out)
		}
		kills++
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(data, before) && !bytes.Equal(data, after) {
			t.Fatalf("%s %d: the file is %q, %v", call, n, data, err)
		}
		if bytes.Equal(data, after) {
			news++
		}
		if out, detail := Execute(t.Context(), toReserve(path)); !out.OK() {
			t.Fatalf("%s %d, the next run: %v %s", call, n, out, detail)
		}
		if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, after) {
			t.Fatalf("%s %d, after the next run: %q, %v", call, n, data, err)
		}
		onlyFile(t, path)
	}
}

func killed(err error) bool {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		ws, ok := exit.Sys().(syscall.WaitStatus)
		return ok && (ws.Signaled() && ws.Signal() == unix.SIGKILL || ws.ExitStatus() == 128+int(unix.SIGKILL))
	}
	return false
}

// TestStepLosesTheRace stops the step between its comparison and its exchange, and has
// another program write just then.
func TestStepLosesTheRace(t *testing.T) {
	t.Parallel()
	strace := tracer(t)
	foreign := encode(counted{2, "primary", "foreign"})
	for name, write := range map[string]func(string) error{
		"renamed": func(p string) error {
			return errors.Join(os.WriteFile(p+".new", foreign, 0o640), os.Rename(p+".new", p))
		},
		"in-place": func(p string) error { return os.WriteFile(p, foreign, 0o640) },
		"removed": func(p string) error {
			return errors.Join(os.Remove(p), os.WriteFile(p, foreign, 0o640))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, "label.json", string(encode(counted{1, "primary", "x"})))
			cmd := child(t.Context(), "edit", path, strace, "-f", "-qq", "-o", "/dev/null",
				"-e", "trace=renameat2", "-e", "inject=renameat2:delay_enter=1500000:when=1")
			done := make(chan error, 1)
			var printed []byte
			go func() {
				var err error
				printed, err = cmd.CombinedOutput()
				done <- err
			}()
			// The lease is what comes before the comparison.
			held := regexp.MustCompile(fmt.Sprintf(`(?m)LEASE .*:%d 0 EOF$`, inode(t, path)))
			until(t, time.Minute, func() bool {
				locks, err := os.ReadFile("/proc/locks")
				return err == nil && held.Match(locks)
			})
			if err := write(path); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatalf("%v\n%s", err, printed)
			}
			want := encode(counted{2, "reserve", "foreign"})
			if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, want) {
				t.Errorf("got %q, %v", data, err)
			}
			onlyFile(t, path)
		})
	}
}

// A run that is killed before it can put back what another program wrote leaves that
// version under the name of its stage.
func TestStepKilledBeforeItPutsBack(t *testing.T) {
	for _, writes := range []string{"not", "before", "again"} {
		t.Run(writes, func(t *testing.T) {
			path := writeFile(t, "label.json", string(encode(counted{1, "primary", "x"})))
			c, err := open(path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := newStage(c)
			if err == nil {
				err = s.fill(c, encode(counted{1, "reserve", "x"}))
			}
			if err != nil {
				t.Fatal(err)
			}
			write := func(n int) {
				t.Helper()
				newer(t)
				if err := os.WriteFile(path, encode(counted{n, "primary", "foreign"}), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			if writes == "before" {
				write(2)
			}
			if err := exchange(s.name, path); err != nil {
				t.Skipf("the file system cannot exchange: %v", err)
			}
			s.close()
			c.close()
			if writes == "again" {
				write(3)
			}
			out, detail := Execute(t.Context(), toReserve(path))
			if !out.OK() {
				t.Fatal(out, detail)
			}
			if writes != "before" {
				onlyFile(t, path)
				return
			}
			kept, err := os.ReadFile(asideOf(path))
			if err != nil || !bytes.Equal(kept, encode(counted{2, "primary", "foreign"})) || !strings.Contains(detail, asideOf(path)) {
				t.Errorf("kept %q, %v: %s", kept, err, detail)
			}
			if leftBehind(path) {
				t.Error("something is left besides")
			}
		})
	}
}

// newer waits until the file system gives a later time than now.
func newer(t *testing.T) {
	t.Helper()
	tick := filepath.Join(t.TempDir(), "tick")
	var at time.Time
	until(t, time.Minute, func() bool {
		if err := os.WriteFile(tick, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(tick)
		if err != nil {
			t.Fatal(err)
		}
		if at.IsZero() {
			at = st.ModTime()
		}
		return st.ModTime().After(at.Add(20 * time.Millisecond))
	})
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func until(t *testing.T, d time.Duration, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !reached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within " + d.String())
		}
	}
}
