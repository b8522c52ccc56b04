package control

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// requests are one valid request of each route that changes something. A route that
// is not here takes any object.
func requests() map[string]string {
	return map[string]string{
		"POST /v1/switchover":  `{"instance":"compass","to":"reserve","force":true,"reason":"the disk dies","timeout_ms":60000}`,
		"POST /v1/replication": `{"instance":"compass","verb":"rejoin","databases":["pivot","the other"],"discard":true,"reason":"the disk dies","timeout_ms":1000}`,
	}
}

// Whatever endpoint there is: it journals who wants what and why, and without that it
// does nothing.
func TestEveryChangeIsJournaledBeforeItActs(t *testing.T) {
	routes := 0
	for _, pattern := range (&Server{daemon: &daemon{}}).routes().patterns {
		method, path, _ := strings.Cut(pattern, " ")
		if method == http.MethodGet || pattern == "POST /v1/plan" || pattern == "POST /v1/doctor" { // which only try
			continue
		}
		routes++
		t.Run(path, func(t *testing.T) {
			body := requests()[pattern]
			if body == "" {
				body = `{"instance":"compass","reason":"the disk dies"}`
			}
			d := &daemon{unrecorded: errors.New("no space left on device")}
			socket, _ := serve(t, d)
			status, text := post(t, socket, path, body)
			if status != http.StatusServiceUnavailable || !strings.Contains(text, "nothing was changed: no space left") {
				t.Errorf("without a journal: %d %s", status, text)
			}
			if n := len(d.asked) + len(d.replicated); n > 0 {
				t.Errorf("and it acted")
			}
			d.unrecorded = nil
			if status, text = post(t, socket, path, body); strings.Contains(text, "before it was journaled") {
				t.Errorf("%d %s", status, text)
			}
			if len(d.commanded) != 1 {
				t.Fatalf("%d records", len(d.commanded))
			}
			c := d.commanded[0]
			if c.Verb == "" || c.Instance != "compass" || c.Reason != "the disk dies" || c.UID != uint32(os.Getuid()) {
				t.Errorf("%+v", c)
			}
		})
	}
	if routes < len(requests()) {
		t.Errorf("%d routes that change something", routes)
	}
}

func TestWhatIsJournaled(t *testing.T) {
	long := strings.Repeat("x", 2*maxArguments)
	for _, tc := range []struct {
		name, pattern, body string
		want                Command
	}{
		{
			"switchover", "POST /v1/switchover", requests()["POST /v1/switchover"],
			Command{Instance: "compass", Verb: "switchover", Arguments: "to=reserve force=true timeout=1m0s", Reason: "the disk dies", Safer: true},
		},
		{
			"rejoin", "POST /v1/replication", requests()["POST /v1/replication"],
			Command{Instance: "compass", Verb: "replication rejoin", Arguments: `databases="pivot,the other" discard=true`, Reason: "the disk dies"},
		},
		{
			"all-databases", "POST /v1/replication", `{"verb":"stop","timeout_ms":1}`,
			Command{Verb: "replication stop", Arguments: "databases=all"},
		},
		{"block", "POST /v1/block", `{"instance":"i","on":true,"reason":"r","for_ms":7200000}`, Command{
			Instance: "i", Verb: "block", Safer: true, Reason: "r", Arguments: "for=2h0m0s",
		}},
		{"unblock", "POST /v1/block", `{}`, Command{Verb: "unblock", Safer: true}},
		{"maintenance-on", "POST /v1/maintenance", `{"on":true,"reason":"r","force":true}`, Command{
			Verb: "maintenance on", Reason: "r", Arguments: "force=true",
		}},
		{"maintenance-off", "POST /v1/maintenance", `{"instance":"i"}`, Command{Instance: "i", Verb: "maintenance off"}},
		{"any", "POST /v1/other", `{"for_ms":7200000,"node":"a b","off":false,"reason":"r","instance":"i","list":["x"]}`, Command{
			Instance: "i", Verb: "other", Reason: "r", Arguments: `for_ms=7200000 list=["x"] node="a b"`,
		}},
		{"no-body", "DELETE /v1/block", "", Command{Verb: "block"}},
		{"long", "POST /v1/other", `{"a":"` + long + `"}`, Command{Verb: "other", Arguments: "a=" + long[:maxArguments-2] + "..."}},
	} {
		say := describers()[tc.pattern]
		if say == nil {
			say = func(body []byte) (Command, effect, error) { return describe(tc.pattern, body) }
		}
		got, e, err := say([]byte(tc.body))
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil || e != changes {
			t.Errorf("%s: %v, effect %d\n%s", tc.name, err, e, diff)
		}
	}
}

func TestRequestsOfNoUse(t *testing.T) {
	for name, body := range map[string]string{
		"other-case": `{"instance":"a","Instance":"b"}`, "null": `{"reason":"r","reason":null}`, "kelvin": "{\"\u212aind\":1}",
		"no-json": "block please", "no-object": `["x"]`, "long-reason": `{"reason":"` + strings.Repeat("x", maxReason+1) + `"}`,
	} {
		if _, e, err := describe("POST /v1/block", []byte(body)); err == nil || e != changes {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What acts reads the request that was journaled: of two fields of one name the same.
func TestWhatActsIsWhatIsJournaled(t *testing.T) {
	for _, path := range []string{"/v1/block", "/v1/maintenance"} {
		for _, body := range []string{
			`{"instance":"a","Instance":"b","on":true,"reason":"r"}`, `{"instance":"a","instance":null,"on":true,"reason":"r"}`,
			`{"on":true,"REASON":"r"}`, `{"on":true,"reason":"r","reason":null}`, `{"instance":"a","instance":"b","on":true,"reason":"q","reason":"r"}`,
			`{"instance":"a","on":true,"reason":"r"}{"instance":"b"}`, "{\"instance\":\"a\",\"in\u017ftance\":\"b\",\"on\":true,\"reason\":\"r\"}",
		} {
			d := &daemon{}
			socket, _ := serve(t, d)
			status, text := post(t, socket, path, body)
			for i, h := range d.held {
				if c := d.commanded[i]; c.Instance != h.Request.Instance || c.Reason != h.Request.Reason {
					t.Errorf("%s %s: journaled %+v, done %+v", path, body, c, h.Request)
				}
			}
			if status != http.StatusOK && len(d.held) > 0 {
				t.Errorf("%s: %d %s", body, status, text)
			}
		}
	}
}

// What only looks is journaled by nobody.
func TestLookingIsNoChange(t *testing.T) {
	d := &daemon{unrecorded: errors.New("no space left on device")}
	socket, _ := serve(t, d)
	for path, bodies := range map[string][]string{
		"/v1/switchover":  {`{"dry_run":true,"timeout_ms":1}`},
		"/v1/replication": {`{"verb":"status","timeout_ms":1}`, `{"verb":"wait","timeout_ms":1}`},
	} {
		for _, body := range bodies {
			if status, text := post(t, socket, path, body); status != http.StatusOK {
				t.Errorf("%s %s: %d %s", path, body, status, text)
			}
		}
	}
	if len(d.asked) != 1 || len(d.replicated) != 2 {
		t.Errorf("%+v, %+v", d.asked, d.replicated)
	}
}
