// Package site is a lab with Tanist on both hosts and the service it supervises:
// a database that one host replicates from the other, files that lsyncd carries
// over, a foreign file with a label, and a client behind the virtual address. The
// tests on two hosts and the demo share it.
package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/systemd/units"
	"github.com/tanist-ha/tanist/test/lab"
)

// Fixed points of the site.
const (
	VIP       = "10.77.0.100"
	LabelFile = "/opt/compass/src/values.compass.yaml"
	LabelKey  = "master_service_label"
	Instance  = "compass"
	// Lease and AdvertInterval are of the site's configuration.
	Lease          = 2 * time.Second
	AdvertInterval = 250 * time.Millisecond

	binary     = "/usr/bin/tanist"
	ConfigFile = "/etc/tanist/tanist.yaml"

	keyFile      = "/etc/tanist/cluster.key"
	passwordFile = "/etc/tanist/mysql.password"
	ClusterKey   = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	appUser      = "app"
	appPass      = "app-in-the-lab"
	ownPass      = "tanist-in-the-lab"

	ownPrivileges = "BINLOG MONITOR, SLAVE MONITOR, REPLICATION SLAVE ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN, PROCESS"
	// wayBackPrivileges are for replicate_from, and for giving transactions up.
	wayBackPrivileges = "RELOAD, REPLICATION MASTER ADMIN"
)

// Site is the pair. Primary is the lab's node a, Reserve its node b.
type Site struct {
	*lab.Lab
	Primary, Reserve *lab.Node
	// Databases are there when Options.Databases asked for them; they take the
	// place of the lab's own server.
	Databases []Database
}

// Options say how a site differs from the usual one.
type Options struct {
	Binary string // of tanist on this machine
	Lab    lab.Options
	// Config replaces the configuration; see Config for the usual one.
	Config string
	// WithoutDatabase leaves the database out of the configuration.
	WithoutDatabase bool
	// Databases is how many small servers each host has instead of the lab's own,
	// at most MaxDatabases; 0 for the lab's own. The configuration is ManyConfig's.
	Databases int
	// Durable lets each commit of those databases wait for the disk.
	Durable bool
	Log     func(format string, args ...any)
}

