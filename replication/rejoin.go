package replication

// Rejoin decides whether a database may follow a source, typically an old source
// its successor. It decides before anything is changed: a server that has
// transactions of its own joins without an error, and differs for good.

import "fmt"

// RejoinCode names what a rejoin has against it.
type RejoinCode uint8

// The codes.
const (
	RejoinUnreachable RejoinCode = iota + 1 // one of the two did not answer
	RejoinUnknown                           // something needed was not read
	RejoinSelf                              // both are one server, or cannot be told apart
	RejoinFlavor                            // one is a MariaDB and one a MySQL
	RejoinGTIDOff                           // a MySQL does not use GTIDs
	RejoinErrant                            // the database has transactions that the source lacks
	RejoinPurged                            // the source no longer has what the database needs
	RejoinCircular                          // the source follows the database
	RejoinNotLogged                         // a server does not log what it applies
	RejoinWritable                          // the database is open for writes
)

var rejoinNames = [...]string{
	"", "unreachable", "unknown", "self", "flavor", "gtid_off", "errant", "purged", "circular", "not_logged", "writable",
}

// String returns the code in one word.
func (c RejoinCode) String() string { return nameOf(rejoinNames[:], uint8(c)) }

// RejoinReason is one thing that a rejoin has against it.
type RejoinReason struct {
	Code    RejoinCode
	Warning bool   // does not stand in the way
	Detail  string // a plain sentence fragment with its numbers
}

// String returns "code: detail", and says so when it is only a warning.
func (r RejoinReason) String() string {
	if r.Warning {
		return fmt.Sprintf("warning: %s: %s", r.Code, r.Detail)
	}
	return fmt.Sprintf("%s: %s", r.Code, r.Detail)
}

// RejoinQuestion is all that the decision depends on. The replica's facts must be
// measured first, while it applies nothing or before the source's: the other way
// round, transactions on their way look errant.
type RejoinQuestion struct {
	Replica, Source Facts
	// Discard is an operator's word that errant transactions, and the question
	// whether there are any, are no reason to refuse.
	Discard bool
}

// RejoinVerdict is the answer.
type RejoinVerdict struct {
	Allowed bool // without a reason that is not a warning
	Reasons []RejoinReason
	Errant  Divergence // zero, and so not known, when one of the two did not answer
}

// Rejoin answers whether the replica may follow the source.
func Rejoin(q RejoinQuestion) RejoinVerdict {
	r := rejoining{RejoinQuestion: q}
	if r.reached() {
		r.apart()
		if r.sameFlavor() {
			r.errant()
			r.gtidMode()
			r.purged()
		}
		r.circular()
		r.logged()
		r.closed()
	}
	r.out.Allowed = true
	for _, reason := range r.out.Reasons {
		r.out.Allowed = r.out.Allowed && reason.Warning
	}
	return r.out
}

type rejoining struct {
	RejoinQuestion
	out RejoinVerdict
}

func (r *rejoining) refuse(code RejoinCode, format string, args ...any) {
	r.out.Reasons = append(r.out.Reasons, RejoinReason{Code: code, Detail: fmt.Sprintf(format, args...)})
}

func (r *rejoining) warn(code RejoinCode, format string, args ...any) {
	r.out.Reasons = append(r.out.Reasons, RejoinReason{Code: code, Warning: true, Detail: fmt.Sprintf(format, args...)})
}

func (r *rejoining) reached() bool {
	reached := true
	r.each(func(who string, f Facts) {
		if f.Reach != Reachable {
			r.refuse(RejoinUnreachable, "%s: %s", who, withDetail(f.Reach.String(), f.ReachDetail))
			reached = false
		}
	})
	return reached
}

func (r *rejoining) each(look func(who string, f Facts)) {
	look("replica", r.Replica)
	look("source", r.Source)
}

