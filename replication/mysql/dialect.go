package mysql

// A dialect is how the servers of a range of releases say things. There is one
// table of them; the rest of the package asks it and knows no server.

// dialect is one row of the table. No statement takes a placeholder: some servers
// refuse these in the prepared protocol.
type dialect struct {
	name   string
	family family
	since  release // the oldest release the row is for

	channels string // reads every channel, named or not
	columns  *columns
	// variables are read in a statement without a table: beside one, a server was
	// seen answering with a stale read_only.
	variables string
	readOnly  string // read_only, and super_read_only where there is one
	closes    string // the variable that closes writes
	// waitsShort says that setting it can be told to wait for less than a second.
	waitsShort bool
	// word is what the statements call a replica.
	word string
	// stopTimeout is the variable that bounds STOP, empty where STOP cannot hang.
	stopTimeout string
	// keepsRelayLog says that starting an SQL thread while the IO thread is stopped
	// applies what was received; elsewhere it throws that away.
	keepsRelayLog bool
	// bindsAll says that closing binds every account, so that a session which may
	// not be killed can stay.
	bindsAll bool
	// wholeSeconds says that waits are given in whole seconds.
	wholeSeconds bool
	// noTime is what the wait for a position answers when its time is over.
	noTime string

	// connectedReplicas counts the sessions of replicas; empty where a status
	// variable does.
	connectedReplicas string
	processes         string
	privileges        []string
	superIs           []string // privileges that SUPER includes

	// eventsSet tells whether the event scheduler was set by a statement and not by
	// the configuration; empty where the server does not tell.
	eventsSet, eventPrivilege string

	identity string // who the server is, beside variables
	// follow points a channel at a source. Where its parameter is the password, as
	// text in the statement that would be in the general log.
	follow func(channel string, s Source, password string) (statement string, parameters []any)
	quiet  []string // keeps the session's statements out of the slow query log
	// What the account needs beside privileges, to reset channels and to discard.
	resetPrivileges   []string
	discardPrivileges []string
	// How a server is made to forget what it wrote; nil where it cannot be.
	forget *forgetting

	// What the advice is taken from; empty where the server does not tell, or
	// where it does not matter. section is where its own configuration is.
	readOnlyAtStart, accounts, roles, section string
}

// columns are the names of what the channels statement answers.
type columns struct {
	name, host, port, io, sql, secondsBehind, received, usingGTID, sourceID, sourceUUID string
}

const (
	mysqlOld = iota
	mysqlNew
	mariadbOld
)

