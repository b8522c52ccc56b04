package mysql

// Measuring turns every outcome into facts. A measurement that does not finish
// in time says nothing but that.

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

// Measure reads the database's facts over the probe connection. It ends with
// ctx or after the configured limit, whichever comes first, and reports every
// failure as a fact. MeasuredAt is the instant at which it began.
func (d *Database) Measure(ctx context.Context) replication.Facts {
	began := d.now()
	ctx, cancel := context.WithTimeout(ctx, d.measureTimeout)
	defer cancel()
	facts, err := d.measureOnce(ctx)
	if err != nil && isLost(err) && ctx.Err() == nil {
		// The server restarted, or somebody killed the idle connection: only a new
		// one can tell which.
		facts, err = d.measureOnce(ctx)
	}
	if err != nil {
		facts = replication.Facts{Reach: reachOf(err), ReachDetail: err.Error()}
		if ctx.Err() != nil && facts.Reach == replication.ReachFailed {
			// The driver can report the connection it closed, not the deadline it closed it for.
			facts.Reach = reachOf(ctx.Err())
		}
		if facts.Reach == replication.ReachTimedOut {
			facts.ReachDetail = "no answer within " + d.measureTimeout.String()
		}
	}
	facts.Name, facts.MeasuredAt = d.name, began
	return facts
}

func (d *Database) measureOnce(ctx context.Context) (replication.Facts, error) {
	c, err := d.probe.Conn(ctx)
	if err != nil {
		return replication.Facts{}, err
	}
	defer c.Close()
	s, err := d.identify(ctx, c)
	if err != nil {
		return replication.Facts{}, err
	}
	d.probeID.Store(s.id)
	facts := replication.Facts{Reach: replication.Reachable, Version: s.version.text}

	// Received before applied: the other way round, a transaction that arrives in
	// between would look unapplied.
	channels, err := s.channels(ctx)
	switch {
	case err == nil:
		facts.Channels = replication.Known(channels)
	case serverErrorNumber(err) == errSpecificAccessDenied:
		facts.ReachDetail = err.Error()
	default:
		return replication.Facts{}, err
	}
	variables, err := queryOne(ctx, c, s.dialect.variables)
	if err != nil {
		return replication.Facts{}, err
	}
	fillVariables(&facts, variables)
	if err := s.fillActivity(ctx, &facts); err != nil {
		return replication.Facts{}, err
	}
	return facts, nil
}

func fillVariables(f *replication.Facts, r row) {
	f.Applied = read(r, "applied", replication.ParsePosition)
	f.Executed = read(r, "executed", replication.ParsePosition)
	f.BinlogState = read(r, "binlog_state", replication.ParseBinlogState)
	f.ServerID = read(r, "server_id", parseUint32)
	f.ReadOnly = read(r, "read_only", parseReadOnly)
}

func (s *session) fillActivity(ctx context.Context, f *replication.Facts) error {
	connected, err := query(ctx, s.conn, s.dialect.connectedReplicas)
	if err != nil {
		return err
	}
	if len(connected) == 1 {
		f.ReplicasConnected = read(connected[0], "Value", func(t string) (uint64, error) { return strconv.ParseUint(t, 10, 64) })
	}
	oldest, err := queryOne(ctx, s.conn, s.dialect.longestTransaction)
	switch {
	case err == nil:
		f.LongestTransaction = read(oldest, "seconds", parseSeconds)
	case serverErrorNumber(err) == errSpecificAccessDenied:
		f.ReachDetail = err.Error()
	default:
		return err
	}
	return nil
}

// session is a connection whose server is known and spoken.
type session struct {
	conn    *sql.Conn
	id      uint64 // as KILL takes it
	version version
	dialect *dialect
	changed bool // a statement that changes something was sent
}

