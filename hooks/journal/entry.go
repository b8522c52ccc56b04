package journal

// An entry is stored as one JSON object. The names of its fields and values are
// this package's own and keep their meaning for the life of the format's version;
// a reader ignores fields that it does not know.

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// Entry is a record as it was stored.
type Entry = hooks.Entry

// Memories folds the entries of each instance.
func Memories(entries []Entry) map[string]hooks.Memory {
	m := map[string]hooks.Memory{}
	for _, e := range entries {
		m[e.Record.Instance] = m[e.Record.Instance].Fold(e.Record)
	}
	return m
}

type entry struct {
	At       string        `json:"at"`
	Boot     string        `json:"boot,omitempty"`
	Kind     string        `json:"kind"`
	Instance string        `json:"instance"`
	Epoch    uint64        `json:"epoch"`
	Role     string        `json:"role,omitempty"`
	Planned  bool          `json:"planned,omitempty"`
	Lossy    bool          `json:"lossy,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Step     *step         `json:"step,omitempty"`
	Ending   string        `json:"ending,omitempty"`
	Duration time.Duration `json:"duration_ns,omitempty"`
	UID      uint32        `json:"uid,omitempty"`
	Loss     *loss         `json:"loss,omitempty"`
}

// loss has no number where none is known.
type loss struct {
	Database     string         `json:"database"`
	Proved       *uint64        `json:"proved,omitempty"`
	AtMost       *uint64        `json:"at_most,omitempty"`
	HeardAge     *time.Duration `json:"heard_age_ns,omitempty"`
	Transactions string         `json:"transactions,omitempty"`
	SemiSync     bool           `json:"semi_sync,omitempty"`
}

func toLoss(l hooks.Loss) *loss {
	if l == (hooks.Loss{}) {
		return nil
	}
	return &loss{
		Database: l.Database, Transactions: l.Transactions, SemiSync: l.SemiSync,
		Proved: known(l.Proved, l.ProvedKnown), AtMost: known(l.AtMost, l.AtMostKnown), HeardAge: known(l.HeardAge, l.HeardAgeKnown),
	}
}

func (l *loss) record() hooks.Loss {
	if l == nil {
		return hooks.Loss{}
	}
	r := hooks.Loss{Database: l.Database, Transactions: l.Transactions, SemiSync: l.SemiSync}
	r.Proved, r.ProvedKnown = given(l.Proved)
	r.AtMost, r.AtMostKnown = given(l.AtMost)
	r.HeardAge, r.HeardAgeKnown = given(l.HeardAge)
	return r
}

func known[T any](v T, is bool) *T {
	if !is {
		return nil
	}
	return &v
}

func given[T any](p *T) (v T, is bool) {
	if p == nil {
		return v, false
	}
	return *p, true
}

type step struct {
	Name     string        `json:"name"`
	Title    string        `json:"title,omitempty"`
	Outcome  string        `json:"outcome"`
	Detail   string        `json:"detail,omitempty"`
	Duration time.Duration `json:"duration_ns,omitempty"`
}

// marshal returns the payload of a record.
func marshal(e Entry) ([]byte, error) {
	r := e.Record
	if _, ok := kindNames[r.Kind]; !ok {
		return nil, fmt.Errorf("a record of kind %d", r.Kind)
	}
	out := entry{
		At: e.At.UTC().Format(time.RFC3339Nano), Boot: e.Boot, Kind: textOf(kindNames, r.Kind),
		Instance: r.Instance, Epoch: r.Epoch, Role: textOf(roleNames, r.Role), Planned: r.Planned, Lossy: r.Lossy, Reason: r.Reason,
		Ending: textOf(endingNames, r.Ending), Duration: r.Duration, UID: r.UID, Loss: toLoss(r.Loss),
	}
	if s := r.Step; s != (hooks.Result{}) {
		out.Step = &step{
			Name: s.Name, Title: s.Title, Outcome: textOf(outcomeNames, s.Outcome), Detail: s.Detail, Duration: s.Duration,
		}
	}
	payload, err := json.Marshal(out)
	switch {
	case err != nil:
		return nil, err
	case len(payload) > MaxRecord:
		return nil, fmt.Errorf("%d bytes, more than %d", len(payload), MaxRecord)
	}
	return payload, nil
}

func unmarshal(payload []byte) (Entry, error) {
	var in entry
	if err := json.Unmarshal(payload, &in); err != nil {
		return Entry{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, in.At)
	switch {
	case err != nil:
		return Entry{}, err
	case in.Kind == "":
		return Entry{}, errors.New("no kind")
	}
	e := Entry{At: at.UTC(), Boot: in.Boot, Record: hooks.Record{
		Kind: valueOf(kindNames, in.Kind), Instance: in.Instance, Epoch: in.Epoch, Role: valueOf(roleNames, in.Role),
		Planned: in.Planned, Lossy: in.Lossy, Reason: in.Reason, Ending: valueOf(endingNames, in.Ending), Duration: in.Duration, UID: in.UID, Loss: in.Loss.record(),
	}}
	if e.Record.Kind == unknown {
		e.Unknown = in.Kind
	}
	if s := in.Step; s != nil {
		e.Record.Step = hooks.Result{
			Name: s.Name, Title: s.Title, Outcome: valueOf(outcomeNames, s.Outcome), Detail: s.Detail, Duration: s.Duration,
		}
	}
	return e, nil
}

// unknown is what a name of a newer release reads as: a value that nothing
// compares equal to and that no Fold acts on.
const (
	unknown     = math.MaxUint8
	unknownName = "?"
)

func textOf[E ~uint8](names map[E]string, e E) string {
	if s, ok := names[e]; ok || e == 0 {
		return s
	}
	return unknownName
}

func valueOf[E ~uint8](names map[E]string, s string) E {
	if s == "" {
		return 0
	}
	for e, name := range names {
		if name == s {
			return e
		}
	}
	return unknown
}

var kindNames = map[hooks.RecordKind]string{
	hooks.Began:    "began",
	hooks.Stepped:  "stepped",
	hooks.Ended:    "ended",
	hooks.Override: "override",
	hooks.Reverted: "reverted",
	hooks.Learned:  "learned",
	hooks.Acquired: "acquired",
	hooks.Missed:   "missed",
	hooks.Strayed:  "strayed",
	hooks.Mended:   "mended",
}

var roleNames = map[hooks.Role]string{
	hooks.Standby: "standby",
	hooks.Active:  "active",
}

var endingNames = map[hooks.Ending]string{
	hooks.Completed:   "completed",
	hooks.Aborted:     "aborted",
	hooks.Interrupted: "interrupted",
}

var outcomeNames = map[hooks.Outcome]string{
	hooks.Pending:   "pending",
	hooks.Running:   "running",
	hooks.Unchanged: "unchanged",
	hooks.Changed:   "changed",
	hooks.Failed:    "failed",
	hooks.TimedOut:  "timed_out",
	hooks.Cancelled: "cancelled",
	hooks.Skipped:   "skipped",
	hooks.Lost:      "lost",
}
