package hooks

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a place says in the role that goes on is written in that role's plan.
func TestUndoByTheOtherPlan(t *testing.T) {
	ran := Vars{Node: "a", Peer: "b", Active: "b", Standby: "a"}
	back := Vars{Node: "a", Peer: "b", Active: "a", Standby: "b"}
	live := Link{Path: "/srv/current", Target: "/srv/releases/1"}
	on := JSON{File: "/f", Set: []JSONKey{{Key: "replica", Value: "false"}}}
	off := JSON{File: "/f", Set: []JSONKey{{Key: "replica", Value: "true"}}}
	swap := func(v string) JSON {
		return JSON{File: "/f", Set: []JSONKey{{Key: "{{.Active}}.source", Value: v}, {Key: "{{.Standby}}.source", Value: "0"}}}
	}
	for _, tt := range []struct {
		name   string
		did    Action
		goesOn Plan
		want   Action
	}{
		{"a link", Link{Path: "/srv/current", Target: "/srv/maintenance"}, Plan{{Action: live}}, live},
		{"the last of several", Link{Path: "/srv/current", Target: "/m"}, Plan{{Action: Link{Path: "/srv/current", Target: "/m", Absent: true}}, {Action: Link{Path: "/srv/current", Target: "/1"}}, {Action: live}, {Action: Writes{}}}, live},
		{"a link that is taken away", Link{Path: "/srv/current", Target: "/x", Absent: true}, Plan{{Action: live}}, live},
		{"in the directory", Link{Path: "/{{.Active}}/", Target: "/x/site"}, Plan{{Action: Link{Path: "/b/site", Target: "/y/site"}}}, Link{Path: "/b/site", Target: "/y/site"}},
		{"another in the directory", Link{Path: "/on/", Target: "/x/one"}, Plan{{Action: Link{Path: "/on/", Target: "/x/two"}}}, Link{Path: "/on/", Target: "/x/one", Absent: true}},
		{"a pattern", Link{Path: "/on/", Target: "/x/*"}, Plan{{Action: Link{Path: "/on/", Target: "/y/*"}}}, Link{Path: "/on/", Target: "/x/*", Absent: true}},
		{"one that is only taken away there", Link{Path: "/l", Target: "/x"}, Plan{{Action: Link{Path: "/l", Target: "/y", Absent: true}}}, Link{Path: "/l", Target: "/x", Absent: true}},
		{"json", off, Plan{{Action: on}}, on},
		{"json of both nodes", swap("1"), Plan{{Action: swap("2")}}, swap("2")},
		{"json of another file", off, Plan{{Action: JSON{File: "/g", Set: on.Set}}}, off},
		{"yaml", YAML{File: "/y", Key: "role", Value: "standby"}, Plan{{Action: YAML{File: "/y", Key: "role", Value: "active"}}}, YAML{File: "/y", Key: "role", Value: "active"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			undo := Undo(Plan{{Name: "s", Action: tt.did}}, []Result{{Outcome: Changed}}, ran, tt.goesOn, back)
			want := Plan{{Name: "undo s", OnError: Continue, Action: tt.want}}
			if diff := cmp.Diff(want, undo); diff != "" {
				t.Error(diff)
			}
		})
	}
}
