package mysql

// A heartbeat is a transaction, and one that a standby wrote would be errant. So
// it is one statement that looks for itself whether writes are open: the server
// evaluates it with the table locked, and sets read_only only while no table is
// locked for writing. Whatever is left over of a heartbeat after that, on its way
// or in a server that hung, finds read_only set, or its time over, and writes no
// row and no transaction. What is done on this side only makes that rare.

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

const (
	// beatStatement bounds a heartbeat in the server, whatever it waits for there.
	// Those who close writes wait behind it.
	beatStatement = 300 * time.Millisecond
	// beatLook bounds a look at the table, here and, a little shorter, in the server.
	// It is never the measurement that waits for a locked table.
	beatLook          = 150 * time.Millisecond
	beatLookStatement = 100 * time.Millisecond
	// beatReadTimeout is for where a context fails to end a wait.
	beatReadTimeout = 3 * time.Second
	// beatStop bounds the wait for a heartbeat that was told to end. It has ended
	// by then but for its goroutine.
	beatStop = 100 * time.Millisecond
	// maxBeats bounds the rows that are read: one for each server that was ever here.
	maxBeats = 64
)

var (
	// ErrNoHeartbeat is in the error of a Beat that wrote nothing though the server
	// took it: it is read-only, or got to it too late.
	ErrNoHeartbeat = errors.New("the server is read-only, or got to it too late: nothing is written")
	errBeatStopped = errors.New("writes were closed from here and not opened since")
	errBeatStuck   = errors.New("an earlier one got no answer, and its session is still there")
	errBeatRuns    = errors.New("the one before it still runs")
)

// Table names a table.
type Table struct{ Schema, Name string }

// maxName is the length of a name in a server, in characters.
const maxName = 64

func (t Table) valid() bool {
	for _, s := range [...]string{t.Schema, t.Name} {
		if n := len([]rune(s)); n == 0 || n > maxName {
			return false
		}
	}
	return true
}

// String returns the table as a statement names it.
func (t Table) String() string { return quoteName(t.Schema) + "." + quoteName(t.Name) }

// Definition is the statement that makes the table, to be executed on the source.
func (t Table) Definition() string {
	return "CREATE TABLE IF NOT EXISTS " + t.String() + " (server_id INT UNSIGNED NOT NULL PRIMARY KEY, " +
		"epoch BIGINT UNSIGNED NOT NULL, beat BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB"
}

// beats is the writer of heartbeats of one database, and the handle that reads
// them. Its sessions are killed as a client's are when writes are closed.
type beats struct {
	table Table   // the zero Table for none
	db    *sql.DB // nil for none

	mu      sync.Mutex // guards the fields below
	stopped bool
	stops   uint64             // how often it was stopped
	cancel  context.CancelFunc // of the one that runs, nil when none does
	ended   chan struct{}      // closed when that has ended
	stuck   uint64             // the session of one that got no answer, 0: none
	err     error              // of the last one
}

func (d *Database) openBeats(t Table, s *driver.Config, password func() (string, error)) (err error) {
	if t == (Table{}) {
		return nil
	}
	if !t.valid() {
		return fmt.Errorf("heartbeat table %s: a name has 1 to %d characters", t, maxName)
	}
	// A server may begin its sessions otherwise. Row locks are waited for no longer
	// than a second, the least that every release can be told.
	s.Params["autocommit"], s.Params["innodb_lock_wait_timeout"] = "1", "1"
	d.beats.table = t
	// Two, so that a look does not wait for a write.
	if d.beats.db, err = handle(s, password, 2); err == nil {
		d.beats.db.SetMaxIdleConns(2)
	}
	return err
}

func (b *beats) close() error {
	if b.db == nil {
		return nil
	}
	return b.db.Close()
}

// begin makes a heartbeat the one that runs.
func (b *beats) begin(ctx context.Context) (context.Context, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.stopped:
		b.err = errBeatStopped
	case b.cancel != nil:
		b.err = errBeatRuns
	default:
		ctx, b.cancel = context.WithCancel(ctx)
		b.ended = make(chan struct{})
		return ctx, nil
	}
	return nil, b.err
}

