package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/failover"
)

// Limits of the control socket. Whoever may open it is trusted, but not with
// the daemon's memory.
const (
	maxBody      = 64 << 10
	maxCommands  = 4 // switchovers that are watched at once
	maxReason    = 1024
	readPatience = 5 * time.Second
	// writePatience is how long a caller may leave an answer unread.
	writePatience = 5 * time.Second
	// statusPatience bounds the daemon's own answer.
	statusPatience = 5 * time.Second
	// lastPatience is what answers under way get when the server ends.
	lastPatience = time.Second
	// longestTimeout bounds a switchover.
	longestTimeout = time.Hour
)

// SwitchoverRequest is the body of POST /v1/switchover.
type SwitchoverRequest struct {
	Instance  string `json:"instance"` // empty: the only one
	To        string `json:"to"`       // label; empty: the node that is not Active
	DryRun    bool   `json:"dry_run"`
	Force     bool   `json:"force"`
	Reason    string `json:"reason"`
	TimeoutMS int64  `json:"timeout_ms"`
	UID       uint32 `json:"-"` // of the caller, from the kernel
}

// check refuses what the command line refuses, for callers that do without it.
func (r SwitchoverRequest) check() error {
	switch {
	case r.Force && strings.TrimSpace(r.Reason) == "":
		return errors.New("force goes against the gate: it needs a reason")
	case len(r.Reason) > maxReason:
		return fmt.Errorf("a reason of more than %d bytes", maxReason)
	case r.TimeoutMS <= 0 || r.TimeoutMS > longestTimeout.Milliseconds():
		return fmt.Errorf("timeout_ms %d: from 1 to %d", r.TimeoutMS, longestTimeout.Milliseconds())
	}
	return nil
}

// Line is one line of the answer to POST /v1/switchover: a step that began or
// ended, and at last the result.
type Line struct {
	Node    string       `json:"node,omitempty"`
	Step    *Step        `json:"step,omitempty"`
	Waiting *Waiting     `json:"waiting,omitempty"`
	Outcome *Outcome     `json:"outcome,omitempty"`
	Reasons []GateReason `json:"reasons,omitempty"`
}

// Outcome is how a switchover ended.
type Outcome struct {
	Result string `json:"result"` // done, incomplete, refused, rolled_back or timed_out
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
}

// Daemon is what the server needs of the daemon.
type Daemon interface {
	Status(ctx context.Context, q Question) (StatusAnswer, error)
	// Switchover carries a command out; news is called with what is new.
	Switchover(ctx context.Context, r SwitchoverRequest, news func(Line)) error
	// Replication does what is wanted and calls news with a line for each database,
	// one call at a time.
	Replication(ctx context.Context, r ReplicationRequest, news func(ReplicationLine)) error
	Announcer
	Recorder
	Planner
	// Hold sets an operator's hold, or takes it back, and returns when that is durable.
	Hold(ctx context.Context, kind failover.HoldKind, r HoldRequest) (HoldAnswer, error)
	// Events is the stream of what the journal takes.
	Events(w http.ResponseWriter, r *http.Request)
}

// Server serves the control socket.
type Server struct {
	daemon       Daemon
	commands     *turns
	replications *turns
	asked        *turns
	holds        *turns
	diagnoses    chan struct{}
	listener     net.Listener
	authority    authority
	changes      *places
}

// Listen opens the socket: 0660, group tanist where there is one. A socket that
// nobody answers on is replaced; one that a daemon answers on is an error, and so
// is a file that is no socket.
func Listen(path string, d Daemon) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the control socket: %w", err)
	}
	if err := clearAway(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	old := unix.Umask(0o117)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	a, err := newAuthority()
	if err == nil && a.hasGroup {
		err = os.Chown(path, -1, int(a.group))
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("give %s to group %s: %w", path, Group, err)
	}
	return &Server{
		daemon: d, listener: l, authority: a, changes: newPlaces(a.privileged, userChanges, maxChanges),
		commands: newTurns(a.privileged, maxCommands), replications: newTurns(a.privileged, maxReplications),
		asked: newTurns(a.privileged, maxAsked), holds: newTurns(a.privileged, maxHolds),
		diagnoses: make(chan struct{}, 1), // it tries out what the pair needs in an emergency
	}, nil
}

