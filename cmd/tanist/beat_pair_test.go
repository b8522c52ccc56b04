package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/tanist-ha/tanist/internal/control"
)

const beatingConfig = `
key_file: %[1]s/key
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
log: {level: info, format: console}
instances:
  - name: compass
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24]
    heartbeat: {advert_interval: 100ms}
    demote: [writes: close, vip: release, replication: follow]
    databases:
      - name: pivot
        address: unix:%[2]s
        password_file: %[1]s/own
        replicate_from: {user: repl, password_file: %[1]s/repl, host: 192.0.2.11, port: %[3]d}
        heartbeat_table: hb.heartbeat
`

// Two daemons and their databases hand the role to and fro while the only writes
// are heartbeats: each follows the other, so neither has one that the other lacks.
func TestPairBeats(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := t.TempDir()
	labels := [2]string{"primary", "reserve"}
	var servers [2]*testServer
	for i := range servers {
		m := launch(t, i+1, "--log-slave-updates", "--skip-slave-start", "--bind-address=0.0.0.0")
		m.root.SetMaxOpenConns(1)
		servers[i] = &testServer{mariadb: m, id: i + 1, db: m.root}
		servers[i].exec(t, "SET sql_log_bin = 0", "CREATE USER tanist@localhost IDENTIFIED BY 'hidden'",
			"GRANT SLAVE MONITOR, REPLICATION SLAVE ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN, PROCESS, RELOAD, BINLOG MONITOR ON *.* TO tanist@localhost",
			"CREATE USER repl@'%' IDENTIFIED BY 'hidden-too'", "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO repl@'%'", "CREATE DATABASE hb",
			"CREATE TABLE hb.heartbeat (server_id INT UNSIGNED NOT NULL PRIMARY KEY, epoch BIGINT UNSIGNED NOT NULL, beat BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB",
			"GRANT SELECT, INSERT, UPDATE ON hb.heartbeat TO tanist@localhost", "SET sql_log_bin = 1")
	}
	one, two := servers[0], servers[1]
	two.exec(t, "SET GLOBAL read_only = 1", fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='repl', "+
		"MASTER_PASSWORD='hidden-too', MASTER_USE_GTID=slave_pos", one.port), "START SLAVE")
	if got := tanist(t, "keygen", filepath.Join(dir, "key")); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	write(t, filepath.Join(dir, "own"), "hidden\n")
	write(t, filepath.Join(dir, "repl"), "hidden-too\n")
	common := func(i int) []string {
		state, file := filepath.Join(dir, labels[i]), filepath.Join(dir, labels[i]+".yaml")
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, file, fmt.Sprintf(beatingConfig, dir, servers[i].socket(), servers[1-i].port))
		return []string{"--config", file, "--node", labels[i], "--socket", filepath.Join(dir, labels[i]+".s"), "--state-dir", state}
	}
	status := func(i int) (in control.Instance) {
		doc, err := control.Dial(filepath.Join(dir, labels[i]+".s")).Status(t.Context())
		if err == nil && len(doc.Instances) > 0 {
			in = doc.Instances[0]
		}
		return in
	}
	var processes [2]tanistProcess
	processes[1] = inAnotherNetwork(t, "192.0.2.12/24", append([]string{"run"}, common(1)...)...)
	addAddress(t, "veth0", "192.0.2.11/24")
	processes[0] = startTanist(t, append([]string{"run"}, common(0)...)...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("primary:\n%s\nreserve:\n%s", processes[0].stderr, processes[1].stderr)
		}
	})
	count := func(s *testServer, of int) int {
		n, err := strconv.Atoi(s.value(t, fmt.Sprintf("SELECT COALESCE(MAX(beat), 0) FROM hb.heartbeat WHERE server_id = %d", of)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for round := range 5 {
		active, standby := round%2, 1-round%2
		eventually(t, labels[active]+" to be active", func() bool { return status(active).State == "active" })
		before := count(servers[active], active+1)
		eventually(t, "heartbeats of "+labels[active]+" on the standby", func() bool { return count(servers[standby], active+1) >= before+2 })
		eventually(t, "a lag by the table, and an open gate", func() bool {
			in := status(standby)
			return in.Gate.Open && len(in.Databases) == 1 && in.Databases[0].LagFrom == "heartbeat_table" && in.Databases[0].Error == ""
		})
		got := tanist(t, append([]string{"switchover"}, common(active)...)...)
		if got.code != exitOK {
			t.Fatalf("round %d: switchover from %s: %+v", round, labels[active], got)
		}
		still := count(servers[active], active+1)
		eventually(t, "the other to count on", func() bool { return count(servers[active], standby+1) > 1 })
		if now := count(servers[active], active+1); now != still {
			t.Errorf("round %d: %s counted from %d to %d after it was closed", round, labels[active], still, now)
		}
	}
}
