package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A daemon tidies up after those that have ended, and takes nothing from one that
// lives beside it.
func TestGroupsOfAnotherDaemonStay(t *testing.T) {
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := func(pid int) string { return fmt.Sprintf("%s%d-1", groupPrefix, pid) }
	stay := []string{name(os.Getpid()), name(os.Getppid()), groupPrefix + "by-hand"}
	for _, group := range append(stay, name(ended.Process.Pid)) {
		if err := os.Mkdir(filepath.Join(dir, group), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	removeEmpty(dir)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range left {
		left[i] = filepath.Base(path)
	}
	slices.Sort(stay)
	if diff := cmp.Diff(stay, left); diff != "" {
		t.Errorf("left (-want +got): %s", diff)
	}
}
