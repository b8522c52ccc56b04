package replication

// Errant transactions are those that a database has and its source lacks: what
// an old source committed before it died and nobody received. They are named
// before anything is changed, because MySQL takes them along without a word.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// GTIDRange are MariaDB transactions of one domain and server, by sequence
// number, First and Last included.
type GTIDRange struct {
	Domain, Server uint32
	First, Last    uint64
}

// String returns the range as "0-11-205..207", or as one GTID.
func (r GTIDRange) String() string {
	last := GTID{r.Domain, r.Server, r.Last}
	if r.First == r.Last {
		return last.String()
	}
	return fmt.Sprintf("%s..%d", GTID{r.Domain, r.Server, r.First}, r.Last)
}

// Transactions are some transactions by name, of either flavor. The zero value
// holds none.
type Transactions struct {
	set    GTIDSet     // of MySQL
	ranges []GTIDRange // of MariaDB, by domain and server
}

// String returns a GTID set, or ranges such as "0-11-205..207,1-11-3"; of none "".
func (t Transactions) String() string {
	if len(t.ranges) == 0 {
		return t.set.String()
	}
	parts := make([]string, len(t.ranges))
	for i, r := range t.ranges {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// Empty reports whether there are none.
func (t Transactions) Empty() bool { return len(t.ranges) == 0 && t.set.Empty() }

// Count returns how many there are, taking each number of a MariaDB range for
// one; at most math.MaxUint64.
func (t Transactions) Count() uint64 {
	n := t.set.Count()
	for _, r := range t.ranges {
		n = addSaturating(addSaturating(n, r.Last-r.First), 1)
	}
	return n
}

// Ranges returns the transactions of MariaDB, nil for those of MySQL.
func (t Transactions) Ranges() []GTIDRange { return slices.Clone(t.ranges) }

// GTIDSet returns the transactions of MySQL, the empty set for those of MariaDB.
func (t Transactions) GTIDSet() GTIDSet { return t.set }

// Lacking returns the transactions of other that p lacks, which are as many as
// Missing says. On MariaDB a range carries the server of other's last
// transaction; earlier ones of the domain may be other servers'. False when the
// two positions are of two flavors, and cannot be compared.
func (p Position) Lacking(other Position) (Transactions, bool) {
	switch {
	case other.Empty():
		return Transactions{}, true
	case !p.Empty() && p.flavor != other.flavor:
		return Transactions{}, false
	case other.flavor == FlavorMySQL:
		return Transactions{set: other.set.Subtract(p.set)}, true
	}
	var lacking Transactions
	for _, theirs := range other.gtids {
		if ours, _ := p.in(theirs.Domain); ours.Sequence < theirs.Sequence {
			lacking.ranges = append(lacking.ranges, GTIDRange{theirs.Domain, theirs.Server, ours.Sequence + 1, theirs.Sequence})
		}
	}
	return lacking, true
}

// History is all that a database can say of the transactions it has.
type History struct {
	Flavor      Flavor
	Executed    Optional[Position]    // of MySQL: gtid_executed
	BinlogState Optional[BinlogState] // of MariaDB: gtid_binlog_state
	Applied     Optional[Position]    // of MariaDB: gtid_slave_pos, which the binary log can lack
}

// History returns what the facts tell of it.
func (f Facts) History() History {
	return History{Flavor: f.Flavor(), Executed: f.Executed, BinlogState: f.BinlogState, Applied: f.Applied}
}

// Divergence is what one database has and another lacks.
type Divergence struct {
	// Known is false where that cannot be told, and Why says for what reason. What
	// is in Errant is certain all the same.
	Known  bool
	Why    string
	Errant Transactions
	// Exact is false where Errant is the certain part, or its count an estimate:
	// MariaDB keeps one number per server, so the first of several transactions
	// can be out of sight.
	Exact bool
}

// Count returns how many errant transactions are certain.
func (d Divergence) Count() uint64 { return d.Errant.Count() }

// String returns "2 transactions: 0-11-205..206", what is not known, or "none".
func (d Divergence) String() string {
	switch {
	case !d.Known && d.Errant.Empty():
		return "not known: " + d.Why
	case !d.Known:
		return fmt.Sprintf("%s and perhaps more: %s (%s)", transactions(d.Count()), cut(d.Errant.String(), 200), d.Why)
	case d.Errant.Empty():
		return "none"
	case !d.Exact:
		return fmt.Sprintf("about %s: %s", transactions(d.Count()), cut(d.Errant.String(), 200))
	default:
		return fmt.Sprintf("%s: %s", transactions(d.Count()), cut(d.Errant.String(), 200))
	}
}

// Errant returns what h has and the source lacks. Read h before the source, else
// transactions on their way look errant. On MySQL the answer is exact. On
// MariaDB it goes by the last number of every server in every domain, and takes
// a domain's numbers for unbroken, as Missing does.
func (h History) Errant(source History) Divergence {
	switch {
	case h.Flavor == FlavorNone || source.Flavor == FlavorNone:
		return Divergence{Why: "what kind of server it is was not read"}
	case h.Flavor != source.Flavor:
		return Divergence{Why: fmt.Sprintf("%s and %s do not compare", h.Flavor, source.Flavor)}
	case h.Flavor == FlavorMySQL:
		return h.errantMySQL(source)
	default:
		return h.errantMariaDB(source)
	}
}

func (h History) errantMySQL(source History) Divergence {
	ours, oursOK := h.Executed.Get()
	theirs, theirsOK := source.Executed.Get()
	if !oursOK || !theirsOK {
		return Divergence{Why: fmt.Sprintf("gtid_executed is %s, that of the source is %s", h.Executed.describe(), source.Executed.describe())}
	}
	errant, ok := theirs.Lacking(ours)
	if !ok {
		return Divergence{Why: "gtid_executed is not a GTID set"}
	}
	return Divergence{Known: true, Exact: true, Errant: errant}
}

func (h History) errantMariaDB(source History) Divergence {
	ours, oursOK := h.BinlogState.Get()
	theirs, theirsOK := source.BinlogState.Get()
	if !oursOK || !theirsOK {
		return Divergence{Why: fmt.Sprintf("gtid_binlog_state is %s, that of the source is %s", h.BinlogState.describe(), source.BinlogState.describe())}
	}
	oursApplied, oursOK := h.Applied.Get()
	theirsApplied, theirsOK := source.Applied.Get()
	if !oursOK || !theirsOK {
		return Divergence{Why: fmt.Sprintf("gtid_slave_pos is %s, that of the source is %s", h.Applied.describe(), source.Applied.describe())}
	}
	d := Divergence{Known: true, Exact: true}
	ours = ours.with(oursApplied)
	for domain := range slices.Values(ours.domains()) {
		d.addDomain(ours.in(domain), theirs.with(theirsApplied), unlogged(theirs, theirsApplied, domain))
	}
	return d
}

// addDomain adds what is errant in one domain. The source applied everything up
// to blind without logging it, so that up to there its servers do not show.
func (d *Divergence) addDomain(ours []GTID, theirs BinlogState, blind uint64) {
	// Every transaction of a server that both have was common history: what is
	// errant began after the last of these.
	common := blind
	for _, g := range ours {
		common = max(common, min(g.Sequence, theirs.last(g.Domain, g.Server)))
	}
	found := 0
	for _, g := range ours {
		known := theirs.last(g.Domain, g.Server)
		if g.Sequence <= known {
			continue
		}
		if g.Sequence <= blind {
			d.Known, d.Exact = false, false
			d.Why = fmt.Sprintf("the source applied domain %d up to %d without writing it to its binary log, so whether it has %s does not show",
				g.Domain, blind, g)
			continue
		}
		r := GTIDRange{g.Domain, g.Server, common + 1, g.Sequence}
		if g.Sequence <= common {
			// Written beside the source's own: of such only the last is sure.
			r.First = g.Sequence
		}
		if found++; known < common || found > 1 {
			d.Exact = false
		}
		d.Errant.ranges = append(d.Errant.ranges, r)
	}
}

// unlogged returns the last sequence number of the domain that was applied and
// is not in the binary log: 0 when log_slave_updates is on.
func unlogged(state BinlogState, applied Position, domain uint32) uint64 {
	g, _ := applied.in(domain)
	if g.Sequence <= state.last(g.Domain, g.Server) {
		return 0
	}
	return g.Sequence
}

// with returns the state as it would be, had everything applied been logged.
func (b BinlogState) with(applied Position) BinlogState {
	all := slices.Clone(b.gtids)
	for _, g := range applied.gtids {
		i, found := slices.BinarySearchFunc(all, g, compareWriter)
		switch {
		case !found:
			all = slices.Insert(all, i, g)
		case all[i].Sequence < g.Sequence:
			all[i] = g
		}
	}
	return BinlogState{gtids: all}
}

// last returns the last sequence number of a server in a domain, 0 for none.
func (b BinlogState) last(domain, server uint32) uint64 {
	i, found := slices.BinarySearchFunc(b.gtids, GTID{Domain: domain, Server: server}, compareWriter)
	if !found {
		return 0
	}
	return b.gtids[i].Sequence
}

func (b BinlogState) domains() []uint32 {
	var domains []uint32
	for _, g := range b.gtids {
		domains = append(domains, g.Domain)
	}
	return slices.Compact(domains)
}

func (b BinlogState) in(domain uint32) []GTID {
	var in []GTID
	for _, g := range b.gtids {
		if g.Domain == domain {
			in = append(in, g)
		}
	}
	return in
}

func compareWriter(a, b GTID) int {
	return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Server, b.Server))
}