// apart refuses a server as its own source, and two that carry one name: each
// would take the other's transactions for its own and skip them.
func (r *rejoining) apart() {
	ours, oursOK := r.Replica.ServerID.Get()
	theirs, theirsOK := r.Source.ServerID.Get()
	switch {
	case !oursOK || !theirsOK:
		r.refuse(RejoinUnknown, "server_id is %s, that of the source is %s", r.Replica.ServerID.describe(), r.Source.ServerID.describe())
	case ours == theirs:
		r.refuse(RejoinSelf, "%s", sameServerID(ours))
	}
	if r.Replica.Flavor() != FlavorMySQL && r.Source.Flavor() != FlavorMySQL {
		return // a MariaDB has no server_uuid
	}
	oursUUID, oursOK := r.Replica.ServerUUID.Get()
	theirsUUID, theirsOK := r.Source.ServerUUID.Get()
	switch {
	case !oursOK || !theirsOK:
		if r.Replica.Flavor() == r.Source.Flavor() {
			r.refuse(RejoinUnknown, "server_uuid is %s, that of the source is %s", r.Replica.ServerUUID.describe(), r.Source.ServerUUID.describe())
		}
	case sameUUID(oursUUID, theirsUUID):
		r.refuse(RejoinSelf, "%s", sameServerUUID(oursUUID))
	}
}

func (r *rejoining) sameFlavor() bool {
	ours, theirs := r.Replica.Flavor(), r.Source.Flavor()
	switch {
	case ours == FlavorNone || theirs == FlavorNone:
		r.refuse(RejoinUnknown, "what kind of server it is was not read: replica %s, source %s", ours, theirs)
		return false
	case ours != theirs:
		r.refuse(RejoinFlavor, "replica is a %s, source a %s: their GTIDs do not mix", ours, theirs)
		return false
	}
	return true
}

func (r *rejoining) errant() {
	d := r.Replica.History().Errant(r.Source.History())
	r.out.Errant = d
	say := r.refuse
	if r.Discard {
		say = r.warn
	}
	if !d.Errant.Empty() {
		say(RejoinErrant, "has what the source lacks: %s", d)
		return
	}
	if !d.Known {
		say(RejoinUnknown, "what it has that the source lacks cannot be told: %s", d.Why)
	}
}

func (r *rejoining) gtidMode() {
	if r.Replica.Flavor() != FlavorMySQL {
		return
	}
	r.each(func(who string, f Facts) {
		switch on, ok := f.GTIDMode.Get(); {
		case !ok:
			r.refuse(RejoinUnknown, "gtid_mode of the %s is %s", who, f.GTIDMode.describe())
		case !on:
			r.refuse(RejoinGTIDOff, "gtid_mode of the %s is not ON, so what is missing cannot be told", who)
		}
	})
}

// purged asks that the source can still send what the replica lacks.
func (r *rejoining) purged() {
	if r.Replica.Flavor() == FlavorMariaDB {
		r.warn(RejoinPurged, "whether the source still has all that is missing here does not show on a MariaDB: if not, the IO thread stops with error 1236")
		return
	}
	purged, purgedOK := r.Source.Purged.Get()
	executed, executedOK := r.Replica.Executed.Get()
	if !purgedOK || !executedOK {
		r.refuse(RejoinUnknown, "gtid_purged of the source is %s, gtid_executed is %s", r.Source.Purged.describe(), r.Replica.Executed.describe())
		return
	}
	if gone, ok := executed.Lacking(purged); !ok || !gone.Empty() {
		r.refuse(RejoinPurged, "the source has purged %s that are not here: %s: a fresh copy of its data is needed",
			counted(executed.Missing(purged)), cut(gone.String(), 200))
	}
}

// circular refuses to close a ring: the source must follow somebody else or nobody.
func (r *rejoining) circular() {
	channels, ok := r.Source.Channels.Get()
	if !ok {
		r.refuse(RejoinUnknown, "replication channels of the source are %s", r.Source.Channels.describe())
		return
	}
	for _, c := range channels {
		stopped := c.IO == ThreadStopped && c.SQL == ThreadStopped
		if !stopped && c.leadsTo(r.Replica) {
			r.refuse(RejoinCircular, "the source follows this database: IO thread %s, SQL thread %s%s", c.IO, c.SQL, c.label())
		}
	}
}

func (r *rejoining) logged() {
	r.each(func(who string, f Facts) {
		switch on, ok := f.LogReplicaUpdates.Get(); {
		case !ok:
			r.warn(RejoinNotLogged, "whether the %s logs what it applies is %s", who, f.LogReplicaUpdates.describe())
		case !on:
			r.warn(RejoinNotLogged, "log_slave_updates of the %s is off: it cannot send on what it applied, and a replica of it may stop with error 1236", who)
		}
	})
}

func (r *rejoining) closed() {
	if readOnly, ok := r.Replica.ReadOnly.Get(); !ok || !readOnly {
		r.warn(RejoinWritable, "read_only is %s: what is written here from now on is not in this answer", r.Replica.ReadOnly)
	}
}
