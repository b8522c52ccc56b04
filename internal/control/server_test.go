package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

// patience bounds every wait of these tests; none of them is expected to need it.
const patience = 30 * time.Second

// daemon is what a server asks, with fields for answers.
type daemon struct {
	doc    Document
	report json.RawMessage
	err    error
	hold   func(ctx context.Context, news func(Line)) error

	lines []ReplicationLine

	mu         sync.Mutex // guards the fields below
	questions  []Question
	asked      []SwitchoverRequest
	replicated []ReplicationRequest
	held       []heldRequest
	commanded  []Command
	refused    []Refusal
	unrecorded error // what Commanded answers
}

func (d *daemon) Commanded(_ context.Context, c Command) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	acted := len(d.asked)
	for _, r := range d.replicated {
		if r.Verb != ReplicationStatus && r.Verb != ReplicationWait {
			acted++
		}
	}
	if acted > len(d.commanded) {
		return errors.New("it acted before it was journaled")
	}
	if d.unrecorded == nil {
		d.commanded = append(d.commanded, c)
	}
	return d.unrecorded
}

func (d *daemon) Events(http.ResponseWriter, *http.Request) {}

func (d *daemon) Refused(r Refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = append(d.refused, r)
}

func (d *daemon) refusals() []Refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Refusal(nil), d.refused...)
}

func (d *daemon) Status(_ context.Context, q Question) (StatusAnswer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.questions = append(d.questions, q)
	return StatusAnswer{Document: d.doc, Report: d.report}, d.err
}

func (d *daemon) Switchover(ctx context.Context, r SwitchoverRequest, news func(Line)) error {
	d.mu.Lock()
	d.asked = append(d.asked, r)
	d.mu.Unlock()
	if d.hold != nil {
		return d.hold(ctx, news)
	}
	news(Line{Outcome: &Outcome{Result: "done"}})
	return nil
}

func (d *daemon) Replication(_ context.Context, r ReplicationRequest, news func(ReplicationLine)) error {
	d.mu.Lock()
	d.replicated = append(d.replicated, r)
	d.mu.Unlock()
	for _, l := range d.lines {
		news(l)
	}
	return d.err
}

func (d *daemon) Hold(_ context.Context, kind failover.HoldKind, r HoldRequest) (HoldAnswer, error) {
	d.mu.Lock()
	d.held = append(d.held, heldRequest{kind, r})
	d.mu.Unlock()
	return HoldAnswer{Node: "primary", Instances: []HoldResult{{Instance: "compass", Result: "done"}}}, d.err
}

func (d *daemon) requests() []SwitchoverRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]SwitchoverRequest(nil), d.asked...)
}

// serve runs a server until the test is over, or until the returned function is
// called, which waits for its end.
func serve(t *testing.T, d Daemon) (socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "tanist.sock")
	s, err := Listen(socket, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := wait(t, over, "the server's end"); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return socket, stop
}

