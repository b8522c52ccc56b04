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
	for _, tt := range []struct{ in, want Action }{
		{flags, flags},
		{Line{Line: "server srv1;", Absent: true, After: "x"}, Line{Line: "server srv1;", After: "x"}},
		{Line{Line: "server {{.Peer}};"}, Line{Line: "server {{.Peer}};", Absent: true}},
		{Line{Line: "server {{.Active}};"}, Line{Line: "server {{.Active}};"}},
		{Line{Line: "server {{ .Standby }};", Absent: true}, Line{Line: "server {{ .Standby }};", Absent: true}},
	} {
		plan := Plan{{Name: "s", Action: tt.in}}
		want := Plan{{Name: "undo s", OnError: Continue, Action: tt.want}}
		if diff := cmp.Diff(want, Undo(plan, []Result{{Outcome: Changed}})); diff != "" {
			t.Error(diff)
		}
		if c := plan.Closing(); c != nil {
			t.Errorf("closing runs %v", c)
		}
	}
	if got := Title(JSON{File: "/a/b.json"}) + ", " + Title(Line{File: "/a/b.conf", Absent: true}); got != "json b.json, line absent b.conf" {
		t.Error(got)
	}
}
