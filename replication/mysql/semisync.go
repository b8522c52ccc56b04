package mysql

// Semi-synchronous replication is a plugin of two names in MySQL and part of
// MariaDB; its status variables tell which is there.

import (
	"context"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

const statusVariables = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Slaves_connected', " +
	"'Rpl_semi_sync_source_status', 'Rpl_semi_sync_source_no_tx', 'Rpl_semi_sync_source_clients', 'Rpl_semi_sync_source_wait_sessions', " +
	"'Rpl_semi_sync_master_status', 'Rpl_semi_sync_master_no_tx', 'Rpl_semi_sync_master_clients', 'Rpl_semi_sync_master_wait_sessions', " +
	"'Rpl_semi_sync_replica_status', 'Rpl_semi_sync_slave_status')"

// status returns the status variables that there are, as one row.
func (s *session) status(ctx context.Context) (row, error) {
	rows, err := query(ctx, s.conn, statusVariables)
	if err != nil {
		return nil, err
	}
	status := make(row, len(rows))
	for _, r := range rows {
		status[r["Variable_name"].String] = r["Value"]
	}
	return status, nil
}

// semiSync reads both sides: the plugin of a source and that of a replica are
// loaded apart, each under an old or a new name.
func (s *session) semiSync(ctx context.Context, status row) (replication.SemiSync, error) {
	var semi replication.SemiSync
	var variables []string
	for _, word := range [...]struct{ source, replica string }{{"source", "replica"}, {"master", "slave"}} {
		prefix := "Rpl_semi_sync_" + word.source
		if _, there := status[prefix+"_status"]; there && !semi.SourceStatus.IsKnown() {
			semi.SourceStatus = read(status, prefix+"_status", parseSwitch)
			semi.NoTx = read(status, prefix+"_no_tx", parseUint64)
			semi.Clients = read(status, prefix+"_clients", parseUint64)
			semi.Waiting = read(status, prefix+"_wait_sessions", parseUint64)
			prefix = "@@GLOBAL." + strings.ToLower(prefix)
			variables = append(variables, prefix+"_timeout AS timeout", prefix+"_wait_no_"+word.replica+" AS wait_no_replica")
		}
		if _, there := status["Rpl_semi_sync_"+word.replica+"_status"]; there {
			variables = append(variables, "@@GLOBAL.rpl_semi_sync_"+word.replica+"_enabled AS enabled")
		}
	}
	if len(variables) == 0 {
		return semi, nil
	}
	r, err := queryOne(ctx, s.conn, "SELECT "+strings.Join(variables, ", "))
	if serverErrorNumber(err) == errUnknownVariable {
		// A plugin was unloaded in between.
		return replication.SemiSync{}, nil
	}
	if err != nil {
		return replication.SemiSync{}, err
	}
	semi.ReplicaEnabled = read(r, "enabled", parseSwitch)
	semi.Patience = read(r, "timeout", parseMilliseconds)
	if waits, known := read(r, "wait_no_replica", parseSwitch).Get(); known && !waits {
		semi.Patience = replication.Known(time.Duration(0))
	}
	return semi, nil
}

// parseMilliseconds reads a timeout, capped where a Duration ends.
func parseMilliseconds(s string) (time.Duration, error) {
	n, err := parseUint64(s)
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(n, most)) * time.Millisecond, err
}
