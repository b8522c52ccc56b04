// Package web answers load balancers and Prometheus over HTTP: /active, /standby,
// /status, /metrics and /events. It reads what the daemon knows and changes nothing.
package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/node"
)

// Limits. Anybody who reaches the port may ask, so that nobody gets much: a
// connection more than that waits in the kernel until one of them is over.
const (
	maxConnections = 256
	maxHeader      = 8 << 10
	// readPatience is how long a request may take to arrive, and how long an idle
	// connection is kept.
	readPatience  = time.Second
	idlePatience  = 5 * time.Second
	writePatience = 5 * time.Second
	// lastPatience is what answers under way get when the server ends.
	lastPatience = time.Second
	// answerPatience bounds the daemon's own answer.
	answerPatience = 2 * time.Second
	// reopenEvery is the time between two attempts to listen again after the
	// listener has failed.
	reopenEvery = 5 * time.Second
)

// Facts is what the daemon knows.
type Facts struct {
	control.StatusAnswer
	// Counters and Dropped, the packets by reason, are by instance.
	Counters map[string]node.Counters
	Dropped  map[string]map[string]uint64
	Process  Process
}

// Process is about the daemon and no instance.
type Process struct {
	Paths    []Path // of the heartbeat
	Events   uint64 // that the loop was too far behind for
	LogLines uint64 // that nobody read in time
	// Readers are those of the stream of events; Cut counts those that were cut off,
	// Notices the notices by what became of them, and Refused what the peer link
	// refused, by reason. They have every word, also at 0.
	Readers               int
	Cut, Notices, Refused map[string]uint64
}

// Path is one way that advertisements take.
type Path struct {
	Interface string // of the VRRP group
	Peer      string // the other node's address, or the group
	Up        bool
	Flooded   bool              // the kernel keeps forgeries out
	Dropped   map[string]uint64 // packets by reason, also at 0; those that are an instance's too
}

// Config is what a Server needs.
type Config struct {
	// Facts reads what is known, without asking a database. One call at a time.
	Facts func(ctx context.Context) (Facts, error)
	// Events answers /events with the stream of what the journal takes. What is the case
	// it asks state, which like every other answer is one look for all who ask.
	Events func(w http.ResponseWriter, r *http.Request, state func(context.Context) (control.Document, error))
	// Trouble is told when the listener fails while the server runs.
	Trouble func(doing string, err error)
}

// Server answers on one listener at a time.
type Server struct {
	cfg   Config
	facts *sharer
	pages maker
	turn  chan struct{} // one slot: next is new

	mu   sync.Mutex // guards the fields below
	next *Listener
	news bool // next was not taken yet
}

// Listener is an opened address.
type Listener struct {
	net.Listener
	at netip.AddrPort
}

// Listen opens an address.
func Listen(at netip.AddrPort) (*Listener, error) {
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	return &Listener{l, at}, nil
}

// New returns a server that answers nobody yet.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, facts: newSharer(cfg.Facts), pages: newMaker(), turn: make(chan struct{}, 1)}
}

// Serve has the server answer on l from now on, in place of what it had before; with
// nil nowhere. The server closes l.
func (s *Server) Serve(l *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if unused := s.next; unused != nil {
		_ = unused.Close()
	}
	s.next, s.news = l, true
	select {
	case s.turn <- struct{}{}:
	default:
	}
}

// taken returns what Serve was last given, if that is new.
func (s *Server) taken() (l *Listener, news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, news = s.next, s.news
	s.next, s.news = nil, false
	return l, news
}

// Run answers until ctx ends; answers under way then get a moment to come out. A
// listener that fails is opened again: no role depends on it.
func (s *Server) Run(ctx context.Context) error {
	asking, end := context.WithCancel(context.WithoutCancel(ctx))
	shared := make(chan struct{})
	go func() { defer close(shared); s.facts.run(asking) }()
	defer func() {
		end()
		select {
		case <-shared:
		case <-time.After(lastPatience): // the kernel does not say what addresses there are
		}
	}()
	var l *Listener
	for {
		serving, over := context.WithCancel(ctx)
		ended := make(chan struct{})
		at := l
		go func() { defer close(ended); s.serveOn(serving, asking, at) }()
		for news := false; !news && ctx.Err() == nil; {
			select {
			case <-ctx.Done():
			case <-s.turn:
				l, news = s.taken()
			}
		}
		over()
		<-ended
		if ctx.Err() != nil {
			s.Serve(nil) // closes what was not taken
			if l != nil {
				_ = l.Close()
			}
			return nil
		}
	}
}

// serveOn answers on l until ctx ends.
func (s *Server) serveOn(ctx, asking context.Context, l *Listener) {
	for l != nil && ctx.Err() == nil {
		err := s.serve(ctx, asking, l)
		at := l.at
		for l = nil; l == nil && ctx.Err() == nil; {
			s.cfg.Trouble("answer over HTTP", err)
			wait := time.NewTimer(reopenEvery)
			select {
			case <-ctx.Done():
			case <-wait.C:
				l, err = Listen(at)
			}
			wait.Stop()
		}
	}
	if l != nil {
		_ = l.Close()
	}
}

// serve answers on l and closes it.
func (s *Server) serve(ctx, asking context.Context, l *Listener) error {
	srv := &http.Server{
		Handler: s.handler(), ReadTimeout: readPatience, ReadHeaderTimeout: readPatience,
		WriteTimeout: readPatience + answerPatience + writePatience, IdleTimeout: idlePatience, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return asking },
	}
	over, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-over.Done()
		last, end := context.WithTimeout(asking, lastPatience)
		defer end()
		_ = srv.Shutdown(last)
		_ = srv.Close()
	}()
	err := srv.Serve(newLimited(l))
	cancel()
	<-ended
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /active", s.active)
	mux.HandleFunc("GET /standby", s.standby)
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /metrics", s.metrics)
	if s.cfg.Events != nil {
		mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { s.cfg.Events(w, r, s.document) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// limited bounds the connections that are open at once. An Accept that waits for a
// place ends with Close.
type limited struct {
	net.Listener
	open   chan struct{}
	closed chan struct{}
	once   *sync.Once
}

func newLimited(l net.Listener) limited {
	return limited{l, make(chan struct{}, maxConnections), make(chan struct{}), &sync.Once{}}
}

func (l limited) Accept() (net.Conn, error) {
	select {
	case l.open <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &counted{Conn: c, open: l.open}, nil
}

func (l limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// counted gives its place back once, whoever closes it and how often.
type counted struct {
	net.Conn
	open chan struct{}
	once sync.Once
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.open })
	return err
}
