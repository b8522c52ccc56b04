package events

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/control"
)

const patience = 60 * time.Second

// node is a journal and its feed behind a real listener, as a daemon has them.
type node struct {
	t       *testing.T
	path    string
	journal *journal.Journal
	feed    *Feed
	server  *httptest.Server
	at      string // the address, the same over restarts
	handler atomic.Pointer[Feed]
	end     context.CancelFunc
	ended   chan error
	reads   atomic.Int64 // of the file
	beat    time.Duration
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, path: filepath.Join(t.TempDir(), "journal"), beat: time.Hour}
	n.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := n.handler.Load()
		if f == nil {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == "/public" {
			f.ServePublic(w, r, n.feed.cfg.State)
			return
		}
		f.ServeHTTP(w, r)
	}))
	n.at = n.server.URL
	n.start()
	t.Cleanup(func() {
		if n.journal != nil {
			n.stop()
		}
		n.server.CloseClientConnections()
		n.server.Close()
	})
	return n
}

func (n *node) start() {
	n.t.Helper()
	j, _, err := journal.Open(n.path)
	if err != nil {
		n.t.Fatal(err)
	}
	next, skipped := j.Next()
	n.journal = j
	n.feed = New(Config{
		Held: func() ([]hooks.Entry, error) {
			n.reads.Add(1)
			c, err := journal.Read(n.path)
			return c.Entries, err
		},
		State: func(context.Context) (control.Document, error) { return control.Document{Node: "primary"}, nil },
		Next:  next, Skipped: skipped, Heartbeat: n.beat,
	})
	j.Tell(n.feed.Publish)
	ctx, end := context.WithCancel(context.Background())
	n.end, n.ended = end, make(chan error, 1)
	go func() { n.ended <- n.feed.Run(ctx) }()
	n.handler.Store(n.feed)
}

// stop ends the daemon in order.
func (n *node) stop() {
	n.t.Helper()
	n.handler.Store(nil)
	n.end()
	if err := <-n.ended; err != nil {
		n.t.Error(err)
	}
	n.journal.Tell(nil)
	if err := n.journal.Close(); err != nil {
		n.t.Error(err)
	}
	n.journal = nil
}

func (n *node) add(rs ...hooks.Record) {
	n.t.Helper()
	if err := errors.Join(n.journal.Append(rs...), n.journal.Sync()); err != nil {
		n.t.Fatal(err)
	}
}

// step is a record with a word of its own.
func step(word string) hooks.Record {
	return hooks.Record{Kind: hooks.Stepped, Instance: "compass", Epoch: 7, Role: hooks.Active, Step: hooks.Result{Name: word, Outcome: hooks.Changed}}
}

// reader is one that follows.
type reader struct {
	t      *testing.T
	body   io.ReadCloser
	lines  *bufio.Scanner
	status int
	header http.Header
}

func (n *node) read(query, last string, ndjson bool) *reader {
	n.t.Helper()
	r, err := n.tryRead(n.t.Context(), query, last, ndjson)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = r.body.Close() })
	return r
}

func (n *node) tryRead(ctx context.Context, query, last string, ndjson bool) (*reader, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.at+query, http.NoBody)
	if err != nil {
		return nil, err
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	if ndjson {
		req.Header.Set("Accept", "application/x-ndjson")
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, err
	}
	r := &reader{t: n.t, body: resp.Body, lines: bufio.NewScanner(resp.Body), status: resp.StatusCode, header: resp.Header}
	r.lines.Buffer(nil, 1<<20)
	return r, nil
}

// next returns the next event, of lines of JSON.
func (r *reader) next() (e Event, ok bool) {
	if !r.lines.Scan() {
		return e, false
	}
	line := r.lines.Text()
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		if r.lines.Scan() { // what a lost connection cut off is the last
			r.t.Errorf("%.100s: %v", line, err)
		}
		return e, false
	}
	return e, true
}

// want reads that many events and compares what they say.
func (r *reader) want(want ...string) {
	r.t.Helper()
	var got []string
	for range want {
		e, ok := r.next()
		if !ok {
			break
		}
		got = append(got, said(e))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("-want +got:\n%s", diff)
	}
}

