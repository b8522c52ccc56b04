package hooks

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/mono"
)

func planOf(onError OnError, names ...string) Plan {
	var p Plan
	for _, n := range names {
		p = append(p, Step{Name: n, Timeout: time.Second, OnError: onError, Action: Exec{Command: []string{n}}})
	}
	return p
}

// play is a Run with what it ordered.
type play struct {
	*Run
	t    *testing.T
	last StepID
	now  mono.Instant
}

func begin(t *testing.T, p Plan, held func(Step) bool) (*play, []Order) {
	t.Helper()
	r := &play{Run: NewRun(p, 0, len(p), held), t: t, now: 1}
	return r, r.Begin(r.now, r.ids, nil)
}

func (r *play) ids() StepID {
	r.last++
	return r.last
}

func (r *play) end(o Outcome) []Order { return r.Ended(r.now, r.last, o, "", r.ids, nil) }

func (r *play) outcomes() []Outcome {
	var os []Outcome
	for _, res := range r.Results() {
		os = append(os, res.Outcome)
	}
	return os
}

func (r *play) wants(ending Ending, outcomes ...Outcome) {
	r.t.Helper()
	if r.Ending() != ending {
		r.t.Errorf("ending %s, want %s", r.Ending(), ending)
	}
	if diff := cmp.Diff(outcomes, r.outcomes()); diff != "" {
		r.t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func started(orders []Order) string {
	s := ""
	for _, o := range orders {
		switch o := o.(type) {
		case StartStep:
			s += "+" + o.Step.Name
		case CancelStep:
			s += "-"
		}
	}
	return s
}

func TestRun(t *testing.T) {
	t.Run("one step at a time, in order", func(t *testing.T) {
		r, orders := begin(t, planOf(Abort, "a", "b"), nil)
		got := []string{started(orders), started(r.end(Changed)), started(r.end(Unchanged))}
		if diff := cmp.Diff([]string{"+a", "+b", ""}, got); diff != "" {
			t.Error(diff)
		}
		r.wants(Completed, Changed, Unchanged)
	})
	t.Run("an answer under another ID is nobody's", func(t *testing.T) {
		r, _ := begin(t, planOf(Abort, "a", "b"), nil)
		if out := r.Ended(1, 77, Changed, "", r.ids, nil); len(out) != 0 || r.Running() != 0 {
			t.Errorf("orders %v, running %d", out, r.Running())
		}
	})
	t.Run("a failed step ends the plan", func(t *testing.T) {
		r, _ := begin(t, planOf(Abort, "a", "b"), nil)
		r.end(Failed)
		r.wants(Aborted, Failed, Skipped)
	})
	t.Run("on_error continue goes on", func(t *testing.T) {
		r, _ := begin(t, planOf(Continue, "a", "b"), nil)
		if s := started(r.end(TimedOut)); s != "+b" {
			t.Errorf("ordered %q", s)
		}
		r.end(Changed)
		r.wants(Completed, TimedOut, Changed)
	})
	t.Run("cancel waits for the running step and starts nothing", func(t *testing.T) {
		r, _ := begin(t, planOf(Abort, "a", "b"), nil)
		if s := started(r.Cancel(r.now, nil)); s != "-" {
			t.Errorf("ordered %q", s)
		}
		if r.Ending() != Unfinished {
			t.Error("over before the step answered")
		}
		if s := started(r.end(TimedOut)); s != "" {
			t.Errorf("ordered %q", s)
		}
		r.wants(Interrupted, Cancelled, Skipped)
	})
	t.Run("a cancelled step that went well says so", func(t *testing.T) {
		r, _ := begin(t, planOf(Abort, "a"), nil)
		r.Cancel(r.now, nil)
		r.end(Changed)
		r.wants(Interrupted, Changed)
	})
	t.Run("a step without an answer is cancelled, then lost", func(t *testing.T) {
		r, _ := begin(t, planOf(Abort, "a", "b"), nil)
		at, _ := r.Deadline()
		if at != mono.Instant(1).Add(time.Second+Grace) {
			t.Errorf("deadline %d", at)
		}
		if s := started(r.Tick(at, r.ids, nil)); s != "-" {
			t.Errorf("ordered %q", s)
		}
		at, _ = r.Deadline()
		r.Tick(at-1, r.ids, nil)
		r.Tick(at, r.ids, nil)
		r.wants(Aborted, Lost, Skipped)
	})
	t.Run("a held step waits until Continue, within its timeout", func(t *testing.T) {
		hold := true
		r, orders := begin(t, planOf(Abort, "a", "b"), func(Step) bool { return hold })
		if len(orders) != 0 || r.Running() != -1 {
			t.Errorf("ordered %v", orders)
		}
		if out := r.Continue(2, r.ids, nil); len(out) != 0 {
			t.Errorf("ordered %v", out)
		}
		hold = false
		if s := started(r.Continue(3, r.ids, nil)); s != "+a" {
			t.Errorf("ordered %q", s)
		}
		hold = true
		r.end(Changed)
		at, _ := r.Deadline()
		r.Tick(at, r.ids, nil)
		r.wants(Aborted, Changed, TimedOut)
	})
	t.Run("cancelled while held ends at once", func(t *testing.T) {
		r, _ := begin(t, planOf(Abort, "a"), func(Step) bool { return true })
		r.Cancel(2, nil)
		r.wants(Interrupted, Skipped)
	})
	t.Run("an empty plan is completed", func(t *testing.T) {
		r, _ := begin(t, nil, nil)
		r.wants(Completed)
	})
}

func TestUndo(t *testing.T) {
	plan := Plan{
		{Name: "replication", Action: Replication{Verb: StopReplication}},
		{Name: "writes", Action: Writes{Open: true}},
		{Name: "vip", Action: VIP{Acquire: true}},
		{Name: "label", Action: YAML{Key: "k"}},
		{Name: "unit", Action: Unit{Verb: StartUnit, Name: "u"}},
		{Name: "enable", Action: Unit{Verb: EnableUnit, Name: "u"}},
		{Name: "exec", Action: Exec{Command: []string{"x"}}},
	}
	results := func(os ...Outcome) []Result {
		rs := make([]Result, len(plan))
		for i, o := range os {
			rs[i].Outcome = o
		}
		return rs
	}
	undo := func(name string, a Action) Step { return Step{Name: "undo " + name, OnError: Continue, Action: a} }
	tests := []struct {
		name    string
		results []Result
		want    Plan
	}{
		{"nothing was done", results(), nil},
		{"what was so already stays", results(Unchanged, Unchanged, Unchanged), nil},
		{
			"in reverse, also what failed half way", results(Changed, Failed, Skipped),
			Plan{undo("writes", Writes{}), undo("replication", Replication{Verb: StartReplication})},
		},
		{
			"the address and exec have no reverse, yaml is its own", results(Unchanged, Changed, Changed, Changed, Lost, TimedOut, Changed),
			Plan{
				undo("enable", Unit{Verb: DisableUnit, Name: "u"}), undo("unit", Unit{Verb: StopUnit, Name: "u"}),
				undo("label", YAML{Key: "k"}), undo("writes", Writes{}),
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Undo(plan, tt.results, Vars{}, nil, Vars{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExpand(t *testing.T) {
	v := Vars{
		Node: "primary", Peer: "reserve", Active: "reserve", Standby: "primary", Instance: "compass",
		Event: OnDemote, Epoch: 7, Reason: "requested", VIP: "10.77.0.100",
	}
	tests := []struct{ in, want string }{
		{"plain", "plain"},
		{"{{.Node}}", "primary"},
		{"{{.Peer}}", "reserve"},
		{"{{.Active}}", "reserve"},
		{"{{.Standby}}", "primary"},
		{"{{.Instance}}", "compass"},
		{"{{.Event}}", "demote"},
		{"{{.Epoch}}", "7"},
		{"{{.Reason}}", "requested"},
		{"{{.VIP}}", "10.77.0.100"},
		{"{{ .Node }}", "primary"},
		{"{{.Node}}.{{.Peer}}", "primary.reserve"},
	}
	for _, tt := range tests {
		got, err := Expand(YAML{File: tt.in, Key: "k", Value: tt.in}, v)
		if diff := cmp.Diff(Action(YAML{File: tt.want, Key: "k", Value: tt.want}), got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.in, err, diff)
		}
	}
	for _, bad := range []string{"{{.Nobody}}", "{{", "{{.Node}}{{.}"} {
		if got, err := Expand(Unit{Name: bad}, v); err == nil {
			t.Errorf("%s became %v", bad, got)
		}
	}
	got, err := Expand(Exec{Command: []string{"/bin/x", "{{.Node}}"}, Verify: []string{"{{.Peer}}"}, Env: map[string]string{"A": "{{.Event}}"}}, v)
	want := Exec{Command: []string{"/bin/x", "primary"}, Verify: []string{"reserve"}, Env: map[string]string{"A": "demote"}}
	if diff := cmp.Diff(Action(want), got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestFold(t *testing.T) {
	up := func(epoch uint64) Record { return Record{Kind: Began, Role: Active, Epoch: epoch} }
	planned := func(epoch uint64) Record { return Record{Kind: Began, Role: Active, Epoch: epoch, Planned: true} }
	lossy := func(epoch uint64) Record {
		return Record{Kind: Began, Role: Active, Epoch: epoch, Planned: true, Lossy: true}
	}
	down := func(epoch uint64) Record { return Record{Kind: Began, Role: Standby, Epoch: epoch} }
	end := func(role Role, e Ending, epoch uint64) Record {
		return Record{Kind: Ended, Role: role, Ending: e, Epoch: epoch}
	}
	tests := []struct {
		name    string
		records []Record
		want    Memory
	}{
		{"nothing", nil, Memory{}},
		{"a promotion", []Record{up(1), end(Active, Completed, 1)}, Memory{Epoch: 1, ActiveEpoch: 1, Role: Active, Finished: true}},
		{"cut off", []Record{up(1)}, Memory{Epoch: 1, ActiveEpoch: 1, Role: Active}},
		{"incomplete", []Record{up(1), end(Active, Aborted, 1)}, Memory{Epoch: 1, ActiveEpoch: 1, Role: Active}},
		{
			"demoted",
			[]Record{up(1), end(Active, Completed, 1), down(1), end(Standby, Completed, 1)},
			Memory{Epoch: 1, ActiveEpoch: 1, Role: Standby, Finished: true},
		},
		{
			"reverted: the one before counts again",
			[]Record{up(1), up(4), {Kind: Reverted, Epoch: 4, Role: Standby}},
			Memory{Epoch: 4, ActiveEpoch: 1, previous: 1, Role: Standby},
		},
		{"a later epoch of the other node", []Record{up(1), {Kind: Learned, Epoch: 3}}, Memory{Epoch: 3, ActiveEpoch: 1, Role: Active}},
		{"one without all that the other node has is none", []Record{up(1), lossy(2)}, Memory{Epoch: 2, ActiveEpoch: 1, Role: Active}},
		{"a planned promotion is an attempt", []Record{up(1), planned(2)}, Memory{Epoch: 2, ActiveEpoch: 1, Attempt: 2, Role: Active}},
		{
			"until the address came",
			[]Record{up(1), planned(2), {Kind: Acquired, Epoch: 2}},
			Memory{Epoch: 2, ActiveEpoch: 2, previous: 1, Role: Active},
		},
		{
			"or it was taken back",
			[]Record{planned(2), {Kind: Reverted, Epoch: 2, Role: Standby}},
			Memory{Epoch: 2, Role: Standby},
		},
		{
			"the end of another role changes nothing",
			[]Record{up(1), end(Standby, Completed, 1)},
			Memory{Epoch: 1, ActiveEpoch: 1, Role: Active},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Memory
			for _, r := range tt.records {
				m = m.Fold(r)
			}
			if diff := cmp.Diff(tt.want, m, cmp.AllowUnexported(Memory{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestClosing(t *testing.T) {
	p := Plan{
		{Name: "a", Action: Writes{}},
		{Name: "b", Action: VIP{}},
		{Name: "c", Action: Unit{Verb: StopUnit, Name: "u"}},
		{Name: "d", Action: YAML{}},
		{Name: "e", Action: Unit{Verb: StartUnit, Name: "u"}},
		{Name: "f", Action: Writes{Open: true}},
	}
	if diff := cmp.Diff(Plan{p[0], p[2]}, p.Closing()); diff != "" {
		t.Error(diff)
	}
}
