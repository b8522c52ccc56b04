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
	d.silent.Store(facts.Reach == replication.ReachTimedOut)
	if facts.Reach == replication.Reachable {
		facts.Beats, facts.BeatDetail = d.readBeats(ctx)
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
	f.Purged = read(r, "purged", replication.ParsePosition)
	f.BinlogState = read(r, "binlog_state", replication.ParseBinlogState)
	f.ServerID = read(r, "server_id", parseUint32)
	f.ServerUUID = r.text("server_uuid")
	f.ReadOnly = read(r, "read_only", parseReadOnly)
	f.SuperReadOnly = read(r, "super_read_only", parseSwitch)
	f.GTIDMode = read(r, "gtid_mode", parseGTIDMode)
	f.LogReplicaUpdates = read(r, "log_replica_updates", parseSwitch)
	f.SkipReplicaStart = read(r, "skip_replica_start", parseSwitch)
	f.EventScheduler = read(r, "event_scheduler", parseSwitch)
}

func (s *session) fillActivity(ctx context.Context, f *replication.Facts) error {
	sessions := s.dialect.connectedReplicas
	oldest, err := queryOne(ctx, s.conn, longestTransaction)
	switch {
	case err == nil:
		f.LongestTransaction = read(oldest, "seconds", parseSeconds)
	case serverErrorNumber(err) == errSpecificAccessDenied:
		f.ReachDetail = err.Error()
		// Without PROCESS the sessions of replicas are not seen, which is not none.
		sessions = ""
	default:
		return err
	}
	if sessions != "" {
		connected, err := queryOne(ctx, s.conn, sessions)
		if err != nil {
			return err
		}
		f.ReplicasConnected = read(connected, "connected", parseUint64)
	}
	status, err := s.status(ctx)
	if err != nil {
		return err
	}
	if s.dialect.family == familyMariaDB {
		f.ReplicasConnected = read(status, "Slaves_connected", parseUint64)
	}
	f.SemiSync, err = s.semiSync(ctx, status)
	return err
}

// session is a connection whose server is known and spoken.
type session struct {
	conn    *sql.Conn
	id      uint64 // as KILL takes it
	version version
	dialect *dialect
	changed bool // a statement that changes something was sent
	words   bool // read_only was answered as a word, not a number
}

// identify asks each time: a pool may have connected anew, to an upgraded server.
func (d *Database) identify(ctx context.Context, c *sql.Conn) (*session, error) {
	r, err := queryOne(ctx, c, "SELECT CONNECTION_ID() AS id, VERSION() AS version")
	if err != nil {
		return nil, err
	}
	id, ok := read(r, "id", parseUint64).Get()
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
		channels = append(channels, channelOf(r, s.dialect.columns))
	}
	return channels, nil
}

func parseUint64(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }

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