func wait[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// post sends a body as it is.
func post(t *testing.T, socket, path, body string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	resp, err := client.Post("http://tanist"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestSocketPermissions(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	socket, _ := serve(t, &daemon{})
	st, err := os.Lstat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != os.ModeSocket|0o660 {
		t.Errorf("mode %v", st.Mode())
	}
	if now := unix.Umask(0); now != 0 {
		t.Errorf("the umask is %o afterwards", now)
	}
}

func TestStatusAndSwitchover(t *testing.T) {
	d := &daemon{doc: documentOf(full())}
	socket, _ := serve(t, d)
	c := Dial(socket)
	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d.doc, got); diff != "" {
		t.Error(diff)
	}
	d.hold = func(_ context.Context, news func(Line)) error {
		for _, result := range []string{"running", "changed"} {
			news(Line{Node: "primary", Step: &Step{Name: "writes close", Result: result}})
		}
		news(Line{
			Outcome: &Outcome{Result: "refused", Reason: "gate_closed"},
			Reasons: []GateReason{{Code: replication.Errant, Database: "pivot", Detail: "0-2-17"}},
		})
		return nil
	}
	var lines []Line
	want := SwitchoverRequest{Instance: "compass", To: "reserve", Force: true, Reason: "drill", TimeoutMS: 60_000}
	out, err := c.Switchover(t.Context(), want, func(l Line) { lines = append(lines, l) })
	if err != nil || out != (Outcome{Result: "refused", Reason: "gate_closed"}) || len(lines) != 3 || len(lines[2].Reasons) != 1 {
		t.Errorf("%+v, %v, %d lines", out, err, len(lines))
	}
	want.UID = uint32(os.Getuid()) // by the kernel's word
	if diff := cmp.Diff([]SwitchoverRequest{want}, d.requests()); diff != "" {
		t.Error(diff)
	}
}

// Each line is there when it is said, not at the end.
func TestLinesAreNotHeldBack(t *testing.T) {
	read := make(chan bool)
	d := &daemon{hold: func(ctx context.Context, news func(Line)) error {
		news(Line{Step: &Step{Name: "first"}})
		select {
		case <-read:
		case <-ctx.Done():
		}
		news(Line{Outcome: &Outcome{Result: "done"}})
		return nil
	}}
	socket, _ := serve(t, d)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := Dial(socket).Switchover(ctx, SwitchoverRequest{TimeoutMS: 1}, func(l Line) {
		if l.Step != nil {
			close(read)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	d := &daemon{}
	socket, _ := serve(t, d)
	for _, tc := range []struct {
		name, body string
		status     int
		text       string
	}{
		{"unknown-field", `{"timeout_ms":1000,"forse":true}`, 400, "forse"},
		{"uid-is-not-a-field", `{"timeout_ms":1000,"UID":0}`, 400, "UID"},
		{"no-json", `switchover please`, 400, "not understood"},
		{"empty", ``, 400, "not understood"},
		{"too-long", `{"reason":"` + strings.Repeat("x", maxBody) + `"}`, 400, "too large"},
		{"reason-too-long", `{"timeout_ms":1000,"reason":"` + strings.Repeat("x", maxReason+1) + `"}`, 400, "reason"},
		{"force-without-reason", `{"timeout_ms":1000,"force":true,"reason":"  "}`, 400, "reason"},
		{"no-timeout", `{}`, 400, "timeout_ms"},
		{"negative-timeout", `{"timeout_ms":-1}`, 400, "timeout_ms"},
		{"endless-timeout", `{"timeout_ms":9223372036854775807}`, 400, "timeout_ms"},
	} {
		if status, text := post(t, socket, "/v1/switchover", tc.body); status != tc.status || !strings.Contains(text, tc.text) {
			t.Errorf("%s: %d %s", tc.name, status, text)
		}
	}
	if status, _ := post(t, socket, "/v1/status", `{}`); status != http.StatusMethodNotAllowed {
		t.Errorf("POST of the status: %d", status)
	}
	if status, _ := post(t, socket, "/v2/switchover", `{"timeout_ms":1000}`); status != http.StatusNotFound {
		t.Errorf("another version: %d", status)
	}
	if asked := d.requests(); len(asked) > 0 {
		t.Errorf("the daemon was asked %+v", asked)
	}
}

func TestErrorsReachTheCaller(t *testing.T) {
	d := &daemon{err: errors.New("the daemon is stopping"), hold: func(context.Context, func(Line)) error {
		return errors.New("no instance is called x")
	}}
	socket, _ := serve(t, d)
	c := Dial(socket)
	if _, err := c.Status(t.Context()); err == nil || err.Error() != "the daemon refuses: the daemon is stopping" {
		t.Errorf("status: %v", err)
	}
	out, err := c.Switchover(t.Context(), SwitchoverRequest{TimeoutMS: 1}, func(Line) {})
	if err != nil || out != (Outcome{Result: "failed", Reason: "error", Detail: "no instance is called x"}) {
		t.Errorf("switchover: %+v, %v", out, err)
	}
	// A document that cannot be written is an error, not half a document.
	lag := math.NaN()
	d.err, d.doc = nil, Document{Instances: []Instance{{Databases: []Database{{LagSeconds: &lag}}}}}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("a document that cannot be written: %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := Dial(filepath.Join(dir, "none")).Status(t.Context())
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "http") {
		t.Errorf("no socket: %v", err)
	}
	if want := "no daemon answers on " + dir + "/none: no such file or directory"; err.Error() != want {
		t.Errorf("no socket: %v, want %s", err, want)
	}
	for _, tc := range []struct{ name, answer, want string }{
		{"no-json", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", "read the daemon's"},
		{"cut", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"step\":{\"name\":\"a\"}}\n", "ended before it answered"},
		{"no-http", "hello", "ask the daemon"},
		{"endless-line", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\"" + strings.Repeat("x", 2<<20), "read the daemon's answer"},
	} {
		socket := filepath.Join(dir, tc.name)
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte(tc.answer))
			_ = c.Close()
		}()
		_, err = Dial(socket).Switchover(t.Context(), SwitchoverRequest{}, func(Line) {})
		if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", tc.name, err)
		}
		_ = l.Close()
	}
}

func TestTooManyWatchers(t *testing.T) {
	begun, end := make(chan bool), make(chan bool)
	d := &daemon{hold: func(ctx context.Context, news func(Line)) error {
		begun <- true
		select {
		case <-end:
		case <-ctx.Done():
			return ctx.Err()
		}
		news(Line{Outcome: &Outcome{Result: "done"}})
		return nil
	}}
	socket, _ := serve(t, d)
	over := make(chan error)
	watch := func(ctx context.Context) {
		_, err := Dial(socket).Switchover(ctx, SwitchoverRequest{TimeoutMS: 1}, func(Line) {})
		over <- err
	}
	gone, leave := context.WithCancel(t.Context())
	go watch(gone)
	wait(t, begun, "the first watcher")
	for range maxCommands - 1 {
		go watch(t.Context())
		wait(t, begun, "a watcher")
	}
	_, err := Dial(socket).Switchover(t.Context(), SwitchoverRequest{TimeoutMS: 1}, func(Line) {})
	if err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("one watcher more: %v", err)
	}
	if _, err := Dial(socket).Status(t.Context()); err != nil {
		t.Errorf("status beside them: %v", err)
	}
	leave() // a watcher who goes away makes room
	if err := wait(t, over, "the one who left"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	poll(t, "room for another", func() bool {
		go watch(t.Context())
		select {
		case <-begun:
			return true
		case err := <-over:
			return err == nil
		case <-time.After(patience):
			return false
		}
	})
	close(end)
	for range maxCommands {
		if err := wait(t, over, "the others"); err != nil {
			t.Error(err)
		}
	}
}

func poll(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// As many connections as the server takes, and again as many after they are
// closed: each gives its place back, once.
func TestTooManyConnections(t *testing.T) {
	socket, _ := serve(t, &daemon{doc: documentOf(full())})
	for round := range 2 {
		var conns []net.Conn
		for range maxConnections {
			c, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			// An answer shows that the server has accepted it; it stays open.
			if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatalf("round %d, connection %d: %v", round, len(conns), err)
			}
		}
		answered := make(chan error, 1)
		go func() {
			_, err := Dial(socket).Status(context.Background())
			answered <- err
		}()
		select {
		case err := <-answered:
			t.Errorf("one connection more was served: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		for _, c := range conns {
			_ = c.Close()
		}
		if err := wait(t, answered, "the one that waited"); err != nil {
			t.Error(err)
		}
	}
}

// Closed from two sides at once, a connection gives one place back.
func TestAConnectionGivesItsPlaceBackOnce(t *testing.T) {
	open := make(chan struct{}, 2)
	for range 200 {
		a, b := net.Pipe()
		_ = b.Close()
		open <- struct{}{}
		open <- struct{}{} // another connection's
		c := &counted{Conn: a, open: open}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _ = c.Close() })
		}
		wg.Wait()
		if len(open) != 1 {
			t.Fatalf("%d places are taken, want the other connection's", len(open))
		}
		<-open
	}
}

// A watcher that reads nothing loses its place, and so does a request that never
// ends.
func TestCallersThatStandStill(t *testing.T) {
	t.Parallel()
	stuck := make(chan error, 1)
	d := &daemon{doc: documentOf(full()), hold: func(ctx context.Context, news func(Line)) error {
		text := strings.Repeat("x", 1<<16)
		for ctx.Err() == nil {
			news(Line{Step: &Step{Detail: text}})
		}
		stuck <- ctx.Err()
		return ctx.Err()
	}}
	socket, _ := serve(t, d)
	request := func(method, body string, length int) net.Conn {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, err = fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, length, body)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	request("POST /v1/switchover", `{"timeout_ms":1}`, len(`{"timeout_ms":1}`))
	half := request("POST /v1/switchover", `{"timeout`, 1000)
	never := request("GET /v1/status", "", 1000)
	wait(t, stuck, "the daemon to learn that nobody reads")
	for name, c := range map[string]net.Conn{"half a request": half, "a status with a body that never comes": never} {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A switchover may be watched for longer than a request may take to come in.
func TestALongSwitchover(t *testing.T) {
	t.Parallel()
	d := &daemon{hold: func(ctx context.Context, news func(Line)) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readPatience + time.Second):
		}
		news(Line{Outcome: &Outcome{Result: "done"}})
		return nil
	}}
	socket, _ := serve(t, d)
	out, err := Dial(socket).Switchover(t.Context(), SwitchoverRequest{TimeoutMS: 1}, func(Line) {})
	if err != nil || out.Result != "done" {
		t.Errorf("%+v, %v", out, err)
	}
}

