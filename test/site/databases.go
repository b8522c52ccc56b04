package site

// Many databases per host: small servers of one template unit, each with its own
// socket, port and data directory, and the same number on both hosts. The hosts
// are told apart by server_id, the lab's own server is off.

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tanist-ha/tanist/test/lab"
)

// MaxDatabases is how many databases a host of a site can have.
const MaxDatabases = 64

// Database is the number of a database, from 1.
type Database int

// Name is what the configuration calls the database.
func (d Database) Name() string { return "db" + d.number() }

// Port is where the database listens on every address of its host.
func (d Database) Port() uint16 { return 3400 + uint16(d) }

// Socket is the database's unix socket in its host.
func (d Database) Socket() string { return "/run/mysqld/" + d.number() + ".sock" }

// Unit is the database's systemd unit.
func (d Database) Unit() string { return "mariadb@" + d.number() + ".service" }

func (d Database) number() string { return fmt.Sprintf("%02d", int(d)) }

// SQL runs one statement as root on a database of a host.
func (d Database) SQL(ctx context.Context, n *lab.Node, statement string) ([][]string, error) {
	rows, err := n.SQLAt(ctx, d.Socket(), statement)
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", d.Name(), n.Hostname, err)
	}
	return rows, nil
}

// value runs a statement that yields one value.
func (d Database) value(ctx context.Context, n *lab.Node, statement string) (string, error) {
	rows, err := d.SQL(ctx, n, statement)
	if err != nil {
		return "", err
	}
	if len(rows) != 1 || len(rows[0]) == 0 {
		return "", fmt.Errorf("%s on %s: %d rows from %s", d.Name(), n.Hostname, len(rows), statement)
	}
	return rows[0][0], nil
}

// ServerID is the server_id of a host's databases.
func (s *Site) ServerID(n *lab.Node) uint32 {
	if n == s.Primary {
		return 1
	}
	return 2
}

// settingsFile is of all databases of a host. They are small: 64 servers share
// one machine. Without native AIO, whose requests the kernel counts.
const settingsFile = "/etc/mysql/databases.cnf"

// settings: the page cache outlives a power cut of the lab, so a row waits for the
// disk only where its time is of interest.
func settings(serverID uint32, hostname string, durable bool) string {
	flush := "sync_binlog=0\ninnodb_flush_log_at_trx_commit=2"
	if durable {
		flush = "sync_binlog=1\ninnodb_flush_log_at_trx_commit=1"
	}
	return fmt.Sprintf(`[mariadbd]
server_id=%d
report_host=%s
bind_address=0.0.0.0
skip_name_resolve=1
performance_schema=0
innodb_buffer_pool_size=8M
innodb_log_file_size=8M
innodb_log_buffer_size=1M
innodb_use_native_aio=0
key_buffer_size=64K
aria_pagecache_buffer_size=256K
query_cache_type=0
query_cache_size=0
table_open_cache=64
max_connections=60
log_bin=binlog
log_slave_updates=1
relay_log=relay
gtid_strict_mode=1
binlog_format=ROW
%s
slave_net_timeout=5
# What is started again is closed and follows nobody until it is told to.
read_only=1
skip_slave_start=1
`, serverID, hostname, flush)
}

// databaseUnit has the restarts of Debian's own unit.
const databaseUnit = `[Unit]
Description=MariaDB, database %i
After=network.target

[Service]
Type=notify
User=mysql
ExecStart=/usr/sbin/mariadbd --defaults-file=` + settingsFile + ` --datadir=` + dataDir + `/%i \
  --socket=/run/mysqld/%i.sock --pid-file=/run/mysqld/%i.pid --port=34%i
Restart=on-abnormal
RestartSec=5s
TimeoutStartSec=300
LimitNOFILE=8192

[Install]
WantedBy=multi-user.target
`

const dataDir = "/var/lib/databases"

