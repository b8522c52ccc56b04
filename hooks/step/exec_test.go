package step

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/program"
)

func shell(script string) hooks.Exec { return hooks.Exec{Command: []string{"/bin/sh", "-c", script}} }

func TestExecStatusDecides(t *testing.T) {
	tests := []struct {
		name, script string
		want         ExitError
		text         string
	}{
		{"status", "echo one; echo two >&2; exit 3", ExitError{Status: 3, LastLine: "two"}, "/bin/sh: exit status 3: two"},
		{"silent", "exit 1", ExitError{Status: 1}, "/bin/sh: exit status 1"},
		{"signal", "kill -9 $$", ExitError{Status: -1, Signal: syscall.SIGKILL}, "/bin/sh: ended by signal: killed"},
		{"blank-lines-after", `printf 'why\033[31m\n\n \n'; exit 2`, ExitError{Status: 2, LastLine: "why[31m"}, "/bin/sh: exit status 2: why[31m"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := NewExec(shell(tc.script), "").Apply(within(t, time.Minute))
			got := (*ExitError)(nil)
			tc.want.Program = "/bin/sh"
			if !errors.As(err, &got) || *got != tc.want || err.Error() != tc.text {
				t.Errorf("got %#v, %v", got, err)
			}
		})
	}
}

func TestExecEnvironment(t *testing.T) {
	t.Setenv("TANIST_SECRET", "leaks")
	s := NewExec(hooks.Exec{
		Command: []string{"sh", "-c", `env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= | sort; pwd; cat; printf '%s|' "$@"`, "x", "a b", "$HOME", ";"},
		Env:     map[string]string{"TANIST_EPOCH": "7"},
	}, "")
	apply(t, s, time.Minute)
	want := "LANG=C.UTF-8\nPATH=" + program.SearchPath + "\nTANIST_EPOCH=7\n/\na b|$HOME|;|"
	if got := string(s.(Outputter).Output()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExecCheck(t *testing.T) {
	dir := t.TempDir()
	flag, plain := filepath.Join(dir, "flag"), writeFile(t, "plain", "#!/bin/sh\n")
	verified := NewExec(hooks.Exec{Command: []string{"touch", flag}, Verify: []string{"test", "-e", flag}}, "")
	wantState(t, verified, WouldChange)
	apply(t, verified, time.Minute)
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	wantState(t, verified, WouldChange) // drift
	for name, a := range map[string]hooks.Exec{
		"missing":         {Command: []string{"/nowhere/program"}},
		"missing-in-path": {Command: []string{"tanist-no-such-program"}},
		"not-executable":  {Command: []string{plain}},
		"directory":       {Command: []string{dir}},
		"none":            {},
		"missing-verify":  {Command: []string{"true"}, Verify: []string{"/nowhere/program"}},
		"missing-account": {Command: []string{"true"}, User: "tanist-no-such-account"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewExec(a, "")
			wantState(t, s, Cannot)
			if name != "missing-verify" && s.Apply(t.Context()) == nil {
				t.Error("it ran")
			}
		})
	}
	wantState(t, NewExec(hooks.Exec{Command: []string{"true"}}, ""), WouldChange)
	hangs := NewExec(hooks.Exec{Command: []string{"true"}, Verify: []string{"sleep", "1000"}}, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if state, err := hangs.Check(ctx); state != Cannot || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a verify that hangs: %v, %v", state, err)
	}
}

func TestExecUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: runs a program as another account")
	}
	s := NewExec(hooks.Exec{Command: []string{"sh", "-c", "id -un; id -G; echo $HOME $USER $LOGNAME"}, User: "daemon"}, "")
	apply(t, s, time.Minute)
	if got := string(s.(Outputter).Output()); got != "daemon\n1\n/usr/sbin daemon daemon\n" {
		t.Errorf("got %q", got)
	}
}