// end notes how the one that runs ended. What a stop cut off is nobody's trouble.
func (b *beats) end(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cancel()
	b.cancel = nil
	close(b.ended)
	if b.stopped {
		err = nil
	}
	b.err = err
	return err
}

// stop lets no heartbeat begin any more, ends the one that runs and waits until it
// has: for its statement the server answers.
func (b *beats) stop(ctx context.Context) {
	b.mu.Lock()
	b.stopped, b.err = true, nil
	b.stops++
	ended := b.ended
	if b.cancel == nil {
		b.mu.Unlock()
		return
	}
	b.cancel()
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, beatStop)
	defer cancel()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// opening returns what allow takes, at the beginning of what finds writes open, or
// opens them.
func (b *beats) opening() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stops
}

// allow lets heartbeats begin again unless they were stopped since opening.
func (b *beats) allow(opening uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped && b.stops == opening {
		b.stopped, b.err = false, nil
	}
}

// trouble returns what became of the last heartbeat, empty when all is well.
func (b *beats) trouble() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		return ""
	}
	return b.err.Error()
}

// Beat writes one heartbeat of an epoch: the caller is the node that has the
// service. The server writes it before until, and with writes open, or not at all;
// then the error is ErrNoHeartbeat. Until is an instant of the clock of
// Config.Now. Without a heartbeat table it does nothing. From CloseWrites on it
// writes nothing until OpenWrites, or WritesAre found them open.
func (d *Database) Beat(ctx context.Context, epoch uint64, until mono.Instant) error {
	if d.beats.db == nil {
		return nil
	}
	ctx, err := d.beats.begin(ctx)
	if err == nil {
		err = d.beats.end(d.beat(ctx, epoch, until))
	}
	if err != nil {
		return fmt.Errorf("write the heartbeat of database %s into %s: %w", d.name, d.beats.table, err)
	}
	return nil
}

