package replication

// A binlog state is finer than a position: it keeps the last transaction of
// every server within a domain, and so shows what a position hides, a
// transaction that only one of two servers has.

import (
	"fmt"
	"slices"
	"strings"
)

// BinlogState is MariaDB's gtid_binlog_state: per domain and server the last
// transaction in the binary log. The zero value is empty.
type BinlogState struct {
	gtids []GTID // sorted by domain and server, one each
}

// ParseBinlogState reads a list such as "0-1-100,0-2-101". A domain and server
// named twice are an error.
func ParseBinlogState(s string) (BinlogState, error) {
	gtids, err := parseGTIDs(s)
	if err != nil {
		return BinlogState{}, fmt.Errorf("parse binlog state %s: %w", quoted(s), err)
	}
	for i := 1; i < len(gtids); i++ {
		if gtids[i].Domain == gtids[i-1].Domain && gtids[i].Server == gtids[i-1].Server {
			return BinlogState{}, fmt.Errorf("parse binlog state %s: domain %d, server %d appears twice",
				quoted(s), gtids[i].Domain, gtids[i].Server)
		}
	}
	return BinlogState{gtids: gtids}, nil
}

// String returns the state sorted by domain and server.
func (b BinlogState) String() string {
	parts := make([]string, len(b.gtids))
	for i, g := range b.gtids {
		parts[i] = g.String()
	}
	return strings.Join(parts, ",")
}

// Equal reports whether both states name the same transactions.
func (b BinlogState) Equal(other BinlogState) bool { return slices.Equal(b.gtids, other.gtids) }

// Errant returns, for each domain and server in which b is ahead of the source,
// the last transaction of b: everything after the source's number up to it is
// on this server only. Read the replica's state before the source's, else
// transactions in flight look errant.
func (b BinlogState) Errant(source BinlogState) []GTID {
	var errant []GTID
	for _, g := range b.gtids {
		if source.last(g.Domain, g.Server) < g.Sequence {
			errant = append(errant, g)
		}
	}
	return errant
}

// WrittenBy returns the part of the state that one server wrote.
func (b BinlogState) WrittenBy(server uint32) BinlogState {
	var own []GTID
	for _, g := range b.gtids {
		if g.Server == server {
			own = append(own, g)
		}
	}
	return BinlogState{gtids: own}
}