// Up makes the lab and installs everything. No daemon runs yet.
func Up(ctx context.Context, o Options) (*Site, error) {
	l, err := lab.Up(ctx, o.Lab)
	if err != nil {
		return nil, err
	}
	s := &Site{Lab: l, Primary: l.A, Reserve: l.B}
	if err := s.furnish(ctx, o); err != nil {
		return nil, errors.Join(err, l.Down(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// Config returns the site's configuration.
func Config(withDatabase bool) string {
	database, close := "", ""
	if withDatabase {
		database = `
    databases:
      - name: pivot
        address: unix:/run/mysqld/mysqld.sock
        user: tanist
        password_file: /etc/tanist/mysql.password`
		close = `
      - name: follow the active host
        exec:
          command: [/usr/local/sbin/follow, "{{.Active}}"]
          verify: [/usr/local/sbin/follow, --check, "{{.Active}}"]
        on_error: continue`
	}
	return configHead() + database + `
    promote:
      - replication: stop
      - writes: open
      - vip: acquire
      - yaml: {file: ` + LabelFile + `, key: ` + LabelKey + `, value: "{{.Active}}"}
      - unit: {start: lsyncd.service}
    demote:
      - writes: close
      - vip: release
      - unit: {stop: lsyncd.service}
      - yaml: {file: ` + LabelFile + `, key: ` + LabelKey + `, value: "{{.Active}}"}` + close + "\n"
}

func configHead() string {
	return `nodes:
  primary: {addresses: [10.77.0.11, 10.77.1.11]}
  reserve: {addresses: [10.77.0.12, 10.77.1.12]}
key_file: ` + keyFile + `

instances:
  - name: ` + Instance + `
    interface: eth0
    vrid: 51
    vips: [` + VIP + `/24]
    lease: ` + Lease.String() + `
    heartbeat: {advert_interval: ` + AdvertInterval.String() + `}`
}

// LabelText is a label file as an operator keeps it, comments and all.
func LabelText(service, active string) string {
	return `# values of this host; do not sort
service_label: "` + service + `"   # constant

# who is active
master_service_label: "` + active + `"	# flipped by the failover
projects:
    monolith: {label: monolith,   service: {mysql: {host: "monolith-` + service + `", port: 3306}}}
    domino:
      - &d1 { label: d1, on: yes }
empty:
`
}

func (s *Site) furnish(ctx context.Context, o Options) error {
	config := o.Config
	switch {
	case config != "":
	case o.Databases > 0:
		config = ManyConfig(o.Databases, "", true)
	default:
		config = Config(!o.WithoutDatabase)
	}
	for _, n := range s.Nodes() {
		if err := n.Install(o.Binary, binary, 0o755); err != nil {
			return err
		}
		files := []struct {
			name, data string
			mode       uint32
		}{
			{ConfigFile, config, 0o644},
			{keyFile, ClusterKey + "\n", 0o600},
			{passwordFile, ownPass + "\n", 0o600},
			{replPasswordFile, lab.ReplPassword + "\n", 0o600},
			{"/usr/lib/systemd/system/tanist.service", units.Tanist, 0o644},
			{LabelFile, LabelText(n.Hostname, s.Primary.Hostname), 0o640},
			{RelationshipFile, RelationshipText(s.Primary.Hostname), 0o600},
			{"/usr/local/sbin/follow", follow, 0o700},
		}
		for _, f := range files {
			if err := n.WriteFile(f.name, []byte(f.data), fileMode(f.mode)); err != nil {
				return err
			}
		}
		if _, err := n.Exec(ctx, "systemctl", "daemon-reload"); err != nil {
			return err
		}
	}
	switch {
	case o.WithoutDatabase:
		return nil
	case o.Databases > 0:
		return s.furnishDatabases(ctx, o)
	}
	return s.furnishDatabase(ctx)
}

// furnishDatabase makes the primary the source of the reserve, with the accounts
// and the table that the site needs. Everything travels by replication.
func (s *Site) furnishDatabase(ctx context.Context) error {
	if err := s.SetupReplication(ctx, s.Primary, s.Reserve); err != nil {
		return err
	}
	for _, statement := range []string{
		"CREATE USER tanist@localhost IDENTIFIED BY '" + ownPass + "'",
		"GRANT " + ownPrivileges + " ON *.* TO tanist@localhost",
		"CREATE DATABASE app",
		"CREATE TABLE app.writes (id BIGINT PRIMARY KEY, host VARCHAR(64) NOT NULL, at TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6)) ENGINE=InnoDB",
		"CREATE USER " + appUser + "@'%' IDENTIFIED BY '" + appPass + "'",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO " + appUser + "@'%'",
	} {
		if _, err := s.Primary.SQL(ctx, statement); err != nil {
			return fmt.Errorf("furnish the database: %w", err)
		}
	}
	return s.CatchUp(ctx, s.Primary, s.Reserve)
}

// follow is what an operator of such a pair has in a script: it points this
// host's database at the other host.
const follow = `#!/bin/sh
# follow [--check] HOST: replicate from HOST; --check only says whether it is so.
set -eu
check=no
if [ "$1" = --check ]; then check=yes; shift; fi
host=$1
case $host in primary) address=10.77.0.11 ;; reserve) address=10.77.0.12 ;; *) echo "no such host: $host" >&2; exit 2 ;; esac
status=$(mariadb -e 'SHOW SLAVE STATUS\G')
says() { printf '%s\n' "$status" | sed -n "s/^ *$1: //p"; }
if [ "$(says Master_Host)" = "$address" ] && [ "$(says Slave_IO_Running)" != No ] && [ "$(says Slave_SQL_Running)" = Yes ]; then exit 0; fi
[ $check = no ] || exit 1
mariadb <<SQL
STOP SLAVE;
CHANGE MASTER TO MASTER_HOST='$address', MASTER_USER='` + lab.ReplUser + `', MASTER_PASSWORD='` + lab.ReplPassword + `',
  MASTER_USE_GTID=slave_pos, MASTER_DEMOTE_TO_SLAVE=$([ -n "$status" ] && echo 0 || echo 1), MASTER_CONNECT_RETRY=1;
START SLAVE;
SQL
`

// Start starts the daemon as a systemd unit on the given hosts, both when none
// is named.
func (s *Site) Start(ctx context.Context, nodes ...*lab.Node) error {
	if len(nodes) == 0 {
		nodes = s.Nodes()
	}
	for _, n := range nodes {
		if _, err := n.Exec(ctx, "systemctl", "enable", "--now", "tanist.service"); err != nil {
			return err
		}
	}
	return nil
}

// Result is how a tanist command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Tanist runs a tanist command on a host. A status other than 0 is no error.
func (s *Site) Tanist(ctx context.Context, n *lab.Node, args ...string) (Result, error) {
	var out, errOut strings.Builder
	_, err := n.Run(ctx, lab.Command{Argv: append([]string{binary}, args...), Stdout: &out, Stderr: &errOut})
	r := Result{Stdout: out.String(), Stderr: errOut.String()}
	if exit := (*lab.ExitError)(nil); errors.As(err, &exit) {
		r.Code = exit.Code
		return r, nil
	}
	return r, err
}

// Status returns what the daemon of a host says.
func (s *Site) Status(ctx context.Context, n *lab.Node) (control.Document, error) {
	var doc control.Document
	r, err := s.Tanist(ctx, n, "status", "--json")
	if err != nil {
		return doc, err
	}
	if r.Code != 0 {
		return doc, fmt.Errorf("status of %s: %s", n.Hostname, strings.TrimSpace(r.Stderr))
	}
	return doc, json.Unmarshal([]byte(r.Stdout), &doc)
}

// pollInterval is the time between two looks of Await.
const pollInterval = 50 * time.Millisecond

// Await waits until cond holds, at most until ctx ends; cond returns what is
// still missing.
func Await(ctx context.Context, what string, cond func(context.Context) error) error {
	last := errors.New("never looked")
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		t := time.NewTimer(pollInterval)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("wait until %s: %w (%w)", what, last, ctx.Err())
		case <-t.C:
		}
	}
}

// AwaitState waits until a host is in one of the states.
func (s *Site) AwaitState(ctx context.Context, n *lab.Node, states ...string) error {
	return Await(ctx, n.Hostname+" is "+strings.Join(states, " or "), func(ctx context.Context) error {
		doc, err := s.Status(ctx, n)
		if err != nil {
			return err
		}
		in := doc.Instances[0]
		for _, st := range states {
			if in.State == st {
				return nil
			}
		}
		return fmt.Errorf("it is %s: %s %s %v", in.State, in.Reason, in.Detail, in.Gate.Reasons)
	})
}

// AwaitSettled waits until active has the role and the other host is its standby
// with a gate that would let it take over.
func (s *Site) AwaitSettled(ctx context.Context, active *lab.Node) error {
	if err := s.AwaitState(ctx, active, "active"); err != nil {
		return err
	}
	standby := s.Peer(active)
	return Await(ctx, standby.Hostname+" is a standby that could take over", func(ctx context.Context) error {
		doc, err := s.Status(ctx, standby)
		if err != nil {
			return err
		}
		in := doc.Instances[0]
		switch {
		case in.State != "backup":
			return fmt.Errorf("it is %s: %s %s", in.State, in.Reason, in.Detail)
		case !in.Gate.Open:
			return fmt.Errorf("its gate is closed: %v", in.Gate.Reasons)
		case in.LastTransition != nil && in.LastTransition.Result == "running":
			return errors.New("its plan runs")
		}
		return nil
	})
}