func said(e Event) string {
	switch {
	case e.Gap != nil:
		return fmt.Sprintf("gap %d-%d, then %d: %s", e.Gap.From, e.Gap.To, e.Gap.First, e.Gap.Why)
	case e.Kind == KindState:
		return fmt.Sprintf("state of %s, next %d", e.Status.Node, e.Next)
	case e.Kind == KindCut:
		return fmt.Sprintf("cut: %s, next %d", e.Why, e.Next)
	case e.Step != nil:
		return fmt.Sprintf("%d %s", e.Number, e.Step.Name)
	}
	return fmt.Sprintf("%d %s", e.Number, e.Kind)
}

func TestAReaderGetsWhatIsHeldAndWhatIsNew(t *testing.T) {
	n := newNode(t)
	n.add(step("a"), step("b"))
	n.add(step("c"))
	all, some, live := n.read("?from=1", "", true), n.read("?from=3", "", true), n.read("", "", true)
	again, first := n.read("?from=1", "2", true), n.read("?from=0", "", true)
	all.want("state of primary, next 1", "1 a", "2 b", "3 c")
	some.want("state of primary, next 3", "3 c")
	again.want("state of primary, next 3", "3 c") // where it was counts, not where it began
	first.want("state of primary, next 1", "1 a", "2 b", "3 c")
	live.want("state of primary, next 4")
	n.add(step("d"))
	for _, r := range []*reader{all, some, live} {
		r.want("4 d")
	}
	n.stop()
	all.want("cut: stopping, next 5")
	if _, more := all.next(); more {
		t.Error("it goes on")
	}
	n.start()
	n.add(step("e")) // 8197: a start leaves numbers out, which is no gap
	n.read("", "4", true).want("state of primary, next 5", "8197 e")
	n.read("?from=2", "", true).want("state of primary, next 2", "2 b", "3 c", "4 d", "8197 e")
	if n.read("?from=1", "", true).header.Get("Content-Type") != "application/x-ndjson" {
		t.Error("no lines of JSON")
	}
}

// A reader that waits over a restart with nothing new is not told of a gap.
func TestNothingNewOverARestart(t *testing.T) {
	n := newNode(t)
	n.add(step("a"))
	n.stop()
	n.start()
	r := n.read("?from=2", "", true)
	late := n.read("?from=5000", "", true) // seen of a daemon whose disk lost it
	r.want("state of primary, next 2")
	late.want("state of primary, next 5000")
	n.add(step("b"))
	r.want("8194 b")
	late.want("8194 b")
}

func TestServerSentEvents(t *testing.T) {
	n := newNode(t)
	n.beat = 50 * time.Millisecond
	n.stop()
	n.start()
	n.add(hooks.Record{Kind: hooks.Commanded, Instance: "compass", Command: "switchover", Arguments: "to=reserve", Reason: "two\nlines", UID: 1000})
	r := n.read("?from=1", "", false)
	if ct := r.header.Get("Content-Type"); ct != "text/event-stream" {
		t.Error(ct)
	}
	var got []string
	for r.lines.Scan() {
		line := r.lines.Text()
		if at := strings.Index(line, `"at":`); at >= 0 {
			line = line[:at] + `"at":…` // the date
		}
		if got = append(got, line); line == ": nothing new" {
			break
		}
	}
	want := []string{
		"retry: 2000", "",
		"id: 0", "event: state", `data: {"kind":"state","at":…`, "",
		"id: 1", "event: commanded", `data: {"kind":"commanded","number":1,"at":…`, "",
		": nothing new",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	lines := n.read("?from=2", "", true)
	lines.want("state of primary, next 2", "0 heartbeat", "0 heartbeat")
}

// What an event says of each kind of record.
func TestEventsAreGolden(t *testing.T) {
	at := time.Date(2026, 11, 21, 2, 14, 7, 0, time.UTC)
	var lines strings.Builder
	for i, r := range []hooks.Record{
		{Kind: hooks.Began, Instance: "compass", Epoch: 7, Role: hooks.Active, Planned: true, Reason: "requested"},
		{Kind: hooks.Stepped, Instance: "compass", Epoch: 7, Role: hooks.Active, Step: hooks.Result{
			Name: "lsyncd", Title: "unit start lsyncd.service", Outcome: hooks.TimedOut, Detail: "still queued", Duration: 30 * time.Second, Output: "secret",
		}},
		{Kind: hooks.Ended, Instance: "compass", Epoch: 7, Role: hooks.Active, Ending: hooks.Aborted, Duration: 1500 * time.Microsecond},
		{Kind: hooks.Missed, Instance: "compass", Epoch: 7, Role: hooks.Active, Loss: hooks.Loss{Database: "pivot", Proved: 2, ProvedKnown: true}},
		{Kind: hooks.Override, Instance: "compass", Epoch: 7, UID: 0, Reason: "we know"},
		{Kind: hooks.Commanded, UID: 1000, Command: "block", Arguments: "for_ms=1", Reason: "its disk"},
		{Kind: hooks.Strayed, Instance: "compass", Epoch: 7, Role: hooks.Standby, Step: hooks.Result{Name: "lsyncd", Outcome: hooks.Changed, Detail: "would change"}},
		{Kind: hooks.Notified, Instance: "compass", Epoch: 7, Attempts: 5, Step: hooks.Result{Name: "tell", Outcome: hooks.Failed}},
		{Kind: hooks.Learned, Instance: "compass", Epoch: 8},
	} {
		body, err := json.Marshal(eventOf(hooks.Entry{Number: uint64(i + 1), At: at, Boot: "6f0d7b52", Record: r}))
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(body, '\n'))
	}
	body, err := json.Marshal(eventOf(hooks.Entry{Number: 99, At: at, Unknown: "levitated", Record: hooks.Record{Kind: 255, Instance: "compass"}}))
	if err != nil {
		t.Fatal(err)
	}
	lines.Write(append(body, '\n'))
	const golden = "testdata/events.ndjson"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if diff := cmp.Diff(string(want), lines.String()); err != nil || diff != "" {
		t.Errorf("%v (UPDATE_GOLDEN=1 writes it)\n%s", err, diff)
	}
}

