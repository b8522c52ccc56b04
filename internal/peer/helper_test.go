package peer

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

const (
	port  = 7511
	limit = 20 * time.Second // of a test's patience, not of what it measures
)

var lastAddr atomic.Uint32

// loopback returns an address of 127.0.0.0/8 that no other test uses.
func loopback() netip.Addr {
	n := lastAddr.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(100 + os.Getpid()%100), byte(n / 200), byte(1 + n%200)})
}

func twoPaths() (a, b []Path) {
	for range 2 {
		p := Path{Local: loopback(), Peer: loopback()}
		a, b = append(a, p), append(b, Path{Local: p.Peer, Peer: p.Local})
	}
	return a, b
}

// end is a Link that runs, and what came to it.
type end struct {
	*Link
	stop func() // and wait

	mu      sync.Mutex // guards the fields below
	said    []said
	states  map[string]failover.PeerState
	batches int // calls of deliver
}

type said struct {
	Instance  string
	Boot, Seq uint64
}

func start(t *testing.T, node, peer string, paths []Path, keys ...Key) *end {
	t.Helper()
	return startServing(t, node, peer, paths, nil, keys...)
}

func startServing(
	t *testing.T, node, peer string, paths []Path, serve func(context.Context, string, []byte) ([]byte, error), keys ...Key,
) *end {
	t.Helper()
	return startConfig(t, Config{Node: node, Peer: peer, Paths: paths, Serve: serve, Keys: keys})
}

func startConfig(t *testing.T, cfg Config) *end {
	t.Helper()
	cfg.Port = port
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, l)
}

func run(t *testing.T, l *Link) *end {
	t.Helper()
	node := l.cfg.Node
	e := &end{Link: l, states: map[string]failover.PeerState{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, e.deliver) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run %s: %v", node, err)
			}
		case <-time.After(limit):
			t.Errorf("run %s goes on after its context ended", node)
		}
	})
	t.Cleanup(e.stop)
	return e
}

func (e *end) deliver(batch []Said) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.batches++
	for _, s := range batch {
		e.said = append(e.said, said{s.Instance, s.State.Boot, s.State.Seq})
		e.states[s.Instance] = s.State
	}
}

// say sends one message at once.
func (e *end) say(instance string, s failover.PeerState) {
	e.Send(instance, s)
	e.Flush()
}

// state returns what was delivered last of an instance.
func (e *end) state(instance string) failover.PeerState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.states[instance]
}

func (e *end) all() []said {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]said(nil), e.said...)
}

func (e *end) last(instance string) said {
	all := e.all()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Instance == instance {
			return all[i]
		}
	}
	return said{}
}

// path returns the status of one path.
func (e *end) path(i int) Status { return e.Paths()[i] }

func (e *end) connected(t *testing.T, paths ...int) {
	t.Helper()
	for _, i := range paths {
		eventually(t, "the path is up", func() bool { return e.path(i).Connected && e.path(i).Accepted })
	}
}

func state(boot, seq uint64) failover.PeerState {
	return failover.PeerState{Boot: boot, Seq: seq, State: failover.Backup}
}

func stepOf(v uint8) hooks.Result { return hooks.Result{Outcome: hooks.Outcome(v)} }

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %v", what, limit)
		case <-tick.C:
		}
	}
}

// callFrom connects to a link as somebody at an address would.
func callFrom(t *testing.T, from, to netip.Addr) *net.TCPConn {
	t.Helper()
	var conn *net.TCPConn
	eventually(t, "connect", func() bool {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		c, err := d.Dial("tcp4", netip.AddrPortFrom(to, port).String())
		if err == nil {
			conn, err = tcp(c)
		}
		return err == nil
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// greetAs does what a peer's link does to say hello.
func greetAs(t *testing.T, conn net.Conn, node, peer string) {
	t.Helper()
	if _, err := dialed(conn, termsOf(t, conn, node, peer)); err != nil {
		t.Fatal(err)
	}
}

// termsOf is what a node brings to a connection, with these keys.
func termsOf(t testing.TB, conn net.Conn, node, peer string, keys ...Key) terms {
	t.Helper()
	derived, err := deriveAll(keys, node, peer)
	if err != nil {
		t.Fatal(err)
	}
	return terms{
		node: node, peer: peer, local: addrOf(conn.LocalAddr()), remote: addrOf(conn.RemoteAddr()),
		versions: versions{OldestVersion, NewestVersion}, secrets: derived,
	}
}

func addrOf(a net.Addr) netip.Addr { return netip.MustParseAddrPort(a.String()).Addr() }

// answerAs does what a peer's link does to answer.
func answerAs(t testing.TB, conn net.Conn, node, peer string, keys ...Key) (*channel, error) {
	t.Helper()
	return answered(conn, termsOf(t, conn, node, peer, keys...), func() error { return nil }, func() {})
}

// refused is how many connections and messages a path refused, of whatever reason.
func refused(s Status) uint64 {
	n := uint64(0)
	for _, c := range s.Refusals {
		n += c
	}
	return n
}

// testKey is a cluster key for tests.
type testKey string

func (k testKey) Derive(purpose string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(k), nil, purpose, n)
}

// frameOf is the frame of one message, whole.
func frameOf(t *testing.T, instance string, s failover.PeerState) []byte {
	t.Helper()
	var w frameWriter
	w.begin()
	w.add(item{content: contentOf(t, instance, s), vitals: vitalsOf(&s)})
	return w.end()
}

func contentOf(t *testing.T, instance string, s failover.PeerState) []byte {
	t.Helper()
	content, err := encode(instance, s)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func rawFrame(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func write(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// closedByPeer waits until the other end has closed the connection.
func closedByPeer(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection still stands after %v", limit)
	}
}

// tcpPair returns both ends of a connection.
func tcpPair(t testing.TB) (ours, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback(), 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = tcp(far); err != nil {
		t.Fatal(err)
	}
	if ours, err = ln.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close(); _ = theirs.Close() })
	return ours, theirs
}
