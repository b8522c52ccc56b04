package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
)

// book is what became of the notices.
type book struct {
	mu      sync.Mutex
	records []hooks.Record
	news    chan struct{}
}

func (b *book) add(r hooks.Record) {
	b.mu.Lock()
	b.records = append(b.records, r)
	b.mu.Unlock()
	b.news <- struct{}{}
}

// wait returns the records when there are n.
func (b *book) wait(t *testing.T, n int) []hooks.Record {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		b.mu.Lock()
		got := append([]hooks.Record(nil), b.records...)
		b.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-b.news:
		case <-late:
			t.Fatalf("%d of %d notices were recorded", len(got), n)
		}
	}
}

type office struct {
	*Courier
	*book
	end  context.CancelFunc
	done chan struct{}
}

// open runs a Courier with real programs and short times.
func open(t *testing.T, tt times) *office {
	t.Helper()
	b := &book{news: make(chan struct{}, 1000)}
	c := New(Config{
		Record: b.add,
		Run: func(ctx context.Context, command []string) Delivery {
			p := step.NewExec(hooks.Exec{Command: command}, "")
			var d Delivery
			d.Outcome, d.Detail = step.Execute(ctx, p)
			d.Output = step.Printed(p)
			return d
		},
	})
	c.times = tt
	o := &office{Courier: c, book: b, done: make(chan struct{})}
	var ctx context.Context
	ctx, o.end = context.WithCancel(t.Context())
	go func() { defer close(o.done); _ = c.Run(ctx, context.Background()) }()
	t.Cleanup(func() { o.close(t) })
	return o
}

func (o *office) close(t *testing.T) {
	t.Helper()
	o.end()
	select {
	case <-o.done:
	case <-time.After(30 * time.Second):
		t.Error("the courier does not end")
	}
}

func quick() times {
	return times{attempt: 10 * time.Second, pause: time.Millisecond, leave: 10 * time.Second}
}

func vars() hooks.Vars {
	return hooks.Vars{
		Node: "primary", Peer: "reserve", Active: "primary", Standby: "reserve", Instance: "site", Event: hooks.OnPromote,
		Epoch: 7, Reason: "requested", VIP: "10.77.0.100",
	}
}

func notice(name string, n hooks.Notify) Notice {
	n.Vars = vars()
	return Notice{Step: hooks.Step{Name: name}, Action: n, At: time.Date(2026, 11, 21, 13, 0, 0, 5, time.UTC)}
}

// listener answers each POST with the next status, the last one for ever.
func listener(t *testing.T, statuses ...int) (url string, bodies func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Method+" "+r.Header.Get("Content-Type")+" "+string(b))
		w.WriteHeader(statuses[min(len(got), len(statuses))-1])
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), got...)
	}
}

func wants(t *testing.T, r hooks.Record, o hooks.Outcome, attempts uint32, detail string) {
	t.Helper()
	if r.Kind != hooks.Notified || r.Step.Outcome != o || r.Attempts != attempts || !strings.Contains(r.Step.Detail, detail) {
		t.Errorf("%+v, want %s after %d attempts: %s", r, o, attempts, detail)
	}
}

