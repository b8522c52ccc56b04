package journal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
)

// notices is what a plan with a program that fails and a notice leaves.
func notices() []hooks.Record {
	return []hooks.Record{
		{
			Kind: hooks.Stepped, Instance: "compass", Epoch: 3, Role: hooks.Active,
			Step: hooks.Result{
				Name: "nginx -t", Title: "exec /usr/sbin/nginx", Outcome: hooks.Failed, Detail: "/usr/sbin/nginx: exit status 1",
				Duration: 12 * time.Millisecond, Output: "\x1b[31mnginx: [emerg]\x1b[0m \x00 unknown directive \"servr\"\n",
			},
		},
		{
			Kind: hooks.Notified, Instance: "compass", Epoch: 3, Role: hooks.Active, Attempts: 4,
			Step: hooks.Result{
				Name: "tell us", Title: "notify https://hooks.example", Outcome: hooks.Failed, Detail: "500 Internal Server Error",
				Duration: 15 * time.Second,
			},
		},
	}
}

// The file without output and attempts, which TestJournalsWithoutNumbers reads, and
// this one are of the same version.
func TestOutputAndNoticesAreGolden(t *testing.T) {
	got, file := wroteAll(t, notices()), filepath.Join("testdata", "journal-1-notices-numbered")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, file)), string(got)); diff != "" {
		t.Errorf("%s (-) and this release (+) differ; a change needs another Version:\n%s", file, diff)
	}
	_, entries := mustOpen(t, place(t, read(t, file)))
	if diff := cmp.Diff(notices(), records(entries)); diff != "" {
		t.Error(diff)
	}
}

// The largest output, all of it written as escapes, leaves room in a record.
func TestLargestOutputFits(t *testing.T) {
	r := notices()[0]
	r.Step.Output = strings.Repeat("\x01", hooks.OutputLimit)
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	mustAppend(t, j, r)
	mustClose(t, j)
	_, entries := mustOpen(t, path)
	if diff := cmp.Diff([]hooks.Record{r}, records(entries)); diff != "" {
		t.Error(diff)
	}
}
