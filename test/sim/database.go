package sim

import (
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// A database is a history: who wrote how many transactions, in which stretch of
// being writable. Two histories with the same terms are the same data; one that
// has another term in the same place has diverged. Clients write and the replica
// follows at constant rates, so nothing is computed before somebody looks.

type term struct {
	id     uint32 // one stretch of writing, never used twice
	server uint32
	end    uint64 // sequence number of its last transaction
}

type history []term

func (h history) len() uint64 {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].end
}

func (h history) gtid() replication.Position {
	if len(h) == 0 {
		return replication.Position{}
	}
	t := h[len(h)-1]
	return replication.PositionOf(replication.GTID{Server: t.server, Sequence: t.end})
}

// state is what a server's binary log says of it: of each server the last transaction.
func (h history) state() replication.BinlogState {
	var last [3]uint64 // by server
	for _, t := range h {
		last[t.server] = t.end
	}
	var list []string
	for server, n := range last {
		if n > 0 {
			list = append(list, replication.GTID{Server: uint32(server), Sequence: n}.String())
		}
	}
	s, _ := replication.ParseBinlogState(strings.Join(list, ",")) // of our own making
	return s
}

// beyond counts the transactions of h that other lacks.
func (h history) beyond(other history) uint64 {
	common := uint64(0)
	for i, t := range h {
		if i >= len(other) || other[i].id != t.id {
			break
		}
		common = min(t.end, other[i].end)
		if t.end != other[i].end {
			break
		}
	}
	return h.len() - common
}

// within reports whether everything in h is in other, in the same places.
func (h history) within(other history) bool {
	for i, t := range h {
		if i >= len(other) || other[i].id != t.id || other[i].end < t.end ||
			i < len(h)-1 && other[i].end != t.end {
			return false
		}
	}
	return true
}

// extend makes h the first n transactions of other, which has h as its start.
func (h history) extend(other history, n uint64) history {
	if n <= h.len() {
		return h
	}
	if len(h) > 0 {
		i := len(h) - 1
		h[i].end = min(n, other[i].end)
	}
	for i := len(h); i < len(other) && h.len() < n; i++ {
		t := other[i]
		t.end = min(t.end, n)
		h = append(h, t)
	}
	return h
}

const (
	applyRate   = 20_000 // transactions a second that a healthy replica applies
	shipDelay   = 2 * time.Millisecond
	threadError = 1950 // any number that is not zero
)

type database struct {
	w     *World
	node  *node
	index int

	up       bool
	hung     bool
	readOnly bool
	closeDue bool // an emergency close waits for the server to wake up
	history  history
	relay    history // what the IO thread fetched, beginning with history
	term     uint32  // of the running stretch of writing, 0: none yet
	carry    int64   // fraction of a transaction, in transactions times nanoseconds
	settled  time.Duration

	channel bool // it is configured as a replica of the other node
	io, sql bool // threads, as ordered
	applied replication.Position
	slow    uint64 // apply rate, 0: the healthy one
	broken  bool   // the SQL thread stopped with an error
	faulted time.Duration
}

// writing reports whether clients write here now.
func (d *database) writable() bool { return d.node.up && d.up && !d.hung && !d.readOnly }

// settle brings both databases of one name to now.
func (w *World) settle(i int) {
	a, b := w.nodes[0].dbs[i], w.nodes[1].dbs[i]
	dt := w.now - a.settled
	if dt == 0 {
		return
	}
	a.write(dt)
	b.write(dt)
	a.replicate(b, dt)
	b.replicate(a, dt)
	a.settled, b.settled = w.now, w.now
}

// settleAll is called before anything changes that decides who writes or follows.
func (w *World) settleAll() {
	for i := range w.nodes[0].dbs {
		w.settle(i)
	}
}

func (d *database) write(dt time.Duration) {
	n := d.node
	if d.w.clientless[n.i] || !d.writable() || n.frozen || !n.kernel.has || w0(n.kernel.removal, d.settled) {
		return
	}
	if end := n.kernel.removal; end < d.w.now {
		dt = end - d.settled
	}
	d.carry += int64(dt) * int64(d.w.setup.WriteRate)
	k := uint64(d.carry / int64(time.Second))
	d.carry %= int64(time.Second)
	if k == 0 {
		return
	}
	if d.term == 0 {
		d.w.terms++
		d.term = d.w.terms
		d.history = append(d.history, term{id: d.term, server: d.server(), end: d.history.len()})
	}
	d.history[len(d.history)-1].end += k
}

func w0(removal, from time.Duration) bool { return removal <= from }

func (d *database) server() uint32 { return uint32(d.node.i + 1) }

