// Package fakemysql is a database server to test with where no real one is at
// hand. It speaks MySQL's wire protocol and answers as the release it is told to
// be: with that release's words, column names and errors, as they were recorded
// from real servers, over a small model of replication.
//
// It keeps no data. A write is a transaction number, a table is only ever locked.
package fakemysql

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config is what a server is.
type Config struct {
	// Version is what VERSION() says, such as "8.4.3" or "10.11.14-MariaDB"; the
	// rest of the dialect follows from it.
	Version  string
	ServerID uint32
	UUID     string            // of MySQL; made from ServerID when empty
	Accounts map[string]string // user and password
	// Native authenticates with mysql_native_password, as MariaDB always does,
	// instead of caching_sha2_password.
	Native bool
	// Address is where to listen, "127.0.0.1:0" when empty, "unix:PATH" for a socket.
	Address string
}

// Server is one running server.
type Server struct {
	config   Config
	kind     kind
	listener net.Listener
	wg       sync.WaitGroup
	closed   chan struct{}

	// Below is guarded by world.
	state   State
	conns   map[uint64]*conn
	nextID  uint64
	hung    chan struct{} // closed when the server goes on; nil while it runs
	refusal *fault
	delay   time.Duration
	log     []string
	changed chan struct{} // closed at each change of the state
}

// world guards the state of every server, because replicas look at their source.
var world sync.Mutex

// byPort finds the source that a channel names; guarded by world.
var byPort = map[int]*Server{}

// Start makes a server and listens. Close ends it.
func Start(c Config) (*Server, error) {
	k, err := kindOf(c.Version)
	if err != nil {
		return nil, err
	}
	if c.UUID == "" {
		c.UUID = fmt.Sprintf("%08x-0000-0000-0000-%012x", c.ServerID, c.ServerID)
	}
	network, address := "tcp", c.Address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	} else if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: c, kind: k, listener: l, closed: make(chan struct{}), conns: map[uint64]*conn{},
		changed: make(chan struct{}), nextID: 1,
	}
	s.state = newState(s)
	world.Lock()
	if port := s.Port(); port != 0 {
		byPort[port] = s
	}
	world.Unlock()
	s.wg.Go(s.accept)
	return s, nil
}

// Address returns where the server listens, as tcp:HOST:PORT or unix:PATH.
func (s *Server) Address() string {
	a := s.listener.Addr()
	return a.Network() + ":" + a.String()
}

// Port returns the TCP port, 0 on a unix socket.
func (s *Server) Port() int {
	if a, ok := s.listener.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// Close ends the server as a kill would, and waits for what it ran.
func (s *Server) Close() error {
	world.Lock()
	select {
	case <-s.closed:
		world.Unlock()
		return nil
	default:
	}
	close(s.closed)
	if byPort[s.Port()] == s {
		delete(byPort, s.Port())
	}
	err := s.listener.Close()
	for _, c := range s.conns {
		err = errors.Join(err, c.net.Close())
	}
	world.Unlock()
	s.wg.Wait()
	return err
}

func (s *Server) accept() {
	for {
		n, err := s.listener.Accept()
		if err != nil {
			return
		}
		world.Lock()
		select {
		case <-s.closed:
			n.Close()
		default:
			c := &conn{server: s, net: n, id: s.nextID, user: "unauthenticated user", lockWait: defaultLockWait}
			s.nextID++
			s.conns[c.id] = c
			s.wg.Go(func() {
				c.serve()
				world.Lock()
				delete(s.conns, c.id)
				world.Unlock()
				c.net.Close()
			})
		}
		world.Unlock()
	}
}

// Change changes the state, and wakes what waits for it.
func (s *Server) Change(f func(*State)) {
	world.Lock()
	defer world.Unlock()
	f(&s.state)
	s.wake()
}

// wake is called with world held.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Read hands the state to f, as replication has made it by now.
func (s *Server) Read(f func(State)) {
	world.Lock()
	defer world.Unlock()
	s.state.replicate()
	f(s.state)
}

// Statements returns what clients sent since the last call, but for reads of
// variables and status.
func (s *Server) Statements() []string {
	world.Lock()
	defer world.Unlock()
	log := s.log
	s.log = nil
	return log
}

// Hang stops the server as SIGSTOP would: connections are accepted, statements
// taken, nothing is answered. What was sent is carried out after Resume, whether
// or not anybody waits for it still.
func (s *Server) Hang() {
	world.Lock()
	defer world.Unlock()
	if s.hung == nil {
		s.hung = make(chan struct{})
	}
}

// Resume lets a hung server go on.
func (s *Server) Resume() {
	world.Lock()
	defer world.Unlock()
	if s.hung != nil {
		close(s.hung)
		s.hung = nil
	}
}

// Refuse makes every new connection fail with that error, or with 0 no longer.
func (s *Server) Refuse(number uint16, message string) {
	world.Lock()
	defer world.Unlock()
	s.refusal = nil
	if number != 0 {
		s.refusal = faultf(number, "HY000", "%s", message)
	}
}

// Delay makes every answer take that long.
func (s *Server) Delay(d time.Duration) {
	world.Lock()
	defer world.Unlock()
	s.delay = d
}

// Disconnect cuts every connection, as a proxy or a restart would.
func (s *Server) Disconnect() {
	world.Lock()
	defer world.Unlock()
	for _, c := range s.conns {
		c.net.Close()
	}
}

// await returns when the server runs and its delay is over, false when it ended.
func (s *Server) await() bool {
	for {
		world.Lock()
		hung, delay := s.hung, s.delay
		world.Unlock()
		if hung == nil {
			return s.pause(delay)
		}
		select {
		case <-hung:
		case <-s.closed:
			return false
		}
	}
}

func (s *Server) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.closed:
		return false
	}
}

// kind is a release and what of its grammar matters here.
type kind struct {
	mariadb             bool
	major, minor, patch int
}

func kindOf(version string) (kind, error) {
	k := kind{mariadb: strings.Contains(version, "MariaDB")}
	number, _, _ := strings.Cut(strings.TrimPrefix(version, "5.5.5-"), "-")
	parts := strings.Split(number, ".")
	for i, p := range []*int{&k.major, &k.minor, &k.patch} {
		if i == len(parts) {
			break
		}
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return k, fmt.Errorf("fake server of version %q: %w", version, err)
		}
		*p = n
	}
	return k, nil
}

func (k kind) atLeast(major, minor, patch int) bool {
	if k.major != major {
		return k.major > major
	}
	if k.minor != minor {
		return k.minor > minor
	}
	return k.patch >= patch
}

// mysql reports whether the server is MySQL of at least that release.
func (k kind) mysql(major, minor, patch int) bool {
	return !k.mariadb && k.atLeast(major, minor, patch)
}

// slaveWords and replicaWords tell which words the grammar knows.
func (k kind) slaveWords() bool { return k.mariadb || !k.atLeast(8, 4, 0) }

func (k kind) replicaWords() bool { return k.mariadb || k.atLeast(8, 0, 22) }

func (k kind) forChannel() bool { return !k.mariadb || k.atLeast(10, 7, 0) }

// sourceColumns tells whether a statement with the new word answers new columns.
func (k kind) sourceColumns() bool { return !k.mariadb && k.atLeast(8, 0, 22) }