// dialects is the table, the newest release of a family first.
var dialects = [...]dialect{
	{
		// 8.0.26 renamed the variables, and 8.4 removed the old words of all that the
		// rows below say.
		name: "MySQL 8.0.26 to 9", family: familyMySQL, since: release{8, 0, 26},
		channels: "SHOW REPLICA STATUS", columns: &columnNames[mysqlNew], word: "REPLICA",
		variables: mysqlVariables + newNames, stopTimeout: "rpl_stop_replica_timeout",
		readOnly: mysqlReadOnly, closes: "super_read_only", keepsRelayLog: true, bindsAll: true, noTime: "1",
		connectedReplicas: mysqlConnectedReplicas, processes: mysqlProcesses, identity: identity, resetPrivileges: mysqlReset[:],
		eventsSet: mysqlEventsSet, eventPrivilege: "SYSTEM_VARIABLES_ADMIN", follow: followSource,
		readOnlyAtStart: mysqlReadOnlyAtStart, section: "mysqld",
		privileges: mysqlPrivileges[:], superIs: mysqlSuperIs[:],
	},
	{
		name: "MySQL 8.0.23", family: familyMySQL, since: release{8, 0, 23},
		channels: "SHOW REPLICA STATUS", columns: &columnNames[mysqlNew], word: "REPLICA",
		variables: mysqlVariables + oldLogUpdates, stopTimeout: oldStopTimeout,
		readOnly: mysqlReadOnly, closes: "super_read_only", keepsRelayLog: true, bindsAll: true, noTime: "1",
		connectedReplicas: mysqlConnectedReplicas, processes: mysqlProcesses, identity: identity, resetPrivileges: mysqlReset[:],
		eventsSet: mysqlEventsSet, eventPrivilege: "SYSTEM_VARIABLES_ADMIN", follow: followSource,
		readOnlyAtStart: mysqlReadOnlyAtStart, section: "mysqld",
		privileges: mysqlPrivileges[:], superIs: mysqlSuperIs[:],
	},
	{
		name: "MySQL 8.0.22", family: familyMySQL, since: release{8, 0, 22},
		channels: "SHOW REPLICA STATUS", columns: &columnNames[mysqlNew], word: "REPLICA",
		variables: mysqlVariables + oldLogUpdates, stopTimeout: oldStopTimeout,
		readOnly: mysqlReadOnly, closes: "super_read_only", keepsRelayLog: true, bindsAll: true, noTime: "1",
		connectedReplicas: mysqlConnectedReplicas, processes: mysqlProcesses, identity: identity, resetPrivileges: mysqlReset[:],
		eventsSet: mysqlEventsSet, eventPrivilege: "SYSTEM_VARIABLES_ADMIN", follow: followMaster,
		readOnlyAtStart: mysqlReadOnlyAtStart, section: "mysqld",
		privileges: mysqlPrivileges[:], superIs: mysqlSuperIs[:],
	},
	{
		name: "MySQL 8.0", family: familyMySQL, since: release{8, 0, 0},
		channels: "SHOW SLAVE STATUS", columns: &columnNames[mysqlOld], word: "SLAVE",
		variables: mysqlVariables + oldLogUpdates, stopTimeout: oldStopTimeout,
		readOnly: mysqlReadOnly, closes: "super_read_only", keepsRelayLog: true, bindsAll: true, noTime: "1",
		connectedReplicas: mysqlConnectedReplicas, processes: mysqlProcesses, identity: identity, resetPrivileges: mysqlReset[:],
		eventsSet: mysqlEventsSet, eventPrivilege: "SYSTEM_VARIABLES_ADMIN", follow: followMaster,
		readOnlyAtStart: mysqlReadOnlyAtStart, section: "mysqld",
		privileges: mysqlPrivileges[:], superIs: mysqlSuperIs[:],
	},
	{
		// 5.7.8 brought super_read_only. Privileges are coarse yet, and the wait may
		// not take fractions, of which none would be left but "for ever".
		name: "MySQL 5.7", family: familyMySQL, since: release{5, 7, 8},
		channels: "SHOW SLAVE STATUS", columns: &columnNames[mysqlOld], word: "SLAVE",
		variables: mysqlVariables + oldLogUpdates, stopTimeout: oldStopTimeout,
		readOnly: mysqlReadOnly, closes: "super_read_only", keepsRelayLog: true, bindsAll: true, wholeSeconds: true, noTime: "1",
		connectedReplicas: mysqlConnectedReplicas, processes: mysqlProcesses, identity: identity, resetPrivileges: mysqlReset[:],
		eventPrivilege: "SUPER", follow: followMaster57, section: "mysqld",
		privileges: mysql57Privileges[:],
	},
	{
		name: "MariaDB 10.5.9", family: familyMariaDB, since: release{10, 5, 9},
		channels: "SHOW ALL SLAVES STATUS", columns: &columnNames[mariadbOld], word: "SLAVE",
		variables: mariadbVariables, readOnly: mariadbReadOnly, closes: "read_only", waitsShort: true, noTime: "-1",
		processes: mariadbProcesses, identity: identity,
		eventsSet: mariadbEventsSet, eventPrivilege: "SUPER",
		follow: followMariaDB, quiet: mariadbQuiet[:], forget: &mariadbForgets[0],
		resetPrivileges: mariadbReset[:], discardPrivileges: mariadbDiscard[:],
		readOnlyAtStart: mariadbReadOnlyAtStart, accounts: mariadbAccounts, roles: mariadbRoles, section: "mariadbd",
		privileges: mariadbPrivileges[:],
	},
	{
		// Before 10.5.9, REPLICATION SLAVE ADMIN allowed to read the channels.
		name: "MariaDB 10.5", family: familyMariaDB, since: release{10, 5, 0},
		channels: "SHOW ALL SLAVES STATUS", columns: &columnNames[mariadbOld], word: "SLAVE",
		variables: mariadbVariables, readOnly: mariadbReadOnly, closes: "read_only", waitsShort: true, noTime: "-1",
		processes: mariadbProcesses, identity: identity,
		eventsSet: mariadbEventsSet, eventPrivilege: "SUPER",
		follow: followMariaDB, quiet: mariadbQuiet[:], forget: &mariadbForgets[0],
		resetPrivileges: mariadbReset[:], discardPrivileges: mariadbDiscard[:],
		readOnlyAtStart: mariadbReadOnlyAtStart, accounts: mariadbAccounts, roles: mariadbRoles, section: "mariadbd",
		privileges: mariadbPrivileges[1:],
	},
}