func TestExecOutputIsCapped(t *testing.T) {
	s := NewExec(shell("echo first; i=0; while [ $i -lt 5000 ]; do echo $i 0123456789012345678901234567890123456789; i=$((i+1)); done; echo last"), "")
	apply(t, s, time.Minute)
	out := s.(Outputter).Output()
	if len(out) > OutputLimit+64 || !bytes.HasPrefix(out, []byte("first\n0 ")) || !bytes.HasSuffix(out, []byte("9\nlast\n")) || !bytes.Contains(out, []byte("bytes left out]\n")) {
		t.Errorf("%d bytes: %.40q ... %q", len(out), out, out[len(out)-40:])
	}
}

// pids reads the process ids that a script wrote, once there are n of them.
func pids(t *testing.T, path string, n int) []int {
	t.Helper()
	var ids []int
	eventually(t, "the script wrote its process ids", func() bool {
		data, _ := os.ReadFile(path)
		f := strings.Fields(string(data))
		ids = ids[:0]
		for _, s := range f {
			if id, err := strconv.Atoi(s); err == nil {
				ids = append(ids, id)
			}
		}
		return len(ids) >= n && bytes.HasSuffix(data, []byte("\n"))
	})
	return ids
}

func TestExecCancelLeavesNothing(t *testing.T) {
	for name, script := range map[string]string{
		"obedient":          "sleep 1000 & echo $$ $! > FILE; wait",
		"deaf-leader":       "trap '' TERM; sleep 1000 & echo $$ $! > FILE; while :; do sleep 1; done",
		"deaf-child":        "sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo $$ $! > FILE; wait",
		"stopped":           "sleep 1000 & echo $$ $! > FILE; kill -STOP $$",
		"double-fork":       "(sh -c 'sleep 1000 & echo $$ $! > FILE'; exec sleep 1000) & wait",
		"pipe-held-by-deaf": "sh -c 'trap \"\" TERM HUP; echo $$ $PPID > FILE; while :; do sleep 1; done' 2>&1 & wait",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pids")
			s := NewExec(shell(strings.ReplaceAll(script, "FILE", file)), "")
			ctx, cancel := context.WithCancel(within(t, time.Minute))
			done := make(chan error, 1)
			go func() { done <- s.Apply(ctx) }()
			ids := pids(t, file, 2)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			for _, id := range ids {
				if alive(id) {
					t.Errorf("process %d still runs", id)
				}
			}
		})
	}
}

func TestExecGraceLetsAProgramCleanUp(t *testing.T) {
	dir := t.TempDir()
	started, cleaned := filepath.Join(dir, "started"), filepath.Join(dir, "cleaned")
	s := NewExec(shell(fmt.Sprintf("trap 'touch %s; exit 0' TERM; echo 1 > %s; while :; do sleep 0.05; done", cleaned, started)), "")
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	done := make(chan error, 1)
	go func() { done <- s.Apply(ctx) }()
	pids(t, started, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("an exit status of 0 after a cancel: %v", err)
	}
	if _, err := os.Stat(cleaned); err != nil {
		t.Error(err)
	}
}

