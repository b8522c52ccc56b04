package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication"
)

const patience = 60 * time.Second

func instance(name, state string, databases ...control.Database) control.Instance {
	in := control.Instance{Name: name, State: state, Reason: "elected", VIPs: []control.VIP{{Address: "192.0.2.100/24"}}, Databases: databases}
	in.VIPs[0].Held = state == "active"
	return in
}

func lagging(seconds ...float64) []control.Database {
	var all []control.Database
	for i, s := range seconds {
		d := control.Database{Name: fmt.Sprint("db", i)}
		if s >= 0 {
			d.LagSeconds = &s
		}
		all = append(all, d)
	}
	return all
}

func of(doc control.Document) control.StatusAnswer { return control.StatusAnswer{Document: doc} }

// running returns a server that answers on loopback.
func running(t *testing.T, facts func(context.Context) (Facts, error)) *Server {
	t.Helper()
	s := New(Config{Facts: facts, Trouble: func(doing string, err error) { t.Errorf("%s: %v", doing, err) }})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func open(t *testing.T, s *Server) string {
	t.Helper()
	l, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l)
	return l.Addr().String()
}

func always(instances ...control.Instance) func(context.Context) (Facts, error) {
	return func(context.Context) (Facts, error) {
		return Facts{StatusAnswer: of(control.Document{Node: "primary", Instances: instances})}, nil
	}
}

// get answers without a socket.
func get(t *testing.T, s *Server, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
	return w
}

func TestAnswers(t *testing.T) {
	active, backup := instance("a", "active"), instance("b", "backup", lagging(0.2, 4)...)
	gone := active
	gone.VIPs = []control.VIP{{}}
	detailed := instance("c", "fault")
	detailed.Detail = "two\nlines\x1b[2J"
	halted, behind := instance("b", "backup", lagging(0.2, 4)...), instance("b", "backup", lagging(0.2, 4)...)
	halted.Gate.Reasons = []control.GateReason{{Code: replication.IOStopped, Database: "db1", Detail: "IO thread stopped"}}
	behind.Gate.Reasons = []control.GateReason{{Code: replication.Lagging, Database: "db1"}, {Code: replication.NotKnown, Detail: "no database"}}
	for name, c := range map[string]struct {
		instances []control.Instance
		path      string
		status    int
		body      string
	}{
		"active":              {[]control.Instance{active}, "/active", 200, "active: elected\n"},
		"by-name":             {[]control.Instance{active, backup}, "/active?instance=a", 200, "active: elected\n"},
		"not-active":          {[]control.Instance{backup}, "/active", 503, "standby: backup: elected\n"},
		"kernel-disagrees":    {[]control.Instance{gone}, "/active", 503, "unknown: active, but the kernel has 0 of 1 addresses\n"},
		"promoting":           {[]control.Instance{instance("a", "promoting")}, "/active", 503, "promoting: elected\n"},
		"conflict":            {[]control.Instance{instance("a", "conflict")}, "/standby", 503, "unknown: conflict: elected\n"},
		"one-line":            {[]control.Instance{detailed}, "/active", 503, "standby: fault: elected: two lines [2J\n"},
		"standby":             {[]control.Instance{backup}, "/standby", 200, "standby: backup: elected\n"},
		"standby-of-active":   {[]control.Instance{active}, "/standby", 503, "active: elected\n"},
		"lag-fits":            {[]control.Instance{backup}, "/standby?max_lag=4s", 200, "standby: backup: elected\n"},
		"lag-too-long":        {[]control.Instance{backup}, "/standby?max_lag=3999ms", 503, "standby: db1 lags 4.000 s\n"},
		"lag-unknown":         {[]control.Instance{instance("b", "backup", lagging(0, -1)...)}, "/standby?max_lag=1h", 503, "standby: the lag of db1 is unknown\n"},
		"lag-before-the-halt": {[]control.Instance{halted}, "/standby?max_lag=1h", 503, "standby: the lag of db1 is unknown: io_stopped: IO thread stopped\n"},
		"lag-beyond-the-gate": {[]control.Instance{behind}, "/standby?max_lag=1h", 200, "standby: backup: elected\n"},
		"lag-without-any":     {[]control.Instance{instance("b", "backup")}, "/standby?max_lag=0s", 200, "standby: backup: elected\n"},
		"lag-of-the-active":   {[]control.Instance{active}, "/standby?max_lag=5s", 503, "active: elected\n"},
		"unnamed":             {[]control.Instance{active, backup}, "/active", 400, "there are 2 instances: name one with ?instance=NAME\n"},
		"none":                {nil, "/active", 400, "there are 0 instances: name one with ?instance=NAME\n"},
		"no-such":             {[]control.Instance{active}, "/active?instance=x", 404, "\"x\": no instance is called so\n"},
		"bad-lag":             {[]control.Instance{backup}, "/standby?max_lag=5", 400, "max_lag wants a time from 0s: 5s, 500ms\n"},
		"negative-lag":        {[]control.Instance{backup}, "/standby?max_lag=-5s", 400, "max_lag wants a time from 0s: 5s, 500ms\n"},
		"empty-lag":           {[]control.Instance{backup}, "/standby?max_lag=", 400, "max_lag wants one value\n"},
		"two-lags":            {[]control.Instance{backup}, "/standby?max_lag=1s&max_lag=9s", 400, "max_lag wants one value\n"},
		"misspelt":            {[]control.Instance{backup}, "/standby?maxlag=1s", 400, "the query may hold instance and max_lag, and nothing else\n"},
		"lag-is-for-standby":  {[]control.Instance{active}, "/active?max_lag=1s", 400, "the query may hold instance, and nothing else\n"},
		"query-of-status":     {[]control.Instance{active}, "/status?instance=a", 400, "the query may hold nothing\n"},
		"query-not-parseable": {[]control.Instance{active}, "/active?instance=%zz", 400, "the query is not understood\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := get(t, running(t, always(c.instances...)), http.MethodGet, c.path)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, c.status, c.body)
			}
		})
	}
}