// MySQL's SHOW ... STATUS without a channel answers a row for each. MariaDB's
// would leave out every named one without ALL, and keeps the old column names
// under either word.
var columnNames = [...]columns{
	mysqlOld: {
		name: "Channel_Name", host: "Master_Host", port: "Master_Port", io: "Slave_IO_Running", sql: "Slave_SQL_Running",
		secondsBehind: "Seconds_Behind_Master", received: "Retrieved_Gtid_Set", usingGTID: "Auto_Position",
		sourceID: "Master_Server_Id", sourceUUID: "Master_UUID",
	},
	mysqlNew: {
		name: "Channel_Name", host: "Source_Host", port: "Source_Port", io: "Replica_IO_Running", sql: "Replica_SQL_Running",
		secondsBehind: "Seconds_Behind_Source", received: "Retrieved_Gtid_Set", usingGTID: "Auto_Position",
		sourceID: "Source_Server_Id", sourceUUID: "Source_UUID",
	},
	mariadbOld: {
		name: "Connection_name", host: "Master_Host", port: "Master_Port", io: "Slave_IO_Running", sql: "Slave_SQL_Running",
		secondsBehind: "Seconds_Behind_Master", received: "Gtid_IO_Pos", usingGTID: "Using_Gtid", sourceID: "Master_Server_Id",
	},
}

