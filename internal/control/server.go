package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of the control socket. Whoever may open it is trusted, but not with
// the daemon's memory.
const (
	maxBody        = 64 << 10
	maxCommands    = 4  // switchovers that are watched at once
	maxConnections = 64 // one more waits in the kernel
	readPatience   = 5 * time.Second
	// progressInterval is how often a watched switchover looks for news.
	progressInterval = 50 * time.Millisecond
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

// Line is one line of the answer to POST /v1/switchover: a step that began or
// ended, and at last the result.
type Line struct {
	Node    string       `json:"node,omitempty"`
	Step    *Step        `json:"step,omitempty"`
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
	Status(ctx context.Context) (Document, error)
	// Switchover carries a command out; news is called with what is new.
	Switchover(ctx context.Context, r SwitchoverRequest, news func(Line)) error
}

// Server serves the control socket.
type Server struct {
	path     string
	daemon   Daemon
	commands chan struct{}
	listener net.Listener
}

// Listen opens the socket: 0660, group tanist where there is one. A socket that
// nobody answers on is replaced; one that a daemon answers on is an error.
func Listen(path string, d Daemon) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the control socket: %w", err)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("listen on %s: another daemon answers there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old control socket: %w", err)
	}
	old := unix.Umask(0o117)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if g, err := user.LookupGroup("tanist"); err == nil {
		gid, _ := strconv.Atoi(g.Gid)
		if err := os.Chown(path, -1, gid); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("give %s to group tanist: %w", path, err)
		}
	}
	return &Server{path: path, daemon: d, commands: make(chan struct{}, maxCommands), listener: l}, nil
}

type callerKey struct{}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("POST /v1/switchover", s.switchover)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: readPatience, IdleTimeout: readPatience,
		MaxHeaderBytes: 8 << 10,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, caller(c))
		},
	}
	ended := make(chan struct{})
	defer func() { <-ended }()
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(ended)
		<-over.Done()
		_ = srv.Close()
	}()
	err := srv.Serve(limited{s.listener, make(chan struct{}, maxConnections)})
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the control socket: %w", err)
}

// caller asks the kernel who is at the other end.
func caller(c net.Conn) *unix.Ucred {
	uc, ok := c.(interface{ Unwrap() net.Conn })
	if ok {
		c = uc.Unwrap()
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil
	}
	var cred *unix.Ucred
	_ = raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	doc, err := s.daemon.Status(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc)
}

func (s *Server) switchover(w http.ResponseWriter, r *http.Request) {
	select {
	case s.commands <- struct{}{}:
		defer func() { <-s.commands }()
	default:
		http.Error(w, "too many switchovers are being watched", http.StatusTooManyRequests)
		return
	}
	var req SwitchoverRequest
	flush, enc := http.NewResponseController(w), json.NewEncoder(w)
	// The deadline is the body's: left in place it would end the watching too.
	_ = flush.SetReadDeadline(time.Now().Add(readPatience))
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		http.Error(w, "the request is not understood: "+err.Error(), http.StatusBadRequest)
		return
	}
	_ = flush.SetReadDeadline(time.Time{})
	cred, _ := r.Context().Value(callerKey{}).(*unix.Ucred)
	if cred == nil {
		http.Error(w, "the kernel does not say who is asking", http.StatusForbidden)
		return
	}
	req.UID = cred.Uid
	w.Header().Set("Content-Type", "application/x-ndjson")
	err := s.daemon.Switchover(r.Context(), req, func(l Line) {
		_ = enc.Encode(l)
		_ = flush.Flush()
	})
	if err != nil {
		_ = enc.Encode(Line{Outcome: &Outcome{Result: "failed", Reason: "error", Detail: err.Error()}})
	}
}

// limited bounds the connections that are open at once.
type limited struct {
	net.Listener
	open chan struct{}
}

func (l limited) Accept() (net.Conn, error) {
	l.open <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &counted{Conn: c, open: l.open}, nil
}

type counted struct {
	net.Conn
	open   chan struct{}
	closed bool
}

func (c *counted) Unwrap() net.Conn { return c.Conn }

func (c *counted) Close() error {
	if !c.closed {
		c.closed = true
		<-c.open
	}
	return c.Conn.Close()
}
