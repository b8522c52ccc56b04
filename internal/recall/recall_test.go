package recall

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

func position(t *testing.T, s string) replication.Position {
	t.Helper()
	p, err := replication.ParsePosition(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestKeptOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "positions")
	f, err := Open(path)
	if err != nil || f.Recall("compass") != nil {
		t.Fatalf("a file that is not there: %v, %v", f.Recall("compass"), err)
	}
	want := []failover.Remembered{
		{Database: "pivot", Heard: position(t, "0-1-100,1-2-5"), Received: position(t, "0-1-99")},
		{Database: "team-1", Received: position(t, "0-3-7")},
		{Database: "team-2", Promoted: position(t, "0-3-7"), Beats: 1<<63 + 1, BeatsKnown: true},
		{Database: "team-3", Promoted: position(t, "0-3-7"), BeatsKnown: true},
		{Database: "team-4", Promoted: position(t, "0-3-7")},
	}
	f.Set("compass", want)
	f.Set("gone", want)
	f.Set("gone", nil)
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, again.Recall("compass"), cmp.Comparer(replication.Position.Equal)); diff != "" {
		t.Error(diff)
	}
	if got := again.Recall("gone"); got != nil {
		t.Errorf("kept %v", got)
	}
}

func TestDamagedFileBeginsAnew(t *testing.T) {
	for name, text := range map[string]string{
		"torn":     `{"instances":{"compass":[{"data`,
		"position": `{"instances":{"compass":[{"database":"pivot","heard":"0-1"}]}}`,
		"empty":    "",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "positions")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if err == nil {
				t.Error("no error")
			}
			f.Set("compass", []failover.Remembered{{Database: "pivot", Heard: position(t, "0-1-1")}})
			if err := f.Flush(); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFullDiskLeavesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	f, err := Open(filepath.Join(dir, "positions"))
	if err != nil {
		t.Fatal(err)
	}
	f.Set("compass", []failover.Remembered{{Database: "pivot", Heard: position(t, "0-1-1")}})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	// A directory in the place of the temporary file: it cannot be written.
	if err := os.Mkdir(filepath.Join(dir, "positions.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.Set("compass", nil)
	if err := f.Flush(); err == nil {
		t.Error("no error")
	}
	again, err := Open(filepath.Join(dir, "positions"))
	if err != nil || len(again.Recall("compass")) != 1 {
		t.Errorf("after a failed write: %v, %v", again.Recall("compass"), err)
	}
}
