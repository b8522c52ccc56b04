package mysql

// Giving up transactions that only this server has makes its books right, not its
// tables: the rows stay. So it is an operator's word, the transactions are put
// away first, and the server wants to be made anew from the source afterwards.

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/replication"
)

// forgetTimeout bounds the statements that make a server forget.
const forgetTimeout = 10 * time.Second

// Discarded is what Discard gives up.
type Discarded struct {
	Errant []string // in GTID form, as in ErrantError
	Count  uint64
	// From is the last transaction of each domain that both servers have:
	// replication goes on behind it.
	From replication.Position
	// State is what gtid_binlog_state becomes.
	State string
	// Logs are the paths, on the server's host, of the binary logs that hold the
	// transactions.
	Logs []string
}

// forgetting are the statements for it.
type forgetting struct {
	logs, basename string
	head           func(log string) string
	empty          string
	setState       func(state string) string
}

// Discard makes the database follow the source although it has transactions that
// the source lacks. It deletes the binary logs, makes gtid_binlog_state and
// gtid_slave_pos what both servers have in common, and follows. The tables keep
// what the discarded transactions wrote: until they are made anew from the source,
// replication may stop at a row that differs, and what differs without a collision
// stays so.
//
// keep is called before anything is deleted; an error of it is a refusal. It is to
// put the binary logs away, and to write down what is given up. Without such
// transactions keep is not called, and Discard is Follow but that it takes the
// operator's word where it cannot be told whether there are any. It refuses
// everything else that Follow refuses; MySQL's books cannot be put right.
func (d *Database) Discard(ctx context.Context, src Source, keep func(context.Context, Discarded) error) (Discarded, error) {
	var gone Discarded
	err := d.act(ctx, "discard transactions", func(ctx context.Context, s *session) (err error) {
		gone, err = s.discard(ctx, src, keep)
		return err
	})
	return gone, err
}

func (s *session) discard(ctx context.Context, src Source, keep func(context.Context, Discarded) error) (Discarded, error) {
	v, err := s.mayDiscard(ctx, src)
	if err != nil {
		return Discarded{}, err
	}
	if v.errant == nil {
		return Discarded{}, s.follow(ctx, src, s.undoubted)
	}
	missing, err := s.missingGrants(ctx, s.dialect.discardPrivileges)
	if err != nil {
		return Discarded{}, err
	}
	if len(missing) > 0 {
		return Discarded{}, fmt.Errorf("the account lacks the privilege %s: on this server, after SET SESSION sql_log_bin = 0: %s",
			missing[0].Privilege, missing[0].Fix)
	}
	if v.anyRuns() {
		if err := s.stopForDiscard(ctx, v); err != nil {
			return Discarded{}, err
		}
		if v, err = s.mayDiscard(ctx, src); err != nil {
			return Discarded{}, err
		}
	}
	gone, err := s.given(ctx, v)
	if err != nil {
		return Discarded{}, err
	}
	if err := keep(ctx, gone); err != nil {
		return Discarded{}, fmt.Errorf("put the transactions away, nothing was discarded: %w", err)
	}
	// Half of it would leave a position that is none: nobody's change of mind
	// comes in between.
	safe, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
	defer cancel()
	for _, q := range []string{s.dialect.forget.empty, s.dialect.forget.setState(gone.State), s.dialect.setApplied(gone.From)} {
		if err := s.exec(safe, q); err != nil {
			return gone, fmt.Errorf("%s, and gtid_binlog_state is to be %q, gtid_slave_pos %q: %w", q, gone.State, gone.From, err)
		}
	}
	// From here on it is as if they had never been.
	return gone, s.follow(ctx, src, s.refetching)
}

// stopForDiscard stops the threads. An SQL thread that stands at a transaction of
// this server's own, as gtid_strict_mode has it, never applies what was received.
func (s *session) stopForDiscard(ctx context.Context, v view) error {
	err := s.stopDrained(ctx)
	if _, stands := errors.AsType[*SQLThreadError](err); stands && v.refetch {
		return s.stop(ctx, s.dialect.stopAll(), bothStopped)
	}
	return err
}

// refetching is undoubted where a relay log may be dropped: the source has what is
// in it.
func (s *session) refetching(ctx context.Context, src Source) (view, error) {
	v, err := s.undoubted(ctx, src)
	v.refetch = err == nil && v.sourceHasReceived()
	return v, err
}

// sourceHasReceived reports whether the source has all that the channels received.
func (v view) sourceHasReceived() bool {
	theirs, ok := transactions(v.theirs.facts)
	for _, c := range v.channels {
		received, known := c.Received.Get()
		if !ok || !known {
			return false
		}
		for _, g := range received.GTIDs() {
			if theirs[g.Domain][g.Server] < g.Sequence {
				return false
			}
		}
	}
	return ok
}

// undoubted compares with the operator's word that nothing is missed of what only
// this server may have.
func (s *session) undoubted(ctx context.Context, src Source) (view, error) {
	v, err := s.compare(ctx, src)
	v.doubt = nil
	return v, err
}

