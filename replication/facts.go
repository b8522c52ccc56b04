package replication

// Facts are one measurement of one database. What was not read is unknown, what
// the server answered with NULL is NULL, and neither is ever taken for zero.

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// Optional is a measured value that may be unknown (not read, or unreadable) or
// NULL (read, and the server said so). The zero value is unknown.
type Optional[T any] struct {
	state optionalState
	value T
}

type optionalState uint8

const (
	stateUnknown optionalState = iota
	stateNull
	stateKnown
)

// Known returns the optional that holds v.
func Known[T any](v T) Optional[T] { return Optional[T]{state: stateKnown, value: v} }

// Unknown returns the optional that holds nothing because nothing was read.
func Unknown[T any]() Optional[T] { return Optional[T]{} }

// Null returns the optional for which the server answered NULL.
func Null[T any]() Optional[T] { return Optional[T]{state: stateNull} }

// Get returns the value, and whether there is one: false for unknown and NULL.
func (o Optional[T]) Get() (T, bool) { return o.value, o.state == stateKnown }

// IsNull reports whether the server answered NULL.
func (o Optional[T]) IsNull() bool { return o.state == stateNull }

// IsKnown reports whether there is a value.
func (o Optional[T]) IsKnown() bool { return o.state == stateKnown }

// Equal reports whether both are unknown, both NULL, or both hold equal values.
func (o Optional[T]) Equal(other Optional[T]) bool {
	return o.state == other.state && (o.state != stateKnown || reflect.DeepEqual(o.value, other.value))
}

// String returns "unknown", "NULL" or the value.
func (o Optional[T]) String() string {
	switch o.state {
	case stateKnown:
		return fmt.Sprint(o.value)
	case stateNull:
		return "NULL"
	default:
		return "unknown"
	}
}

// Reach says whether the database answered, and if not, in which way.
type Reach uint8

// The ways a measurement ends. Only Refused, TimedOut and ShuttingDown speak
// against the server being alive; the others are answers of a living server.
const (
	ReachUnknown            Reach = iota // not measured
	Reachable                            // measured
	ReachRefused                         // nobody listens: the server process is not there
	ReachTimedOut                        // no answer in time: the server hangs, or the way to it
	ReachShuttingDown                    // the server said that it is shutting down (1053)
	ReachTooManyConnections              // the server has no connection to spare (1040, 1203)
	ReachAccessDenied                    // the account or its password is wrong (1045 and its kin)
	ReachHostBlocked                     // the server blocks this host (1129, 1130)
	ReachUnsupported                     // not a server this release speaks with
	ReachFailed                          // anything else; ReachDetail says what
)

var reachNames = [...]string{
	"unknown", "reachable", "refused", "timed out", "shutting down", "too many connections",
	"access denied", "host blocked", "unsupported", "failed",
}

// String returns the reach in words.
func (r Reach) String() string { return nameOf(reachNames[:], uint8(r)) }

// Alive reports whether a server certainly answered.
func (r Reach) Alive() bool {
	switch r {
	case Reachable, ReachTooManyConnections, ReachAccessDenied, ReachHostBlocked, ReachUnsupported:
		return true
	default:
		return false
	}
}

// Down reports whether the server is not there, hangs or is going away. Neither
// Alive nor Down means that the measurement does not tell.
func (r Reach) Down() bool {
	return r == ReachRefused || r == ReachTimedOut || r == ReachShuttingDown
}

// ThreadState is what the server says of a replica thread. The zero value is unknown.
type ThreadState uint8

// The states of a replica thread; only the IO thread can be connecting.
const (
	ThreadUnknown ThreadState = iota
	ThreadRunning
	ThreadStopped
	ThreadConnecting
)

var threadNames = [...]string{"unknown", "running", "stopped", "connecting"}

// String returns the state in one word.
func (t ThreadState) String() string { return nameOf(threadNames[:], uint8(t)) }

// ServerError is the last error a replica thread recorded; Number 0 is none.
type ServerError struct {
	Number uint32
	Text   string // at most MaxErrorText bytes
}

// MaxErrorText bounds the error texts kept in facts, in bytes: the server's can
// hold a whole row event.
const MaxErrorText = 300

// NewServerError returns the error with its text cut to MaxErrorText.
func NewServerError(number uint32, text string) ServerError {
	return ServerError{Number: number, Text: cut(text, MaxErrorText)}
}

// String returns "error NUMBER: text", or "no error".
func (e ServerError) String() string {
	switch {
	case e.Number == 0:
		return "no error"
	case e.Text == "":
		return fmt.Sprintf("error %d", e.Number)
	default:
		return fmt.Sprintf("error %d: %s", e.Number, e.Text)
	}
}

// Channel is one replication connection of a database, running or not.
type Channel struct {
	Name         string // empty for the unnamed one
	SourceHost   string
	SourcePort   uint16
	IO           ThreadState
	SQL          ThreadState
	LastIOError  Optional[ServerError]
	LastSQLError Optional[ServerError]
	// SecondsBehind is the server's own idea of lag in whole seconds. It is NULL
	// when a thread is stopped and can be 0 with transactions missing.
	SecondsBehind Optional[time.Duration]
	// Received is what the IO thread fetched: Gtid_IO_Pos, Retrieved_Gtid_Set. A
	// MariaDB forgets it, and the relay log with it, when both threads stop.
	Received  Optional[Position]
	UsingGTID Optional[bool]          // MariaDB: Using_Gtid is not No; MySQL: Auto_Position
	SQLDelay  Optional[time.Duration] // configured delay; 0 is none
	Filtered  Optional[bool]          // some replicate_do, replicate_ignore or domain filter is set
	Filters   string                  // which, as the server names them; empty when not Filtered
	// SourceServerID and SourceUUID are what the source said of itself when the IO
	// thread last reached it: 0 and empty before it ever did. MariaDB has no UUID.
	SourceServerID Optional[uint32]
	SourceUUID     Optional[string]
}

