package replication

// The gate answers from facts alone, per database and never on average. What is
// not known keeps it closed, and every refusal says what it saw.

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// AfterLoss is what must be true of a database whose source is lost.
type AfterLoss uint8

// The policies. Exact is the default.
const (
	// Exact asks that everything the source was last known to have, less
	// Policy.MaxMissing transactions, is applied.
	Exact AfterLoss = iota
	// Drained asks that everything received is applied, whatever is missing.
	Drained
	// Manual never opens by itself.
	Manual
)

var afterLossNames = [...]string{"exact", "drained", "manual"}

// String returns the policy as the configuration spells it.
func (a AfterLoss) String() string { return nameOf(afterLossNames[:], uint8(a)) }

// ParseAfterLoss reads the configuration's word.
func ParseAfterLoss(s string) (AfterLoss, error) {
	for i, name := range afterLossNames {
		if name == s {
			return AfterLoss(i), nil
		}
	}
	return 0, fmt.Errorf("after_loss %s is none of exact, drained, manual", quoted(s))
}

// DefaultMaxAge is how old facts may be when Policy.MaxAge is zero.
const DefaultMaxAge = 2 * time.Second

// Policy is how much the gate tolerates.
type Policy struct {
	MaxLag     time.Duration // at most this lag while the source lives; zero tolerates none
	MaxMissing uint64        // transactions that may be missing under Exact
	AfterLoss  AfterLoss
	MaxAge     time.Duration // facts, and the source's word while it lives, older than this are not known
}

func (p Policy) maxAge() time.Duration {
	if p.MaxAge <= 0 {
		return DefaultMaxAge
	}
	return p.MaxAge
}

// Cause is what the promotion would be for.
type Cause uint8

// The causes. Planned is the strictest: the source lives and can be asked.
const (
	Planned    Cause = iota // a handover while the source lives
	SourceLost              // the source's node is silent or gave up
	Resume                  // this node was Active last, and nobody else is
)

var causeNames = [...]string{"planned", "source lost", "resume"}

// String returns the cause in words.
func (c Cause) String() string { return nameOf(causeNames[:], uint8(c)) }

// Health is what this node's checks add up to. The zero value is not known.
type Health uint8

// The healths.
const (
	HealthUnknown Health = iota
	HealthGood
	HealthBad
)

// Hold is an operator's block or maintenance.
type Hold struct {
	On     bool
	Reason string
}

// Database is what the gate looks at for one configured database.
type Database struct {
	Name  string // as configured
	Facts Facts  // the zero Facts when it was never measured
	Heard Heard  // of the peer's database of this name
	// MaxReceived is the farthest received position ever measured here, merged by
	// the caller and kept across restarts: the server forgets what it received
	// when its relay log goes. Empty before the first measurement.
	MaxReceived Position
	// SourceLost says that this database's source is gone though the cause is
	// Planned: its host hands over in order, without it.
	SourceLost bool
}

// Question is all that a verdict depends on, beside the instant and the policy.
type Question struct {
	Cause        Cause
	Databases    []Database // every configured one
	Block        Hold       // this node must not be promoted
	Maintenance  Hold       // closes Planned and SourceLost; a Resume moves nothing
	Health       Health
	HealthDetail string // which check fails, or has no sample yet
}

// Gate answers whether this node may be promoted now. A node without databases
// may, unless it is held or not healthy.
func Gate(now mono.Instant, p Policy, q Question) Verdict {
	v := Verdict{Reasons: nodeReasons(p, q)}
	for _, d := range q.Databases {
		e := examination{now: now, policy: p, in: d, out: DatabaseVerdict{Name: d.Name}}
		e.run(d.cause(q.Cause))
		e.out.Open = len(e.reasons) == 0
		v.Databases = append(v.Databases, e.out)
		v.Reasons = append(v.Reasons, e.reasons...)
	}
	v.Open = len(v.Reasons) == 0
	return v
}

func (d Database) cause(c Cause) Cause {
	if c == Planned && d.SourceLost {
		return SourceLost
	}
	return c
}

func nodeReasons(p Policy, q Question) []Reason {
	var reasons []Reason
	if q.Block.On {
		reasons = append(reasons, Reason{Code: Blocked, Detail: held("promotion of this node is blocked", q.Block)})
	}
	if q.Maintenance.On && q.Cause != Resume {
		reasons = append(reasons, Reason{Code: Maintenance, Detail: held("in maintenance", q.Maintenance)})
	}
	switch q.Health {
	case HealthGood:
	case HealthBad:
		detail := "a health check fails"
		if q.HealthDetail != "" {
			detail = cut(q.HealthDetail, MaxErrorText)
		}
		reasons = append(reasons, Reason{Code: Unhealthy, Detail: detail})
	default:
		detail := "health of this node is not known yet"
		if q.HealthDetail != "" {
			detail = cut(q.HealthDetail, MaxErrorText)
		}
		reasons = append(reasons, Reason{Code: NotKnown, Detail: detail})
	}
	switch q.Cause {
	case Planned, SourceLost, Resume:
	default:
		reasons = append(reasons, Reason{Code: NotKnown, Detail: fmt.Sprintf("cause %s is not one the gate knows", q.Cause)})
	}
	if q.Cause == SourceLost && len(q.Databases) > 0 {
		switch p.AfterLoss {
		case Exact, Drained:
		case Manual:
			reasons = append(reasons, Reason{
				Code:   Blocked,
				Detail: "the source is lost and after_loss is manual: an operator decides",
			})
		default:
			reasons = append(reasons, Reason{
				Code:   NotKnown,
				Detail: fmt.Sprintf("policy after_loss %s is not one the gate knows", p.AfterLoss),
			})
		}
	}
	return reasons
}

func held(what string, h Hold) string {
	if h.Reason == "" {
		return what
	}
	return what + ": " + cut(h.Reason, MaxErrorText)
}

// seconds renders a duration as "0.4 s", or in whole seconds from ten up.
func seconds(d time.Duration) string {
	if d >= 10*time.Second {
		return fmt.Sprintf("%d s", int64(d/time.Second))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func transactions(n uint64) string {
	if n == 1 {
		return "1 transaction"
	}
	return fmt.Sprintf("%d transactions", n)
}

// shown returns a position for a detail; the empty one has no text of its own.
func shown(p Position) string {
	if p.Empty() {
		return "nothing"
	}
	return cut(p.String(), 200)
}
