package replication

// An examination looks at one database for one cause and collects every reason
// it finds, so that an operator sees all of them at once.

import (
	"fmt"
	"math"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

type examination struct {
	now     mono.Instant
	policy  Policy
	in      Database
	out     DatabaseVerdict
	reasons []Reason
}

func (e *examination) refuse(code Code, format string, args ...any) {
	e.reasons = append(e.reasons, Reason{Code: code, Database: e.in.Name, Detail: fmt.Sprintf(format, args...)})
}

func (e *examination) run(cause Cause) {
	e.measureLoss(cause)
	if !e.reached() {
		return
	}
	channels, ok := e.in.Facts.Channels.Get()
	if !ok {
		e.refuse(NotKnown, "replication channels are %s", e.in.Facts.Channels.describe())
		return
	}
	switch cause {
	case Resume:
		e.resume(channels)
	case SourceLost:
		e.sourceLost(channels)
	default:
		e.planned(channels)
	}
}

// measureLoss fills in what the verdict reports for every cause, refused or not.
func (e *examination) measureLoss(cause Cause) {
	applied, appliedKnown := e.in.Facts.Applied.Get()
	if cause == Resume {
		applied, appliedKnown = e.in.Facts.Position()
	}
	if received, ok := e.in.Facts.Received(); ok && appliedKnown {
		e.out.Unapplied = Known(applied.Missing(received))
	}
	last, heard := e.in.Heard.Last()
	if !heard {
		return
	}
	e.out.HeardAge = Null[time.Duration]()
	if at, ok := e.in.Heard.At(); ok {
		e.out.HeardAge = Known(max(e.now.Sub(at), 0))
	}
	if !appliedKnown {
		return
	}
	missing := applied.Missing(last)
	e.out.Missing = Known(missing)
	if written, ok := e.in.Heard.WrittenSince(e.now); ok {
		e.out.AtMost = Known(addSaturating(missing, written))
	}
	if cause != Resume {
		e.boundLoss(applied)
	}
}

// reached reports whether the facts are an answer, and a fresh one.
func (e *examination) reached() bool {
	f := e.in.Facts
	switch {
	case f.Reach == Reachable:
	case f.Reach.Down():
		e.refuse(Unreachable, "%s", withDetail("database "+downWords(f.Reach), f.ReachDetail))
		return false
	case f.Reach == ReachUnknown:
		e.refuse(NotKnown, "database was not measured yet")
		return false
	default:
		e.refuse(NotKnown, "%s", withDetail(f.Reach.String(), f.ReachDetail))
		return false
	}
	age := e.now.Sub(f.MeasuredAt)
	switch limit := e.policy.maxAge(); {
	case age < 0:
		e.refuse(NotKnown, "facts are from %s in the future", seconds(-age))
		return false
	case age > limit:
		e.refuse(NotKnown, "facts are %s old, more than %s", seconds(age), seconds(limit))
		return false
	}
	return true
}

func downWords(r Reach) string {
	switch r {
	case ReachRefused:
		return "is not running or not listening"
	case ReachTimedOut:
		return "did not answer in time"
	default:
		return "is shutting down"
	}
}

func withDetail(s, detail string) string {
	if detail == "" {
		return s
	}
	return s + ": " + cut(detail, MaxErrorText)
}

// resume asks that this database follows nobody: it held the service last.
func (e *examination) resume(channels []Channel) {
	for _, c := range channels {
		if c.IO == ThreadUnknown || c.SQL == ThreadUnknown {
			e.refuse(NotKnown, "state of the replica threads%s is unknown", c.label())
			continue
		}
		if c.IO != ThreadStopped || c.SQL != ThreadStopped {
			e.refuse(BehindSource, "replicates from %s (IO thread %s, SQL thread %s) though this node was active last",
				c.source(), c.IO, c.SQL)
		}
	}
}

func (e *examination) planned(channels []Channel) {
	if len(channels) == 0 {
		e.refuse(NotReplica, "replicates from nobody")
		return
	}
	e.everyTransactionHasGTID()
	for _, c := range channels {
		e.suitable(c)
		e.ioRuns(c)
		e.sqlRuns(c)
		e.serverLag(c)
	}
	applied, ok := e.positions()
	if !ok {
		return
	}
	e.heardFresh(applied)
}

func (e *examination) sourceLost(channels []Channel) {
	if len(channels) == 0 {
		e.refuse(NotReplica, "replicates from nobody")
		return
	}
	e.everyTransactionHasGTID()
	for _, c := range channels {
		e.suitable(c)
		e.sqlRuns(c)
	}
	applied, ok := e.positions()
	if !ok {
		return
	}
	// positions made sure that this is known.
	received, _ := e.in.Facts.Received()
	if n := applied.Missing(received); n > 0 {
		e.refuse(Undrained, "%s received and not applied, up to %s", transactions(n), shown(received))
	}
	if e.policy.AfterLoss == Exact {
		e.exact(applied)
	}
}

// suitable refuses channels that a position says nothing about, or that lag on
// purpose.
func (e *examination) suitable(c Channel) {
	e.apart(c)
	switch gtid, ok := c.UsingGTID.Get(); {
	case !ok:
		e.refuse(NotKnown, "whether GTIDs are in use%s is %s", c.label(), c.UsingGTID.describe())
	case !gtid:
		e.refuse(NotKnown, "replicates without GTIDs%s, so what is missing cannot be told", c.label())
	}
	switch delay, ok := c.SQLDelay.Get(); {
	case !ok:
		e.refuse(NotKnown, "SQL_Delay%s is %s", c.label(), c.SQLDelay.describe())
	case delay != 0:
		e.refuse(Lagging, "delayed replica%s: SQL_Delay is %s", c.label(), seconds(delay))
	}
	e.unfiltered(c)
}

// apart refuses a source that carries this server's name. A server_id not read is
// no reason of its own: servers that share one do not replicate to begin with.
func (e *examination) apart(c Channel) {
	if e.in.Facts.Flavor() == FlavorMySQL && !c.SourceUUID.IsKnown() {
		e.refuse(NotKnown, "server_uuid of the source%s is %s", c.label(), c.SourceUUID.describe())
	}
	if c.sharesID(e.in.Facts) {
		id, _ := c.SourceServerID.Get()
		e.refuse(NotKnown, "%s%s", sameServerID(id), c.label())
	}
	if c.sharesUUID(e.in.Facts) {
		uuid, _ := c.SourceUUID.Get()
		e.refuse(NotKnown, "%s%s", sameServerUUID(uuid), c.label())
	}
}

// unfiltered refuses a replica of a part: a position counts a transaction as
// applied of which a filter dropped some or all.
func (e *examination) unfiltered(c Channel) {
	switch filtered, ok := c.Filtered.Get(); {
	case !ok:
		e.refuse(NotKnown, "whether replication%s is filtered is %s", c.label(), c.Filtered.describe())
	case filtered:
		which := ""
		if c.Filters != "" {
			which = " by " + cut(c.Filters, 200)
		}
		e.refuse(NotKnown, "replication%s is filtered%s: what a filter drops counts as applied, so what is missing cannot be told",
			c.label(), which)
	}
}

// everyTransactionHasGTID refuses a MySQL on which some may have none.
func (e *examination) everyTransactionHasGTID() {
	if on, ok := e.in.Facts.GTIDMode.Get(); ok && !on {
		e.refuse(NotKnown, "gtid_mode is not ON, so a transaction can be without a GTID and what is missing cannot be told")
	}
}

func (e *examination) ioRuns(c Channel) {
	switch c.IO {
	case ThreadRunning:
	case ThreadStopped:
		e.refuse(IOStopped, "%s", withError("IO thread stopped"+c.label(), c.LastIOError))
	case ThreadConnecting:
		e.refuse(IOStopped, "%s", withError("IO thread is still connecting to "+c.source(), c.LastIOError))
	default:
		e.refuse(NotKnown, "state of the IO thread%s is unknown", c.label())
	}
}

func (e *examination) sqlRuns(c Channel) {
	switch c.SQL {
	case ThreadRunning:
	case ThreadStopped, ThreadConnecting:
		e.refuse(SQLStopped, "%s", withError("SQL thread stopped"+c.label(), c.LastSQLError))
		return
	default:
		e.refuse(NotKnown, "state of the SQL thread%s is unknown", c.label())
		return
	}
	switch last, ok := c.LastSQLError.Get(); {
	case !ok:
		e.refuse(NotKnown, "last error of the SQL thread%s is %s", c.label(), c.LastSQLError.describe())
	case last.Number != 0:
		e.refuse(SQLStopped, "SQL thread%s runs and reports %s", c.label(), last)
	}
}

func withError(s string, last Optional[ServerError]) string {
	if err, ok := last.Get(); ok && err.Number != 0 {
		return s + ": " + err.String()
	}
	return s
}

func (e *examination) serverLag(c Channel) {
	lag, ok := c.SecondsBehind.Get()
	if !ok {
		e.refuse(NotKnown, "Seconds_Behind%s is %s", c.label(), c.SecondsBehind.describe())
		return
	}
	e.noteLag(lag, LagServer)
	if lag > e.policy.MaxLag {
		e.refuse(Lagging, "%s behind%s by the server's reckoning, more than %s",
			seconds(lag), c.label(), seconds(e.policy.MaxLag))
	}
}

func (e *examination) noteLag(lag time.Duration, from LagSource) {
	if known, ok := e.out.Lag.Get(); !ok || lag >= known {
		e.out.Lag, e.out.LagFrom = Known(lag), from
	}
}

// positions checks what holds whether or not the source lives, and returns what
// is applied. False when that, or what was received, is not known. The binary
// log is no part of it: a write of this server's own must not fill a gap.
func (e *examination) positions() (Position, bool) {
	applied, ok := e.in.Facts.Applied.Get()
	if !ok {
		e.refuse(NotKnown, "applied position is %s", e.in.Facts.Applied.describe())
	}
	received, receivedOK := e.in.Facts.Received()
	if !receivedOK {
		e.refuse(NotKnown, "received position is not known")
	}
	if !ok || !receivedOK {
		return Position{}, false
	}
	e.nothingVanished(received.Merge(applied))
	e.nothingErrant(applied, received)
	return applied, true
}

func (e *examination) nothingVanished(here Position) {
	if n := here.Missing(e.in.MaxReceived); n > 0 {
		e.refuse(BehindSource, "%s up to %s once received here are gone: the relay log was dropped before they were applied",
			counted(n), shown(e.in.MaxReceived))
	}
}

// heardFresh holds the database against the living source's word.
func (e *examination) heardFresh(applied Position) {
	last, heard := e.in.Heard.Last()
	at, timed := e.in.Heard.At()
	if !heard || !timed {
		e.refuse(NotKnown, "position of the source was not heard yet")
		return
	}
	switch age, limit := e.now.Sub(at), e.policy.maxAge(); {
	case age < 0:
		e.refuse(NotKnown, "position of the source was heard %s in the future", seconds(-age))
		return
	case age > limit:
		e.refuse(NotKnown, "position of the source was heard %s ago, more than %s", seconds(age), seconds(limit))
	}
	if since, missing := e.in.Heard.MissingSince(applied); missing {
		lag := e.now.Sub(since)
		e.noteLag(lag, LagPositions)
		if lag > e.policy.MaxLag {
			e.refuse(Lagging, "%s behind %s, missing for %s, more than %s",
				counted(applied.Missing(last)), shown(last), seconds(lag), seconds(e.policy.MaxLag))
		}
	}
	e.beatLag()
}

// beatLag holds the database against the source's count in the heartbeat table. A
// table that cannot be read is no reason: the positions stand by themselves.
func (e *examination) beatLag() {
	rows, ok := e.in.Facts.Beats.Get()
	if !ok {
		return
	}
	lag, ok := e.in.Heard.BeatLag(rows, e.now)
	if !ok {
		return
	}
	e.noteLag(lag, LagHeartbeat)
	if lag > e.policy.MaxLag {
		b := e.in.Heard.LastBeat()
		e.refuse(Lagging, "heartbeat %d of server %d is known of and not in the table here, the oldest missing for %s, more than %s",
			b.Count, b.Server, seconds(lag), seconds(e.policy.MaxLag))
	}
}

// exact asks that what the lost source was last known to have is applied.
func (e *examination) exact(applied Position) {
	last, heard := e.in.Heard.Last()
	if !heard {
		e.refuse(NotKnown, "position of the lost source was never heard, so what is missing cannot be told: an operator decides")
		return
	}
	n := applied.Missing(last)
	if n <= e.policy.MaxMissing {
		return
	}
	allowed := ""
	if e.policy.MaxMissing > 0 {
		allowed = fmt.Sprintf(", more than the %d that may be missing", e.policy.MaxMissing)
	}
	e.refuse(BehindSource, "%s behind %s, %s%s", counted(n), shown(last), e.whenHeard(), allowed)
}

func (e *examination) whenHeard() string {
	if age, ok := e.out.HeardAge.Get(); ok {
		return fmt.Sprintf("heard %s ago", seconds(age))
	}
	return "heard before this daemon started"
}

// counted renders a count of missing transactions; positions of two flavors have none.
func counted(n uint64) string {
	if n == math.MaxUint64 {
		return "an unknown number of transactions"
	}
	return transactions(n)
}

// label names the channel within a sentence, if it has a name.
func (c Channel) label() string {
	if c.Name == "" {
		return ""
	}
	return " (channel " + cut(c.Name, 64) + ")"
}

func (c Channel) source() string {
	host := c.SourceHost
	if host == "" {
		host = "an unnamed host"
	}
	return fmt.Sprintf("%s:%d%s", host, c.SourcePort, c.label())
}

// describe says why there is no value.
func (o Optional[T]) describe() string {
	switch {
	case o.IsNull():
		return "NULL"
	case o.IsKnown():
		return "known"
	default:
		return "unknown"
	}
}