// Nothing can be changed over TCP: there is no other method, and no other path.
func TestReadOnly(t *testing.T) {
	s := running(t, always(instance("a", "active")))
	for _, path := range []string{"/active", "/standby", "/status", "/metrics"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions} {
			if w := get(t, s, method, path); w.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
	for _, path := range []string{"/", "/v1/status", "/v1/switchover", "/debug/pprof/", "/metrics/x"} {
		if w := get(t, s, http.MethodGet, path); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
}

func TestStatusIsTheDocument(t *testing.T) {
	w := get(t, running(t, always(instance("a", "active"))), http.MethodGet, "/status")
	var doc control.Document
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%v, %v", err, w.Header())
	}
	if diff := cmp.Diff([]control.Instance{instance("a", "active")}, doc.Instances); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutFacts(t *testing.T) {
	s := running(t, func(context.Context) (Facts, error) { return Facts{}, errors.New("the daemon is stopping") })
	for _, path := range []string{"/active", "/standby", "/status", "/metrics"} {
		if w := get(t, s, http.MethodGet, path); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the daemon is stopping") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// However many ask at once, the facts are read by one at a time, after they asked.
func TestOneLookServesMany(t *testing.T) {
	var at, most, looks atomic.Int64
	begun, release := make(chan struct{}, 1), make(chan struct{})
	s := running(t, func(context.Context) (Facts, error) {
		most.Store(max(most.Load(), at.Add(1)))
		defer at.Add(-1)
		if looks.Add(1) == 1 {
			begun <- struct{}{}
			<-release
		}
		return Facts{StatusAnswer: of(control.Document{Version: fmt.Sprint(looks.Load())})}, nil
	})
	var asking sync.WaitGroup
	asking.Go(func() { _, _ = s.facts.ask(t.Context()) })
	<-begun
	const many = 100
	for range many {
		asking.Go(func() {
			facts, err := s.facts.ask(t.Context())
			if err != nil || facts.Document.Version == "1" {
				t.Errorf("%+v, %v: older than the question", facts.Document.Version, err)
			}
		})
	}
	close(release)
	asking.Wait()
	if most.Load() != 1 || looks.Load() > many/2 {
		t.Errorf("%d looks, %d at once", looks.Load(), most.Load())
	}
}

// A daemon that does not answer costs a caller no more than its patience.
func TestFactsThatHang(t *testing.T) {
	release := make(chan struct{})
	s := running(t, func(context.Context) (Facts, error) { <-release; return Facts{}, nil })
	defer close(release)
	if w := get(t, s, http.MethodGet, "/active"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func fetch(t *testing.T, addr, path string) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// A thousand connections that say nothing, or a byte at a time, hold no more than
// their places, and not for long.
func TestSlowLoris(t *testing.T) {
	s := running(t, always(instance("a", "active")))
	addr := open(t, s)
	var conns []net.Conn
	for i := range 1000 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if i%2 == 0 {
			_, _ = io.WriteString(c, "GET /active HTTP/1.1\r\nHost: x\r\nX-A: ")
		}
		conns = append(conns, c)
	}
	stop := make(chan struct{})
	var dripping sync.WaitGroup
	dripping.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			for i := 0; i < len(conns); i += 2 {
				_, _ = io.WriteString(conns[i], "b")
			}
		}
	})
	defer dripping.Wait()
	defer close(stop)
	if status, err := fetch(t, addr, "/active"); status != http.StatusOK { // the first ones have had their time
		t.Errorf("behind them: %d, %v", status, err)
	}
}

// At most so many connections are open at once.
func TestConnectionsAreBounded(t *testing.T) {
	l, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	bounded := newLimited(l)
	for range maxConnections + 10 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	var last net.Conn
	for range maxConnections {
		c, err := bounded.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		last = c
	}
	accepted := make(chan error, 2)
	accept := func() {
		c, err := bounded.Accept()
		if err == nil {
			defer c.Close()
		}
		accepted <- err
	}
	go accept()
	select {
	case err := <-accepted:
		t.Errorf("one more: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	_, _ = last.Close(), last.Close() // its place is given back once
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	if n := len(bounded.open); n > maxConnections {
		t.Errorf("%d are open", n)
	}
	for len(bounded.open) < maxConnections {
		c, err := bounded.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	go accept()
	_ = bounded.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("one that waits for a place: %v", err)
	}
}

// A request with a header without end, or a body that does not come, ends.
func TestRequestsAreBounded(t *testing.T) {
	addr := open(t, running(t, always(instance("a", "active"))))
	for name, request := range map[string]string{
		"header": "GET /active HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 64<<10),
		"body":   "GET /active HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
		"noise":  strings.Repeat("\x00\xff", 1000) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(c, request)
			_, err = io.Copy(io.Discard, c)
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				t.Error("the connection stays open")
			}
		})
	}
}

// The server moves to another listener, stops listening, and begins again.
func TestServeElsewhere(t *testing.T) {
	s := running(t, always(instance("a", "active")))
	first := open(t, s)
	if status, err := fetch(t, first, "/active"); status != http.StatusOK {
		t.Fatal(status, err)
	}
	second := open(t, s)
	if status, err := fetch(t, second, "/active"); status != http.StatusOK {
		t.Error(status, err)
	}
	if _, err := fetch(t, first, "/active"); err == nil {
		t.Error("the first still answers")
	}
	s.Serve(nil)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := fetch(t, second, "/active"); err != nil {
			break
		}
	}
	if status, _ := fetch(t, second, "/active"); status != 0 {
		t.Error("the second still answers")
	}
	if status, err := fetch(t, open(t, s), "/active"); status != http.StatusOK {
		t.Error(status, err)
	}
}