// Facts are what one measurement found. The zero value knows nothing.
type Facts struct {
	Name        string // as configured
	MeasuredAt  mono.Instant
	Reach       Reach
	ReachDetail string // why not Reachable; holds no secret
	Version     string // as the server names itself; empty when not known

	ServerID Optional[uint32]
	// ServerUUID is MySQL's server_uuid. Hosts made from one template share it, so
	// it tells writers apart within a pair and is nobody's name beyond.
	ServerUUID    Optional[string]
	ReadOnly      Optional[bool]
	SuperReadOnly Optional[bool] // unknown on servers without
	GTIDMode      Optional[bool] // of MySQL: gtid_mode is ON and nothing less
	// Executed is, on MariaDB, the last transaction of each domain in the binary
	// log (gtid_binlog_pos), empty when there is no binary log; on MySQL it is
	// gtid_executed, applied and own transactions alike.
	Executed    Optional[Position]
	Purged      Optional[Position]    // of MySQL: gtid_purged, executed and no longer in a binary log
	BinlogState Optional[BinlogState] // of MariaDB
	// Applied is what the SQL threads of all channels applied (gtid_slave_pos); on
	// MySQL gtid_executed, which does not tell these apart.
	Applied           Optional[Position]
	Channels          Optional[[]Channel]
	LogReplicaUpdates Optional[bool] // what is applied goes to the binary log too
	SkipReplicaStart  Optional[bool] // threads stay stopped when the server starts; not a variable on MariaDB
	EventScheduler    Optional[bool] // events run: ON, not OFF or DISABLED
	SemiSync          SemiSync
	// ReplicasConnected counts the replicas that stream from this server.
	ReplicasConnected Optional[uint64]
	// LongestTransaction is the age of the oldest open transaction, 0 when none is open.
	LongestTransaction Optional[time.Duration]
	// Beats are the rows of the heartbeat table; unknown when there is none or it
	// cannot be read. BeatDetail says what is wrong with it, empty for nothing.
	Beats      Optional[[]Beat]
	BeatDetail string
}

// Position returns everything the database has, its own writes and what it
// applied: what a source tells its peer. False when either part is unknown.
func (f Facts) Position() (Position, bool) {
	executed, ok := f.Executed.Get()
	if !ok {
		return Position{}, false
	}
	applied, ok := f.Applied.Get()
	if !ok {
		return Position{}, false
	}
	return executed.Merge(applied), true
}

// Flavor returns which kind of server answered, by what only one kind has:
// FlavorNone when nothing read tells.
func (f Facts) Flavor() Flavor {
	for _, o := range []Optional[Position]{f.Executed, f.Applied, f.Purged} {
		if p, ok := o.Get(); ok && !p.Empty() {
			return p.Flavor()
		}
	}
	switch {
	case f.BinlogState.IsKnown():
		return FlavorMariaDB
	case f.GTIDMode.IsKnown() || f.ServerUUID.IsKnown():
		return FlavorMySQL
	default:
		return FlavorNone
	}
}

// Received returns what the channels together received, less what the server
// has forgotten. False when a channel's part, or whether there are any, is unknown.
func (f Facts) Received() (Position, bool) {
	channels, ok := f.Channels.Get()
	if !ok {
		return Position{}, false
	}
	var received Position
	for _, c := range channels {
		p, ok := c.Received.Get()
		if !ok {
			return Position{}, false
		}
		received = received.Merge(p)
	}
	return received, true
}

// Role is what a database is in replication.
type Role uint8

// RoleNone is a database that neither replicates nor is replicated from.
const (
	RoleUnknown Role = iota
	RoleSource
	RoleReplica
	RoleNone
)

var roleNames = [...]string{"unknown", "source", "replica", "none"}

// String returns the role in one word.
func (r Role) String() string { return nameOf(roleNames[:], uint8(r)) }

// Role derives the role. A database with a channel of which a thread runs is a
// replica. With stopped channels it is a replica as long as it is read-only: a
// promotion leaves the settings of a channel in place and opens writes. Without
// channels it is a source when it is writable or replicas stream from it.
func (f Facts) Role() Role {
	channels, ok := f.Channels.Get()
	if !ok {
		return RoleUnknown
	}
	for _, c := range channels {
		if c.IO == ThreadUnknown || c.SQL == ThreadUnknown {
			return RoleUnknown
		}
		if c.IO != ThreadStopped || c.SQL != ThreadStopped {
			return RoleReplica
		}
	}
	readOnly, ok := f.ReadOnly.Get()
	if !ok {
		return RoleUnknown
	}
	if !readOnly {
		return RoleSource
	}
	if len(channels) > 0 {
		return RoleReplica
	}
	connected, ok := f.ReplicasConnected.Get()
	if !ok {
		return RoleUnknown
	}
	if connected > 0 {
		return RoleSource
	}
	return RoleNone
}

func nameOf(names []string, i uint8) string {
	if int(i) >= len(names) {
		return fmt.Sprintf("invalid (%d)", i)
	}
	return names[i]
}

// cut shortens s to at most limit bytes of valid text on one line.
func cut(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	const ellipsis = "..."
	return strings.ToValidUTF8(s[:limit-len(ellipsis)], "") + ellipsis
}
