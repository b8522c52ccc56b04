package mysql

// Reading answers by column name, with "no such column" kept apart from NULL,
// and telling the ways in which an answer does not come.

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	driver "github.com/go-sql-driver/mysql"

	"github.com/tanist-ha/tanist/replication"
)

// row is one answer; a column that is absent was not answered.
type row map[string]sql.NullString

// text returns a column's text; absent is unknown.
func (r row) text(column string) replication.Optional[string] {
	v, ok := r[column]
	switch {
	case !ok:
		return replication.Unknown[string]()
	case !v.Valid:
		return replication.Null[string]()
	default:
		return replication.Known(v.String)
	}
}

// read returns column by column what parse makes of its text; NULL stays NULL,
// and what does not parse is unknown.
func read[T any](r row, column string, parse func(string) (T, error)) replication.Optional[T] {
	text := r.text(column)
	if text.IsNull() {
		return replication.Null[T]()
	}
	s, ok := text.Get()
	if !ok {
		return replication.Unknown[T]()
	}
	v, err := parse(s)
	if err != nil {
		return replication.Unknown[T]()
	}
	return replication.Known(v)
}

// maxRows bounds an answer: more sessions than any max_connections.
const maxRows = 200_000

func query(ctx context.Context, c *sql.Conn, statement string) ([]row, error) {
	rows, err := c.QueryContext(ctx, statement)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var all []row
	for rows.Next() {
		if len(all) == maxRows {
			return nil, fmt.Errorf("answer has more than %d rows", maxRows)
		}
		values := make([]sql.NullString, len(columns))
		targets := make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		r := make(row, len(columns))
		for i, column := range columns {
			r[column] = values[i]
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// queryOne returns the only row of an answer.
func queryOne(ctx context.Context, c *sql.Conn, statement string) (row, error) {
	rows, err := query(ctx, c, statement)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("answer has %d rows, want 1", len(rows))
	}
	return rows[0], nil
}

// The server errors that are told apart.
const (
	errTooManyConnections     = 1040
	errAccessDeniedDatabase   = 1044
	errAccessDenied           = 1045
	errShutdown               = 1053
	errSyntax                 = 1064
	errNoSuchThread           = 1094
	errKillDenied             = 1095
	errHostBlocked            = 1129
	errHostNotPrivileged      = 1130
	errNoSuchDatabase         = 1049
	errNoSuchColumn           = 1054
	errNoSuchTable            = 1146
	errUnknownVariable        = 1193
	errTooManyUserConnections = 1203
	errTableAccessDenied      = 1142
	errLockWaitTimeout        = 1205
	errSpecificAccessDenied   = 1227
	errAccessDeniedNoPassword = 1698
	errMustChangePassword     = 1820
	errPasswordExpired        = 1862
	errReadOnly               = 1290
	errStopTimeout            = 1875 // the thread goes on stopping
	errStatementTimeout       = 1969
	errQueryInterrupted       = 1317 // both sides of a KILL
	errConnectionKilled       = 1927
	errSecureNeeded           = 2061 // of caching_sha2_password without TLS or the source's key
	errAccountLocked          = 4151
)

func serverErrorNumber(err error) uint16 {
	if e, ok := errors.AsType[*driver.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// reachOf tells what an error says about the server.
func reachOf(err error) replication.Reach {
	switch serverErrorNumber(err) {
	case 0:
	case errTooManyConnections, errTooManyUserConnections:
		return replication.ReachTooManyConnections
	case errAccessDenied, errAccessDeniedDatabase, errAccessDeniedNoPassword, errMustChangePassword, errPasswordExpired, errAccountLocked:
		return replication.ReachAccessDenied
	case errShutdown:
		return replication.ReachShuttingDown
	case errHostBlocked, errHostNotPrivileged:
		return replication.ReachHostBlocked
	default:
		return replication.ReachFailed
	}
	if _, ok := errors.AsType[*unsupportedError](err); ok {
		return replication.ReachUnsupported
	}
	if _, ok := errors.AsType[*passwordError](err); ok {
		return replication.ReachFailed
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return replication.ReachRefused
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return replication.ReachTimedOut
	case errors.Is(err, syscall.EAGAIN):
		// The backlog of a unix socket is full: nobody accepts any more.
		return replication.ReachTimedOut
	case errors.Is(err, context.Canceled):
		return replication.ReachUnknown
	default:
		return replication.ReachFailed
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// isLost reports whether the connection broke, so that what a statement did is
// not known.
func isLost(err error) bool {
	return errors.Is(err, sqldriver.ErrBadConn) || errors.Is(err, driver.ErrInvalidConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// NotRunning reports whether an error says that no server process is there: nobody
// writes to it, and it cannot be told to close.
func NotRunning(err error) bool { return err != nil && reachOf(err) == replication.ReachRefused }