// accounts are made in the data directory that all others are copied from,
// without a binary log, so the histories of all databases begin empty.
func accounts() string {
	return strings.Join([]string{
		"FLUSH PRIVILEGES",
		"CREATE USER tanist@localhost IDENTIFIED BY '" + ownPass + "'",
		"GRANT " + ownPrivileges + ", " + wayBackPrivileges + " ON *.* TO tanist@localhost",
		"CREATE USER " + lab.ReplUser + "@'%' IDENTIFIED BY '" + lab.ReplPassword + "'",
		"GRANT REPLICATION SLAVE ON *.* TO " + lab.ReplUser + "@'%'",
		"CREATE DATABASE app",
		// Its key is not what the client counts: a row that arrived twice is seen, not refused.
		"CREATE TABLE app.writes (n BIGINT AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL, KEY (id)) ENGINE=InnoDB",
		"CREATE USER " + appUser + "@'%' IDENTIFIED BY '" + appPass + "'",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO " + appUser + "@'%'",
		"",
	}, ";\n")
}

const makeDatabases = `set -eu
systemctl disable --now --quiet mariadb.service
mkdir -p ` + dataDir + `
cd ` + dataDir + `
server="--defaults-file=` + settingsFile + ` --datadir=` + dataDir + `/template --user=mysql"
mariadb-install-db $server --skip-test-db --auth-root-authentication-method=socket >/dev/null
/usr/sbin/mariadbd $server --bootstrap --skip-log-bin --skip-read-only <` + accountsFile + `
units=
for n in "$@"; do
  cp -a --sparse=always template $n
  units="$units mariadb@$n.service"
done
systemctl daemon-reload
systemctl enable --quiet $units
systemctl start $units
`

const accountsFile = "/root/accounts.sql"

// furnishDatabases makes the databases on both hosts, and the primary's the
// sources of the reserve's.
func (s *Site) furnishDatabases(ctx context.Context, o Options) error {
	count := o.Databases
	if count > MaxDatabases {
		return fmt.Errorf("%d databases: at most %d", count, MaxDatabases)
	}
	argv := []string{"sh", "-c", makeDatabases, "sh"}
	for d := Database(1); int(d) <= count; d++ {
		s.Databases = append(s.Databases, d)
		argv = append(argv, d.number())
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range s.Nodes() {
		g.Go(func() error {
			for _, f := range []struct{ name, data string }{
				{settingsFile, settings(s.ServerID(n), n.Hostname, o.Durable)},
				{"/etc/systemd/system/mariadb@.service", databaseUnit},
				{accountsFile, accounts()},
			} {
				if err := n.WriteFile(f.name, []byte(f.data), 0o644); err != nil {
					return err
				}
			}
			_, err := n.Exec(gctx, argv...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("make %d databases: %w", count, err)
	}
	if err := s.eachDatabase(ctx, func(ctx context.Context, d Database) error { return s.Follow(ctx, d, s.Reserve) }); err != nil {
		return err
	}
	return s.AwaitEqual(ctx, s.Primary)
}

// eachDatabase runs f on every database, some at a time, and joins the errors.
func (s *Site) eachDatabase(ctx context.Context, f func(context.Context, Database) error) error {
	return s.each(ctx, s.Databases, f)
}

func (s *Site) each(ctx context.Context, all []Database, f func(context.Context, Database) error) error {
	errs := make([]error, len(all))
	var g errgroup.Group
	g.SetLimit(8)
	for i, d := range all {
		g.Go(func() error {
			errs[i] = f(ctx, d)
			return nil
		})
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

// ManyConfig is the configuration of a site with so many databases.
func ManyConfig(databases int, gate string, withLsyncd bool) string {
	var list strings.Builder
	for d := Database(1); int(d) <= databases; d++ {
		fmt.Fprintf(&list, `
      - name: %s
        address: unix:%s
        user: tanist
        password_file: %s
        replicate_from: {user: %s, password_file: %s, port: %d}`, d.Name(), d.Socket(), passwordFile, lab.ReplUser, replPasswordFile, d.Port())
	}
	start, stop := "", ""
	if withLsyncd {
		start, stop = "\n      - unit: {start: lsyncd.service}", "\n      - unit: {stop: lsyncd.service}"
	}
	return configHead() + `
    gate: {` + gate + `}
    databases:` + list.String() + `
    promote:
      - replication: stop
      - writes: open
      - vip: acquire
      - yaml: {file: ` + LabelFile + `, key: ` + LabelKey + `, value: "{{.Active}}"}` + start + `
    demote:
      - writes: close
      - vip: release` + stop + `
      - yaml: {file: ` + LabelFile + `, key: ` + LabelKey + `, value: "{{.Active}}"}
      - replication: follow
`
}

const replPasswordFile = "/etc/tanist/repl.password"
