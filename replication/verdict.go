package replication

// A verdict is an answer with its reasons: what is wrong, with which database,
// in numbers.

import (
	"fmt"
	"time"
)

// Code names why the gate is closed. Its text is part of the status output.
type Code uint8

// The codes. Unknown is always a reason to stay closed.
const (
	IOStopped    Code = iota + 1 // the source lives and the IO thread does not fetch from it
	SQLStopped                   // the SQL thread does not apply, or stopped with an error
	Lagging                      // applied too long after the source, or delayed on purpose
	NotKnown                     // something needed was not measured, is too old or was NULL
	Undrained                    // received transactions are not applied yet
	BehindSource                 // the source is known to have had more, or has taken over
	Errant                       // the database has a transaction that the source lacks
	Unreachable                  // the database is down, hangs or shuts down
	NotReplica                   // the database replicates from nobody
	Blocked                      // an operator or the policy keeps this node from promotion
	Maintenance                  // automatic failover is suspended
	Unhealthy                    // a health check of this node fails
)

var codeNames = [...]string{
	"", "io_stopped", "sql_stopped", "lagging", "unknown", "undrained", "behind_source", "errant",
	"unreachable", "not_replica", "blocked", "maintenance", "unhealthy",
}

// String returns the code as status and metrics print it.
func (c Code) String() string { return nameOf(codeNames[:], uint8(c)) }

// MarshalText implements encoding.TextMarshaler with the words of String.
func (c Code) MarshalText() ([]byte, error) {
	if c == 0 || int(c) >= len(codeNames) {
		return nil, fmt.Errorf("gate code %d has no name", uint8(c))
	}
	return []byte(codeNames[c]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Code) UnmarshalText(text []byte) error {
	for i, name := range codeNames {
		if i > 0 && name == string(text) {
			*c = Code(i)
			return nil
		}
	}
	return fmt.Errorf("gate code %s does not exist", quoted(string(text)))
}

// Reason is one thing that keeps the gate closed.
type Reason struct {
	Code     Code
	Database string // empty when it concerns the node
	Detail   string // a plain sentence fragment with its numbers
}

// String returns "database: code: detail".
func (r Reason) String() string {
	if r.Database == "" {
		return fmt.Sprintf("%s: %s", r.Code, r.Detail)
	}
	return fmt.Sprintf("%s: %s: %s", r.Database, r.Code, r.Detail)
}

// LagSource says how a lag was obtained.
type LagSource uint8

// LagNone goes with an unknown lag.
const (
	LagNone      LagSource = iota
	LagServer              // the server's Seconds_Behind
	LagPositions           // how long ago the oldest missing position was first heard
	LagHeartbeat           // how long ago the oldest missing count of the heartbeat table was first heard
)

var lagSourceNames = [...]string{"none", "server", "positions", "heartbeat_table"}

// String returns where the lag comes from in one word.
func (l LagSource) String() string { return nameOf(lagSourceNames[:], uint8(l)) }

// DatabaseVerdict is what is known of one database beside the reasons.
type DatabaseVerdict struct {
	Name string
	Open bool // no reason names this database

	// Missing counts the source's transactions that are proved not applied here:
	// the last position heard against the applied one. Unapplied is the part of
	// what is here that waits in the relay log.
	Missing   Optional[uint64]
	Unapplied Optional[uint64]
	// AtMost estimates Missing plus what the source wrote after its last word,
	// at the highest rate heard recently. Unknown without a rate.
	AtMost Optional[uint64]
	// Bound is what can be lost at most, where that is proved and not estimated.
	Bound Optional[LossBound]
	// HeardAge is how long ago the source's position was heard; NULL when it is
	// one from before this host or daemon started.
	HeardAge Optional[time.Duration]
	// Lag is the largest of the lags known; of equal ones the last in the order of
	// LagSource, which is harder to deceive.
	Lag     Optional[time.Duration]
	LagFrom LagSource
}

// Verdict is the gate's answer.
type Verdict struct {
	Open      bool     // true only without any reason
	Reasons   []Reason // the node's first, then database by database as configured
	Databases []DatabaseVerdict
}
