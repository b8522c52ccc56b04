package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
)

func TestYAMLStep(t *testing.T) {
	path := writeFile(t, "values.yaml", "a: 1\nlabel: primary # who\n")
	s := NewYAML(hooks.YAML{File: path, Key: "label", Value: "reserve"})
	wantState(t, s, WouldChange)
	apply(t, s, time.Minute)
	before, _ := os.Stat(path)
	apply(t, s, time.Minute) // already so: not even a new inode
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("a second apply wrote the file again: %v", err)
	}
	if data, _ := os.ReadFile(path); string(data) != "a: 1\nlabel: reserve # who\n" {
		t.Errorf("got %q", data)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestYAMLStepKeepsOwnerModeAttributesAndLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: changes the owner of a file")
	}
	path := writeFile(t, "real.yaml", "label: primary\n")
	if err := errors.Join(os.Chown(path, 1234, 2345), os.Chmod(path, 0o2664)); err != nil {
		t.Fatal(err)
	}
	attributes := unix.Setxattr(path, "user.tanist", []byte("kept"), 0) == nil
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	var before, after unix.Stat_t
	if err := unix.Stat(path, &before); err != nil {
		t.Fatal(err)
	}
	apply(t, NewYAML(hooks.YAML{File: link, Key: "label", Value: "reserve"}), time.Minute)
	if err := unix.Stat(path, &after); err != nil {
		t.Fatal(err)
	}
	if after.Uid != 1234 || after.Gid != 2345 || after.Mode != before.Mode || after.Ino == before.Ino {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if to, err := os.Readlink(link); to != path {
		t.Errorf("link: %q, %v", to, err)
	}
	value := make([]byte, 16)
	if n, err := unix.Getxattr(path, "user.tanist", value); attributes && string(value[:max(n, 0)]) != "kept" {
		t.Errorf("attribute: %q, %v", value, err)
	}
}

func TestYAMLStepRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	fifo, hard := filepath.Join(dir, "fifo"), writeFile(t, "a.yaml", "label: x\n")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.Link(hard, filepath.Join(dir, "b.yaml"))); err != nil {
		t.Fatal(err)
	}
	large := writeFile(t, "large.yaml", "label: x\n# "+strings.Repeat("x", FileLimit))
	for path, want := range map[string]Reason{
		fifo: ReasonNotRegular, dir: ReasonNotRegular, hard: ReasonHardLinked, large: ReasonTooLarge,
		writeFile(t, "m.yaml", "other: x\n"): ReasonMissing,
	} {
		s := NewYAML(hooks.YAML{File: path, Key: "label", Value: "y"})
		for _, do := range []func() error{
			func() error { _, err := s.Check(t.Context()); return err },
			func() error { return s.Apply(t.Context()) },
		} {
			err := do()
			got := (*Refusal)(nil)
			if !errors.As(err, &got) || got.Reason != want || got.File != path || got.What != "set label" {
				t.Errorf("%s: %v, want %v", path, err, want)
			}
		}
	}
	gone := NewYAML(hooks.YAML{File: filepath.Join(dir, "gone"), Key: "label", Value: "y"})
	wantState(t, gone, Cannot)
	if err := gone.Apply(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestReplaceLosesNoForeignChange(t *testing.T) {
	for name, foreign := range map[string]func(path string) error{
		"written-in-place": func(p string) error { return os.WriteFile(p, []byte("foreign"), 0o600) },
		"renamed-over": func(p string) error {
			return errors.Join(os.WriteFile(p+".new", []byte("foreign"), 0o600), os.Rename(p+".new", p))
		},
		"same-size-same-second": func(p string) error { return os.WriteFile(p, []byte("OLD"), 0o600) },
		"mode":                  func(p string) error { return os.Chmod(p, 0o604) },
	} {
		t.Run(name, func(t *testing.T) {
			path, calls := writeFile(t, "f", "old"), 0
			err := replace(t.Context(), path, func(old []byte) ([]byte, error) {
				if calls++; calls == 1 {
					if err := foreign(path); err != nil {
						return nil, err
					}
				}
				return []byte(string(old) + "+mine"), nil
			})
			data, _ := os.ReadFile(path)
			if err != nil || calls != 2 || !strings.HasSuffix(string(data), "+mine") {
				t.Fatalf("%d calls, %q, %v", calls, data, err)
			}
			if name != "mode" && strings.HasPrefix(string(data), "old") {
				t.Errorf("the foreign change is lost: %q", data)
			}
			if st, _ := os.Stat(path); name == "mode" && st.Mode().Perm() != 0o604 {
				t.Errorf("the foreign mode is lost: %v", st.Mode())
			}
		})
	}
}

func TestReplaceGivesUp(t *testing.T) {
	path, calls := writeFile(t, "f", "0"), 0
	err := replace(t.Context(), path, func([]byte) ([]byte, error) {
		calls++
		return []byte("mine"), os.WriteFile(path, fmt.Append(nil, calls), 0o600)
	})
	got := (*Refusal)(nil)
	if !errors.As(err, &got) || got.Reason != ReasonMoved || calls != replaceTries {
		t.Errorf("%d calls, %v", calls, err)
	}
	if data, _ := os.ReadFile(path); string(data) != fmt.Sprint(replaceTries) {
		t.Errorf("the last foreign content is gone: %q", data)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".f*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestReplaceFollowsARetargetedLink(t *testing.T) {
	first, second := writeFile(t, "1", "first"), writeFile(t, "2", "second")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(first, link); err != nil {
		t.Fatal(err)
	}
	calls := 0
	err := replace(t.Context(), link, func(old []byte) ([]byte, error) {
		if calls++; calls == 1 {
			if err := errors.Join(os.Remove(link), os.Symlink(second, link)); err != nil {
				return nil, err
			}
		}
		return []byte(string(old) + "+"), nil
	})
	a, _ := os.ReadFile(first)
	b, _ := os.ReadFile(second)
	if err != nil || string(a) != "first" || string(b) != "second+" {
		t.Errorf("%q, %q, %v", a, b, err)
	}
}

func TestReplaceWaitsForTheLock(t *testing.T) {
	path := writeFile(t, "f", "old")
	holder, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if err := unix.Flock(int(holder.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	edit := func([]byte) ([]byte, error) { return []byte("mine"), nil }
	if err := replace(ctx, path, edit); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while locked: %v", err)
	}
	if err := unix.Flock(int(holder.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := replace(t.Context(), path, edit); err != nil {
		t.Error(err)
	}
}

// TestReplaceAgainstItself lets several writers count in one file: with the lock
// and the comparison no count is lost.
func TestReplaceAgainstItself(t *testing.T) {
	const writers, rounds = 4, 10
	path := writeFile(t, "f", "")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				for {
					err := replace(t.Context(), path, func(old []byte) ([]byte, error) { return append(old, 'x'), nil })
					if r := (*Refusal)(nil); errors.As(err, &r) && r.Reason == ReasonMoved {
						continue
					}
					if err != nil {
						t.Error(err)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	if data, _ := os.ReadFile(path); len(data) != writers*rounds {
		t.Errorf("%d of %d counts", len(data), writers*rounds)
	}
}

// As the kernel answers on NFS to a descriptor for reading; one for nothing at all is
// where it does so on every file system.
func TestFileThatCannotBeLocked(t *testing.T) {
	path := writeFile(t, "file", "a\n")
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EBADF) {
		t.Fatalf("the kernel says %v", err)
	}
	if mine, err := claim(f, path); !mine || err != nil {
		t.Errorf("%v, %v", mine, err)
	}
}