func TestQuestionsThatAreRefused(t *testing.T) {
	n := newNode(t)
	for _, tc := range []struct{ query, last string }{
		{"?from=x", ""}, {"?from=-1", ""}, {"?from=1&from=2", ""}, {"?form=1", ""}, {"?from=18446744073709551616", ""}, {"", "x"}, {"?%", ""},
	} {
		if r := n.read(tc.query, tc.last, true); r.status != http.StatusBadRequest {
			t.Errorf("%q, %q: %d", tc.query, tc.last, r.status)
		}
	}
}

// A number that the journal has not come to is another journal's.
func TestAnotherJournal(t *testing.T) {
	n := newNode(t)
	n.add(step("a"), step("b"))
	n.read("?from=4", "", true).want("state of primary, next 1", "gap 3-3, then 1: never_given", "1 a", "2 b")
	n.read("", "70000", true).want("state of primary, next 1", "gap 3-70000, then 1: never_given", "1 a", "2 b")
}

func TestAJournalThatCannotBeRead(t *testing.T) {
	n := newNode(t)
	n.add(step("a"))
	n.stop()
	n.start()
	n.feed.cfg.Held = func() ([]hooks.Entry, error) { return nil, errors.New("input/output error") }
	n.read("?from=1", "", true).want("state of primary, next 1", "cut: unreadable, next 1")
}

// until polls a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// A number beyond all is beyond what the journal has, too.
func TestTheLargestNumber(t *testing.T) {
	n := newNode(t)
	n.add(step("a"))
	largest := fmt.Sprint(uint64(math.MaxUint64))
	for _, r := range []*reader{n.read("", largest, true), n.read("?from="+largest, "", true)} {
		r.want("state of primary, next 1", "gap 2-"+fmt.Sprint(uint64(math.MaxUint64-1))+", then 1: never_given", "1 a")
	}
}

// What programs printed is in the journal alone, as it is of the events.
func TestStateWithoutOutput(t *testing.T) {
	n := newNode(t)
	last := &control.Transition{Steps: []control.Step{{Name: "hook", Output: "the secret"}}}
	doc := control.Document{Instances: []control.Instance{{LastTransition: last}}}
	report := doc
	doc.Peer.Report = &report
	n.feed.cfg.State = func(context.Context) (control.Document, error) { return doc, nil }
	for _, path := range []string{"", "/public"} {
		r := n.read(path, "", true)
		if !r.lines.Scan() || strings.Contains(r.lines.Text(), "secret") || strings.Count(r.lines.Text(), "hook") != 2 {
			t.Errorf("%s", r.lines.Text())
		}
	}
	if last.Steps[0].Output == "" {
		t.Error("the document was changed")
	}
}
