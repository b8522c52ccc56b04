package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// The labels of both hosts say what the Active says. None of these nodes reads one.

var labelled = func(c *Config) {
	c.Promote = append(append(hooks.Plan{}, testPromote[2:]...), labelStep)
	c.Demote = append(append(hooks.Plan{}, testDemote...), labelStep)
}

// writes lets a node live and returns what it writes as Active: each value once, in
// their order.
func (r *rig) writes(limit time.Duration, heard func() []Event) (values []string) {
	gone := func() (all []replication.Facts) {
		for _, name := range r.o.cfg.Databases {
			all = append(all, r.down(name, replication.ReachRefused))
		}
		return all
	}
	r.live(limit, heard, gone, func(e Effect) Event {
		switch e := e.(type) {
		case CheckSteps:
			return found(e, nil)
		case AskKernel:
			return Asked{ID: e.ID}
		case Append:
			if e.ID != 0 {
				return Durable{ID: e.ID}
			}
		case Hold:
			if e.ID != 0 {
				return Held{ID: e.ID, Err: r.refuses}
			}
		case StartStep:
			if strings.HasSuffix(e.Order.Step.Name, "label") && (len(values) == 0 || values[len(values)-1] != e.Vars.Active) {
				values = append(values, e.Vars.Active)
			}
			return StepEnded{ID: e.Order.ID, Outcome: hooks.Changed}
		default:
		}
		return nil
	})
	return values
}

func TestLabels(t *testing.T) {
	nothing := func(*rig) []Event { return nil }
	says := func(s PeerState) func(*rig) []Event {
		return func(r *rig) []Event {
			if s.State == Active || s.State == Promoting {
				return []Event{r.advert(253, 0, false), r.word(s)}
			}
			return []Event{r.word(s)}
		}
	}
	proves := func(e Epoch) func(*rig) []Event {
		return func(r *rig) []Event { return []Event{r.advert(253, e, true)} }
	}
	was := hooks.Memory{Epoch: 2, ActiveEpoch: 2, Role: hooks.Active, Finished: true}
	for _, tt := range []struct {
		name   string
		past   hooks.Memory
		heard  func(*rig) []Event
		change func(*Config)
		want   []string
		state  State
		detail string
	}{
		{name: "a standby writes the name of the Active that it hears", heard: says(activePeer(3)), want: []string{"reserve"}, state: Backup},
		{name: "a returned node as well, whatever it was", past: was, heard: says(activePeer(3)), want: []string{"reserve"}, state: Backup},
		{
			name: "a peer that is on its way is not Active yet", state: Backup,
			heard: says(PeerState{State: Promoting, ActiveEpoch: 2, Epoch: 3, Sources: NoDatabases}),
		},
		{
			name: "one without the address neither", state: Backup,
			heard: says(PeerState{State: Active, ActiveEpoch: 3, Epoch: 3, Sources: NoDatabases}),
		},
		{
			name: "a node that boots alone and is refused writes none", heard: nothing, state: Refused,
			change: func(c *Config) { c.Databases = []string{"pivot"} },
		},
		{
			name: "nor does a returned one", past: was, heard: nothing, state: Refused,
			change: func(c *Config) { c.Databases = []string{"pivot"} },
		},
		{
			name: "nor one that still waits", past: was, heard: nothing, state: Backup,
			change: func(c *Config) { c.StartupDelay = time.Hour },
		},
		{name: "one that may take over writes its own", past: was, heard: nothing, want: []string{"primary"}, state: Active},
		{
			name: "advertisements that prove an epoch stand in for the link", past: was, heard: proves(3),
			want: []string{"reserve"}, state: Backup,
		},
		{name: "an older epoch proves nothing", past: was, heard: proves(1), state: Backup},
		{
			name: "advertisements that prove none do not, and status says so", past: was, state: Backup, detail: unattested,
			heard: func(r *rig) []Event { return []Event{r.advert(253, 0, false)} },
		},
		{
			name: "a goodbye ends what was proved", past: was, state: Backup,
			change: func(c *Config) { c.StartupDelay = time.Hour },
			heard: func(r *rig) []Event {
				if r.seq++; r.seq%20 == 0 {
					return []Event{r.advert(0, 3, true)}
				}
				return []Event{r.advert(253, 3, true)}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				labelled(c)
				if tt.change != nil {
					tt.change(c)
				}
			})
			r.step(Started{Boot: 7, Memory: tt.past})
			for s, ok := find[StartStep](r); ok; s, ok = find[StartStep](r) {
				if s.Order.Step.Name == "label" {
					t.Fatal("a node that boots writes a label")
				}
				r.after(time.Millisecond, StepEnded{ID: s.Order.ID, Outcome: hooks.Unchanged})
			}
			got := r.writes(20*time.Second, func() []Event { return tt.heard(r) })
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("wrote (-want +got):\n%s", diff)
			}
			if r.o.state != tt.state || r.o.why.Detail != tt.detail && tt.detail != "" {
				t.Errorf("%s: %s %s", r.o.state, r.o.why.Reason, r.o.why.Detail)
			}
		})
	}
}

// A failover in one life: the Active that let go writes nothing until it hears who
// is Active, and then that.
func TestLabelsAfterLettingGo(t *testing.T) {
	r := activeRig(t, func(c *Config) { c.Demote = append(append(hooks.Plan{}, testDemote...), labelStep) })
	r.step(Probed{Check: "gateway"})
	r.ends("close", hooks.Unchanged)
	r.ends("unit", hooks.Changed)
	none[StartStep](r)
	if got := r.writes(5*time.Second, func() []Event { return nil }); len(got) > 0 {
		t.Errorf("a node that let go writes %q", got)
	}
	r.wantState(Fault, Unhealthy)
	peer := activePeer(r.o.activeEpoch + 1)
	got := r.writes(5*time.Second, func() []Event { return []Event{r.advert(253, 0, false), r.word(peer)} })
	if diff := cmp.Diff([]string{"reserve"}, got); diff != "" {
		t.Errorf("wrote (-want +got):\n%s", diff)
	}
}

// A takeover that fails behind its label step does not guess whose role it is.
func TestLabelsOfATakeoverThatFails(t *testing.T) {
	early := func(c *Config) {
		c.Promote = hooks.Plan{labelStep, testPromote[2]}
		c.Demote = append(append(hooks.Plan{}, testDemote...), labelStep)
	}
	for _, tt := range []struct {
		name  string
		heard bool
		want  []string
	}{
		{"it never heard of another", false, []string{"primary"}},
		{"the other one was Active", true, []string{"reserve", "primary", "reserve"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, early)
			r.boots()
			peer, until := activePeer(3), r.now.Add(2*time.Second)
			r.refuses = errTest
			got := r.writes(8*time.Second, func() []Event {
				if !tt.heard || r.now.After(until) {
					return nil
				}
				return []Event{r.advert(253, 0, false), r.word(peer)}
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("wrote (-want +got):\n%s", diff)
			}
		})
	}
}
