package journal

// An entry is stored as one JSON object. The names of its fields are this package's
// own, those of its values the text of the package that owns the enum; both keep their
// meaning for the life of the format's version. A reader ignores fields that it does
// not know.

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/words"
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
	Attempts uint32        `json:"attempts,omitempty"`

	Command   string `json:"command,omitempty"`
	Arguments string `json:"arguments,omitempty"`
	Hold      *hold  `json:"hold,omitempty"`

	Number  uint64 `json:"n,omitempty"`
	Skipped uint64 `json:"skipped,omitempty"`
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
	Output   string        `json:"output,omitempty"`
}

// marshal returns the payload of a record.
func marshal(e Entry) ([]byte, error) {
	r := e.Record
	if kind := words.Of(hooks.Began, r.Kind); kind == "" || kind == words.UnknownText {
		return nil, fmt.Errorf("a record of kind %d", r.Kind)
	}
	out := entry{
		At: e.At.UTC().Format(time.RFC3339Nano), Boot: e.Boot, Kind: words.Of(hooks.Began, r.Kind),
		Instance: r.Instance, Epoch: r.Epoch, Role: words.Of(hooks.Standby, r.Role), Planned: r.Planned, Lossy: r.Lossy, Reason: r.Reason,
		Ending: words.Of(hooks.Completed, r.Ending), Duration: r.Duration, UID: r.UID, Loss: toLoss(r.Loss), Attempts: r.Attempts,
		Command: r.Command, Arguments: r.Arguments, Hold: toHold(r.Hold), Number: e.Number, Skipped: e.Skipped,
	}
	if s := r.Step; s != (hooks.Result{}) {
		out.Step = &step{
			Name: s.Name, Title: s.Title, Outcome: words.Of(hooks.Pending, s.Outcome), Detail: s.Detail, Duration: s.Duration,
			Output: s.Output,
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
	e := Entry{At: at.UTC(), Boot: in.Boot, Number: in.Number, Skipped: in.Skipped, Record: hooks.Record{
		Kind: words.Value(hooks.Began, in.Kind), Instance: in.Instance, Epoch: in.Epoch, Role: words.Value(hooks.Standby, in.Role),
		Planned: in.Planned, Lossy: in.Lossy, Reason: in.Reason, Ending: words.Value(hooks.Completed, in.Ending), Duration: in.Duration, UID: in.UID, Loss: in.Loss.record(), Attempts: in.Attempts,
		Command: in.Command, Arguments: in.Arguments, Hold: in.Hold.record(),
	}}
	if e.Record.Kind == words.Unknown {
		e.Unknown = in.Kind
	}
	if s := in.Step; s != nil {
		e.Record.Step = hooks.Result{
			Name: s.Name, Title: s.Title, Outcome: words.Value(hooks.Pending, s.Outcome), Detail: s.Detail, Duration: s.Duration,
			Output: s.Output,
		}
	}
	return e, nil
}