const (
	mysqlVariables = "SELECT @@GLOBAL.gtid_executed AS applied, @@GLOBAL.gtid_executed AS executed, " +
		"@@GLOBAL.gtid_purged AS purged, @@GLOBAL.gtid_mode AS gtid_mode, @@GLOBAL.server_uuid AS server_uuid, " +
		"@@GLOBAL.server_id AS server_id, @@GLOBAL.read_only AS read_only, @@GLOBAL.super_read_only AS super_read_only, " +
		"@@GLOBAL.event_scheduler AS event_scheduler"
	newNames         = ", @@GLOBAL.log_replica_updates AS log_replica_updates, @@GLOBAL.skip_replica_start AS skip_replica_start"
	oldLogUpdates    = ", @@GLOBAL.log_slave_updates AS log_replica_updates"
	oldStopTimeout   = "rpl_stop_slave_timeout"
	mariadbVariables = "SELECT @@GLOBAL.gtid_slave_pos AS applied, @@GLOBAL.gtid_binlog_pos AS executed, " +
		"@@GLOBAL.gtid_binlog_state AS binlog_state, @@GLOBAL.server_id AS server_id, @@GLOBAL.read_only AS read_only, " +
		"@@GLOBAL.log_slave_updates AS log_replica_updates, @@GLOBAL.event_scheduler AS event_scheduler"

	mysqlReadOnly   = "SELECT @@GLOBAL.read_only AS read_only, @@GLOBAL.super_read_only AS super_read_only"
	mariadbReadOnly = "SELECT @@GLOBAL.read_only AS read_only"

	mysqlConnectedReplicas = "SELECT COUNT(*) AS connected FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'"

	mysqlProcesses   = "SELECT ID AS id, USER AS user, COMMAND AS command, TIME * 1000 AS milliseconds FROM information_schema.PROCESSLIST"
	mariadbProcesses = "SELECT ID AS id, USER AS user, COMMAND AS command, TIME_MS AS milliseconds FROM information_schema.PROCESSLIST"

	mysqlEventsSet = "SELECT VARIABLE_SOURCE = 'DYNAMIC' AS by_statement FROM performance_schema.variables_info " +
		"WHERE VARIABLE_NAME = 'event_scheduler'"
	mariadbEventsSet = "SELECT GLOBAL_VALUE_ORIGIN = 'SQL' AS by_statement FROM information_schema.SYSTEM_VARIABLES " +
		"WHERE VARIABLE_NAME = 'EVENT_SCHEDULER'"

	mysqlReadOnlyAtStart = "SELECT IF(@@GLOBAL.super_read_only, 'ON', 'OFF') AS value, IF(VARIABLE_SOURCE = 'DYNAMIC', 'SQL', VARIABLE_SOURCE) AS origin " +
		"FROM performance_schema.variables_info WHERE VARIABLE_NAME = 'super_read_only'"
	mariadbReadOnlyAtStart = "SELECT GLOBAL_VALUE AS value, GLOBAL_VALUE_ORIGIN AS origin " +
		"FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME = 'READ_ONLY'"
	mariadbAccounts = "SELECT User AS user, Host AS host, JSON_VALUE(Priv, '$.access') AS access, JSON_VALUE(Priv, '$.version_id') AS version, " +
		"JSON_VALUE(Priv, '$.is_role') AS is_role, JSON_VALUE(Priv, '$.account_locked') AS locked FROM mysql.global_priv"
	mariadbRoles = "SELECT User AS user, Host AS host, Role AS role FROM mysql.roles_mapping"
)

// What every server says alike.
const (
	readEvents    = "SELECT @@GLOBAL.event_scheduler AS state"
	stopEvents    = "SET GLOBAL event_scheduler = 'OFF'"
	beginSnapshot = "START TRANSACTION WITH CONSISTENT SNAPSHOT"
	identity      = "SELECT @@hostname AS host, @@GLOBAL.port AS port, @@GLOBAL.datadir AS data_dir, @@GLOBAL.log_bin AS log_bin"
	serverTime    = "SELECT UNIX_TIMESTAMP(SYSDATE(6)) AS now"
	// The table's times are the host's local ones, whatever the session's time zone.
	longestTransaction = "SELECT COALESCE(MAX(TIMESTAMPDIFF(SECOND, CONVERT_TZ(trx_started, 'SYSTEM', '+00:00'), UTC_TIMESTAMP())), 0) " +
		"AS seconds FROM information_schema.INNODB_TRX"
	openTransactions = "SELECT trx_mysql_thread_id AS id FROM information_schema.INNODB_TRX " +
		"WHERE trx_rows_modified > 0 OR trx_rows_locked > 0 OR trx_mysql_thread_id = CONNECTION_ID()"
)

var (
	mysqlPrivileges = [...]string{
		"REPLICATION CLIENT", "REPLICATION_SLAVE_ADMIN", "SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN", "PROCESS",
	}
	mysqlSuperIs      = [...]string{"REPLICATION CLIENT", "REPLICATION_SLAVE_ADMIN", "SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"}
	mysql57Privileges = [...]string{"SUPER", "REPLICATION CLIENT", "PROCESS"}
	mysqlReset        = [...]string{"RELOAD"}
	mariadbPrivileges = [...]string{"SLAVE MONITOR", "REPLICATION SLAVE ADMIN", "READ_ONLY ADMIN", "CONNECTION ADMIN", "PROCESS"}
	// REPLICATION SLAVE ADMIN is enough for everything else about channels.
	mariadbReset   = [...]string{"RELOAD"}
	mariadbDiscard = [...]string{"RELOAD", "REPLICATION MASTER ADMIN", "BINLOG MONITOR"}
	mariadbQuiet   = [...]string{"SET SESSION slow_query_log = 0"}
)
