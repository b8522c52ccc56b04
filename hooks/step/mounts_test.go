package step

// Files on file systems that refuse: read-only, full, mounted by themselves. Each test
// runs again as a process with mounts of its own.

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
)

const ownMounts = "TANIST_TEST_OWN_MOUNTS"

// inOwnMounts runs the test in a child and returns false; in the child it is true.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownMounts) == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts file systems")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), ownMounts+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs the right to unshare mounts")
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount %s: %v", target, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

// label steps, one of each kind.
func everyKind(path string) map[string]Step {
	return map[string]Step{
		"json": NewJSON(hooks.JSON{File: path, Set: []hooks.JSONKey{str("label", "reserve")}}),
		"yaml": NewYAML(hooks.YAML{File: path, Key: "label", Value: "reserve"}),
		"line": NewLine(hooks.Line{File: path, Line: "# here"}),
	}
}

func refuses(t *testing.T, path string, want Reason) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for kind, s := range everyKind(path) {
		_, checked := s.Check(within(t, time.Minute))
		for _, err := range []error{checked, s.Apply(within(t, time.Minute))} {
			if got := (*Refusal)(nil); !errors.As(err, &got) || got.Reason != want {
				t.Errorf("%s: %v, want %v", kind, err, want)
			}
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file is %q, %v", after, err)
	}
	onlyFile(t, path)
}

func TestStepOnReadOnlyFileSystem(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	path := writeFile(t, "label", `{"label": "primary"}`)
	dir := filepath.Dir(path)
	mount(t, dir, dir, "", unix.MS_BIND, "")
	mount(t, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	refuses(t, path, ReasonReadOnly)
	// Without the look at the mount the kernel's own word arrives.
	c, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.replaceWith(t.Context(), []byte("x")); !errors.Is(err, unix.EROFS) {
		t.Errorf("got %v", err)
	}
}

func TestStepOnMountedFile(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	source, path := writeFile(t, "source", `{"label": "primary"}`), writeFile(t, "label", "")
	mount(t, source, path, "", unix.MS_BIND, "")
	refuses(t, path, ReasonMount)
}

func TestStepOnFullFileSystem(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64k,nr_inodes=4") // the root, the file, a second and a third
	path, fill := filepath.Join(dir, "label"), filepath.Join(dir, "fill")
	before := []byte(`{"label": "primary", "pad": "` + strings.Repeat("x", 9000) + `"}`)
	if err := os.WriteFile(path, before, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the file system is not full: %v", err)
	}
	full := func(what string) {
		for kind, s := range everyKind(path) {
			if out, detail := Execute(within(t, time.Minute), s); out != hooks.Failed || !strings.Contains(detail, "no space left on device") {
				t.Errorf("%s, %s: %v %s", what, kind, out, detail)
			}
			if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, before) {
				t.Fatalf("%s, %s: the file is %d bytes, %v", what, kind, len(data), err)
			}
			if leftBehind(path) {
				t.Errorf("%s, %s: a file was left behind", what, kind)
			}
		}
	}
	full("no blocks")
	if err := errors.Join(os.Remove(fill), os.WriteFile(fill, nil, 0o600), os.WriteFile(fill+"2", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	full("no inodes")
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if out, detail := Execute(within(t, time.Minute), everyKind(path)["json"]); out != hooks.Changed {
		t.Errorf("with space again: %v %s", out, detail)
	}
}

func TestStepOnImmutableFile(t *testing.T) {
	path := writeFile(t, "label", `{"label": "primary"}`)
	for _, attribute := range []string{"i", "a"} {
		for _, of := range []string{path, filepath.Dir(path)} {
			if out, err := exec.CommandContext(t.Context(), "chattr", "+"+attribute, of).CombinedOutput(); err != nil {
				t.Skipf("needs chattr, root and a file system with attributes: %s", out)
			}
			refuses(t, path, ReasonImmutable)
			if out, err := exec.CommandContext(t.Context(), "chattr", "-"+attribute, of).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
}

// TestStepKeepsAccessList: the file keeps its own list and does not get the one that
// its directory gives to new files.
func TestStepKeepsAccessList(t *testing.T) {
	for name, prepare := range map[string][]string{
		"list of its own": {"-m", "u:12:r,g:34:rw"},
		"none":            {"-b"},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, "label", `{"label": "primary"}`)
			for _, args := range [][]string{append(prepare, path), {"-d", "-m", "u:56:rwx", filepath.Dir(path)}} {
				if out, err := exec.CommandContext(t.Context(), "setfacl", args...).CombinedOutput(); err != nil {
					t.Skipf("needs setfacl, of the package acl, and a file system with access lists: %v %s", err, out)
				}
			}
			list := func() string {
				out, err := exec.CommandContext(t.Context(), "getfacl", "-p", "-n", path).CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				return string(out)
			}
			before := list()
			apply(t, toReserve(path), time.Minute)
			if diff := cmp.Diff(before, list()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestStepHeldOpen: a program that keeps the file open for writing would go on writing
// to a file without a name.
func TestStepHeldOpen(t *testing.T) {
	path := writeFile(t, "label", `{"label": "primary"}`)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = toReserve(path).Apply(within(t, time.Minute))
	if got := (*Refusal)(nil); !errors.As(err, &got) || got.Reason != ReasonWriting {
		t.Fatalf("got %v", err)
	}
	onlyFile(t, path)
	f.Close()
	apply(t, toReserve(path), time.Minute)
}

// TestStepRemovesWhatAKilledRunLeft also when there is nothing else to do, and not what
// a run is at work on.
func TestStepRemovesWhatAKilledRunLeft(t *testing.T) {
	for name, content := range map[string]string{"to be edited": `{"label": "primary"}`, "as it should be": `{"label": "reserve"}`} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, "label", content)
			left := leftoverOf(path)
			if err := os.WriteFile(left, []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(left)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if mine, err := claim(f, left); !mine || err != nil {
				t.Fatal(err)
			}
			if name == "as it should be" {
				wantState(t, toReserve(path), Ok)
			} else if err := toReserve(path).Apply(within(t, time.Minute)); err == nil {
				t.Error("two runs were at work on one file")
			}
			if _, err := os.Stat(left); err != nil {
				t.Error(err)
			}
			f.Close()
			wantState(t, toReserve(path), WouldChange)
			apply(t, toReserve(path), time.Minute)
			onlyFile(t, path)
		})
	}
}