// The outcome of a switchover that the daemon's own end decides is not lost.
func TestTheLastAnswerComesOut(t *testing.T) {
	begun, node := make(chan bool), make(chan bool)
	d := &daemon{hold: func(ctx context.Context, news func(Line)) error {
		close(begun)
		<-node
		if ctx.Err() != nil {
			return ctx.Err()
		}
		news(Line{Outcome: &Outcome{Result: "rolled_back"}})
		return nil
	}}
	socket, stop := serve(t, d)
	type answer struct {
		out Outcome
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		out, err := Dial(socket).Switchover(context.Background(), SwitchoverRequest{TimeoutMS: 1}, func(Line) {})
		answered <- answer{out, err}
	}()
	wait(t, begun, "the switchover")
	ended := make(chan bool)
	go func() { stop(); close(ended) }()
	poll(t, "the server to take no more", func() bool {
		_, err := Dial(socket).Status(t.Context())
		return errors.Is(err, ErrUnreachable)
	})
	close(node)
	if got := wait(t, answered, "the outcome"); got.err != nil || got.out.Result != "rolled_back" {
		t.Errorf("%+v", got)
	}
	wait(t, ended, "the end")
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	t.Run("stale", func(t *testing.T) {
		path := filepath.Join(dir, "sub", "stale")
		first, err := Listen(path, &daemon{})
		if err != nil {
			t.Fatal(err)
		}
		first.listener.(*net.UnixListener).SetUnlinkOnClose(false) // as kill -9 leaves it
		_ = first.listener.Close()
		again, err := Listen(path, &daemon{})
		if err != nil {
			t.Fatal(err)
		}
		_ = again.listener.Close()
	})
	t.Run("live", func(t *testing.T) {
		d := &daemon{doc: Document{Node: "primary"}}
		socket, _ := serve(t, d)
		if _, err := Listen(socket, &daemon{}); err == nil || !strings.Contains(err.Error(), "another daemon") {
			t.Errorf("%v", err)
		}
		if doc, err := Dial(socket).Status(t.Context()); err != nil || doc.Node != "primary" {
			t.Errorf("the first daemon afterwards: %+v, %v", doc, err)
		}
	})
	t.Run("full", func(t *testing.T) { // a daemon that hangs, with as many callers as the kernel queues
		path := filepath.Join(dir, "full")
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := Listen(path, &daemon{}); err == nil {
			t.Error("the socket of a daemon that hangs was taken")
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("it was removed: %v", err)
		}
	})
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(dir, "tanist.yaml")
		if err := os.WriteFile(path, []byte("nodes:\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(path, &daemon{}); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("%v", err)
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, []byte("nodes:\n")) {
			t.Errorf("the file is now %q, %v", b, err)
		}
	})
	t.Run("nowhere", func(t *testing.T) {
		path := filepath.Join(dir, "tanist.yaml", "s")
		if _, err := Listen(path, &daemon{}); err == nil {
			t.Error("below a file")
		}
	})
}
