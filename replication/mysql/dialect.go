package mysql

// A dialect is how one family of servers says things. There is one table, keyed
// by the family; what a server is gets read from it, never configured.

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

type family uint8

const (
	familyUnknown family = iota
	familyMariaDB
	familyMySQL // recognised, not spoken
)

// version is what VERSION() says.
type version struct {
	family              family
	major, minor, patch int
	text                string
}

// parseVersion reads VERSION(). MariaDB always names itself there; a server that
// does not is of the MySQL family.
func parseVersion(s string) version {
	v := version{text: s, family: familyMySQL}
	number := s
	if strings.Contains(strings.ToLower(s), "mariadb") {
		v.family = familyMariaDB
		// Old MariaDB hides behind a MySQL version for the sake of old replicas.
		number = strings.TrimPrefix(s, "5.5.5-")
	}
	number, _, _ = strings.Cut(number, "-")
	var err error
	parts := strings.Split(number, ".")
	for i, p := range []*int{&v.major, &v.minor, &v.patch} {
		if i >= len(parts) {
			break
		}
		if *p, err = strconv.Atoi(parts[i]); err != nil {
			return version{text: s}
		}
	}
	return v
}

func (v version) atLeast(major, minor, patch int) bool {
	switch {
	case v.major != major:
		return v.major > major
	case v.minor != minor:
		return v.minor > minor
	default:
		return v.patch >= patch
	}
}

// dialect holds the statements. None takes a placeholder: some servers refuse
// these in the prepared protocol.
type dialect struct {
	channels string
	// variables are read in a statement without a table: beside one, a server was
	// seen answering with a stale read_only.
	variables          string
	readOnly           string
	connectedReplicas  string
	longestTransaction string
	openTransactions   string
	processes          string
	serverTime         string
	// closeWrites waits that long for locks, as near as the server can. With a
	// deadline on the server's clock it leaves read_only as it is after that.
	closeWrites     func(wait time.Duration, serverDeadline string) string
	openWritesUntil func(serverDeadline string) string
	startSQL        func(channel string) string
	stopIO          func(channel string) string
	stopAll         string
	startAll        string
	waitFor         func(p replication.Position, seconds string) string
	kill            func(id uint64) string
	beginSnapshot   string
	// events reads the event scheduler; empty where there is none to see to.
	// eventsSet tells whether it was stopped by a statement and not by the
	// configuration, and whether anybody will have to stop or start it.
	events, eventsSet, stopEvents, eventPrivilege string
	startEventsUntil                              func(serverDeadline string) string
	privileges                                    func(v version) []string

	// What follow.go, reset.go and rejoin.go need.
	identity     string // who the server is, beside variables
	setApplied   func(p replication.Position) string
	startChannel func(channel string) string
	resetChannel func(channel string) string
	// follow points a channel at a source. Its one parameter is the password: as
	// text in the statement it would be in the general log.
	follow func(channel string, s Source) string
	quiet  []string // keeps the session's statements out of the slow query log
	// What the account needs beside privileges, to reset channels and to discard.
	resetPrivileges   []string
	discardPrivileges []string
	// How a server is made to forget what it wrote; nil where it cannot be.
	forget *forgetting

	// What the advice is taken from; empty where the server does not tell, or
	// where it does not matter.
	readOnlyAtStart, accounts, roles string
}

