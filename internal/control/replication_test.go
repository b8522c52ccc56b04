package control

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReplication(t *testing.T) {
	missing := uint64(3)
	for _, tt := range []struct {
		name  string
		lines []ReplicationLine
		err   error
		want  ReplicationLine
	}{
		{"all well", []ReplicationLine{
			{Database: "a", Result: ReplicationWaiting, Missing: &missing},
			{Database: "a", Result: ReplicationDone},
			{Database: "b", Result: ReplicationUnchanged},
		}, nil, ReplicationLine{Result: ReplicationDone}},
		{"one refused", []ReplicationLine{
			{Database: "a", Result: ReplicationRefused, Detail: "why", Errant: []string{"0-1-5..7"}}, {Database: "b", Result: ReplicationDone},
		}, nil, ReplicationLine{Result: ReplicationRefused}},
		{"not at all", nil, errors.New("a transition is under way"), ReplicationLine{Result: ReplicationRefused, Detail: "a transition is under way"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &daemon{lines: tt.lines, err: tt.err}
			socket, _ := serve(t, d)
			req := ReplicationRequest{Instance: "compass", Verb: ReplicationRejoin, Databases: []string{"a"}, Discard: true, Reason: "tested", TimeoutMS: 5000}
			var lines []ReplicationLine
			last, err := Dial(socket).Replication(t.Context(), req, func(l ReplicationLine) { lines = append(lines, l) })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, last); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.lines, lines); diff != "" {
				t.Error(diff)
			}
			req.UID = uint32(os.Getuid())
			if diff := cmp.Diff([]ReplicationRequest{req}, d.replicated); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReplicationRequests(t *testing.T) {
	d := &daemon{}
	socket, _ := serve(t, d)
	for _, tt := range []struct{ body, want string }{
		{`{"verb":"explode","timeout_ms":1}`, "does not exist"},
		{`{"verb":"follow","timeout_ms":0}`, "timeout_ms"},
		{`{"verb":"follow","timeout_ms":99999999}`, "timeout_ms"},
		{`{"verb":"follow","timeout_ms":1,"discard":true,"reason":"x"}`, "belongs to rejoin"},
		{`{"verb":"rejoin","timeout_ms":1,"discard":true,"reason":" "}`, "needs a reason"},
		{`{"verb":"rejoin","timeout_ms":1,"reason":"` + strings.Repeat("x", maxReason+1) + `"}`, "reason of more"},
		{`{"verb":"stop","timeout_ms":1,"databases":["` + strings.Repeat(`a","`, maxNames) + `"]}`, "databases"},
		{`{"verb":"stop","timeout_ms":1,"password":"x"}`, "not understood"},
		{`stop`, "not understood"},
	} {
		if status, text := post(t, socket, "/v1/replication", tt.body); status != 400 || !strings.Contains(text, tt.want) {
			t.Errorf("%.60s: %d %s", tt.body, status, text)
		}
	}
	if len(d.replicated) > 0 {
		t.Errorf("the daemon was asked %v", d.replicated)
	}
}
