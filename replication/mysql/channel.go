package mysql

// A row of the channels statement, read under the names of the dialect.

import (
	"strconv"
	"strings"

	"github.com/tanist-ha/tanist/replication"
)

func channelOf(r row, named *columns) replication.Channel {
	c := replication.Channel{
		Name:          r[named.name].String,
		SourceHost:    r[named.host].String,
		IO:            threadState(r[named.io].String),
		SQL:           threadState(r[named.sql].String),
		LastIOError:   errorOf(r, "Last_IO_Errno", "Last_IO_Error"),
		LastSQLError:  errorOf(r, "Last_SQL_Errno", "Last_SQL_Error"),
		SecondsBehind: read(r, named.secondsBehind, parseSeconds),
		Received:      read(r, named.received, replication.ParsePosition),
		UsingGTID:     read(r, named.usingGTID, parseUsingGTID),
		SQLDelay:      read(r, "SQL_Delay", parseSeconds),

		SourceServerID: read(r, named.sourceID, parseUint32),
	}
	if named.sourceUUID != "" {
		c.SourceUUID = r.text(named.sourceUUID)
	}
	c.Filtered, c.Filters = filters(r)
	if port, err := strconv.ParseUint(r[named.port].String, 10, 16); err == nil {
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

// filters tells whether anything is filtered, and names what.
func filters(r row) (replication.Optional[bool], string) {
	seen := false
	var set []string
	for _, column := range filterColumns {
		v, ok := r[column]
		seen = seen || ok
		if v.String != "" {
			set = append(set, column+"="+v.String)
		}
	}
	if !seen {
		return replication.Unknown[bool](), ""
	}
	return replication.Known(len(set) > 0), strings.Join(set, "; ")
}

// parseUsingGTID reads MariaDB's Using_Gtid and MySQL's Auto_Position.
func parseUsingGTID(s string) (bool, error) {
	switch s {
	case "No", "0":
		return false, nil
	case "Slave_Pos", "Current_Pos", "1":
		return true, nil
	default:
		return false, strconv.ErrSyntax
	}
}
