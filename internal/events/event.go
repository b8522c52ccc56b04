// Package events lets programs follow the journal: each entry is an event with a
// number, sent as it is written, and again from any number that is still held.
package events

import (
	"strings"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
)

// Kinds of events that are no entries of the journal.
const (
	KindState     = "state"     // the first event: what is the case now
	KindGap       = "gap"       // events were left out, because they are not held
	KindCut       = "cut"       // the last event: why the stream ends
	KindHeartbeat = "heartbeat" // nothing new; in server-sent events it is a comment
)

// Event is one line of the stream. What does not apply is absent.
type Event struct {
	Kind      string        `json:"kind"`             // of the record, as the journal names it; or one of the above
	Number    uint64        `json:"number,omitempty"` // of the journal's entry
	At        time.Time     `json:"at,omitzero"`
	Instance  string        `json:"instance,omitempty"` // empty: of the node
	Epoch     uint64        `json:"epoch,omitempty"`
	Role      string        `json:"role,omitempty"` // where a transition leads: active, standby
	Planned   bool          `json:"planned,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	Result    string        `json:"result,omitempty"` // of ended: completed, aborted, interrupted
	TookMS    float64       `json:"duration_ms,omitempty"`
	Step      *control.Step `json:"step,omitempty"`
	Loss      *control.Loss `json:"loss,omitempty"`
	UID       *uint32       `json:"uid,omitempty"` // of override and commanded
	Command   string        `json:"command,omitempty"`
	Arguments string        `json:"arguments,omitempty"`
	Attempts  uint32        `json:"attempts,omitempty"` // of a notice
	Boot      string        `json:"boot,omitempty"`     // of the kernel

	Next   uint64            `json:"next,omitempty"`   // of state and cut: where to go on
	Status *control.Document `json:"status,omitempty"` // of state
	Gap    *Gap              `json:"gap,omitempty"`
	Why    Why               `json:"why,omitempty"` // of cut
	Detail string            `json:"detail,omitempty"`
}

// Gap is what a reader asked for and does not get.
type Gap struct {
	From  uint64    `json:"from"`
	To    uint64    `json:"to"`
	First uint64    `json:"first"` // the number of the event that follows
	Why   GapReason `json:"why"`
}

// GapReason says why events are left out.
type GapReason string

// Why events are left out.
const (
	// NotHeld: the journal has dropped them, or they were damaged.
	NotHeld GapReason = "not_held"
	// NeverGiven: the journal has not come as far as the reader says that it was. It is
	// another one, and the reader gets all that it holds.
	NeverGiven GapReason = "never_given"
)

// Why says why a stream was ended.
type Why string

// Why streams are ended.
const (
	TooSlow    Why = "too_slow"   // the reader took nothing for too long, or fell too far behind
	Stopping   Why = "stopping"   // the daemon leaves
	Unreadable Why = "unreadable" // the journal cannot be read
)

// reasons lists them, for metrics.
func reasons() []Why { return []Why{TooSlow, Stopping, Unreadable} }

// eventOf makes an event of an entry. What programs of steps printed stays in the
// journal, which is root's alone.
func eventOf(e hooks.Entry) Event {
	r := e.Record
	ev := Event{
		Kind: r.Kind.String(), Number: e.Number, At: e.At, Instance: r.Instance, Epoch: r.Epoch, Planned: r.Planned, Reason: r.Reason,
		TookMS: millis(r.Duration), Command: r.Command, Arguments: r.Arguments, Attempts: r.Attempts, Boot: e.Boot,
	}
	if e.Unknown != "" {
		ev.Kind = e.Unknown
	}
	if r.Role != hooks.NoRole {
		ev.Role = r.Role.String()
	}
	switch r.Kind {
	case hooks.Ended:
		ev.Result = r.Ending.String()
	case hooks.Override, hooks.Commanded:
		ev.UID = &r.UID // root's is 0
	case hooks.Missed:
		ev.Loss = &control.NewLosses([]hooks.Loss{r.Loss})[0]
	default:
		if r.UID != 0 {
			ev.UID = &r.UID
		}
	}
	if s := r.Step; s.Name != "" {
		ev.Step = &control.Step{
			Name: s.Name, Result: strings.ReplaceAll(s.Outcome.String(), " ", "_"), DurationMS: millis(s.Duration), Detail: s.Detail,
		}
	}
	return ev
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
