package replication

// A GTID set is MySQL's way of saying which transactions a database has: by
// number, per server and tag, with gaps. Unlike a MariaDB position it can be
// subtracted from another, and counts are exact.

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// maxNumber is the highest transaction number a MySQL server gives out.
const maxNumber = 1<<63 - 2

// GTIDSet is a set of MySQL transactions. The zero value is empty. A GTIDSet is
// immutable and may be shared; its algebra takes time linear in the number of
// intervals.
type GTIDSet struct {
	parts []setPart // by writer, one each, none empty
}

// setPart are the transactions of one writer.
type setPart struct {
	writer writer
	spans  []span // ascending, neither overlapping nor adjacent
}

// writer is whom a number belongs to: the server that first committed the
// transaction, and the tag it was given there, empty for none.
type writer struct {
	server serverUUID
	tag    string // lower case
}

func (w writer) compare(other writer) int {
	return cmp.Or(bytes.Compare(w.server[:], other.server[:]), cmp.Compare(w.tag, other.tag))
}

// span are the numbers from first to last, both included.
type span struct{ first, last uint64 }

type serverUUID [16]byte

// String returns the UUID as a server writes it, in lower case.
func (u serverUUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// String returns the set on one line, servers, tags and numbers in order, in
// lower case: equal sets give equal strings, and the empty set gives "".
func (s GTIDSet) String() string {
	var b strings.Builder
	for i, p := range s.parts {
		if i == 0 || p.writer.server != s.parts[i-1].writer.server {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(p.writer.server.String())
		}
		if p.writer.tag != "" {
			b.WriteByte(':')
			b.WriteString(p.writer.tag)
		}
		for _, r := range p.spans {
			b.WriteByte(':')
			b.WriteString(strconv.FormatUint(r.first, 10))
			if r.last > r.first {
				b.WriteByte('-')
				b.WriteString(strconv.FormatUint(r.last, 10))
			}
		}
	}
	return b.String()
}

// Empty reports whether s holds no transaction.
func (s GTIDSet) Empty() bool { return len(s.parts) == 0 }

// Equal reports whether both sets hold the same transactions.
func (s GTIDSet) Equal(other GTIDSet) bool {
	return slices.EqualFunc(s.parts, other.parts, func(a, b setPart) bool {
		return a.writer == b.writer && slices.Equal(a.spans, b.spans)
	})
}

// Count returns how many transactions s holds, at most math.MaxUint64.
func (s GTIDSet) Count() uint64 { return GTIDSet{}.Missing(s) }

// Contains reports whether s holds every transaction of other.
func (s GTIDSet) Contains(other GTIDSet) bool { return s.Missing(other) == 0 }

// Missing returns how many transactions of other s lacks, at most
// math.MaxUint64: the count of other.Subtract(s), without making it.
func (s GTIDSet) Missing(other GTIDSet) uint64 {
	var missing uint64
	i := 0
	for _, theirs := range other.parts {
		for i < len(s.parts) && s.parts[i].writer.compare(theirs.writer) < 0 {
			i++
		}
		var ours []span
		if i < len(s.parts) && s.parts[i].writer == theirs.writer {
			ours = s.parts[i].spans
		}
		eachLeft(theirs.spans, ours, func(r span) { missing = addSaturating(missing, r.last-r.first+1) })
	}
	return missing
}

// Subtract returns what s holds and other does not.
func (s GTIDSet) Subtract(other GTIDSet) GTIDSet { return s.combine(other, subtractSpans) }

// Intersect returns what both hold.
func (s GTIDSet) Intersect(other GTIDSet) GTIDSet { return s.combine(other, intersectSpans) }

// Union returns what s or other holds.
func (s GTIDSet) Union(other GTIDSet) GTIDSet { return s.combine(other, uniteSpans) }

// Position returns s as a position, the empty one when s is empty.
func (s GTIDSet) Position() Position {
	if s.Empty() {
		return Position{}
	}
	return Position{flavor: FlavorMySQL, set: s}
}

// writtenBy returns the part that one server committed first, under any tag.
func (s GTIDSet) writtenBy(server serverUUID) GTIDSet {
	return s.keep(func(w writer) bool { return w.server == server })
}

// keep returns the parts whose writer is wanted.
func (s GTIDSet) keep(wanted func(writer) bool) GTIDSet {
	var kept []setPart
	for _, p := range s.parts {
		if wanted(p.writer) {
			kept = append(kept, p)
		}
	}
	return GTIDSet{kept}
}

// combine applies one operation writer by writer; a writer that one side lacks
// has no spans there.
func (s GTIDSet) combine(other GTIDSet, operation func(a, b []span) []span) GTIDSet {
	var parts []setPart
	a, b := s.parts, other.parts
	for len(a) > 0 || len(b) > 0 {
		var one setPart
		switch order := compareHeads(a, b); {
		case order < 0:
			one = setPart{a[0].writer, operation(a[0].spans, nil)}
			a = a[1:]
		case order > 0:
			one = setPart{b[0].writer, operation(nil, b[0].spans)}
			b = b[1:]
		default:
			one = setPart{a[0].writer, operation(a[0].spans, b[0].spans)}
			a, b = a[1:], b[1:]
		}
		if len(one.spans) > 0 {
			parts = append(parts, one)
		}
	}
	return GTIDSet{parts}
}

// compareHeads tells whose first writer comes first; an exhausted side comes last.
func compareHeads(a, b []setPart) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	default:
		return a[0].writer.compare(b[0].writer)
	}
}

// eachLeft calls yield with every span of a that is left once b is taken away.
func eachLeft(a, b []span, yield func(span)) {
	for _, r := range a {
		for len(b) > 0 && b[0].last < r.first {
			b = b[1:]
		}
		// What reaches beyond r stays in b for the spans after it.
		for len(b) > 0 && b[0].last < r.last {
			if b[0].first > r.first {
				yield(span{r.first, b[0].first - 1})
			}
			r.first = b[0].last + 1
			b = b[1:]
		}
		if len(b) > 0 && b[0].first <= r.last {
			if b[0].first > r.first {
				yield(span{r.first, b[0].first - 1})
			}
			continue
		}
		yield(r)
	}
}

func subtractSpans(a, b []span) []span {
	if len(b) == 0 {
		return a
	}
	var left []span
	eachLeft(a, b, func(r span) { left = append(left, r) })
	return left
}

func intersectSpans(a, b []span) []span {
	var both []span
	for len(a) > 0 && len(b) > 0 {
		first, last := max(a[0].first, b[0].first), min(a[0].last, b[0].last)
		if first <= last {
			both = append(both, span{first, last})
		}
		if a[0].last < b[0].last {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return both
}

func uniteSpans(a, b []span) []span {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	all := make([]span, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].first <= b[0].first {
			all, a = appendSpan(all, a[0]), a[1:]
		} else {
			all, b = appendSpan(all, b[0]), b[1:]
		}
	}
	return slices.Clip(all)
}

// appendSpan adds r, which begins no earlier than the last of all, and joins
// the two when no number lies between them.
func appendSpan(all []span, r span) []span {
	if n := len(all); n > 0 && r.first <= all[n-1].last+1 {
		all[n-1].last = max(all[n-1].last, r.last)
		return all
	}
	return append(all, r)
}
