package replication

// A position says which transactions a database has. Positions of different
// flavors never mix: one does not cover the other, whatever the numbers.

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Flavor tells whose notation a position is in.
type Flavor uint8

// FlavorNone is the flavor of the empty position, which every position covers.
const (
	FlavorNone    Flavor = iota
	FlavorMariaDB        // domain-server-sequence
	FlavorMySQL          // server UUID and numbers, a GTIDSet
)

var flavorNames = [...]string{"none", "MariaDB", "MySQL"}

// String returns the name of the servers that write so, or "none".
func (f Flavor) String() string { return nameOf(flavorNames[:], uint8(f)) }

// GTID is one MariaDB transaction identifier, written domain-server-sequence.
type GTID struct {
	Domain   uint32
	Server   uint32
	Sequence uint64
}

// String returns the GTID as MariaDB writes it.
func (g GTID) String() string {
	return fmt.Sprintf("%d-%d-%d", g.Domain, g.Server, g.Sequence)
}

// maxPositionLength bounds the text of a position: some 4,000 domains or 2,500
// UUIDs, where a server has a handful.
const maxPositionLength = 128 << 10

// Position is what a database has. On MariaDB that is the last transaction of
// every replication domain, and with it all earlier ones of that domain; on
// MySQL it is a GTIDSet. The zero value is empty. A Position is immutable and may
// be shared; a copy costs no more than the struct.
type Position struct {
	flavor Flavor
	gtids  []GTID // of MariaDB, sorted by domain, one each
	set    GTIDSet
}

// ParsePosition reads a MariaDB GTID position such as "0-1-100,1-2-5" or, where
// there is a colon in the text, a MySQL GTID set as ParseGTIDSet does. White
// space around an element is ignored and the empty string is the empty position.
// A number out of range, a domain named twice and a text over 128 KiB are errors.
func ParsePosition(s string) (Position, error) {
	if len(s) <= maxPositionLength && strings.Contains(s, ":") {
		set, err := ParseGTIDSet(s)
		return set.Position(), err
	}
	gtids, err := parseGTIDs(s)
	if err != nil {
		return Position{}, fmt.Errorf("parse position %s: %w", quoted(s), err)
	}
	for i := 1; i < len(gtids); i++ {
		if gtids[i].Domain == gtids[i-1].Domain {
			return Position{}, fmt.Errorf("parse position %s: domain %d appears twice", quoted(s), gtids[i].Domain)
		}
	}
	return newPosition(gtids), nil
}

// PositionOf returns the position made of one GTID per domain; of two in one
// domain the higher sequence counts, and of two equal ones the first.
func PositionOf(gtids ...GTID) Position {
	var p Position
	for _, g := range gtids {
		p = p.Merge(newPosition([]GTID{g}))
	}
	return p
}

func newPosition(gtids []GTID) Position {
	if len(gtids) == 0 {
		return Position{}
	}
	return Position{flavor: FlavorMariaDB, gtids: gtids}
}

// parseGTIDs returns the listed GTIDs sorted by domain, then server.
func parseGTIDs(s string) ([]GTID, error) {
	if len(s) > maxPositionLength {
		return nil, fmt.Errorf("longer than %d bytes", maxPositionLength)
	}
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var gtids []GTID
	for element := range strings.SplitSeq(s, ",") {
		g, err := parseGTID(strings.TrimSpace(element))
		if err != nil {
			return nil, err
		}
		gtids = append(gtids, g)
	}
	slices.SortStableFunc(gtids, compareWriter)
	return gtids, nil
}

func parseGTID(s string) (GTID, error) {
	parts := strings.Split(s, "-")
	if len(parts) != 3 {
		return GTID{}, fmt.Errorf("%s is not domain-server-sequence", quoted(s))
	}
	domain, err := parseDigits(parts[0], 32)
	if err != nil {
		return GTID{}, fmt.Errorf("domain of %s: %w", quoted(s), err)
	}
	server, err := parseDigits(parts[1], 32)
	if err != nil {
		return GTID{}, fmt.Errorf("server of %s: %w", quoted(s), err)
	}
	sequence, err := parseDigits(parts[2], 64)
	if err != nil {
		return GTID{}, fmt.Errorf("sequence of %s: %w", quoted(s), err)
	}
	return GTID{Domain: uint32(domain), Server: uint32(server), Sequence: sequence}, nil
}

func parseDigits(s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number of %d bits", quoted(s), bits)
	}
	return n, nil
}

// quoted returns s in quotes, cut so that an error stays readable.
func quoted(s string) string { return strconv.Quote(cut(s, 80)) }

