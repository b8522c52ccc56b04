package mysql

// The statements that need more than a word of the table.

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

// closeWrites closes writes, and waits that long for locks, as near as the server
// can. With a deadline on the server's clock it leaves writes as they are after
// that. super_read_only takes read_only with it.
func (d *dialect) closeWrites(wait time.Duration, deadline string, words bool) string {
	on := "1"
	if words {
		on = "'ON'"
	}
	set := "SET GLOBAL " + d.closes + " = " + inTime(deadline, on, "@@GLOBAL."+d.closes)
	switch {
	case d.family != familyMariaDB:
		return set // behind the session's lock_wait_timeout
	case wait <= 0:
		return "SET STATEMENT lock_wait_timeout = 0 FOR " + set
	default:
		return fmt.Sprintf("SET STATEMENT max_statement_time = %.3f FOR %s", wait.Seconds(), set)
	}
}

// openWritesUntil opens writes, unless the server gets to it after the deadline.
// With read_only, MySQL clears super_read_only.
func (d *dialect) openWritesUntil(deadline string, words bool) string {
	off := "0"
	if words {
		off = "'OFF'"
	}
	return "SET GLOBAL read_only = " + inTime(deadline, off, "@@GLOBAL.read_only")
}

func (d *dialect) startEventsUntil(deadline string) string {
	return "SET GLOBAL event_scheduler = " + inTime(deadline, "'ON'", "@@GLOBAL.event_scheduler")
}

func (d *dialect) startSQL(channel string) string { return d.thread("START", channel, "SQL_THREAD") }

func (d *dialect) stopIO(channel string) string { return d.thread("STOP", channel, "IO_THREAD") }

func (d *dialect) thread(verb, channel, thread string) string {
	if d.family == familyMariaDB {
		return verb + " " + d.word + " " + quote(channel) + " " + thread
	}
	return verb + " " + d.word + " " + thread + " FOR CHANNEL " + quote(channel)
}

func (d *dialect) stopAll() string { return d.all("STOP") }

func (d *dialect) startAll() string { return d.all("START") }

// all is said of every channel; without ALL, MariaDB means the unnamed one.
func (d *dialect) all(verb string) string {
	if d.family == familyMariaDB {
		return verb + " ALL " + d.word + "S"
	}
	return verb + " " + d.word
}

// waitFor waits for a position, seconds long.
func (d *dialect) waitFor(p replication.Position, seconds float64) string {
	function := "WAIT_FOR_EXECUTED_GTID_SET"
	if d.family == familyMariaDB {
		function = "MASTER_GTID_WAIT"
	}
	limit := fmt.Sprintf("%.3f", seconds)
	if d.wholeSeconds {
		limit = "1"
	}
	return "SELECT " + function + "(" + quote(p.String()) + ", " + limit + ") AS result"
}

func (d *dialect) kill(id uint64) string {
	if d.family == familyMariaDB {
		return fmt.Sprintf("KILL HARD CONNECTION %d", id)
	}
	return fmt.Sprintf("KILL CONNECTION %d", id)
}

func (d *dialect) startChannel(channel string) string {
	if d.family == familyMariaDB {
		return "START " + d.word + " " + quote(channel)
	}
	return "START " + d.word + " FOR CHANNEL " + quote(channel)
}

func (d *dialect) resetChannel(channel string) string {
	if d.family == familyMariaDB {
		return "RESET " + d.word + " " + quote(channel) + " ALL"
	}
	return "RESET " + d.word + " ALL FOR CHANNEL " + quote(channel)
}

// setApplied says from where replication goes on; MySQL goes on from what it has.
func (d *dialect) setApplied(p replication.Position) string {
	return "SET GLOBAL gtid_slave_pos = " + quote(p.String())
}

// followMariaDB wraps the statement, which takes no parameter, into a block that
// does. MariaDB hides no password in its logs; but it logs a block as it was
// prepared, and not what runs inside.
func followMariaDB(channel string, s Source, password string) (statement string, parameters []any) {
	change := "CHANGE MASTER " + quote(channel) + " TO " + settingsFor(s, "MASTER") + ", MASTER_USE_GTID=slave_pos, MASTER_PASSWORD="
	return "BEGIN NOT ATOMIC EXECUTE IMMEDIATE CONCAT(" + quote(change) + ", QUOTE(?)); END", []any{password}
}