// identify asks each time: a pool may have connected anew, to an upgraded server.
func (d *Database) identify(ctx context.Context, c *sql.Conn) (*session, error) {
	r, err := queryOne(ctx, c, "SELECT CONNECTION_ID() AS id, VERSION() AS version")
	if err != nil {
		return nil, err
	}
	id, ok := read(r, "id", func(t string) (uint64, error) { return strconv.ParseUint(t, 10, 64) }).Get()
	if !ok {
		return nil, errors.New("CONNECTION_ID() is not a number")
	}
	v := parseVersion(r["version"].String)
	dialect, err := dialectOf(v)
	if err != nil {
		return nil, err
	}
	return &session{conn: c, id: id, version: v, dialect: dialect}, nil
}

func (s *session) channels(ctx context.Context) ([]replication.Channel, error) {
	rows, err := query(ctx, s.conn, s.dialect.channels)
	if err != nil {
		return nil, err
	}
	channels := make([]replication.Channel, 0, len(rows))
	for _, r := range rows {
		channels = append(channels, channelOf(r))
	}
	return channels, nil
}

func channelOf(r row) replication.Channel {
	c := replication.Channel{
		Name:          r["Connection_name"].String,
		SourceHost:    r["Master_Host"].String,
		IO:            threadState(r["Slave_IO_Running"].String),
		SQL:           threadState(r["Slave_SQL_Running"].String),
		LastIOError:   errorOf(r, "Last_IO_Errno", "Last_IO_Error"),
		LastSQLError:  errorOf(r, "Last_SQL_Errno", "Last_SQL_Error"),
		SecondsBehind: read(r, "Seconds_Behind_Master", parseSeconds),
		Received:      read(r, "Gtid_IO_Pos", replication.ParsePosition),
		UsingGTID:     read(r, "Using_Gtid", parseUsingGTID),
		SQLDelay:      read(r, "SQL_Delay", parseSeconds),
		Filtered:      filtered(r),
	}
	if port, err := strconv.ParseUint(r["Master_Port"].String, 10, 16); err == nil {
		c.SourcePort = uint16(port)
	}
	return c
}

// threadState reads the three words servers use; "Preparing" is a MariaDB IO
// thread that starts and has not connected yet.
func threadState(s string) replication.ThreadState {
	switch s {
	case "Yes":
		return replication.ThreadRunning
	case "No":
		return replication.ThreadStopped
	case "Connecting", "Preparing":
		return replication.ThreadConnecting
	default:
		return replication.ThreadUnknown
	}
}

func errorOf(r row, number, text string) replication.Optional[replication.ServerError] {
	return read(r, number, func(t string) (replication.ServerError, error) {
		n, err := parseUint32(t)
		return replication.NewServerError(n, r[text].String), err
	})
}

var filterColumns = []string{
	"Replicate_Do_DB", "Replicate_Ignore_DB", "Replicate_Do_Table", "Replicate_Ignore_Table",
	"Replicate_Wild_Do_Table", "Replicate_Wild_Ignore_Table", "Replicate_Do_Domain_Ids",
	"Replicate_Ignore_Domain_Ids", "Replicate_Ignore_Server_Ids", "Replicate_Rewrite_DB",
}

func filtered(r row) replication.Optional[bool] {
	seen := false
	for _, column := range filterColumns {
		v, ok := r[column]
		seen = seen || ok
		if v.String != "" {
			return replication.Known(true)
		}
	}
	if !seen {
		return replication.Unknown[bool]()
	}
	return replication.Known(false)
}

func parseUsingGTID(s string) (bool, error) {
	switch s {
	case "No":
		return false, nil
	case "Slave_Pos", "Current_Pos":
		return true, nil
	default:
		return false, strconv.ErrSyntax
	}
}

func parseUint32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// parseSeconds reads whole seconds; a clock set back makes some negative, which
// is no age.
func parseSeconds(s string) (time.Duration, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, err
	}
	return time.Duration(max(n, 0)) * time.Second, nil
}