// replicate fetches from source and applies what was fetched.
func (d *database) replicate(source *database, dt time.Duration) {
	if !d.node.up || d.node.frozen || !d.up || d.hung || !d.channel {
		return
	}
	if d.io && d.connected(source) && d.relay.within(source.history) {
		d.relay = d.relay.extend(source.history, source.visible())
	}
	if !d.sql || d.broken {
		return
	}
	if d.relay.len() <= d.history.len() {
		return
	}
	if !d.history.within(d.relay) {
		d.broken = true // it was written to here, beside what it replicates
		return
	}
	behind := d.relay.len() - d.history.len()
	rate := uint64(applyRate)
	if d.slow > 0 {
		rate = d.slow
	}
	if can := rate*uint64(dt)/uint64(time.Second) + 1; behind > can {
		behind = can
	}
	d.history = d.history.extend(d.relay, d.history.len()+behind)
	d.applied = d.history.gtid()
}

// visible is how much of the history a replica can have fetched by now.
func (d *database) visible() uint64 {
	n := d.history.len()
	if !d.writable() || d.term == 0 {
		return n
	}
	inFlight := uint64(shipDelay) * uint64(d.w.setup.WriteRate) / uint64(time.Second)
	last := d.history[len(d.history)-1]
	first := uint64(0)
	if len(d.history) > 1 {
		first = d.history[len(d.history)-2].end
	}
	return max(first, last.end-min(inFlight, last.end))
}

func (d *database) connected(source *database) bool {
	return source.node.up && !source.node.frozen && source.up && !source.hung && d.w.net.linked()
}

// follow makes the database a replica of the other node's.
func (d *database) follow() {
	d.w.settleAll()
	d.channel, d.io, d.sql, d.broken = true, true, true, false
	d.term = 0
	d.relay = append(history(nil), d.history...)
	d.applied = d.history.gtid()
}

// stopThreads forgets what was fetched and not applied, as MariaDB does.
func (d *database) stopThreads() {
	d.io, d.sql = false, false
	d.relay = append(d.relay[:0:0], d.history...)
}

func (d *database) setReadOnly(on bool) {
	if d.readOnly == on {
		return
	}
	d.w.settle(d.index)
	d.readOnly = on
	d.term = 0
}

// facts measures the database as the reader would.
func (d *database) facts(at mono.Instant) replication.Facts {
	f := replication.Facts{Name: d.w.setup.dbNames[d.index], MeasuredAt: at}
	switch {
	case !d.up:
		f.Reach = replication.ReachRefused
		return f
	case d.hung:
		f.Reach = replication.ReachTimedOut
		return f
	}
	d.w.settle(d.index)
	f.Reach = replication.Reachable
	f.ServerID = replication.Known(d.server())
	f.ReadOnly = replication.Known(d.readOnly)
	f.Executed = replication.Known(d.history.gtid())
	f.Applied = replication.Known(d.applied)
	f.BinlogState = replication.Known(d.history.state())
	f.ReplicasConnected = replication.Known[uint64](0)
	if !d.channel {
		f.Channels = replication.Known[[]replication.Channel](nil)
		return f
	}
	f.Channels = replication.Known([]replication.Channel{d.threads()})
	return f
}

func (d *database) threads() replication.Channel {
	source := d.w.nodes[1-d.node.i].dbs[d.index]
	none := replication.Known(replication.ServerError{})
	c := replication.Channel{
		IO: replication.ThreadStopped, SQL: replication.ThreadStopped, LastIOError: none, LastSQLError: none,
		UsingGTID: replication.Known(true), SQLDelay: replication.Known(time.Duration(0)), Filtered: replication.Known(false),
		SecondsBehind: replication.Null[time.Duration](),
	}
	if d.io {
		c.IO = replication.ThreadRunning
		if !d.connected(source) {
			c.IO = replication.ThreadConnecting
		} else if !d.relay.within(source.history) {
			c.IO = replication.ThreadStopped
			c.LastIOError = replication.Known(replication.ServerError{Number: 1236, Text: "the source lacks what is here"})
		}
	}
	if d.sql && !d.broken {
		c.SQL = replication.ThreadRunning
	}
	if d.broken {
		c.LastSQLError = replication.Known(replication.ServerError{Number: threadError, Text: "broken on purpose"})
	}
	if c.IO == replication.ThreadRunning && c.SQL == replication.ThreadRunning {
		// The server's own idea of lag: 0 although transactions are missing.
		c.SecondsBehind = replication.Known(time.Duration(0))
	}
	if d.io || d.sql {
		c.Received = replication.Known(d.relay.gtid())
	} else {
		c.Received = replication.Known(replication.Position{})
	}
	return c
}

// reaches reports whether the database has what was asked for.
func (d *database) reaches(targets []failover.Position) bool {
	if !d.up || d.hung {
		return false
	}
	d.w.settle(d.index)
	for _, t := range targets {
		if t.Database == d.w.setup.dbNames[d.index] {
			return d.history.gtid().Covers(t.Executed)
		}
	}
	return d.history.len() >= d.relay.len()
}
