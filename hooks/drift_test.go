package hooks

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStanding(t *testing.T) {
	unit := func(v UnitVerb) Action { return Unit{Verb: v, Name: "lsyncd.service"} }
	label := func(value string) Action { return YAML{File: "/etc/label.yaml", Key: "active", Value: value} }
	vars := Vars{Node: "primary", Peer: "reserve", Active: "reserve", Standby: "primary", Reason: "settling", Event: OnDemote}
	for _, tt := range []struct {
		name string
		plan []Action
		want []int
	}{
		{"what is kept more closely is not checked", []Action{VIP{}, Writes{}, Replication{Verb: FollowPeer}}, nil},
		{"a unit that is to run or not", []Action{unit(StartUnit)}, []int{0}},
		{"a restart leaves nothing", []Action{unit(RestartUnit), unit(ReloadUnit)}, nil},
		{"a program says by verify", []Action{Exec{Command: []string{"/a"}}, Exec{Command: []string{"/a"}, Verify: []string{"/b"}}}, []int{1}},
		{"a later step on the same unit overrides", []Action{unit(StopUnit), label("x"), unit(StartUnit), unit(DisableUnit)}, []int{1, 2, 3}},
		{"a later restart as well", []Action{unit(StopUnit), unit(RestartUnit)}, nil},
		{"a later value of the same key overrides", []Action{label("moving"), VIP{}, label("{{.Active}}")}, []int{2}},
		{"a value that tells of the cause does not last", []Action{label("{{.Reason}}"), label("{{.Event}}")}, nil},
		{"nor does an epoch: an Active can get a newer one", []Action{label("{{.Epoch}}"), label("{{.Active}} of {{.Epoch}}")}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p, want Plan
			for i, a := range tt.plan {
				p = append(p, Step{Name: string(rune('a' + i)), Action: a})
			}
			for _, i := range tt.want {
				want = append(want, p[i])
			}
			if diff := cmp.Diff(want, p.Standing(vars)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNamesActive(t *testing.T) {
	vars := Vars{Node: "primary", Peer: "reserve", Instance: "compass"}
	for text, want := range map[string]bool{
		"{{.Active}}":     true,
		"x-{{.Standby}}":  true,
		"{{ $.Active }}":  true,
		"{{.Node}}":       false,
		"on":              false,
		"{{.Active":       true, // nobody knows what it says
		"{{.Instance}}-a": false,
		"{{if eq .Node .Active}}source{{else}}replica{{end}}": true,
	} {
		for _, a := range []Action{
			YAML{File: "/f", Key: "k", Value: text},
			Exec{Command: []string{"/p", text}},
			Exec{Command: []string{"/p"}, Verify: []string{"/v", text}},
			Exec{Command: []string{"/p"}, Env: map[string]string{"A": text}},
			Unit{Verb: StartUnit, Name: text},
		} {
			if got := NamesActive(a, vars); got != want {
				t.Errorf("%+v: %t", a, got)
			}
		}
	}
}

func TestRepairs(t *testing.T) {
	label := YAML{File: "/f", Key: "k"}
	for _, tt := range []struct {
		step Step
		want bool
	}{
		{Step{Action: Writes{}}, true},
		{Step{Action: Replication{}}, true},
		{Step{Action: VIP{}}, true},
		{Step{Action: Writes{Open: true}, Drift: ReportDrift}, false},
		{Step{Action: label}, false},
		{Step{Action: Unit{}}, false},
		{Step{Action: Exec{}}, false},
		{Step{Action: label, Drift: RepairDrift}, true},
	} {
		if got := tt.step.Repairs(); got != tt.want {
			t.Errorf("%+v: %t", tt.step, got)
		}
	}
}
