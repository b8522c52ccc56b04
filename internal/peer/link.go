package peer

// A Link owns its paths. What is sent goes into the outbox of each; what comes
// in by any of them passes one inbox, which lets each message through once.

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// Path is one way to the peer: an address of this host, which may not exist yet,
// and the peer's address of the same network.
type Path struct{ Local, Peer netip.Addr }

// Config names both nodes and the ways between them. The peer's configuration is
// the same with the sides exchanged.
type Config struct {
	Node, Peer string // labels
	Paths      []Path // preferred first; no address may appear in two of them
	Port       uint16 // TCP, of both nodes
	// Keys prove both nodes: one, or two while they are changed. The first is
	// preferred, either accepted. Without any, whoever has the peer's address is
	// believed.
	Keys []Key
	// Runs returns what this node's heartbeat is now, and Confirm takes the peer's; by
	// connections only that a key proves. Neither may block. Either may be nil.
	Runs    func() []Run
	Confirm func([]Run)
	// Serve answers the peer's calls, at most maxCalls at once; nil: there are none. It
	// must return soon after ctx ends, which it does when the caller waits no longer.
	// ErrUnknownCall and ErrBusy arrive as such, any other error by its text.
	Serve func(ctx context.Context, kind string, body []byte) ([]byte, error)

	boot  uint64 // a random number of this Link
	items int    // up to which kind of item it reads; 0: Items
}

// Status is the state of one path. The counters grow from the making of the Link.
type Status struct {
	Peer      netip.Addr
	Connected bool // this node's connection to the peer stands: the peer hears us
	Accepted  bool // the peer's connection to this node stands
	// Heard is when the last message came over this path, by CLOCK_BOOTTIME; 0:
	// none yet.
	Heard mono.Instant

	Sent       uint64 // messages handed to the kernel
	Superseded uint64 // messages replaced by a newer one before they were sent
	TooLong    uint64 // messages longer than MaxMessage, never sent
	Received   uint64 // messages read, duplicates included
	Duplicates uint64 // messages not delivered: another path brought them, or newer ones
	// Refusals are connections that this node refused, or the peer when this node
	// dialed, and messages that ended their connection.
	Refusals Refusals

	Proved    bool   // the peer's connection to this node stands and is proved by a key
	SecondKey bool   // that is not this node's first one
	Version   uint16 // of the protocol of that connection

	// What last went wrong in either direction; it stays after it is over.
	// What the kernel drops is counted and does not appear here.
	SendError, ReceiveError Failure
}

// Failure is an error and when it happened, by CLOCK_BOOTTIME; 0: never.
type Failure struct {
	Text   string
	Reason Reason // 0 unless something was refused
	At     mono.Instant
}

// Link is the link to one peer. Its methods are safe for concurrent use.
type Link struct {
	cfg     Config
	paths   []*path
	inbox   inbox
	running atomic.Bool
	secrets atomic.Pointer[secrets]
	// versions are those of this release.
	versions versions
	// accepted numbers the connections of all paths in the order of their hellos.
	accepted atomic.Uint64
	dialed   atomic.Uint64 // the same of the connections that this node made

	reports reports
	letters letters
	asked   asked
	server  server

	presences presences

	// sending keeps the order of Send the order of every outbox, and guards said.
	sending sync.Mutex
	said    map[string]*saying
}

// saying is what was last said of an instance. content is never changed in place,
// and nil when the state is too long.
type saying struct {
	number  int
	state   failover.PeerState
	content []byte
	err     error
}

// New checks cfg and makes a Link. It starts nothing.
func New(cfg Config) (*Link, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("peer link %s to %s: %w", cfg.Node, cfg.Peer, err)
	}
	if cfg.items == 0 {
		cfg.items = Items
	}
	for cfg.boot == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		cfg.boot = binary.LittleEndian.Uint64(b[:])
	}
	l := &Link{cfg: cfg, said: map[string]*saying{}, versions: versions{OldestVersion, NewestVersion}}
	l.server.link = l
	derived, err := deriveAll(cfg.Keys, cfg.Node, cfg.Peer)
	if err != nil {
		return nil, fmt.Errorf("peer link %s to %s: %w", cfg.Node, cfg.Peer, err)
	}
	l.secrets.Store(derived)
	for _, p := range cfg.Paths {
		l.paths = append(l.paths, newPath(l, p))
	}
	return l, nil
}

