package mysql

// A database that wrote what the source does not have must not follow it in
// silence: some servers would go on and differ for ever.

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tanist-ha/tanist/replication"
)

// ErrantError says that a database has transactions that the source lacks.
type ErrantError struct {
	Source string // HOST:PORT
	// Errant lists them in GTID form, a range of MariaDB as 0-4011-205..207.
	Errant []string
	// Count is how many there are; too high, never too low, where sequence numbers
	// were skipped.
	Count uint64
}

func (e *ErrantError) Error() string {
	noun := "transactions"
	if e.Count == 1 {
		noun = "transaction"
	}
	return fmt.Sprintf("has %d %s that source %s lacks: %s", e.Count, noun, e.Source, strings.Join(e.Errant, ", "))
}

// CheckRejoin returns nil when Follow would not refuse, and why it would else; it
// is an *ErrantError when all that stands in the way is that this database has
// transactions of its own. It changes nothing.
func (d *Database) CheckRejoin(ctx context.Context, src Source) error {
	return d.act(ctx, "compare with "+src.String(), func(ctx context.Context, s *session) error {
		v, err := s.compare(ctx, src)
		if err != nil || v.follows() {
			return err
		}
		return v.mayFollow(src)
	})
}

// errantOf returns what this server has and the source lacks, nil when that is
// nothing.
func errantOf(mine, theirs replication.Facts, source string) (*ErrantError, error) {
	a, okA := transactions(mine)
	b, okB := transactions(theirs)
	if !okA || !okB {
		return nil, errors.New("what the two servers have cannot be compared: a position cannot be read")
	}
	e := &ErrantError{Source: source}
	for domain, servers := range a {
		list, count := errantIn(domain, servers, b[domain])
		e.Errant = append(e.Errant, list...)
		e.Count += count
	}
	if len(e.Errant) == 0 {
		return nil, nil
	}
	slices.Sort(e.Errant)
	return e, nil
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
// when there is none. What stands before it in one history stands before it in the
// other: a domain's sequence only grows.
func common(mine, theirs sequences) (server uint32, sequence uint64) {
	for s, last := range mine {
		if n := min(last, theirs[s]); n > sequence {
			server, sequence = s, n
		}
	}
	return server, sequence
}

func errantIn(domain uint32, mine, theirs sequences) (list []string, count uint64) {
	_, shared := common(mine, theirs)
	var last uint64
	least := uint64(math.MaxUint64)
	for server, n := range mine {
		from := shared + 1
		if t, known := theirs[server]; known {
			from = t + 1
		}
		if n < from {
			continue
		}
		least, last = min(least, from), max(last, n)
		g := replication.GTID{Domain: domain, Server: server, Sequence: from}.String()
		if n > from {
			g += ".." + strconv.FormatUint(n, 10)
		}
		list = append(list, g)
	}
	if len(list) == 0 {
		return nil, 0
	}
	return list, last - least + 1
}
