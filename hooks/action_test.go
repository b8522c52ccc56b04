package hooks

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/mono"
)

func TestTitles(t *testing.T) {
	tests := []struct {
		action Action
		want   string
	}{
		{Link{Path: "/a/", Target: "/b*"}, "link /a/"},
		{Link{Path: "/a", Target: "/b", Absent: true}, "link absent /a"},
		{Notify{Exec: []string{"/bin/tell", "secret"}}, "notify /bin/tell"},
		{Notify{Webhook: "https://user:secret@hooks.example:8443/T0/secret?token=secret#secret"}, "notify https://hooks.example:8443"},
		{Notify{Webhook: "https://u:s@cret@hooks.example?token=secret"}, "notify https://hooks.example"},
		{Notify{Webhook: "http://hooks.example#secret"}, "notify http://hooks.example"},
		{Notify{Webhook: "secret"}, "notify webhook"},
		{Wait{Lsyncd: "/run/status"}, "wait lsyncd /run/status"},
		{Wait{TCP: "a:1"}, "wait tcp a:1"},
		{Wait{File: "/f"}, "wait file /f"},
	}
	for _, tt := range tests {
		if got := Title(tt.action); got != tt.want || !strings.HasPrefix(got, tt.action.Kind()+" ") {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// What a notify script of keepalived 2.2.7 saw for each state, after the arguments
// of its own.
func TestKeepalivedArguments(t *testing.T) {
	for event, state := range map[Occasion]string{OnPromote: "MASTER", OnDemote: "BACKUP", OnFault: "FAULT", OnStop: "STOP"} {
		v := Vars{Instance: "VI_1", Event: event, Priority: 120}
		got, err := Expand(Exec{Command: []string{"/n.sh", "one", "two"}, Keepalived: true}, v)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"/n.sh", "one", "two", "INSTANCE", "VI_1", state, "120"}
		if diff := cmp.Diff(want, got.(Exec).Command); diff != "" {
			t.Error(diff)
		}
		if twice, _ := Expand(got, v); !cmp.Equal(want, twice.(Exec).Command) {
			t.Errorf("expanded twice: %v", twice)
		}
	}
}

func TestExpandLinkNotifyWait(t *testing.T) {
	v := Vars{Node: "primary", Active: "reserve", Instance: "site", Priority: 7}
	tests := []struct{ in, want Action }{
		{Link{Path: "/{{.Node}}", Target: "{{.Active}}*", Absent: true}, Link{Path: "/primary", Target: "reserve*", Absent: true}},
		{Notify{Exec: []string{"/x", "{{.Priority}}"}}, Notify{Exec: []string{"/x", "7"}, Vars: v}},
		{Notify{Webhook: "http://{{.Node}}/"}, Notify{Webhook: "http://primary/", Vars: v}},
		{Wait{TCP: "{{.Active}}:1"}, Wait{TCP: "reserve:1"}},
		{Wait{File: "/{{.Instance}}"}, Wait{File: "/site"}},
		{Wait{Lsyncd: "/{{.Instance}}"}, Wait{Lsyncd: "/site"}},
	}
	for _, tt := range tests {
		got, err := Expand(tt.in, v)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}

func TestUndoOfLinks(t *testing.T) {
	tests := []struct{ in, want Link }{
		{Link{Path: "/a", Target: "/b"}, Link{Path: "/a", Target: "/b", Absent: true}},
		{Link{Path: "/a", Target: "/b", Absent: true}, Link{Path: "/a", Target: "/b"}},
		{Link{Path: "/a", Target: "{{.Active}}"}, Link{Path: "/a", Target: "{{.Active}}"}},
		{Link{Path: "/a", Target: "{{.Standby}}", Absent: true}, Link{Path: "/a", Target: "p"}},
		{Link{Path: "/a/", Target: "/s/{{.Active}}"}, Link{Path: "/a/", Target: "/s/r", Absent: true}},
		{Link{Path: "/{{.Active}}", Target: "/s/{{.Active}}"}, Link{Path: "/r", Target: "/s/r", Absent: true}},
		{Link{Path: "/a", Target: "/s/{{.Active}}*"}, Link{Path: "/a", Target: "/s/r*", Absent: true}},
	}
	ran := Vars{Node: "p", Peer: "r", Active: "r", Standby: "p"}
	for _, tt := range tests {
		undo := Undo(Plan{{Name: "l", Action: tt.in}, {Name: "w", Action: Wait{File: "/f"}}, {Name: "n", Action: Notify{}}},
			[]Result{{Outcome: Changed}, {Outcome: Changed}, {Outcome: Changed}}, ran, nil, Vars{})
		if diff := cmp.Diff(Plan{{Name: "undo l", OnError: Continue, Action: tt.want}}, undo); diff != "" {
			t.Error(diff)
		}
	}
}

func TestStopsWithin(t *testing.T) {
	p := Plan{
		{Timeout: time.Minute, Action: Unit{Verb: StopUnit, Name: "early.service"}},
		{Timeout: time.Minute, Action: VIP{}},
		{Timeout: 2 * time.Minute, Action: Wait{Lsyncd: "/s"}},
		{Timeout: time.Second, Action: Unit{Verb: StopUnit, Name: "lsyncd.service"}},
		{Timeout: time.Hour, Action: Exec{}},
	}
	for name, want := range map[string]time.Duration{
		"lsyncd.service": 2*time.Minute + time.Second + 2*Grace, "early.service": 0, "other.service": 0,
	} {
		if got := p.StopsWithin(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if diff := cmp.Diff(Plan{p[0], p[1], p[3], p[4]}, p.Unwaiting()); diff != "" {
		t.Error(diff)
	}
	if got := p.Closing().StopsWithin("lsyncd.service"); got == 0 {
		t.Error("a plan without an address stops nothing")
	}
}

func TestRunSaysHowFarItIs(t *testing.T) {
	r, _ := begin(t, planOf(Abort, "a", "b"), nil)
	r.Said(r.last, "12 delays left")
	r.Said(r.last+1, "nobody's")
	r.Printed(r.last, "line\n")
	if res := r.Results()[0]; res.Outcome != Running || res.Detail != "12 delays left" {
		t.Errorf("%+v", res)
	}
	first := r.last
	r.end(Changed)
	r.Said(first, "too late")
	r.Printed(first, "too late")
	if a, b := r.Results()[0], r.Results()[1]; a.Detail != "" || a.Output != "line\n" || b.Detail != "" || b.Output != "" {
		t.Errorf("%+v\n%+v", a, b)
	}
}

func TestAHeldStepIsPatient(t *testing.T) {
	p := planOf(Abort, "a")
	r := &play{Run: NewRun(p, 0, 1, func(Step) bool { return true }), t: t, now: 1}
	r.Patient(func(Step) time.Duration { return time.Minute })
	r.Begin(r.now, r.ids, nil)
	at, _ := r.Deadline()
	if want := mono.Instant(1).Add(time.Minute); at != want {
		t.Errorf("deadline %d, want %d", at, want)
	}
	r.Tick(at, r.ids, nil)
	r.wants(Aborted, TimedOut)
	if d := r.Results()[0].Duration; d != time.Minute {
		t.Errorf("it took %s", d)
	}
}

// A plan that is gone on with, again and again, does not tell again.
func TestANoticeIsNotRepeated(t *testing.T) {
	p := planOf(Continue, "a", "tell", "b")
	p[1].Action, p[2].OnError = Notify{Exec: []string{"/x"}}, Abort
	for _, tt := range []struct {
		name   string
		before Outcome
		want   string
	}{{"told", Changed, "+a+b"}, {"not come to", Skipped, "+a+tell+b"}, {"failed", Failed, "+a+tell+b"}} {
		r := &play{Run: NewRun(p, 0, 3, nil), t: t, now: 1}
		r.Results()[1].Outcome = tt.before
		got := started(r.Begin(r.now, r.ids, nil))
		for range 2 {
			got += started(r.end(Changed))
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	r := &play{Run: NewRun(p, 0, 3, nil), t: t, now: 1}
	r.Results()[1].Outcome = Changed
	r.Begin(r.now, r.ids, nil)
	r.Cancel(r.now, nil)
	r.end(Cancelled)
	r.wants(Interrupted, Cancelled, Changed, Skipped)
}

func TestUnnotified(t *testing.T) {
	step := func(epoch uint64, name, title string, o Outcome) Record {
		return Record{Kind: Stepped, Instance: "site", Epoch: epoch, Role: Active, Step: Result{Name: name, Title: title, Outcome: o}}
	}
	told := func(epoch uint64, name string) Record {
		return Record{Kind: Notified, Instance: "site", Epoch: epoch, Role: Active, Step: Result{Name: name, Outcome: Failed}}
	}
	lost := func(epoch uint64, name string) Record {
		return Record{
			Kind: Notified, Instance: "site", Epoch: epoch, Role: Active,
			Step: Result{Name: name, Title: "notify /x", Outcome: Lost, Detail: "the daemon ended before it said what became of it"},
		}
	}
	tests := []struct {
		name    string
		records []Record
		want    []Record
	}{
		{"nothing", nil, nil},
		{"other steps", []Record{step(1, "a", "exec /notify x", Changed)}, nil},
		{"told", []Record{step(1, "a", "notify /x", Changed), told(1, "a")}, nil},
		{"told before the plan said so", []Record{told(1, "a"), step(1, "a", "notify /x", Changed)}, nil},
		{"not queued", []Record{step(1, "a", "notify /x", Failed)}, nil},
		{
			"lost, in their order",
			[]Record{step(1, "a", "notify /x", Changed), step(1, "b", "notify /x", Changed), step(2, "a", "notify /x", Changed), told(1, "a")},
			[]Record{lost(1, "b"), lost(2, "a")},
		},
		{"one of two", []Record{step(1, "a", "notify /x", Changed), step(1, "a", "notify /x", Changed), told(1, "a")}, []Record{lost(1, "a")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Unnotified(tt.records)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if again := Unnotified(append(tt.records, got...)); len(again) != 0 {
				t.Errorf("said, and yet found again: %v", again)
			}
		})
	}
}

func FuzzOutput(f *testing.F) {
	f.Add([]byte("plain\n"), 100)
	f.Add([]byte("\x1b[2J\x1b]0;title\x07\r\xff\xe2\x80\xae"), 64)
	f.Add([]byte(strings.Repeat("é", 5000)), 100)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		limit = 64 + (limit&0xfff)%4096
		s := Shorten(b, limit)
		if len(s) > limit || !utf8.ValidString(s) || len(b) <= limit && utf8.Valid(b) && s != string(b) {
			t.Errorf("%q of %q", s, b)
		}
		l := Legible(string(b))
		if strings.ContainsFunc(l, unprintable) || !utf8.ValidString(l) || Legible(l) != l {
			t.Errorf("%q", l)
		}
	})
}

func TestLegible(t *testing.T) {
	for in, want := range map[string]string{
		"a\tb\né":     "a\tb\né",
		"\x1b[31mred": `\x1b[31mred`,
		"\r\a\x00":    `\r\a\x00`,
		"\u202e":      `\u202e`,
		"\xff\ufffd":  "?\ufffd",
	} {
		if got := Legible(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