var dialects = map[family]*dialect{
	familyMariaDB: {
		// SHOW SLAVE STATUS would leave out every named channel.
		channels: "SHOW ALL SLAVES STATUS",
		variables: "SELECT @@GLOBAL.gtid_slave_pos AS applied, @@GLOBAL.gtid_binlog_pos AS executed, " +
			"@@GLOBAL.gtid_binlog_state AS binlog_state, @@GLOBAL.server_id AS server_id, @@GLOBAL.read_only AS read_only",
		readOnly:          "SELECT @@GLOBAL.read_only AS read_only",
		connectedReplicas: "SHOW GLOBAL STATUS LIKE 'Slaves_connected'",
		longestTransaction: "SELECT COALESCE(MAX(TIMESTAMPDIFF(SECOND, trx_started, NOW())), 0) AS seconds " +
			"FROM information_schema.INNODB_TRX",
		openTransactions: "SELECT trx_mysql_thread_id AS id FROM information_schema.INNODB_TRX " +
			"WHERE trx_rows_modified > 0 OR trx_rows_locked > 0 OR trx_mysql_thread_id = CONNECTION_ID()",
		processes:  "SELECT ID AS id, USER AS user, COMMAND AS command, TIME_MS AS milliseconds FROM information_schema.PROCESSLIST",
		serverTime: "SELECT UNIX_TIMESTAMP(SYSDATE(6)) AS now",
		closeWrites: func(wait time.Duration, deadline string) string {
			set := "SET GLOBAL read_only = " + inTime(deadline, "1", "@@GLOBAL.read_only")
			if wait <= 0 {
				return "SET STATEMENT lock_wait_timeout = 0 FOR " + set
			}
			return fmt.Sprintf("SET STATEMENT max_statement_time = %.3f FOR %s", wait.Seconds(), set)
		},
		openWritesUntil: func(deadline string) string {
			return "SET GLOBAL read_only = " + inTime(deadline, "0", "@@GLOBAL.read_only")
		},
		startSQL: func(channel string) string { return "START SLAVE " + quote(channel) + " SQL_THREAD" },
		stopIO:   func(channel string) string { return "STOP SLAVE " + quote(channel) + " IO_THREAD" },
		stopAll:  "STOP ALL SLAVES",
		startAll: "START ALL SLAVES",
		waitFor: func(p replication.Position, seconds string) string {
			return "SELECT MASTER_GTID_WAIT(" + quote(p.String()) + ", " + seconds + ") AS result"
		},
		kill:          func(id uint64) string { return fmt.Sprintf("KILL HARD CONNECTION %d", id) },
		beginSnapshot: "START TRANSACTION WITH CONSISTENT SNAPSHOT",
		events:        "SELECT @@GLOBAL.event_scheduler AS state",
		eventsSet: "SELECT GLOBAL_VALUE = 'OFF' AND GLOBAL_VALUE_ORIGIN = 'SQL' AS stopped, " +
			"GLOBAL_VALUE = 'ON' OR GLOBAL_VALUE = 'OFF' AND GLOBAL_VALUE_ORIGIN = 'SQL' AS matter " +
			"FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME = 'EVENT_SCHEDULER'",
		eventPrivilege: "SUPER",
		readOnlyAtStart: "SELECT GLOBAL_VALUE AS value, GLOBAL_VALUE_ORIGIN AS origin " +
			"FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME = 'READ_ONLY'",
		accounts: "SELECT User AS user, Host AS host, JSON_VALUE(Priv, '$.access') AS access, JSON_VALUE(Priv, '$.version_id') AS version, " +
			"JSON_VALUE(Priv, '$.is_role') AS is_role, JSON_VALUE(Priv, '$.account_locked') AS locked FROM mysql.global_priv",
		roles:      "SELECT User AS user, Host AS host, Role AS role FROM mysql.roles_mapping",
		stopEvents: "SET GLOBAL event_scheduler = 'OFF'",
		startEventsUntil: func(deadline string) string {
			return "SET GLOBAL event_scheduler = " + inTime(deadline, "'ON'", "@@GLOBAL.event_scheduler")
		},
		privileges: func(v version) []string {
			needed := []string{"REPLICATION SLAVE ADMIN", "READ_ONLY ADMIN", "CONNECTION ADMIN", "PROCESS"}
			if v.atLeast(10, 5, 9) {
				// Before, REPLICATION SLAVE ADMIN allowed to read the channels.
				needed = append([]string{"SLAVE MONITOR"}, needed...)
			}
			return needed
		},
		identity: "SELECT @@hostname AS host, @@GLOBAL.port AS port, @@GLOBAL.datadir AS data_dir, @@GLOBAL.log_bin AS log_bin",
		setApplied: func(p replication.Position) string {
			return "SET GLOBAL gtid_slave_pos = " + quote(p.String())
		},
		startChannel: func(channel string) string { return "START SLAVE " + quote(channel) },
		resetChannel: func(channel string) string { return "RESET SLAVE " + quote(channel) + " ALL" },
		follow:       followMariaDB,
		quiet:        []string{"SET SESSION slow_query_log = 0"},
		// REPLICATION SLAVE ADMIN is enough for everything else about channels.
		resetPrivileges:   []string{"RELOAD"},
		discardPrivileges: []string{"RELOAD", "REPLICATION MASTER ADMIN", "BINLOG MONITOR"},
		forget: &forgetting{
			logs:     "SHOW BINARY LOGS",
			basename: "SELECT @@GLOBAL.log_bin_basename AS base",
			head:     func(log string) string { return "SHOW BINLOG EVENTS IN " + quote(log) + " LIMIT 3" },
			empty:    "RESET MASTER",
			setState: func(state string) string { return "SET GLOBAL gtid_binlog_state = " + quote(state) },
		},
	},
}

// followMariaDB wraps the statement, which takes no parameter, into a block that
// does. MariaDB hides no password in its logs; but it logs a block as it was
// prepared, and not what runs inside.
func followMariaDB(channel string, s Source) string {
	ca, cert, key := "", "", ""
	if s.TLS != nil {
		ca, cert, key = s.TLS.CA, s.TLS.Cert, s.TLS.Key
	}
	use := "0"
	if s.TLS != nil {
		use = "1"
	}
	change := "CHANGE MASTER " + quote(channel) + " TO MASTER_HOST=" + quote(s.Host) +
		", MASTER_PORT=" + strconv.Itoa(int(s.Port)) + ", MASTER_USER=" + quote(s.User) +
		", MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1" +
		", MASTER_SSL=" + use + ", MASTER_SSL_VERIFY_SERVER_CERT=" + use +
		", MASTER_SSL_CA=" + quote(ca) + ", MASTER_SSL_CERT=" + quote(cert) + ", MASTER_SSL_KEY=" + quote(key) +
		", MASTER_PASSWORD="
	return "BEGIN NOT ATOMIC EXECUTE IMMEDIATE CONCAT(" + quote(change) + ", QUOTE(?)); END"
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

// dialectOf returns the dialect for a server, or why there is none.
func dialectOf(v version) (*dialect, error) {
	switch {
	case v.family == familyMariaDB && v.atLeast(10, 5, 0):
		return dialects[familyMariaDB], nil
	case v.family == familyMariaDB:
		return nil, &unsupportedError{"MariaDB " + v.text + " is older than 10.5"}
	case v.family == familyMySQL:
		return nil, &unsupportedError{"MySQL " + v.text + " is not spoken by this release, only MariaDB 10.5 and later"}
	default:
		return nil, &unsupportedError{fmt.Sprintf("server of version %q is not known", v.text)}
	}
}

// unsupportedError says that a server answered and cannot be spoken with.
type unsupportedError struct{ what string }

func (e *unsupportedError) Error() string { return e.what }

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