func (c Config) check() error {
	switch {
	case c.Node == "" || c.Peer == "" || c.Node == c.Peer:
		return errors.New("two nodes need two labels")
	case len(c.Node) > maxLabel || len(c.Peer) > maxLabel:
		return fmt.Errorf("a label of more than %d bytes", maxLabel)
	case c.Port == 0:
		return errors.New("no port")
	case len(c.Paths) == 0:
		return errors.New("no path")
	}
	seen := map[netip.Addr]bool{}
	for _, p := range c.Paths {
		for _, a := range []netip.Addr{p.Local, p.Peer} {
			if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
				return fmt.Errorf("path %v to %v: not two addresses of hosts", p.Local, p.Peer)
			}
			if seen[a] {
				return fmt.Errorf("path %v to %v: %v appears twice", p.Local, p.Peer, a)
			}
			seen[a] = true
		}
		if p.Local.Is4() != p.Peer.Is4() {
			return fmt.Errorf("path %v to %v: IPv4 and IPv6 mixed", p.Local, p.Peer)
		}
	}
	return nil
}

// Run listens and dials on every path until ctx ends. What waits in an outbox by
// then is still sent where a connection stands, for at most farewell. Run returns
// nil after all its goroutines have ended, and an error only when the Link is
// already running.
//
// deliver gets each message once, per instance and Boot in growing order of Seq,
// and those that came together in one call; it must not keep the slice.
// A Boot follows another one only when it came by a younger connection, so a
// daemon that is gone is never heard again. deliver is called by one goroutine at
// a time, holds up every path, and must not call Run.
func (l *Link) Run(ctx context.Context, deliver func([]Said)) error {
	if !l.running.CompareAndSwap(false, true) {
		return fmt.Errorf("run peer link to %s: already running", l.cfg.Peer)
	}
	defer l.running.Store(false)
	l.inbox.open(deliver)
	l.server.open(ctx)
	defer l.server.close()
	l.asked.open(ctx)
	defer l.asked.close()
	var wg sync.WaitGroup
	for _, p := range l.paths {
		wg.Go(func() { p.send(ctx) })
		wg.Go(func() { p.listen(ctx) })
	}
	wg.Wait()
	return nil
}

// SetKeys changes the keys. Connections made under a key that is still accepted
// stay until there are others under the preferred one; those under any other end.
// After an error nothing has changed.
func (l *Link) SetKeys(keys []Key) error {
	derived, err := deriveAll(keys, l.cfg.Node, l.cfg.Peer)
	if err != nil {
		return fmt.Errorf("change the keys of the peer link: %w", err)
	}
	l.secrets.Store(derived)
	for _, p := range l.paths {
		p.rekeyed(derived)
	}
	return nil
}

// Authenticated reports whether the peer has to prove itself.
func (l *Link) Authenticated() bool { return len(l.secrets.Load().keys) > 0 }

// Send makes s the state that the peer is to know of instance, over every path,
// and Flush sends it. It never blocks and keeps nothing of s. A state that is too
// long to send is counted in Status and named by its SendError.
func (l *Link) Send(instance string, s failover.PeerState) {
	l.sending.Lock()
	defer l.sending.Unlock()
	say := l.said[instance]
	if say == nil {
		say = &saying{number: len(l.said)}
		l.said[instance] = say
	}
	if say.content == nil || !sameState(&say.state, &s) {
		say.state = keep(&s)
		say.content, say.err = encode(instance, s)
	}
	for _, p := range l.paths {
		if say.err != nil {
			p.tooLong.Add(1)
			p.failSend(say.err)
			continue
		}
		p.outbox.put(item{number: say.number, content: say.content, vitals: vitalsOf(&s)})
	}
}

// Flush sends what Send has left since the last time, together. It never blocks.
func (l *Link) Flush() {
	for _, p := range l.paths {
		p.outbox.signal()
	}
}

// hear takes a message in pieces that came by a connection from the daemon of a boot.
func (l *Link) hear(boot, connection uint64, kind byte, message []byte) error {
	if kind == kindReport {
		return l.reports.hear(boot, connection, message)
	}
	return l.read(boot, connection, message)
}

// Paths returns the state of every path, in the order of Config.
func (l *Link) Paths() []Status {
	out := make([]Status, len(l.paths))
	for i, p := range l.paths {
		out[i] = p.status()
	}
	return out
}

// Refusals returns those of all paths together.
func (l *Link) Refusals() (all Refusals) {
	for _, p := range l.paths {
		p.noteDropped()
		for reason, n := range p.refusals.load() {
			all[reason] += n
		}
	}
	return all
}

// now reads CLOCK_BOOTTIME, which Linux always has.
func now() mono.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("read CLOCK_BOOTTIME: " + err.Error())
	}
	return mono.Instant(ts.Nano())
}