func TestExecDeadlineCarriesTheLastLine(t *testing.T) {
	err := NewExec(shell("echo waiting for the array; sleep 1000"), "").Apply(within(t, 300*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasSuffix(err.Error(), "waiting for the array") {
		t.Errorf("got %v", err)
	}
}

func TestExecEndsWhatTheProgramLeft(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	apply(t, NewExec(shell("sleep 1000 & echo $! > "+file), ""), time.Minute) // the child holds the pipe, too
	if id := pids(t, file, 1)[0]; alive(id) {
		t.Errorf("process %d still runs", id)
	}
}

func TestExecIsNotHeldUpByAnEscapee(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	apply(t, NewExec(shell("setsid sh -c 'echo $$ > "+file+"; exec sleep 1000' & while ! [ -s "+file+" ]; do sleep 0.01; done"), ""), time.Minute)
	id := pids(t, file, 1)[0]
	if !alive(id) {
		t.Error("a daemon that the program started in a session of its own was killed")
	}
	_ = syscall.Kill(id, syscall.SIGKILL)
}

func TestExecCgroupCatchesEscapees(t *testing.T) {
	parent := program.DelegatedCgroup()
	if parent == "" {
		t.Skip("needs a control group (version 2, Linux 5.14) that this process may divide")
	}
	file := filepath.Join(t.TempDir(), "pids")
	// Into a session of its own, and into a group of its own below ours.
	s := NewExec(shell("setsid sh -c 'trap \"\" TERM; g="+parent+"/exec-"+strconv.Itoa(os.Getpid())+
		"-*/; g=$(echo $g); mkdir -p $g/below/it; echo $$ > $g/below/it/cgroup.procs; echo $$ > "+file+"; while :; do sleep 1; done' & wait"), parent)
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	done := make(chan error, 1)
	go func() { done <- s.Apply(ctx) }()
	id := pids(t, file, 1)[0]
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if alive(id) {
		t.Errorf("process %d still runs", id)
	}
	if left, _ := filepath.Glob(filepath.Join(parent, "exec-"+strconv.Itoa(os.Getpid())+"-*")); len(left) > 0 {
		t.Errorf("groups left: %v", left)
	}
}

func TestExecStartsNothingAfterCancel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewExec(hooks.Exec{Command: []string{"touch", file}}, "").Apply(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("it ran")
	}
}

func TestExecInheritsNothing(t *testing.T) {
	runtime.LockOSThread() // a nice value is the thread's; it ends with the test, as nothing unlocks it
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, -5); err != nil {
		t.Skip("needs the right to lower nice values")
	}
	const score = "/proc/self/oom_score_adj"
	before, err := os.ReadFile(score)
	if err != nil {
		t.Fatal(err)
	}
	wantScore := "0"
	if err := os.WriteFile(score, []byte("-500"), 0); err != nil {
		t.Logf("without the right to lower the OOM score: %v", err)
		wantScore = strings.TrimSpace(string(before))
	}
	defer func() { _ = os.WriteFile(score, before, 0) }()
	defer syscall.Umask(syscall.Umask(0o077))
	for _, cloexec := range []int{0, unix.O_CLOEXEC} {
		fd, err := unix.Open("/dev/zero", unix.O_RDONLY|cloexec, 0) // the daemon's starter leaves one open, the daemon another
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
	}
	signal.Ignore(syscall.SIGUSR1)
	defer signal.Reset(syscall.SIGUSR1)
	blocked := unix.Sigset_t{}
	blocked.Val[0] = 1 << (syscall.SIGUSR2 - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, nil); err != nil {
		t.Fatal(err)
	}
	s := NewExec(shell(`nice; cat /proc/self/oom_score_adj; umask; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/$$/fd; ps -o cls= -p $$`), "")
	apply(t, s, time.Minute)
	want := "0\n" + wantScore + "\n0022\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\n1\n2\n TS\n"
	if diff := cmp.Diff(want, string(s.(Outputter).Output())); diff != "" {
		t.Error(diff)
	}
}

func TestExecThatCannotBecomeItsProgram(t *testing.T) {
	busy := filepath.Join(t.TempDir(), "busy")
	data, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(busy, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if _, err := writer.Write(data); err != nil {
		t.Fatal(err)
	}
	executableFile := func(name, content string) string {
		path := writeFile(t, name, content)
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name string
		a    hooks.Exec
		want string
	}{
		{"text-file-busy", hooks.Exec{Command: []string{busy}}, "text file busy"},
		{"no-format", hooks.Exec{Command: []string{executableFile("no-format", "\x01\x02")}}, "exec format error"},
		{"no-interpreter", hooks.Exec{Command: []string{executableFile("no-interpreter", "#!/nowhere/sh\n")}}, "no such file or directory"},
		{"an-argument-too-long", hooks.Exec{Command: []string{"true", strings.Repeat("x", 200<<10)}}, "argument list too long"},
		{"a-zero-byte", hooks.Exec{Command: []string{"true", "a\x00b"}}, "invalid argument"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			outcome, detail := Execute(within(t, time.Minute), NewExec(tc.a, ""))
			if outcome != hooks.Failed || !strings.HasPrefix(detail, "start ") || !strings.Contains(detail, tc.want) {
				t.Errorf("%v: %s", outcome, detail)
			}
		})
	}
	big := hooks.Exec{Command: []string{"sh", "-c", "test ${#BIG} = 10000"}, Env: map[string]string{"BIG": strings.Repeat("x", 10000)}}
	apply(t, NewExec(big, ""), time.Minute)
}
