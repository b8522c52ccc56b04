package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

const catalogFile = "../../packaging/journal/tanist.catalog"

// Each kind has a name and an ID of its own, and both the catalog and the docs say
// what it means.
func TestKindsOfMessages(t *testing.T) {
	catalog, err := os.ReadFile(catalogFile)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	entry := regexp.MustCompile(`(?m)^-- ([0-9a-f]{32})\nSubject: .+\nDefined-By: tanist\nSupport: .+\n\n[A-Z].+`)
	explained := map[string]bool{}
	for _, m := range entry.FindAllSubmatch(catalog, -1) {
		explained[string(m[1])] = true
	}
	seen := map[string]bool{}
	kinds := enum[messageKind](t)
	for _, k := range kinds {
		i := k.identity()
		if seen[i.name] || seen[i.id] || len(i.id) != 32 {
			t.Errorf("%s: %s is not its own", k, i.id)
		}
		seen[i.name], seen[i.id] = true, true
		if !explained[i.id] {
			t.Errorf("%s has no entry in the catalog", k)
		}
		if row := fmt.Sprintf("| `%s` | `%s` | ", i.name, i.id); !strings.Contains(string(docs), row) {
			t.Errorf("docs/logs.md has no row %s", row)
		}
	}
	if len(explained) != len(kinds) {
		t.Errorf("%d entries in the catalog, %d kinds", len(explained), len(kinds))
	}
}

// journalctl itself takes the catalog.
func TestCatalogCompiles(t *testing.T) {
	journalctl, err := exec.LookPath("journalctl")
	if err != nil {
		t.Skip("needs journalctl")
	}
	text, err := os.ReadFile(catalogFile)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/systemd/catalog", "var/lib/systemd/catalog"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/catalog/tanist.catalog"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), journalctl, "--root="+root, "--update-catalog").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), journalctl, "--root="+root, "--list-catalog").CombinedOutput()
	if err != nil || bytes.Count(out, []byte(" tanist: ")) != len(enum[messageKind](t)) {
		t.Errorf("%v\n%s", err, out)
	}
}

// aSwitchover is what the old and the new node note of one.
func aSwitchover() (old, next []failover.Note) {
	step := func(name string, took time.Duration) hooks.Result {
		return hooks.Result{Name: name, Outcome: hooks.Changed, Duration: took}
	}
	over := func(role hooks.Role, from failover.State, epoch failover.Epoch, took time.Duration) *failover.Transition {
		return &failover.Transition{Epoch: epoch, Role: role, Planned: true, Reason: failover.Requested, From: from, Ending: hooks.Completed, Duration: took}
	}
	requested := failover.Why{Reason: failover.Requested}
	old = []failover.Note{
		{State: failover.Demoting, New: true, From: failover.Active, Epoch: 6, Why: requested},
		{State: failover.Demoting, Epoch: 6, Why: failover.Why{Reason: failover.HandedOver}},
		{
			State: failover.Demoting, Epoch: 6, Why: requested, Over: over(hooks.Standby, failover.Active, 6, 360400*time.Microsecond),
			Steps: []hooks.Result{step("writes close", 12*ms), step("vip release", 0), step("unit stop lsyncd.service", 310*ms)},
		},
		{State: failover.Backup, New: true, From: failover.Demoting, Epoch: 7, Why: failover.Why{Reason: failover.PeerActive}},
	}
	next = []failover.Note{
		{State: failover.Promoting, New: true, From: failover.Backup, Epoch: 7, Why: requested},
		{
			State: failover.Promoting, Epoch: 7, Why: requested, Over: over(hooks.Active, failover.Backup, 7, 236*ms),
			Steps: []hooks.Result{step("replication stop", 21*ms), step("writes open", 4*ms), step("vip acquire", ms)},
		},
		{State: failover.Active, New: true, From: failover.Promoting, Epoch: 7, Why: requested},
		{State: failover.Refused, New: true, From: failover.Backup, Epoch: 7, Urgent: true, Why: failover.Why{
			Reason: failover.GateClosed, Gate: []replication.Reason{{Code: replication.Lagging, Database: "pivot", Detail: "7.0 s behind"}},
		}},
	}
	return old, next
}

