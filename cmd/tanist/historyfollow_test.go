package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/events"
)

// telling is a daemon that only journals and tells of it, behind a real control
// socket.
type telling struct {
	*fake
	journal *journal.Journal
	stop    func()
}

func startTelling(t *testing.T, dir string) *telling {
	t.Helper()
	path := filepath.Join(dir, "journal")
	j, _, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	next, skipped := j.Next()
	feed := events.New(events.Config{
		Held:  func() ([]hooks.Entry, error) { c, err := journal.Read(path); return c.Entries, err },
		State: func(context.Context) (control.Document, error) { return document("active", true), nil },
		Next:  next, Skipped: skipped, Heartbeat: 20 * time.Millisecond,
	})
	j.Tell(feed.Publish)
	f := &telling{fake: &fake{socket: filepath.Join(dir, "s"), events: feed.ServeHTTP}, journal: j}
	s, err := control.Listen(f.socket, f)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	over := make(chan error, 2)
	go func() { over <- feed.Run(ctx) }()
	go func() { over <- s.Run(ctx) }()
	stopped := false
	f.stop = func() {
		if stopped {
			return
		}
		stopped = true
		end()
		if err := errors.Join(<-over, <-over, j.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(f.stop)
	return f
}

func (f *telling) add(t *testing.T, rs ...hooks.Record) {
	t.Helper()
	if err := errors.Join(f.journal.Append(rs...), f.journal.Sync()); err != nil {
		t.Fatal(err)
	}
}

// What a person sees who follows: first what the journal holds, then each event, over
// an end of the daemon.
func TestHistoryFollows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startTelling(t, dir)
	d.add(t, records(newTold().took(5))...)
	p := tanistCommand(t, "history", "--follow", "--socket", d.socket, "--state-dir", dir)
	var out lockedBuffer
	p.Stdout = &out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is held", func() bool { return strings.Contains(out.String(), "unit start lsyncd.service") })
	all := newTold()
	for _, tell := range []string{"commanded", "takeover-with-loss", "forced", "notices"} {
		usualHistories[tell](all)
	}
	all.add(0, hooks.Record{Kind: hooks.Reverted, Epoch: 9})
	all.add(0, hooks.Record{Kind: hooks.Strayed, Epoch: 9, Step: hooks.Result{Name: "lsyncd", Outcome: hooks.Changed, Detail: "somebody started it"}})
	all.add(0, hooks.Record{Kind: hooks.Acquired, Epoch: 9})
	told := records(all)
	for i := range told {
		if told[i].UID == 1000 {
			told[i].UID = 4242 // nobody of this machine
		}
	}
	d.add(t, told...)
	eventually(t, "the last", func() bool { return strings.Contains(out.String(), "the address came with") })
	d.stop()
	eventually(t, "the word of the end", func() bool { return strings.Contains(p.stderr.String(), "no daemon answers: waiting for it") })
	d = startTelling(t, dir)
	d.add(t, hooks.Record{Kind: hooks.Ended, Instance: "compass", Epoch: 9, Role: hooks.Active, Ending: hooks.Completed, Duration: 6 * ms})
	eventually(t, "the next daemon's", func() bool { return strings.Contains(out.String(), "promote completed in 6.0 ms\n") })
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != exitOK || !strings.Contains(p.stderr.String(), "answers again") {
		t.Errorf("exit status %d, %s", code, p.stderr)
	}
	_, live, _ := strings.Cut(out.String(), "unit start lsyncd.service")
	_, live, _ = strings.Cut(live, "\n\n")
	var text strings.Builder
	for line := range strings.Lines(live) {
		text.WriteString("DATE" + line[min(len(line), len("2026-11-21 02:14:07 UTC")):])
	}
	golden(t, "history/follow.txt", text.String())
}

func TestHistoryFollowsAsJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startTelling(t, dir)
	d.add(t, records(newTold().took(5))...)
	p := tanistCommand(t, "history", "-f", "--json", "--from", "3", "--socket", d.socket, "--state-dir", dir)
	out, err := p.StdoutPipe()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := json.NewDecoder(out)
	var got []string
	for len(got) < 4 {
		var e events.Event
		if err := lines.Decode(&e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Kind)
	}
	if diff := cmp.Diff([]string{"state", "stepped", "stepped", "acquired"}, got); diff != "" {
		t.Error(diff)
	}
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != exitOK {
		t.Errorf("exit status %d, %s", code, p.stderr)
	}
	if got := tanist(t, "history", "--from", "3", "--state-dir", dir); got.code != exitProblem || !strings.Contains(got.stderr, "--follow") {
		t.Errorf("--from alone: %+v", got)
	}
}

// eventsOfADaemon follows a whole daemon over both of its doors.
func eventsOfADaemon(t *testing.T, at, socket string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/events?from=1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := control.Dial(socket).Events(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	for name, r := range map[string]io.Reader{"http": resp.Body, "socket": body} {
		var kinds []string
		for lines := bufio.NewScanner(r); lines.Scan(); {
			line, is := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
			if !is && name == "http" {
				continue
			}
			var e events.Event
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%s: %s: %v", name, line, err)
			}
			if e.Kind == events.KindState && (e.Status.Node != "primary" || len(e.Status.Instances) != 1 || e.Status.Instances[0].State != "active") {
				t.Errorf("%s: %+v", name, e.Status)
			}
			kinds = append(kinds, e.Kind)
			if e.Kind == "ended" && e.Role == "active" {
				break
			}
		}
		if want := "state began stepped ended"; !strings.HasPrefix(strings.Join(kinds, " "), want) || kinds[len(kinds)-1] != "ended" {
			t.Errorf("%s: %v", name, kinds)
		}
	}
	wantAnswer(t, at+"/metrics", http.StatusOK, "tanist_event_readers ")
	wantAnswer(t, at+"/metrics", http.StatusOK, `tanist_notices_total{result="dropped"} 0`)
	wantAnswer(t, at+"/events?instance=a", http.StatusBadRequest, "nothing else")
}
