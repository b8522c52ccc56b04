package systemd

// Log entries go to the journal with their fields as journal fields. A journal
// that stalls must not stall the daemon, so entries pass through a bounded queue
// that drops and counts.

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// JournalSocket is where journald listens.
const JournalSocket = "/run/systemd/journal/socket"

const (
	journalQueue    = 1024            // entries; a transition at debug level writes about a hundred
	journalSendWait = time.Second     // for journald to take one entry
	journalLastWait = 2 * time.Second // for what is queued when Run ends
)

// UnderJournal reports whether standard error goes to the journal already, so
// that entries should go there with their fields instead.
func UnderJournal() bool {
	yes, err := journal.StderrIsJournalStream()
	return err == nil && yes
}

// JournalConfig is what a Journal needs.
type JournalConfig struct {
	Socket     string // empty means JournalSocket
	Identifier string // SYSLOG_IDENTIFIER, the word before the colon in journalctl
	// Fields are fields of every entry that its text does not repeat, by their names in
	// the journal.
	Fields map[string]string
	Level  zapcore.LevelEnabler
}

// Journal is where the cores of one process put their entries. Run sends them.
type Journal struct {
	cfg     JournalConfig
	queue   chan []byte
	dropped atomic.Uint64
}

// NewJournal returns a Journal that keeps entries until Run is called.
func NewJournal(cfg JournalConfig) *Journal {
	if cfg.Socket == "" {
		cfg.Socket = JournalSocket
	}
	return &Journal{cfg: cfg, queue: make(chan []byte, journalQueue)}
}

// Core returns the core for zap.New. Its MESSAGE is the entry's text followed by
// its fields as key=value, which is what journalctl shows; the fields are journal
// fields as well, in upper case.
func (j *Journal) Core() zapcore.Core {
	return &journalCore{LevelEnabler: j.cfg.Level, journal: j}
}

// Dropped is how many entries were lost so far, to a full queue or to a journal
// that did not take them.
func (j *Journal) Dropped() uint64 { return j.dropped.Load() }

// Run sends entries until ctx ends, then what is still queued, for at most 2 s.
// It returns nil.
func (j *Journal) Run(ctx context.Context) error {
	s := sender{socket: j.cfg.Socket}
	defer s.close()
	var told uint64
	for {
		select {
		case <-ctx.Done():
			j.finish(&s)
			return nil
		case entry := <-j.queue:
			j.sendOne(&s, entry)
			if lost := j.Dropped(); lost > told && len(j.queue) == 0 {
				told = lost
				j.sendOne(&s, j.lossEntry(lost))
			}
		}
	}
}

func (j *Journal) finish(s *sender) {
	for limit := time.Now().Add(journalLastWait); time.Now().Before(limit); {
		select {
		case entry := <-j.queue:
			j.sendOne(s, entry)
		default:
			return
		}
	}
}

func (j *Journal) sendOne(s *sender, entry []byte) {
	if err := s.send(entry); err != nil {
		j.dropped.Add(1)
	}
}

func (j *Journal) lossEntry(lost uint64) []byte {
	var b bytes.Buffer
	j.header(&b, journal.PriWarning, fmt.Sprintf("%d log entries were dropped since the start", lost))
	return b.Bytes()
}

func (j *Journal) header(b *bytes.Buffer, p journal.Priority, message string) {
	writeField(b, "PRIORITY", strconv.Itoa(int(p)))
	if j.cfg.Identifier != "" {
		writeField(b, "SYSLOG_IDENTIFIER", j.cfg.Identifier)
	}
	for _, name := range sortedKeys(j.cfg.Fields) {
		writeField(b, name, j.cfg.Fields[name])
	}
	writeField(b, "MESSAGE", message)
}

// messageIDKey is the key of a field that the text does not repeat.
const messageIDKey = "message_id"

// MessageID returns the field that becomes MESSAGE_ID: 32 hexadecimal digits, small
// letters, which say of what kind an entry is (systemd.journal-fields(7)).
func MessageID(id string) zapcore.Field {
	return zapcore.Field{Key: messageIDKey, Type: zapcore.StringType, String: id}
}

type journalCore struct {
	zapcore.LevelEnabler
	journal *Journal
	with    []zapcore.Field
}