type fixedClock struct{ time.Time }

func (c fixedClock) Now() time.Time                         { return c.Time }
func (c fixedClock) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }

func TestASwitchoverInTheLog(t *testing.T) {
	for name, format := range map[string]config.LogFormat{"json": config.FormatJSON, "console": config.FormatConsole} {
		t.Run(name, func(t *testing.T) {
			file, err := os.Create(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			l, err := newLoggerTo(config.Log{Format: format}, "primary", file, "")
			if err != nil {
				t.Fatal(err)
			}
			l.zap = l.zap.WithOptions(zap.WithClock(fixedClock{time.Date(2026, 11, 21, 2, 14, 7, 0, time.UTC)}))
			old, next := aSwitchover()
			for _, n := range append(old, next...) {
				l.Note("compass", n)
			}
			l.event(kindCommand, zapcore.InfoLevel, "told by an operator", zap.String("command", "switchover"))
			flush(l)
			text, err := os.ReadFile(file.Name())
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "log/switchover."+name, string(text))
		})
	}
}

// A pipe that nobody reads takes its fill, and then the log loses lines and the loop no
// time. What was lost is said when somebody reads again.
func TestAPipeThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l, err := newLoggerTo(config.Log{Format: config.FormatJSON}, "primary", w, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); l.run(ctx) }()
	began := time.Now()
	old, _ := aSwitchover()
	const lines = 20 * logQueue
	for range lines {
		l.Note("compass", old[2])
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("%d lines took %s", lines, took)
	}
	if l.dropped.Load() == 0 {
		t.Error("nothing was dropped: the pipe is larger than this test thinks")
	}
	text := make(chan []byte, 1)
	go func() { b, _ := io.ReadAll(r); text <- b }()
	eventually(t, "the queue to empty", func() bool { return len(l.queue) == 0 })
	end()
	<-over
	_ = w.Close()
	got := string(<-text)
	if n := uint64(strings.Count(got, "transition over")); n+l.dropped.Load() != lines {
		t.Errorf("%d written, %d dropped, of %d", n, l.dropped.Load(), lines)
	}
	if !strings.Contains(got, fmt.Sprintf(`"since_start":%d,"event":"log_dropped"`, l.dropped.Load())) {
		t.Error("the loss is not told")
	}
}

// A journald that takes nothing holds up nobody either, nor the daemon's end.
func TestAJournalThatTakesNothing(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "journal")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	l, err := newLoggerTo(config.Log{Format: config.FormatJournal}, "primary", os.Stderr, name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); l.run(ctx) }()
	_, next := aSwitchover()
	began := time.Now()
	for range 10 * logQueue {
		l.Note("compass", next[1])
	}
	eventually(t, "the lines to go their way", func() bool { return len(l.queue) == 0 })
	end()
	<-over // within journalLastWait of the sink
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %s", took)
	}
	if l.dropped.Load()+l.journal.Dropped() == 0 {
		t.Error("nothing was dropped")
	}
	entry := make([]byte, 1<<16)
	n, err := conn.Read(entry)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"PRIORITY=6\n", "SYSLOG_IDENTIFIER=tanist\n", "NODE=primary\n", "\nMESSAGE_ID=" + kindTransition.identity().id + "\n",
		"\nINSTANCE=compass\n", "\nEPOCH=7\n", "\nREASON=requested\n", "\nSTATE=promoting\n", "\nFROM=backup\n", "\nTO=active\n",
		"\nDURATION_MS=236\n", "\nRESULT=completed\n", "MESSAGE=transition over instance=compass state=promoting",
	} {
		if !bytes.Contains(entry[:n], []byte(want)) {
			t.Errorf("no %q in\n%s", want, entry[:n])
		}
	}
	if bytes.Contains(entry[:n], []byte("message_id=")) {
		t.Errorf("the text repeats the ID:\n%s", entry[:n])
	}
}