// clearAway removes the socket of a daemon that is gone. Only a refused
// connection says so: one that is full or forbidden has an owner.
func clearAway(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != os.ModeSocket:
		return errors.New("there is a file of that name that is no socket")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return errors.New("another daemon answers there")
	case errors.Is(err, os.ErrNotExist):
		return nil
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("ask whether another daemon is there: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	return nil
}

// routes returns the endpoints that there are.
func (s *Server) routes() *routes {
	mux := &routes{server: s, mux: http.NewServeMux()}
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/events", s.daemon.Events)
	mux.HandleFunc("POST /v1/switchover", s.switchover)
	mux.HandleFunc("POST /v1/replication", s.replication)
	mux.HandleFunc("POST /v1/announce", s.announce)
	mux.HandleFunc("POST /v1/plan", s.plan)
	mux.HandleFunc("POST /v1/doctor", s.doctor)
	mux.HandleFunc("POST /v1/block", s.hold(failover.BlockHold))
	mux.HandleFunc("POST /v1/maintenance", s.hold(failover.MaintenanceHold))
	return mux
}

// Run serves until ctx ends. Answers under way then get a moment to come out.
func (s *Server) Run(ctx context.Context) error {
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	srv := &http.Server{
		Handler: seated(s.routes().mux), ReadTimeout: readPatience, IdleTimeout: readPatience,
		MaxHeaderBytes: 8 << 10,
		BaseContext:    func(net.Listener) context.Context { return serving },
		ConnContext:    identified,
	}
	over, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-over.Done()
		last, cancel := context.WithTimeout(serving, lastPatience)
		defer cancel()
		_ = srv.Shutdown(last)
		end()
		_ = srv.Close()
	}()
	err := srv.Serve(newLimited(s.listener, s.authority.privileged))
	cancel()
	<-ended
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve the control socket: %w", err)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	q, err := readQuestion(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), statusPatience)
	defer cancel()
	answer, err := s.daemon.Status(ctx, q)
	var body []byte
	if err == nil {
		body, err = answer.Encode()
	}
	// A reader that stands still would keep its connection from others.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writePatience))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	_, _ = w.Write(append(body, '\n'))
}

func (s *Server) switchover(w http.ResponseWriter, r *http.Request) {
	over, ok := s.commands.take(w, r, "too many switchovers are being watched")
	if !ok {
		return
	}
	defer over()
	req, status, err := readRequest(w, r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	say := lines[Line](w)
	if err := s.daemon.Switchover(r.Context(), req, say); err != nil {
		say(Line{Outcome: &Outcome{Result: "failed", Reason: "error", Detail: err.Error()}})
	}
}

// lines answers line by line, each at once. Who does not read is not watching: a
// write that fails ends the request's context.
func lines[L Line | ReplicationLine](w http.ResponseWriter) func(L) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	return func(l L) {
		_ = out.SetWriteDeadline(time.Now().Add(writePatience))
		_ = json.NewEncoder(w).Encode(l)
		_ = out.Flush()
	}
}

// readRequest reads a request within the server's ReadTimeout, with the caller's
// user as the kernel knows it. With an error it returns the status to answer.
func readRequest(w http.ResponseWriter, r *http.Request) (req SwitchoverRequest, status int, err error) {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return req, http.StatusBadRequest, fmt.Errorf("the request is not understood: %w", err)
	}
	if err := req.check(); err != nil {
		return req, http.StatusBadRequest, err
	}
	cred, _ := r.Context().Value(callerKey{}).(*unix.Ucred)
	if cred == nil {
		return req, http.StatusForbidden, errors.New("the kernel does not say who is asking")
	}
	req.UID = cred.Uid
	return req, 0, nil
}