func (c *journalCore) With(fields []zapcore.Field) zapcore.Core {
	clone := *c
	clone.with = append(c.with[:len(c.with):len(c.with)], fields...)
	return &clone
}

func (c *journalCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write queues the entry. It never blocks and never fails.
func (c *journalCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	entry := c.encode(e, fields)
	select {
	case c.journal.queue <- entry:
	default:
		c.journal.dropped.Add(1)
	}
	return nil
}

// Sync does nothing: the end of Run is what empties the queue.
func (c *journalCore) Sync() error { return nil }

func (c *journalCore) encode(e zapcore.Entry, fields []zapcore.Field) []byte {
	pairs := flatten(append(c.with[:len(c.with):len(c.with)], fields...))
	message := e.Message
	for _, p := range pairs {
		if p.key == messageIDKey {
			continue
		}
		message += " " + p.key + "=" + quoteIfNeeded(p.value)
	}
	var b bytes.Buffer
	c.journal.header(&b, priority(e.Level), message)
	if e.LoggerName != "" {
		writeField(&b, "LOGGER", e.LoggerName)
	}
	if e.Caller.Defined {
		writeField(&b, "CODE_FILE", e.Caller.File)
		writeField(&b, "CODE_LINE", strconv.Itoa(e.Caller.Line))
		writeField(&b, "CODE_FUNC", e.Caller.Function)
	}
	if e.Stack != "" {
		writeField(&b, "STACK", e.Stack)
	}
	for _, p := range pairs {
		name := fieldName(p.key)
		if p.key == messageIDKey {
			name = "MESSAGE_ID"
		}
		writeField(&b, name, p.value)
	}
	return b.Bytes()
}

func priority(l zapcore.Level) journal.Priority {
	switch {
	case l < zapcore.InfoLevel:
		return journal.PriDebug
	case l == zapcore.InfoLevel:
		return journal.PriInfo
	case l == zapcore.WarnLevel:
		return journal.PriWarning
	case l == zapcore.ErrorLevel:
		return journal.PriErr
	}
	return journal.PriCrit // DPanic, Panic, Fatal
}

// reserved are fields that the journal or the entry itself gives a meaning.
var reserved = map[string]bool{
	"MESSAGE": true, "PRIORITY": true, "SYSLOG_IDENTIFIER": true, "CODE_FILE": true, "CODE_LINE": true,
	"CODE_FUNC": true, "LOGGER": true, "STACK": true, "MESSAGE_ID": true,
}

const fieldNameLimit = 64 // journald ignores longer ones (systemd.journal-fields(7))

// fieldName turns a key into a name that journald accepts: capital letters,
// digits and underscores, beginning with a letter.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9'):
			return r
		}
		return '_'
	}, key)
	name = strings.TrimLeft(name, "_")
	if name == "" || (name[0] >= '0' && name[0] <= '9') || reserved[name] {
		name = "FIELD_" + name
	}
	return name[:min(len(name), fieldNameLimit)]
}

// writeField writes one field of the journal's native protocol.
func writeField(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	if !strings.Contains(value, "\n") {
		b.WriteString("=" + value + "\n")
		return
	}
	b.WriteByte('\n')
	_ = binary.Write(b, binary.LittleEndian, uint64(len(value))) // a bytes.Buffer takes everything
	b.WriteString(value + "\n")
}

// sender owns the socket to journald.
type sender struct {
	socket string
	conn   *net.UnixConn
}

func (s *sender) send(entry []byte) error {
	if s.conn == nil {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
		if err != nil {
			return err
		}
		s.conn = conn
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(journalSendWait)); err != nil {
		return err
	}
	_, err := s.conn.Write(entry)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		err = s.sendFile(entry)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.close() // journald restarted: the next entry connects again
	}
	return err
}

// sendFile passes an entry that is too large for a datagram as a sealed memory
// file, which is the only kind that journald reads without copying it first.
func (s *sender) sendFile(entry []byte) error {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "journal-entry")
	defer f.Close()
	if _, err := f.Write(entry); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	raw, err := s.conn.SyscallConn() // net refuses control messages on a connected datagram socket
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(socket uintptr) bool {
		sent = unix.Sendmsg(int(socket), nil, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		return !errors.Is(sent, unix.EAGAIN)
	})
	return errors.Join(err, sent)
}

func (s *sender) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}