func TestWebhook(t *testing.T) {
	o := open(t, quick())
	url, bodies := listener(t, 500, 200)
	o.Post(notice("tell", hooks.Notify{Webhook: url + "/T0/secret?token=secret"}))
	got := o.wait(t, 1)[0]
	wants(t, got, hooks.Changed, 2, "200 OK")
	want := hooks.Record{
		Kind: hooks.Notified, Instance: "site", Epoch: 7, Role: hooks.Active, Attempts: 2,
		Step: hooks.Result{Name: "tell", Title: "notify " + url, Outcome: hooks.Changed, Detail: "200 OK", Duration: got.Step.Duration},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	const body = `{"event":"promote","node":"primary","peer":"reserve","active":"primary","standby":"reserve",` +
		`"instance":"site","epoch":7,"reason":"requested","vip":"10.77.0.100","time":"2026-11-21T13:00:00.000000005Z"}`
	if diff := cmp.Diff([]string{"POST application/json " + body, "POST application/json " + body}, bodies()); diff != "" {
		t.Error(diff)
	}
	if !json.Valid([]byte(body)) {
		t.Error("the body is no JSON")
	}
}

func TestWebhookThatRefuses(t *testing.T) {
	tests := []struct {
		name     string
		status   int
		attempts uint32
	}{{"for good", 404, 1}, {"for now", 503, Attempts}, {"too many", 429, Attempts}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := open(t, quick())
			url, bodies := listener(t, tt.status)
			o.Post(notice("tell", hooks.Notify{Webhook: url}))
			wants(t, o.wait(t, 1)[0], hooks.Failed, tt.attempts, fmt.Sprint(tt.status))
			if n := len(bodies()); n != int(tt.attempts) {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// One that takes the connection and never answers, and one that nobody listens at:
// nothing of the URL but its host is in the record.
func TestWebhookThatNeverAnswers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	tt := quick()
	tt.attempt = 50 * time.Millisecond
	o := open(t, tt)
	for name, l := range map[string]net.Listener{"silent": silent, "gone": gone} {
		o.Post(notice(name, hooks.Notify{Webhook: "http://user:secret@" + l.Addr().String() + "/secret?t=secret#secret"}))
	}
	for _, r := range o.wait(t, 2) {
		if r.Step.Name == "silent" {
			wants(t, r, hooks.TimedOut, Attempts, "no answer within")
		} else {
			wants(t, r, hooks.Failed, Attempts, "connection refused")
		}
		if s := fmt.Sprintf("%+v", r); strings.Contains(s, "secret") {
			t.Errorf("%s", s)
		}
	}
}

func TestRedirects(t *testing.T) {
	other, others := listener(t, 200)
	var to string
	status := http.StatusTemporaryRedirect
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/there" {
			b, _ := io.ReadAll(r.Body)
			got = append(got, string(b))
			return
		}
		http.Redirect(w, r, to, status)
	}))
	defer s.Close()
	tests := []struct {
		name    string
		to      string
		status  int
		outcome hooks.Outcome
		detail  string
	}{
		{"to another host", other + "/secret", 307, hooks.Failed, "another host"},
		{"that drops the notice", s.URL + "/there", 302, hooks.Failed, "drops the notice"},
		{"within the host", s.URL + "/there", 307, hooks.Changed, "200"},
		{"for ever", s.URL + "/again", 307, hooks.Failed, "too often"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to, status = tt.to, tt.status
			o := open(t, quick())
			o.Post(notice("tell", hooks.Notify{Webhook: s.URL + "/"}))
			r := o.wait(t, 1)[0]
			wants(t, r, tt.outcome, 1, tt.detail)
			if strings.Contains(r.Step.Detail, "secret") {
				t.Error(r.Step.Detail)
			}
		})
	}
	if len(others()) != 0 || len(got) != 1 || !strings.Contains(got[0], `"epoch":7`) {
		t.Errorf("%v, %v", others(), got)
	}
}

func TestProgram(t *testing.T) {
	o := open(t, quick())
	o.Post(notice("well", hooks.Notify{Exec: []string{"/bin/sh", "-c", "echo told"}}))
	o.Post(notice("fails", hooks.Notify{Exec: []string{"/bin/sh", "-c", "echo no; exit 3"}}))
	rs := o.wait(t, 2)
	wants(t, rs[0], hooks.Changed, 1, "")
	wants(t, rs[1], hooks.Failed, Attempts, "exit status 3: no")
	if rs[0].Step.Output != "told\n" || rs[1].Step.Output != "no\n" {
		t.Errorf("%q, %q", rs[0].Step.Output, rs[1].Step.Output)
	}
}

