package mysql

// A database that wrote what the source does not have must not follow it in
// silence: some servers would go on and differ for ever.

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tanist-ha/tanist/replication"
)

// ErrantError says that a database has transactions that the source lacks.
type ErrantError struct {
	Source string // HOST:PORT
	// Errant lists them in GTID form, a range of MariaDB as 0-4011-205..207.
	Errant []string
	// Count is how many of them are listed. On MariaDB it takes each number of a
	// range for one; where more than one server wrote alone, there may be more.
	Count uint64

	divergence replication.Divergence
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

// RejoinError says what else stands in the way of following.
type RejoinError struct {
	Source  string // HOST:PORT
	Reasons []replication.RejoinReason
}

func (e *RejoinError) Error() string {
	var texts []string
	for _, r := range e.Reasons {
		texts = append(texts, r.Detail)
	}
	return fmt.Sprintf("cannot follow %s: %s", e.Source, strings.Join(texts, "; "))
}

// judgement is what speaks against one following the other; what makes a SelfError
// is left to that.
type judgement struct {
	errant *ErrantError // nil when there is certainly nothing that the source lacks, or that is in doubt
	doubt  *RejoinError // nil unless it cannot be told whether there is
	rest   *RejoinError // nil when nothing else does
}

func judge(mine, theirs replication.Facts, source string) judgement {
	// Discard, because errant transactions are looked at apart.
	verdict := replication.Rejoin(replication.RejoinQuestion{Replica: mine, Source: theirs, Discard: true})
	var j judgement
	var reasons []replication.RejoinReason
	for _, r := range verdict.Reasons {
		if !r.Warning && r.Code != replication.RejoinSelf {
			reasons = append(reasons, r)
		}
	}
	if len(reasons) > 0 {
		j.rest = &RejoinError{Source: source, Reasons: reasons}
	}
	switch d := verdict.Errant; {
	case !d.Errant.Empty():
		j.errant = &ErrantError{Source: source, Count: d.Count(), divergence: d}
		for text := range strings.SplitSeq(d.Errant.String(), ",") {
			j.errant.Errant = append(j.errant.Errant, strings.TrimSpace(text))
		}
		slices.Sort(j.errant.Errant)
	case !d.Known:
		j.doubt = &RejoinError{Source: source, Reasons: []replication.RejoinReason{{
			Code: replication.RejoinUnknown, Detail: "what it has that the source lacks cannot be told: " + d.Why,
		}}}
	}
	return j
}
