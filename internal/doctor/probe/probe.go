// Package probe sends packets the way the pair's own go, and says which came
// through: probes of protocol 112 between two daemons, TCP connections to the port of
// the peer link, ICMP echoes. Nothing of it touches the sockets of the heartbeat or
// the link.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

const (
	// Count is how many probes go over each path, and between how long passes between
	// two: together longer than what a switch drops while it learns.
	Count   = 3
	between = 60 * time.Millisecond
	// Travel is how long a probe may take.
	Travel = 300 * time.Millisecond
)

// sealing names what the probes' own keys are derived for. No instance can be
// called so.
func sealing() auth.Instance { return auth.Instance{VRID: 255, Name: "doctor/probe"} }

// Config is one exchange of probes.
type Config struct {
	// Token is the same at both ends, and another one in every exchange.
	Token uint64
	// Paths go from this host's address to the peer's.
	Paths []Path
	// Keys seal the probes; without any they go as they are.
	Keys []auth.Key
}

// Path is an address of this host and one of the peer's. With an Interface the probes go
// to the VRRP group of its link instead; Peer is then where the peer's come from, which
// Expect may say later.
type Path struct {
	Local, Peer netip.Addr
	Interface   string
}

// wire is the socket of a path. Of a group it takes what has the VRID of a probe.
func (p Path) wire() wire.Config {
	if p.Interface == "" {
		return wire.Config{Local: p.Local, Peer: p.Peer}
	}
	return wire.Config{Interface: p.Interface, Local: p.Local, Peer: vrrp.Group(p.Local), VRIDs: []uint8{0}}
}

// mostSources bounds the senders of which a path counts probes. A unicast one has one.
const mostSources = 8

// Exchange listens on the paths from Open to Close.
type Exchange struct {
	cfg    Config
	ends   []*end
	stop   context.CancelFunc
	reader sync.WaitGroup
	sealer *auth.Sealer
}

// end is one path.
type end struct {
	conn     *wire.Conn // nil when it could not be opened
	err      error
	verifier *auth.Verifier // nil without keys

	mu    sync.Mutex // guards what follows
	peer  netip.Addr // without a zone; invalid until it is known
	heard Heard      // but for what came
	came  map[netip.Addr]tally
}

// tally is what came from one source.
type tally struct{ proved, unproved int }

// Heard is what came by one path.
type Heard struct {
	Sent     int
	SendErr  error // of the last probe
	Heard    int
	Unproved int   // not sealed with a key of this node's
	Err      error // nothing could be heard
}

// Open begins to listen. A path that cannot be opened says so in Heard.
func Open(cfg Config) (*Exchange, error) {
	x := &Exchange{cfg: cfg}
	mode := auth.None
	if len(cfg.Keys) > 0 {
		mode = auth.Enforce
	}
	var err error
	if x.sealer, err = auth.NewSealer(auth.SealerConfig{Mode: mode, Keys: cfg.Keys, Instance: sealing(), Boot: max(cfg.Token, 1)}); err != nil {
		return nil, fmt.Errorf("seal probes: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	for _, p := range cfg.Paths {
		e := &end{peer: p.Peer.WithZone(""), came: map[netip.Addr]tally{}}
		if mode != auth.None {
			if e.verifier, err = auth.NewVerifier(auth.VerifierConfig{Mode: mode, Keys: cfg.Keys, Instance: sealing()}); err != nil {
				x.Close()
				return nil, fmt.Errorf("open probes: %w", err)
			}
		}
		x.ends = append(x.ends, e)
		if e.conn, e.err = wire.Listen(p.wire()); e.err != nil {
			continue
		}
		x.reader.Go(func() {
			if err := e.conn.Run(ctx, func(pkt wire.Packet) { e.take(cfg.Token, pkt) }); err != nil {
				e.fail(err)
			}
		})
	}
	return x, nil
}

func (e *end) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard.Err = err
}

// take counts a probe of this exchange.
func (e *end) take(token uint64, pkt wire.Packet) {
	if got, ok := vrrp.ParseProbe(auth.Strip(pkt.Payload)); !ok || got != token {
		return // an advertisement, or somebody else's
	}
	proved := true
	if e.verifier != nil {
		_, err := e.verifier.Open(pkt.Payload, pkt.Source, pkt.Destination)
		// The network may deliver twice what it was given once.
		if errors.Is(err, auth.ReasonReplay) {
			return
		}
		proved = err == nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count(pkt.Source, proved)
}

// count makes room for a sender that proved itself, and for no other.
func (e *end) count(source netip.Addr, proved bool) {
	t, known := e.came[source]
	if !known && len(e.came) == mostSources {
		for other, t := range e.came {
			if proved && t.proved == 0 && other != e.peer {
				delete(e.came, other)
				break
			}
		}
		if len(e.came) == mostSources {
			return
		}
	}
	if proved {
		t.proved++
	} else {
		t.unproved++
	}
	e.came[source] = t
}

// Expect says from which address the peer's probes come on a path to a group, by its
// place in Config.Paths. What came before counts as well.
func (x *Exchange) Expect(path int, peer netip.Addr) {
	e := x.ends[path]
	e.mu.Lock()
	defer e.mu.Unlock()
	e.peer = peer.WithZone("")
}

// Send sends Count probes over every path on which the peer is known.
func (x *Exchange) Send(ctx context.Context) error {
	for sequence := uint64(1); sequence <= Count; sequence++ {
		for _, e := range x.ends {
			e.send(x, sequence)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(between):
		}
	}
	return nil
}

func (e *end) send(x *Exchange, sequence uint64) {
	if e.conn == nil || !e.expects() {
		return
	}
	src, dst := e.conn.Local(), e.conn.Peer()
	b := vrrp.AppendProbe(nil, x.cfg.Token, src, dst)
	b, err := x.sealer.Seal(b, src, dst, sequence, 0)
	if err == nil {
		err = e.conn.Send(b)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard.Sent++
	e.heard.SendErr = err
}

func (e *end) expects() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.peer.IsValid()
}

// Heard returns what came so far, by path.
func (x *Exchange) Heard() []Heard {
	all := make([]Heard, len(x.ends))
	for i, e := range x.ends {
		e.mu.Lock()
		came := e.came[e.peer]
		all[i] = e.heard
		all[i].Heard, all[i].Unproved = came.proved, came.unproved
		e.mu.Unlock()
		if e.err != nil {
			all[i].Err = e.err
		}
	}
	return all
}

// Close ends the exchange.
func (x *Exchange) Close() {
	x.stop()
	x.reader.Wait()
	for _, e := range x.ends {
		if e.conn != nil {
			_ = e.conn.Close() // nothing was promised about it
		}
	}
}