// Of several that come at once, the last one counts, and the others are closed.
func TestServeAtOnce(t *testing.T) {
	s := running(t, always(instance("a", "active")))
	for range 20 {
		var addrs []string
		for range 5 {
			addrs = append(addrs, open(t, s))
		}
		last := addrs[len(addrs)-1]
		if status, err := fetch(t, last, "/active"); status != http.StatusOK {
			t.Fatalf("the last: %d, %v", status, err)
		}
		for _, addr := range addrs[:len(addrs)-1] {
			if status, _ := fetch(t, addr, "/active"); status != 0 && addr != last {
				t.Errorf("%s answers %d", addr, status)
			}
		}
	}
}

func TestListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(netip.MustParseAddrPort(l.Addr().String())); err == nil {
		t.Error("an address that somebody has")
	}
}

// Whoever reaches the port may ask for the state by /events as often as he likes: that
// is one look for all who wait, as for any other question, and shows no output.
func TestEventsShareTheLook(t *testing.T) {
	var looks atomic.Int64
	let := make(chan struct{})
	in := instance("a", "active")
	in.LastTransition = &control.Transition{Steps: []control.Step{{Name: "hook", Output: "the secret"}}}
	s := running(t, func(ctx context.Context) (Facts, error) {
		looks.Add(1)
		<-let
		return always(in)(ctx)
	})
	s.cfg.Events = func(w http.ResponseWriter, r *http.Request, state func(context.Context) (control.Document, error)) {
		doc, err := state(r.Context())
		if err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(doc)
	}
	var all sync.WaitGroup
	const asking = 50
	for i := range asking {
		all.Go(func() {
			path := []string{"/events", "/status"}[i%2]
			if body := get(t, s, http.MethodGet, path).Body.String(); strings.Contains(body, "secret") || !strings.Contains(body, "hook") {
				t.Errorf("%s: %s", path, body)
			}
		})
	}
	for looks.Load() == 0 {
		runtime.Gosched()
	}
	close(let)
	all.Wait()
	if n := looks.Load(); n >= asking {
		t.Errorf("%d looks for %d questions", n, asking)
	}
	if in.LastTransition.Steps[0].Output == "" {
		t.Error("what is known was changed")
	}
}
