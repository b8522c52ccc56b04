package hooks

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitKey(t *testing.T) {
	for in, want := range map[string][]string{
		"a":       {"a"},
		"a.b":     {"a", "b"},
		`a\.b.c`:  {"a.b", "c"},
		`a\\.b`:   {`a\`, "b"},
		`a\\\.b`:  {`a\.b`},
		`a\b`:     {`a\b`},
		`a\`:      {`a\`},
		"a..b":    {"a", "", "b"},
		"":        {""},
		"ключ.ß.": {"ключ", "ß", ""},
	} {
		if diff := cmp.Diff(want, SplitKey(in)); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

func FuzzSplitKey(f *testing.F) {
	f.Add("a.b", `c\.`)
	f.Add("", `\`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if diff := cmp.Diff([]string{a, b}, SplitKey(JoinKey(a, b))); diff != "" {
			t.Error(diff)
		}
	})
}

func TestExpandFileSteps(t *testing.T) {
	v := Vars{Node: "srv1.example", Peer: `a\b`, Active: "srv1.example", Standby: "srv2", VIP: "192.0.2.10"}
	tests := []struct{ in, want Action }{
		{YAML{Key: "x.{{.Active}}.y", Value: "{{.Active}}"}, YAML{Key: `x.srv1\.example.y`, Value: "srv1.example"}},
		{YAML{Key: "{{ .Peer }}"}, YAML{Key: `a\\b`}},
		{
			JSON{File: "/{{.Node}}", Set: []JSONKey{{Key: "{{.Active}}.master", Value: "true"}, {Key: "k", Value: "{{.VIP}}", Text: true}, {Key: "{{.VIP}}", Value: "{{", Text: false}}},
			JSON{File: "/srv1.example", Set: []JSONKey{{Key: `srv1\.example.master`, Value: "true"}, {Key: "k", Value: "192.0.2.10", Text: true}, {Key: `192\.0\.2\.10`, Value: "{{"}}},
		},
		{
			Line{File: "/{{.Node}}", Line: "server {{.Standby}}:80;", Within: "upstream {{.Node}} {", After: "{{.VIP}}"},
			Line{File: "/srv1.example", Line: "server srv2:80;", Within: "upstream srv1.example {", After: "192.0.2.10"},
		},
	}
	for _, tt := range tests {
		got, err := Expand(tt.in, v)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	}
	set := []JSONKey{{Key: "{{.Active}}"}}
	if _, err := Expand(JSON{Set: set}, v); err != nil || set[0].Key != "{{.Active}}" {
		t.Errorf("expanding changed the plan: %v, %v", set, err)
	}
	for _, bad := range []Action{JSON{Set: []JSONKey{{Key: "{{.Nobody}}"}}}, JSON{Set: []JSONKey{{Value: "{{", Text: true}}}, Line{After: "{{"}, YAML{Key: "{{.X}}"}} {
		if got, err := Expand(bad, v); err == nil {
			t.Errorf("%v became %v", bad, got)
		}
	}
}

func TestUndoFileSteps(t *testing.T) {
	flags := JSON{Set: []JSONKey{{Key: "{{.Active}}.master", Value: "true"}}}
	ran := Vars{Node: "a", Peer: "b", Active: "b", Standby: "a", Reason: "{{.Active}}"}
	for _, tt := range []struct{ in, want Action }{
		{flags, flags},
		{Line{Line: "server srv1;", Absent: true, After: "x"}, Line{Line: "server srv1;", After: "x"}},
		{Line{Line: "server {{.Peer}};"}, Line{Line: "server b;", Absent: true}},
		{Line{Line: "server {{.Active}};"}, Line{Line: "server b;", Absent: true}},
		{Line{File: "/{{.Node}}", Line: "server {{ .Standby }};", Within: "{{.Standby}} {", After: "{{.Active}}", Absent: true}, Line{File: "/a", Line: "server a;", Within: "a {", After: "b"}},
		{Line{Line: "# {{.Reason}}{"}, Line{Line: `# {{"{{"}}.Active}}{`, Absent: true}},
		{Unit{Verb: StopUnit, Name: "push@{{.Standby}}.service"}, Unit{Verb: StartUnit, Name: "push@a.service"}},
		{Unit{Verb: EnableUnit, Name: "{{.Active}}.service"}, Unit{Verb: DisableUnit, Name: "b.service"}},
	} {
		plan := Plan{{Name: "s", Action: tt.in}}
		want := Plan{{Name: "undo s", OnError: Continue, Action: tt.want}}
		if diff := cmp.Diff(want, Undo(plan, []Result{{Outcome: Changed}}, ran, nil, Vars{})); diff != "" {
			t.Error(diff)
		}
	}
	if c := (Plan{{Action: flags}, {Action: Line{Line: "x"}}}).Closing(); c != nil {
		t.Errorf("closing runs %v", c)
	}
	if u := Undo(Plan{{Action: Unit{Name: "{{.Nobody}}"}}, {Action: Line{Line: "{{"}}}, []Result{{Outcome: Failed}, {Outcome: Failed}}, ran, nil, Vars{}); u != nil {
		t.Errorf("what could not be filled in was never done: %v", u)
	}
	if got := Title(JSON{File: "/a/b.json"}) + ", " + Title(Line{File: "/a/b.conf", Absent: true}); got != "json b.json, line absent b.conf" {
		t.Error(got)
	}
}

// What an undone step says is what the step said, whatever role goes on.
func FuzzUndoIsFilledIn(f *testing.F) {
	f.Add("a", "b")
	f.Add("{{{", "{{.Node}}")
	f.Add("}}{{", "{{\"")
	f.Fuzz(func(t *testing.T, active, standby string) {
		ran := Vars{Active: active, Standby: standby}
		plan := Plan{{Action: Line{Line: "{{.Active}}-{{.Standby}}"}}, {Action: Unit{Verb: StartUnit, Name: "{{.Standby}}"}}, {Action: Link{Path: "/{{.Active}}", Target: "{{.Standby}}{{.Active}}"}}}
		undo := Undo(plan, make([]Result, 3), ran, nil, Vars{})
		if undo != nil {
			t.Fatal("nothing was done")
		}
		undo = Undo(plan, []Result{{Outcome: Changed}, {Outcome: Changed}, {Outcome: Changed}}, ran, nil, Vars{})
		want := []Action{
			Link{Path: "/" + active, Target: standby + active, Absent: true},
			Unit{Verb: StopUnit, Name: standby},
			Line{Line: active + "-" + standby, Absent: true},
		}
		for i, s := range undo {
			got, err := Expand(s.Action, Vars{Active: standby + "?", Standby: active + "?"})
			if diff := cmp.Diff(want[i], got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		}
	})
}