// mayDiscard refuses what Follow refuses, but for errant transactions.
func (s *session) mayDiscard(ctx context.Context, src Source) (view, error) {
	v, err := s.refetching(ctx, src)
	if err != nil {
		return v, err
	}
	if s.dialect.forget == nil && v.errant != nil {
		return v, errors.New("transactions of this server cannot be discarded: make it anew from the source")
	}
	rest := v
	rest.errant = nil
	return v, rest.mayFollow(src)
}

// sequences holds, by server, the last transaction in one domain.
type sequences map[uint32]uint64

// transactions returns by domain what a server has: what stands in its binary log
// and what it applied, which need not be there.
func transactions(f replication.Facts) (map[uint32]sequences, bool) {
	state, ok := f.BinlogState.Get()
	applied, okApplied := f.Applied.Get()
	if !ok || !okApplied {
		return nil, false
	}
	has := map[uint32]sequences{}
	for _, g := range append(state.Errant(replication.BinlogState{}), applied.GTIDs()...) {
		if has[g.Domain] == nil {
			has[g.Domain] = sequences{}
		}
		has[g.Domain][g.Server] = max(has[g.Domain][g.Server], g.Sequence)
	}
	return has, true
}

// common returns the last transaction of a domain that both servers have, server 0
// when there is none.
func common(mine, theirs sequences) (server uint32, sequence uint64) {
	for s, last := range mine {
		if n := min(last, theirs[s]); n > sequence {
			server, sequence = s, n
		}
	}
	return server, sequence
}

// before returns, by domain, a sequence number before the first transaction that
// is given up. It need not stand behind the last that both have.
func before(d replication.Divergence, theirs map[uint32]sequences) map[uint32]uint64 {
	last := map[uint32]uint64{}
	for _, r := range d.Errant.Ranges() {
		n := r.First - 1
		if !d.Exact {
			// Of several transactions of one server, the first may be out of sight.
			n = min(n, theirs[r.Domain][r.Server])
		}
		if known, ok := last[r.Domain]; !ok || n < known {
			last[r.Domain] = n
		}
	}
	return last
}

// given works out what is given up.
func (s *session) given(ctx context.Context, v view) (Discarded, error) {
	mine, ok := transactions(v.mine.facts)
	theirs, okTheirs := transactions(v.theirs.facts)
	if !ok || !okTheirs {
		return Discarded{}, errors.New("positions cannot be read")
	}
	gone := Discarded{Errant: v.errant.Errant, Count: v.errant.Count}
	floor := before(v.errant.divergence, theirs)
	var last, state []replication.GTID
	for domain, servers := range mine {
		server, sequence := common(servers, theirs[domain])
		if sequence == 0 {
			continue
		}
		if _, ok := floor[domain]; !ok {
			floor[domain] = math.MaxUint64 // nothing of it is given up
		}
		last = append(last, replication.GTID{Domain: domain, Server: server, Sequence: sequence})
		for server, n := range servers {
			if n = min(n, theirs[domain][server]); n > 0 {
				state = append(state, replication.GTID{Domain: domain, Server: server, Sequence: n})
			}
		}
	}
	gone.From = replication.PositionOf(last...)
	if gone.From.Empty() {
		return gone, errors.New("it has nothing in common with the source: make it anew from the source")
	}
	var texts []string
	for _, g := range state {
		texts = append(texts, g.String())
	}
	slices.Sort(texts)
	gone.State = strings.Join(texts, ",")
	var err error
	gone.Logs, err = s.logsBehind(ctx, floor)
	return gone, err
}

// logsBehind returns the binary logs, oldest first, from the one on that holds the
// first transaction behind shared, the last sequence number by domain.
func (s *session) logsBehind(ctx context.Context, shared map[uint32]uint64) ([]string, error) {
	base, err := queryOne(ctx, s.conn, s.dialect.forget.basename)
	if err != nil {
		return nil, err
	}
	rows, err := query(ctx, s.conn, s.dialect.forget.logs)
	if err != nil {
		return nil, fmt.Errorf("list the binary logs: %w", err)
	}
	var logs []string
	for _, r := range slices.Backward(rows) {
		name := r["Log_name"].String
		logs = append(logs, filepath.Join(filepath.Dir(base["base"].String), name))
		head, err := query(ctx, s.conn, s.dialect.forget.head(name))
		if err != nil {
			return nil, fmt.Errorf("read the head of binary log %s: %w", name, err)
		}
		if older, ok := listedAtHead(head); ok && !beyond(older, shared) {
			break
		}
	}
	slices.Reverse(logs)
	return logs, nil
}

// listedAtHead returns what was written before a binary log began.
func listedAtHead(events []row) ([]replication.GTID, bool) {
	for _, e := range events {
		if e["Event_type"].String != "Gtid_list" {
			continue
		}
		list := strings.Trim(e["Info"].String, "[]")
		state, err := replication.ParseBinlogState(list)
		return state.Errant(replication.BinlogState{}), err == nil
	}
	return nil, false
}

func beyond(list []replication.GTID, shared map[uint32]uint64) bool {
	return slices.ContainsFunc(list, func(g replication.GTID) bool { return g.Sequence > shared[g.Domain] })
}
