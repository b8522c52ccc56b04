package site

// MariaDB's positions, read here on their own: what judges Tanist does not use
// Tanist's reading of them.

import (
	"fmt"
	"strconv"
	"strings"
)

// GTID is one transaction: domain-server-sequence.
type GTID struct {
	Domain, Server uint32
	Seq            uint64
}

// String is the form of the server.
func (g GTID) String() string { return fmt.Sprintf("%d-%d-%d", g.Domain, g.Server, g.Seq) }

// ParseGTID reads one.
func ParseGTID(text string) (GTID, error) {
	parts := strings.Split(strings.TrimSpace(text), "-")
	if len(parts) != 3 {
		return GTID{}, fmt.Errorf("%q is no GTID", text)
	}
	var n [3]uint64
	for i, bits := range []int{32, 32, 64} {
		var err error
		if n[i], err = strconv.ParseUint(parts[i], 10, bits); err != nil {
			return GTID{}, fmt.Errorf("%q is no GTID: %w", text, err)
		}
	}
	return GTID{uint32(n[0]), uint32(n[1]), n[2]}, nil
}

// Position is how far a server is: in each domain its last transaction.
type Position map[uint32]GTID

// ParsePosition reads a list of GTIDs; the empty text is the empty position.
func ParsePosition(text string) (Position, error) {
	p := Position{}
	for word := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(word) == "" {
			continue
		}
		g, err := ParseGTID(word)
		if err != nil {
			return nil, err
		}
		p.note(g)
	}
	return p, nil
}

func (p Position) note(g GTID) {
	if had, ok := p[g.Domain]; !ok || had.Seq < g.Seq {
		p[g.Domain] = g
	}
}

// Covers reports whether all of other is in p, where both are of one history.
func (p Position) Covers(other Position) bool { return p.Lacks(other) == 0 }

// Lacks counts the transactions of other that p does not have, where both are of
// one history: in it a sequence number has no gaps.
func (p Position) Lacks(other Position) uint64 {
	var n uint64
	for domain, g := range other {
		if have := p[domain].Seq; g.Seq > have {
			n += g.Seq - have
		}
	}
	return n
}

// Has reports whether one transaction is in p, by the same rule.
func (p Position) Has(g GTID) bool { return p[g.Domain].Seq >= g.Seq }