// MySQL takes no parameter for the password either, and keeps it out of its logs
// by itself. Without TLS, an account of caching_sha2_password needs the source's
// key, which the replica may ask for from 8.0 on.
func followMaster57(channel string, s Source, password string) (statement string, parameters []any) {
	return "CHANGE MASTER TO " + settingsOnMySQL(s, "MASTER", password) + " FOR CHANNEL " + quote(channel), nil
}

func followMaster(channel string, s Source, password string) (statement string, parameters []any) {
	return "CHANGE MASTER TO " + settingsOnMySQL(s, "MASTER", password) + ", GET_MASTER_PUBLIC_KEY=" + bit(s.TLS == nil) +
		" FOR CHANNEL " + quote(channel), nil
}

func followSource(channel string, s Source, password string) (statement string, parameters []any) {
	return "CHANGE REPLICATION SOURCE TO " + settingsOnMySQL(s, "SOURCE", password) + ", GET_SOURCE_PUBLIC_KEY=" + bit(s.TLS == nil) +
		" FOR CHANNEL " + quote(channel), nil
}

// settingsOnMySQL asks for retries for a day: from 8.4 on a replica gives up
// after ten.
func settingsOnMySQL(s Source, word, password string) string {
	return settingsFor(s, word) + ", " + word + "_AUTO_POSITION=1, " + word + "_RETRY_COUNT=86400, " + word + "_PASSWORD=" + quote(password)
}

// settingsFor are those of one name everywhere, but for the word of the server.
func settingsFor(s Source, word string) string {
	var files SourceTLS
	if s.TLS != nil {
		files = *s.TLS
	}
	use := bit(s.TLS != nil)
	var b strings.Builder
	for i, set := range [...]struct{ key, value string }{
		{"HOST", quote(s.Host)},
		{"PORT", strconv.Itoa(int(s.Port))},
		{"USER", quote(s.User)},
		{"CONNECT_RETRY", "1"},
		{"HEARTBEAT_PERIOD", "1"},
		{"SSL", use},
		{"SSL_VERIFY_SERVER_CERT", use},
		{"SSL_CA", quote(files.CA)},
		{"SSL_CERT", quote(files.Cert)},
		{"SSL_KEY", quote(files.Key)},
	} {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(word + "_" + set.key + "=" + set.value)
	}
	return b.String()
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// inTime is an expression that is value until the deadline on the server's clock,
// and otherwise after it. The statement of a caller that gave up still runs when a
// hung server wakes; evaluated late, it leaves a variable as it finds it. Without
// a deadline it is value.
func inTime(deadline, value, otherwise string) string {
	if deadline == "" {
		return value
	}
	return "IF(UNIX_TIMESTAMP(SYSDATE(6)) < " + deadline + ", " + value + ", " + otherwise + ")"
}

var mariadbForgets = [...]forgetting{{
	logs:     "SHOW BINARY LOGS",
	basename: "SELECT @@GLOBAL.log_bin_basename AS base",
	head:     func(log string) string { return "SHOW BINLOG EVENTS IN " + quote(log) + " LIMIT 3" },
	empty:    "RESET MASTER",
	setState: func(state string) string { return "SET GLOBAL gtid_binlog_state = " + quote(state) },
}}

// quote returns s as a string literal under the empty sql_mode, which every
// connection of this package sets.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\x00", `\0`).Replace(s) + "'"
}

// parseReadOnly reads read_only. It is a boolean up to MariaDB 11, and from 12
// a word, of which all but OFF close writes.
func parseReadOnly(s string) (bool, error) {
	switch strings.ToUpper(s) {
	case "0", "OFF":
		return false, nil
	case "1", "ON", "NO_LOCK", "NO_LOCK_NO_ADMIN":
		return true, nil
	default:
		return false, fmt.Errorf("read_only is %q, which has no known meaning", s)
	}
}

// parseSwitch reads a variable that is on or off; DISABLED is the event
// scheduler's third word.
func parseSwitch(s string) (bool, error) {
	switch strings.ToUpper(s) {
	case "0", "OFF", "DISABLED":
		return false, nil
	case "1", "ON":
		return true, nil
	default:
		return false, fmt.Errorf("%q is neither on nor off", s)
	}
}

// parseGTIDMode reads gtid_mode, of which the two permissive words are not ON.
func parseGTIDMode(s string) (bool, error) {
	switch strings.ToUpper(s) {
	case "OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE":
		return false, nil
	case "ON":
		return true, nil
	default:
		return false, fmt.Errorf("gtid_mode is %q, which has no known meaning", s)
	}
}
