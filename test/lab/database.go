package lab

// The nodes' MariaDB servers: connections, and replication between them.

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Account of the replicas at their source, made by SetupReplication.
const (
	ReplUser     = "repl"
	ReplPassword = "repl-in-the-lab"
)

const (
	mysqlSocket = "/run/mysqld/mysqld.sock"
	mysqlPort   = 3306
)

// DB opens the node's server as root over its unix socket. Each connection finds
// the node's current boot, so the handle outlives power cycles. It connects only
// when used; the caller closes it.
func (n *Node) DB() (*sql.DB, error) { return n.DBAt(mysqlSocket) }

// DBAt is DB for a server that listens on another socket of the node, named by
// its full path there.
func (n *Node) DBAt(socket string) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr = "root", "unix", socket
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		b, err := n.running()
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/%d/root%s", b.Leader.PID, socket))
	}
	return openDB(cfg)
}

// OpenDB opens a database server over TCP from the switch, at a node's address or
// at any other, such as a virtual IP. It connects only when used; the caller
// closes it.
func (s *Switch) OpenDB(server netip.Addr, user, password, database string) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.DBName = user, password, database
	cfg.Net, cfg.Addr = "tcp", netip.AddrPortFrom(server, mysqlPort).String()
	cfg.DialFunc = s.DialContext
	return openDB(cfg)
}

func openDB(cfg *mysql.Config) (*sql.DB, error) {
	cfg.Timeout = 5 * time.Second
	cfg.Logger = &mysql.NopLogger{} // cut connections are the lab's daily bread
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// SQL runs one statement as root and returns the rows it yields as text, NULL as
// "NULL".
func (n *Node) SQL(ctx context.Context, statement string, args ...any) ([][]string, error) {
	return n.SQLAt(ctx, mysqlSocket, statement, args...)
}

// SQLAt is SQL for a server that listens on another socket of the node.
func (n *Node) SQLAt(ctx context.Context, socket, statement string, args ...any) ([][]string, error) {
	db, err := n.DBAt(socket)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := query(ctx, db, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("run SQL on %s: %w", n.name, err)
	}
	out := make([][]string, 0, len(rows.values))
	for _, row := range rows.values {
		text := make([]string, len(row))
		for i, v := range row {
			text[i] = "NULL"
			if v.Valid {
				text[i] = v.String
			}
		}
		out = append(out, text)
	}
	return out, nil
}

type table struct {
	columns []string
	values  [][]sql.NullString
}

func query(ctx context.Context, db *sql.DB, statement string, args ...any) (table, error) {
	var t table
	rows, err := db.QueryContext(ctx, statement, args...)
	if err != nil {
		return t, err
	}
	defer rows.Close()
	if t.columns, err = rows.Columns(); err != nil {
		return t, err
	}
	for rows.Next() {
		row := make([]sql.NullString, len(t.columns))
		into := make([]any, len(row))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return t, err
		}
		t.values = append(t.values, row)
	}
	return t, rows.Err()
}

// SetupReplication makes replica follow source by GTID over eth0, and returns when
// both threads run and the replica has applied all that the source had. It is for
// a pair that has not replicated yet: the replica's own position stays as it is.
func (l *Lab) SetupReplication(ctx context.Context, source, replica *Node) error {
	for _, s := range []string{
		fmt.Sprintf("CREATE OR REPLACE USER '%s'@'%%' IDENTIFIED BY '%s'", ReplUser, ReplPassword),
		fmt.Sprintf("GRANT REPLICATION SLAVE ON *.* TO '%s'@'%%'", ReplUser),
	} {
		if _, err := source.SQL(ctx, s); err != nil {
			return fmt.Errorf("set up replication: %w", err)
		}
	}
	for _, s := range []string{
		"STOP SLAVE",
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%d, MASTER_USER='%s', MASTER_PASSWORD='%s', "+
			"MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos", source.Addr(Eth0), mysqlPort, ReplUser, ReplPassword),
		"START SLAVE",
	} {
		if _, err := replica.SQL(ctx, s); err != nil {
			return fmt.Errorf("set up replication: %w", err)
		}
	}
	return l.CatchUp(ctx, source, replica)
}

// CatchUp waits until both threads of replica run and it has applied all that
// source has written so far.
func (l *Lab) CatchUp(ctx context.Context, source, replica *Node) error {
	ctx, cancel := bounded(ctx, bootPatience)
	defer cancel()
	pos, err := source.SQL(ctx, "SELECT @@GLOBAL.gtid_binlog_pos")
	if err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	db, err := replica.DB()
	if err != nil {
		return err
	}
	defer db.Close()
	var last map[string]string
	err = poll(ctx, func() (bool, error) {
		var err error
		if last, err = slaveStatus(ctx, db); err != nil {
			return false, err
		}
		return last["Slave_IO_Running"] == "Yes" && last["Slave_SQL_Running"] == "Yes" &&
			covers(last["Gtid_Slave_Pos"], pos[0][0]), nil
	})
	if err != nil {
		return fmt.Errorf("catch up to %s: %w (IO thread %s %s, SQL thread %s %s, at %s)", pos[0][0], err,
			last["Slave_IO_Running"], last["Last_IO_Error"], last["Slave_SQL_Running"], last["Last_SQL_Error"], last["Gtid_Slave_Pos"])
	}
	return nil
}

// slaveStatus returns MariaDB's SHOW SLAVE STATUS by column, and its global
// gtid_slave_pos as Gtid_Slave_Pos.
func slaveStatus(ctx context.Context, db *sql.DB) (map[string]string, error) {
	status := map[string]string{}
	for _, statement := range []string{"SHOW SLAVE STATUS", "SELECT @@GLOBAL.gtid_slave_pos AS Gtid_Slave_Pos"} {
		t, err := query(ctx, db, statement)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
		for _, row := range t.values {
			for i, column := range t.columns {
				status[column] = row[i].String
			}
		}
	}
	return status, nil
}

// covers reports whether the MariaDB GTID position have includes want: per domain
// a sequence number at least as high.
func covers(have, want string) bool {
	reached := map[string]uint64{}
	for gtid := range strings.SplitSeq(have, ",") {
		domain, seq := splitGTID(gtid)
		reached[domain] = max(reached[domain], seq)
	}
	for gtid := range strings.SplitSeq(want, ",") {
		if domain, seq := splitGTID(gtid); reached[domain] < seq {
			return false
		}
	}
	return true
}

func splitGTID(gtid string) (domain string, seq uint64) {
	parts := strings.Split(strings.TrimSpace(gtid), "-")
	if len(parts) != 3 {
		return "", 0
	}
	seq, _ = strconv.ParseUint(parts[2], 10, 64)
	return parts[0], seq
}