func (d *Database) beat(ctx context.Context, epoch uint64, until mono.Instant) error {
	left := until.Sub(d.now())
	if left <= 0 {
		return ErrNoHeartbeat
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	if err := d.unstuck(ctx); err != nil {
		return err
	}
	c, err := d.beats.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := d.identify(ctx, c)
	if err != nil {
		return err
	}
	if err := s.logsRows(ctx); err != nil {
		return err
	}
	deadline, err := s.deadlineAfter(ctx, func() time.Duration { return until.Sub(d.now()) })
	if errors.Is(err, ErrExpired) {
		return ErrNoHeartbeat
	}
	if err != nil {
		return err
	}
	result, err := c.ExecContext(ctx, s.dialect.beat(d.beats.table, epoch, deadline))
	if err != nil {
		if serverErrorNumber(err) == 0 {
			d.beats.leave(s.id)
		}
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return ErrNoHeartbeat
	}
	return nil
}

// leave notes the session of a heartbeat that got no answer.
func (b *beats) leave(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stuck = id
}

// unstuck makes sure that nothing is left of a heartbeat that got no answer, such
// as one that waits for a full disk or a replica's acknowledgement: there is never
// more than one of them.
func (d *Database) unstuck(ctx context.Context) error {
	d.beats.mu.Lock()
	id := d.beats.stuck
	d.beats.mu.Unlock()
	if id == 0 {
		return nil
	}
	return d.lookOnce(ctx, func(ctx context.Context, s *session) error {
		rows, err := query(ctx, s.conn, "SELECT INFO AS statement FROM information_schema.PROCESSLIST WHERE ID = "+strconv.FormatUint(id, 10))
		if err != nil {
			return err
		}
		// After a restart of the server the number is somebody else's.
		if len(rows) == 0 || !strings.Contains(rows[0]["statement"].String, "INSERT INTO "+d.beats.table.String()) {
			d.beats.leave(0)
			return nil
		}
		_, err = s.conn.ExecContext(ctx, s.dialect.kill(id))
		return errors.Join(errBeatStuck, err)
	})
}

// logsRows refuses a session whose statements are logged as text: one that writes
// no row would be logged all the same, as a transaction of a closed server. The
// format is fixed for a session. Where there is no such variable there are rows.
func (s *session) logsRows(ctx context.Context) error {
	rows, err := query(ctx, s.conn, "SHOW SESSION VARIABLES LIKE 'binlog\\_format'")
	if err != nil {
		return err
	}
	for _, r := range rows {
		if f := r["Value"].String; f != "ROW" && f != "MIXED" {
			return &formatError{f}
		}
	}
	return nil
}

type formatError struct{ format string }

func (e *formatError) Error() string {
	return "binlog_format is " + e.format + ", with which a heartbeat cannot be written safely: it takes MIXED or ROW"
}

// insertBeat counts in the server's own row. The conditions are evaluated when the table
// is locked. read_only is compared as text, since a word is equal to the number 0.
func (d *dialect) insertBeat(t Table, epoch uint64, deadline string) string {
	e := strconv.FormatUint(epoch, 10)
	return "INSERT INTO " + t.String() + " (server_id, epoch, beat) SELECT @@GLOBAL.server_id, " + e + ", 1 FROM DUAL " +
		"WHERE CONCAT(@@GLOBAL.read_only) IN ('0', 'OFF') AND UNIX_TIMESTAMP(SYSDATE(6)) < " + deadline +
		" ON DUPLICATE KEY UPDATE epoch = " + e + ", beat = " + t.String() + ".beat + 1"
}

func (d *dialect) beat(t Table, epoch uint64, deadline string) string {
	insert := d.insertBeat(t, epoch, deadline)
	if d.family == familyMariaDB {
		return fmt.Sprintf("SET STATEMENT max_statement_time = %.3f FOR %s", beatStatement.Seconds(), insert)
	}
	return insert // behind the session's timeouts
}

func (d *dialect) readBeats(t Table) string {
	columns := fmt.Sprintf(" server_id, epoch, beat FROM %s LIMIT %d", t, maxBeats)
	if d.family == familyMariaDB {
		return fmt.Sprintf("SET STATEMENT max_statement_time = %.3f FOR SELECT", beatLookStatement.Seconds()) + columns
	}
	return fmt.Sprintf("SELECT /*+ MAX_EXECUTION_TIME(%d) */", beatLookStatement.Milliseconds()) + columns
}

// readBeats reads the heartbeat table, and says what is wrong with it or with
// writing it. That it cannot be read says nothing about the server.
func (d *Database) readBeats(ctx context.Context) (rows replication.Optional[[]replication.Beat], detail string) {
	if d.beats.db == nil {
		return rows, ""
	}
	ctx, cancel := context.WithTimeout(ctx, beatLook)
	defer cancel()
	list, err := d.lookAtBeats(ctx)
	if err != nil {
		return rows, fmt.Sprintf("read heartbeat table %s: %v", d.beats.table, err)
	}
	if t := d.beats.trouble(); t != "" {
		detail = fmt.Sprintf("write heartbeat table %s: %s", d.beats.table, t)
	}
	return replication.Known(list), detail
}

func (d *Database) lookAtBeats(ctx context.Context) ([]replication.Beat, error) {
	c, err := d.beats.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s, err := d.identify(ctx, c)
	if err != nil {
		return nil, err
	}
	answer, err := query(ctx, c, s.dialect.readBeats(d.beats.table))
	if err != nil {
		return nil, err
	}
	list := make([]replication.Beat, 0, len(answer))
	for _, r := range answer {
		server, serverOK := read(r, "server_id", parseUint32).Get()
		epoch, epochOK := read(r, "epoch", parseUint64).Get()
		count, countOK := read(r, "beat", parseUint64).Get()
		if !serverOK || !epochOK || !countOK {
			return nil, errors.New("it holds something else than numbers")
		}
		list = append(list, replication.Beat{Server: server, Epoch: epoch, Count: count})
	}
	return list, nil
}
