package systemd

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// fields parses an entry of the native protocol.
func fields(t *testing.T, entry string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for entry != "" {
		line, rest, ok := strings.Cut(entry, "\n")
		if !ok {
			t.Fatalf("an entry that ends within a field: %q", entry)
		}
		name, value, plain := strings.Cut(line, "=")
		if !plain {
			size := binary.LittleEndian.Uint64([]byte(rest[:8]))
			value, rest = rest[8:8+size], strings.TrimPrefix(rest[8+size:], "\n")
		}
		got[name], entry = value, rest
	}
	return got
}

func running(t *testing.T, j *Journal) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestJournalEntry(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	l := listen(t, name)
	j := NewJournal(JournalConfig{Socket: name, Identifier: "tanist", Level: zapcore.InfoLevel})
	stop := running(t, j)
	defer stop()
	log := zap.New(j.Core()).Named("node").With(zap.String("instance", "compass"))
	log.Debug("not this")
	log.Warn("promoted", zap.Int("epoch", 7), zap.Duration("took", 1500*time.Millisecond), zap.Error(errors.New("no\nline")),
		zap.Strings("units", []string{"a", "b"}), zap.String("message", "mine"), zap.String("_priority.9", "x y"), zap.Namespace("db"), zap.Bool("open", true))
	want := map[string]string{
		"PRIORITY": "4", "SYSLOG_IDENTIFIER": "tanist", "LOGGER": "node", "INSTANCE": "compass", "EPOCH": "7", "TOOK": "1.5s",
		"ERROR": "no\nline", "UNITS": `["a","b"]`, "FIELD_MESSAGE": "mine", "PRIORITY_9": "x y", "DB_OPEN": "true",
		"MESSAGE": `promoted instance=compass epoch=7 took=1.5s error="no\nline" units="[\"a\",\"b\"]" message=mine _priority.9="x y" db_open=true`,
	}
	if diff := cmp.Diff(want, fields(t, receive(t, l))); diff != "" {
		t.Error(diff)
	}
	for level, want := range map[zapcore.Level]string{zapcore.InfoLevel: "6", zapcore.ErrorLevel: "3", zapcore.DPanicLevel: "2"} {
		log.Log(level, "x")
		if got := fields(t, receive(t, l))["PRIORITY"]; got != want {
			t.Errorf("%v: priority %s, want %s", level, got, want)
		}
	}
}

func TestJournalLargeEntryGoesAsAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	l := listen(t, name)
	j := NewJournal(JournalConfig{Socket: name, Level: zapcore.InfoLevel})
	stop := running(t, j)
	defer stop()
	text := strings.Repeat("x", 16<<20) // larger than any socket buffer
	zap.New(j.Core()).Info(text)
	if err := l.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	oob := make([]byte, unix.CmsgSpace(4))
	plain := make([]byte, 4096)
	k, n, _, _, err := l.ReadMsgUnix(plain, oob)
	if err != nil || k > 0 {
		t.Fatalf("got %q, %v", plain[:k], err)
	}
	f := rights(t, oob[:n])
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil || fields(t, string(data))["MESSAGE"] != text {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); seals&unix.F_SEAL_WRITE == 0 {
		t.Errorf("not sealed: %x, %v", seals, err)
	}
}

func rights(t *testing.T, oob []byte) *os.File {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	return os.NewFile(uintptr(fds[0]), "entry")
}

func TestJournalDropsInsteadOfBlocking(t *testing.T) {
	j := NewJournal(JournalConfig{Socket: filepath.Join(t.TempDir(), "none"), Level: zapcore.InfoLevel})
	log := zap.New(j.Core())
	for range journalQueue + 5 { // nothing runs yet
		log.Info("x")
	}
	if j.Dropped() != 5 {
		t.Errorf("dropped %d", j.Dropped())
	}
	stop := running(t, j)
	eventually(t, "everything is dropped for want of a socket", func() bool { return j.Dropped() >= journalQueue+5 })
	stop()
}

func TestJournalTellsWhatItLostAndSurvivesARestart(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	first := listen(t, name)
	j := NewJournal(JournalConfig{Socket: name, Level: zapcore.InfoLevel})
	stop := running(t, j)
	defer stop()
	log := zap.New(j.Core())
	log.Info("one")
	receive(t, first)
	first.Close()
	os.Remove(name)
	log.Info("two")
	eventually(t, "the entry is lost", func() bool { return j.Dropped() > 0 })
	second := listen(t, name)
	log.Info("three")
	var got []string
	for len(got) == 0 || !strings.Contains(got[len(got)-1], "dropped") {
		got = append(got, fields(t, receive(t, second))["MESSAGE"])
		if len(got) > 3 {
			t.Fatalf("got %q", got)
		}
	}
}

func TestJournalSendsWhatIsQueuedAtTheEnd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	l := listen(t, name)
	j := NewJournal(JournalConfig{Socket: name, Level: zapcore.InfoLevel})
	zap.New(j.Core()).Info("last words")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := fields(t, receive(t, l))["MESSAGE"]; got != "last words" {
		t.Errorf("got %q", got)
	}
}

func TestJournalThatStallsEndsInTime(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	listen(t, name) // never read: its queue fills
	j := NewJournal(JournalConfig{Socket: name, Level: zapcore.InfoLevel})
	log := zap.New(j.Core())
	stop := running(t, j)
	eventually(t, "entries are dropped", func() bool { log.Info("x"); return j.Dropped() > 0 })
	stop()
}