// Flavor returns whose notation the position is in, FlavorNone when it is empty.
func (p Position) Flavor() Flavor { return p.flavor }

// Empty reports whether p holds no transaction.
func (p Position) Empty() bool { return p.flavor == FlavorNone }

// GTIDs returns the last transaction of each domain, in order of domain; nil for
// a position of MySQL, which has no domains.
func (p Position) GTIDs() []GTID { return slices.Clone(p.gtids) }

// GTIDSet returns the transactions as a set, which can be subtracted and
// intersected, and whether p is one: true for a position of MySQL and for the
// empty one. A MariaDB position says how far, not which, so it is none.
func (p Position) GTIDSet() (GTIDSet, bool) { return p.set, p.flavor != FlavorMariaDB }

// String returns the position as the server writes it, in order and on one
// line, so that equal positions give equal strings; the empty position gives "".
func (p Position) String() string {
	if p.flavor == FlavorMySQL {
		return p.set.String()
	}
	var b strings.Builder
	for i, g := range p.gtids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(g.String())
	}
	return b.String()
}

// Equal reports whether p and other name the same transactions.
func (p Position) Equal(other Position) bool {
	return p.flavor == other.flavor && slices.Equal(p.gtids, other.gtids) && p.set.Equal(other.set)
}

// Covers reports whether p has all that other has. On MariaDB that goes by
// sequence number: in each domain of other, p is as far or farther. The server
// number plays no part there, as in MASTER_GTID_WAIT; see Diverged. Positions of
// two flavors cover each other only where one is empty.
func (p Position) Covers(other Position) bool {
	return p.Missing(other) == 0
}

// Missing returns how many transactions of other p lacks. On MySQL the count is
// exact. On MariaDB it is the differences of the sequence numbers, summed over
// the domains of other in which p is behind: exact where a domain's sequence is
// unbroken, as it is with one writer at a time and gtid_strict_mode; skipped
// numbers make it too high, never too low. A domain that p does not know counts
// from sequence 0. Positions of two flavors cannot be compared and give
// math.MaxUint64, as does an overflow.
func (p Position) Missing(other Position) uint64 {
	switch {
	case other.Empty():
		return 0
	case !p.Empty() && p.flavor != other.flavor:
		return math.MaxUint64
	case other.flavor == FlavorMySQL:
		return p.set.Missing(other.set)
	}
	var missing uint64
	for _, theirs := range other.gtids {
		// A domain in which nothing was written yet (sequence 0) lacks nothing.
		ours, _ := p.in(theirs.Domain)
		if ours.Sequence >= theirs.Sequence {
			continue
		}
		missing = addSaturating(missing, theirs.Sequence-ours.Sequence)
	}
	return missing
}

// Diverged returns the first domain's GTIDs in which p and other hold different
// transactions under one sequence number, which no replication ever mends. On
// MySQL a number belongs to one server, so nothing like it is ever seen there:
// see Errant.
func (p Position) Diverged(other Position) (ours, theirs GTID, diverged bool) {
	for _, theirs := range other.gtids {
		ours, ok := p.in(theirs.Domain)
		if ok && ours.Sequence == theirs.Sequence && ours.Server != theirs.Server {
			return ours, theirs, true
		}
	}
	return GTID{}, GTID{}, false
}

// Merge returns the position that has what p or other has: on MySQL the union,
// on MariaDB the higher sequence number of each domain, p's where they are equal.
// Two flavors do not merge: p stays as it is, and so goes on not covering other.
// Positions of many writers can merge into one longer than ParsePosition reads.
func (p Position) Merge(other Position) Position {
	switch {
	case other.Empty():
		return p
	case p.Empty():
		return other
	case p.flavor != other.flavor:
		return p
	case p.flavor == FlavorMySQL:
		if p.set.Contains(other.set) {
			return p
		}
		return p.set.Union(other.set).Position()
	}
	merged := slices.Clone(p.gtids)
	for _, g := range other.gtids {
		i, found := slices.BinarySearchFunc(merged, g.Domain, compareDomain)
		switch {
		case !found:
			merged = slices.Insert(merged, i, g)
		case g.Sequence > merged[i].Sequence:
			merged[i] = g
		}
	}
	return Position{flavor: p.flavor, gtids: merged}
}

func (p Position) in(domain uint32) (GTID, bool) {
	i, found := slices.BinarySearchFunc(p.gtids, domain, compareDomain)
	if !found {
		return GTID{}, false
	}
	return p.gtids[i], true
}

func compareDomain(g GTID, domain uint32) int { return cmp.Compare(g.Domain, domain) }

func addSaturating(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