// A program that hangs holds up its own instance for a bounded time, and no other.
func TestProgramThatHangs(t *testing.T) {
	tt := quick()
	tt.attempt = 2 * time.Second
	o := open(t, tt)
	o.Post(notice("hangs", hooks.Notify{Exec: []string{"/bin/sleep", "1000"}}))
	o.Post(notice("after it", hooks.Notify{Exec: []string{"/bin/true"}}))
	elsewhere := notice("elsewhere", hooks.Notify{Exec: []string{"/bin/true"}})
	elsewhere.Action.Vars.Instance = "other"
	o.Post(elsewhere)
	rs := o.wait(t, 3)
	wants(t, rs[0], hooks.Changed, 1, "")
	wants(t, rs[1], hooks.TimedOut, Attempts, "deadline")
	wants(t, rs[2], hooks.Changed, 1, "")
	for i, name := range []string{"elsewhere", "hangs", "after it"} {
		if rs[i].Step.Name != name {
			t.Errorf("%d: %s, want %s", i, rs[i].Step.Name, name)
		}
	}
}

func TestOrderAndOverflow(t *testing.T) {
	b := &book{news: make(chan struct{}, 1000)}
	release := make(chan struct{})
	c := New(Config{Record: b.add, Run: func(context.Context, []string) Delivery {
		<-release
		return Delivery{Outcome: hooks.Changed}
	}})
	const extra = 3
	for i := range QueueSize + extra { // before Run: nothing is taken out
		c.Post(notice(fmt.Sprint(i), hooks.Notify{Exec: []string{"/x"}}))
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx, context.Background()) }()
	close(release)
	rs := b.wait(t, QueueSize+extra)
	for i, r := range rs {
		if r.Step.Name != fmt.Sprint(i) {
			t.Fatalf("%d: %s", i, r.Step.Name)
		}
		if i < extra {
			wants(t, r, hooks.Cancelled, 0, "64 newer notices wait")
		} else {
			wants(t, r, hooks.Changed, 1, "")
		}
	}
	end()
	<-done
}

// A journal that hangs holds up the lane, and not the plan that posts.
func TestPostDoesNotWaitForARecord(t *testing.T) {
	journal := make(chan struct{})
	b := &book{news: make(chan struct{}, 1000)}
	c := New(Config{
		Record: func(r hooks.Record) { <-journal; b.add(r) },
		Run:    func(context.Context, []string) Delivery { return Delivery{Outcome: hooks.Changed} },
	})
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx, context.Background()) }()
	posted := make(chan struct{})
	go func() {
		defer close(posted)
		for i := range 2 * QueueSize {
			c.Post(notice(fmt.Sprint(i), hooks.Notify{Exec: []string{"/x"}}))
		}
	}()
	select {
	case <-posted:
	case <-time.After(30 * time.Second):
		t.Error("a notice waits for the journal")
	}
	close(journal)
	<-posted
	b.wait(t, 2*QueueSize)
	end()
	<-done
}

// When the daemon leaves, what can be told is told once, and the rest is recorded
// as dropped within a bounded time.
func TestLeaving(t *testing.T) {
	tt := quick()
	tt.pause, tt.leave = time.Hour, 4*time.Second
	o := open(t, tt)
	url, bodies := listener(t, 500)
	o.Post(notice("refused", hooks.Notify{Webhook: url}))
	for end := time.Now().Add(30 * time.Second); len(bodies()) == 0; time.Sleep(time.Millisecond) { // then it waits for its second attempt
		if time.Now().After(end) {
			t.Fatal("no attempt was made")
		}
	}
	o.Post(notice("goes well", hooks.Notify{Exec: []string{"/bin/true"}}))
	o.Post(notice("hangs", hooks.Notify{Exec: []string{"/bin/sleep", "1000"}}))
	o.Post(notice("behind it", hooks.Notify{Exec: []string{"/bin/true"}}))
	o.close(t)
	o.Post(notice("too late", hooks.Notify{Exec: []string{"/bin/true"}}))
	rs := o.wait(t, 5)
	wants(t, rs[0], hooks.Cancelled, 1, "dropped, as the daemon ends: 500")
	wants(t, rs[1], hooks.Changed, 1, "")
	wants(t, rs[2], hooks.Cancelled, 1, "dropped, as the daemon ends")
	wants(t, rs[3], hooks.Cancelled, 0, "dropped: the daemon ends")
	wants(t, rs[4], hooks.Cancelled, 0, "dropped: the daemon ends")
}
