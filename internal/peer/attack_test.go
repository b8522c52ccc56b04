package peer

// Attacks on two real links that speak with each other: whatever is tried, nothing
// is delivered that the peer did not say, memory and goroutines stay bounded, and
// the link stays up or comes back.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// target is a pair of links under attack, of which primary speaks.
type target struct {
	*testing.T
	me, peer       netip.Addr // of primary, and of its peer
	primary, other *end
	seq            uint64
}

func underAttack(t *testing.T, keys ...Key) *target {
	t.Helper()
	ap, bp := onePath()
	x := &target{T: t, me: ap[0].Local, peer: ap[0].Peer}
	x.primary, x.other = start(t, "primary", "reserve", ap, keys...), start(t, "reserve", "primary", bp, keys...)
	x.primary.connected(t, 0)
	x.other.connected(t, 0)
	return x
}

// speak sends one message each way and waits for both.
func (x *target) speak(when string) {
	x.Helper()
	x.seq++
	x.primary.say("compass", said1(x.seq))
	x.other.say("compass", said1(x.seq))
	eventually(x.T, when+": both are heard", func() bool {
		return x.primary.last("compass").Seq == x.seq && x.other.last("compass").Seq == x.seq
	})
}

func said1(seq uint64) failover.PeerState { return state(7, seq) }

// onlyWhatWasSaid fails when anything else was delivered.
func (x *target) onlyWhatWasSaid() {
	x.Helper()
	for _, e := range []*end{x.primary, x.other} {
		for i, s := range e.all() {
			if s.Instance != "compass" || s.Boot != 7 || s.Seq != uint64(i+1) {
				x.Errorf("%s was delivered %+v as message %d", e.cfg.Node, s, i+1)
			}
		}
	}
}

// usage is what attacks must not make grow.
type usage struct {
	heap       uint64
	goroutines int
}

func measure() usage {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, runtime.NumGoroutine()}
}

// within fails when more is in use than before and that.
func (x *target) within(before usage, heap uint64, goroutines int) {
	x.Helper()
	now := measure()
	if now.heap > before.heap+heap || now.goroutines > before.goroutines+goroutines {
		x.Errorf("%d kB and %d goroutines more than before, want %d and %d at most",
			(int64(now.heap)-int64(before.heap))>>10, now.goroutines-before.goroutines, heap>>10, goroutines)
	}
}

// attack dials from the peer's address, once.
func (x *target) attack() (net.Conn, error) { return x.attackWithin(limit) }

// attackWithin gives up when the kernel does not answer, which it does not in a flood.
func (x *target) attackWithin(d time.Duration) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(x.peer, 0)), Timeout: d}
	return dialer.Dial("tcp4", netip.AddrPortFrom(x.me, port).String())
}

// impatience is for how long an attacker waits before he tries again.
const impatience = 20 * time.Millisecond

// TestTenThousandConnections come from the peer's own address and say nothing. The
// kernel lets a few of them in.
func TestTenThousandConnections(t *testing.T) {
	x := underAttack(t, keyOld)
	x.speak("before")
	before := measure()
	const connections, dialers = 10_000, 50
	began := time.Now()
	var made atomic.Int64
	var dialing sync.WaitGroup
	for range dialers {
		dialing.Go(func() {
			var held []net.Conn // each dialer keeps some open
			for range connections / dialers {
				conn, err := x.attackWithin(impatience)
				if err != nil {
					continue
				}
				made.Add(1)
				if held = append(held, conn); len(held) > 20 {
					_ = held[0].Close()
					held = held[1:]
				}
			}
			for _, conn := range held {
				_ = conn.Close()
			}
		})
	}
	attacked := make(chan struct{})
	go func() { dialing.Wait(); close(attacked) }()
	for spoken := false; ; spoken = true {
		x.speak("meanwhile")
		// The attacker's own connections are in it, and a goroutine that dials for each dialer.
		x.within(before, 16<<20, unprovedLimit+provingLimit+4*dialers)
		select {
		case <-attacked:
		default:
			continue
		}
		if spoken {
			break
		}
	}
	// Beside those that are looked at, some wait when ordinary ports are shut out.
	took := time.Since(began)
	if most := lookedAtOnce + int64(lookedAt*took.Seconds()) + 2*backlog*(1+int64(took/shutTime)); made.Load() > most {
		t.Errorf("%d connections were made in %v, want %d at most", made.Load(), took, most)
	}
	s := x.primary.path(0)
	// Not each: some attempts have no port, or end while they are half open.
	eventually(t, "they are counted", func() bool { s = x.primary.path(0); return refused(s) > connections/2 })
	if !s.Accepted || !s.Proved || s.Refusals[ReasonCrowded]+s.Refusals[ReasonUnfinished]+s.Refusals[ReasonSlow]+s.Refusals[ReasonDropped] != refused(s) {
		t.Errorf("status: %+v", s)
	}
	t.Logf("%d of %d connections were made in %v; refused: %v", made.Load(), connections, took, s.Refusals.ByName())
	x.onlyWhatWasSaid()
	eventually(t, "nothing is left of them", func() bool { return runtime.NumGoroutine() <= before.goroutines })
}

// TestAFloodKeepsNobodyOut: a peer that dials in the midst of one from its own host
// is let in.
func TestAFloodKeepsNobodyOut(t *testing.T) {
	x := underAttack(t, keyOld)
	over := make(chan struct{})
	var flooding sync.WaitGroup
	for range 50 {
		flooding.Go(func() {
			var held []net.Conn
			defer func() {
				for _, conn := range held {
					_ = conn.Close()
				}
			}()
			for {
				select {
				case <-over:
					return
				default:
				}
				conn, err := x.attackWithin(impatience)
				if err != nil {
					continue
				}
				if held = append(held, conn); len(held) > unprovedLimit {
					_ = held[0].Close()
					held = held[1:]
				}
			}
		})
	}
	eventually(t, "the flood fills the door", func() bool { return x.primary.path(0).Refusals[ReasonCrowded] > 0 })
	for range 5 {
		eventually(t, "ordinary ports are shut out", func() bool {
			ln := x.primary.paths[0].listening
			ln.mu.Lock()
			defer ln.mu.Unlock()
			return ln.shut
		})
		began := time.Now()
		number := x.primary.accepted.Load()
		x.primary.paths[0].mu.Lock()
		abort(x.primary.paths[0].incoming.conn)
		x.primary.paths[0].mu.Unlock()
		eventually(t, "the peer is back", func() bool { return x.primary.accepted.Load() > number && x.primary.path(0).Accepted })
		t.Logf("back within %v", time.Since(began).Round(time.Millisecond))
		x.speak("in the flood")
	}
	close(over)
	flooding.Wait()
	x.onlyWhatWasSaid()
}

// recording notes what a connection carried.
type recording struct {
	net.Conn
	mu      sync.Mutex
	written bytes.Buffer
}

func (r *recording) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.written.Write(b)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// TestAReplayedConnection plays a good one again, byte for byte.
func TestAReplayedConnection(t *testing.T) {
	e, me, peer := loneWith(t, keyOld)
	good := &recording{Conn: callFrom(t, peer, me)}
	c, err := dialed(good, termsOf(t, good, "reserve", "primary", keyOld))
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= 3; seq++ {
		write(t, c.conn, frameOf(t, "compass", state(9, seq)))
	}
	eventually(t, "the good one is heard", func() bool { return e.last("compass").Seq == 3 })
	good.mu.Lock()
	played := bytes.Clone(good.written.Bytes())
	good.mu.Unlock()
	for n := uint64(1); n <= 20; n++ {
		conn := callFrom(t, peer, me)
		write(t, conn, played)
		closedByPeer(t, conn)
		eventually(t, "it is counted", func() bool { return e.path(0).Refusals[ReasonForged] == n })
	}
	if s := e.path(0); refused(s) != 20 || !s.Accepted || len(e.all()) != 3 {
		t.Errorf("delivered %v, status %+v", e.all(), s)
	}
	write(t, c.conn, frameOf(t, "compass", state(9, 4)))
	eventually(t, "the good one goes on", func() bool { return e.last("compass").Seq == 4 })
}

// meddler is between two links and does something to what the dialing end says.
type meddler struct {
	seed     uint64
	meddles  atomic.Bool
	meddled  atomic.Int64
	passed   atomic.Int64
	truncate bool
}

// between passes a connection on to the link at an address, from the dialing
// end's own address.
func (m *meddler) between(t *testing.T, from, to netip.Addr) func(net.Conn) {
	return func(conn net.Conn) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: limit}
		far, err := d.DialContext(t.Context(), "tcp4", netip.AddrPortFrom(to, port).String())
		if err != nil {
			return
		}
		defer far.Close()
		back := make(chan struct{})
		go func() {
			defer close(back)
			_, _ = io.Copy(conn, far)
			_ = conn.Close()
		}()
		n := m.passed.Add(1)
		rnd := rand.New(rand.NewPCG(m.seed, uint64(n)))
		m.pass(far, conn, rnd)
		_ = far.Close()
		<-back
	}
}

// pass copies; once it has passed a random number of bytes it flips a bit, or cuts.
func (m *meddler) pass(to io.Writer, from io.Reader, rnd *rand.Rand) {
	left := -1
	if m.meddles.Load() {
		left = rnd.IntN(1200)
	}
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if left >= 0 && left < n {
			m.meddled.Add(1)
			if m.truncate {
				_, _ = to.Write(buf[:left])
				return
			}
			buf[left] ^= 1 << rnd.IntN(8)
		}
		left = max(left-n, -1)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestSomebodyBetween flips a bit, or cuts, in each of hundreds of connections.
func TestSomebodyBetween(t *testing.T) {
	for _, truncate := range []bool{false, true} {
		t.Run(map[bool]string{false: "flips bits", true: "cuts"}[truncate], func(t *testing.T) {
			const connections = 300
			// reserve dials the meddler, who has primary's address on another port's wire:
			// he listens where reserve looks for primary and dials where primary listens.
			primaryAt, reserveAt, wire := loopback(), loopback(), loopback()
			m := &meddler{seed: 42, truncate: truncate}
			m.meddles.Store(true)
			primary := start(t, "primary", "reserve", []Path{{Local: primaryAt, Peer: reserveAt}}, keyOld)
			listenAs(t, wire, m.between(t, reserveAt, primaryAt))
			over := make(chan struct{})
			var spoken atomic.Uint64
			dialing := sync.WaitGroup{}
			dialing.Go(func() { // reserve's dialing end, as fast as it is refused
				for {
					select {
					case <-over:
						return
					default:
					}
					if conn, err := net.Dial("tcp4", netip.AddrPortFrom(wire, port).String()); err == nil {
						at := termsOf(t, conn, "reserve", "primary", keyOld)
						at.local, at.remote = reserveAt, primaryAt
						if c, err := dialed(conn, at); err == nil {
							for range 3 {
								if _, err := c.conn.Write(frameOf(t, "compass", state(7, spoken.Add(1)))); err != nil {
									break
								}
							}
							if !m.meddles.Load() {
								<-over
							}
						}
						_ = conn.Close()
					}
				}
			})
			defer dialing.Wait()
			end := sync.OnceFunc(func() { close(over) })
			defer end()
			eventually(t, "hundreds of connections", func() bool { return m.meddled.Load() >= connections })
			m.meddles.Store(false)
			eventually(t, "it is over", func() bool { s := primary.path(0); return s.Accepted && s.Proved })
			last := spoken.Load()
			eventually(t, "and the peer is heard", func() bool { return primary.last("compass").Seq >= last })
			end()
			seen := uint64(0)
			for _, s := range primary.all() {
				if s.Instance != "compass" || s.Boot != 7 || s.Seq <= seen || s.Seq > spoken.Load() {
					t.Errorf("delivered %+v after %d", s, seen)
				}
				seen = s.Seq
			}
			t.Logf("%d connections altered, refused: %v", m.meddled.Load(), primary.path(0).Refusals.ByName())
		})
	}
}

// TestSlowWriters say a byte a second: what is not proved has its time all the
// same, and what is proved and dribbles a frame too.
func TestSlowWriters(t *testing.T) {
	x := underAttack(t, keyOld)
	before := measure()
	const writers = 40
	var dribbling sync.WaitGroup
	for range writers {
		conn, err := x.attack()
		if err != nil {
			t.Fatal(err)
		}
		dribbling.Go(func() {
			defer conn.Close()
			for _, b := range append(greeting(), 0, 100, 0, 0, 0, 0) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				select {
				case <-time.After(time.Second):
				case <-t.Context().Done():
					return
				}
			}
		})
	}
	eventually(t, "each is thrown out at the end of its time", func() bool {
		x.speak("meanwhile")
		x.within(before, 8<<20, 3*writers)
		return x.primary.path(0).Refusals[ReasonSlow] == writers
	})
	dribbling.Wait()
	x.onlyWhatWasSaid()
}

// TestAProvedPeerThatDribbles is one whose daemon is ill: it announces the longest
// frame and sends a byte of it now and then.
func TestAProvedPeerThatDribbles(t *testing.T) {
	e, me, peer := loneWith(t, keyOld)
	before := measure()
	conn := callFrom(t, peer, me)
	c, err := dialed(conn, termsOf(t, conn, "reserve", "primary", keyOld))
	if err != nil {
		t.Fatal(err)
	}
	write(t, c.conn, binary.BigEndian.AppendUint32(nil, maxFrame))
	eventually(t, "it is given up", func() bool {
		_, _ = c.conn.Write([]byte{0})
		return !e.path(0).Accepted && e.path(0).ReceiveError.At != 0
	})
	x := &target{T: t}
	x.within(before, maxFrame+4<<20, 8)
	again := callFrom(t, peer, me)
	c, err = dialed(again, termsOf(t, again, "reserve", "primary", keyOld))
	if err != nil {
		t.Fatal(err)
	}
	write(t, c.conn, frameOf(t, "compass", state(7, 1)))
	eventually(t, "and heard when it speaks again", func() bool { return e.last("compass").Seq == 1 })
}

// TestASlowListener takes the dialing end's connection and reads nothing, or says
// a byte at a time: it has the time of a handshake, and the other path goes on.
func TestASlowListener(t *testing.T) {
	ap, bp := twoPaths()
	listenAs(t, bp[0].Local, func(conn net.Conn) {
		for _, b := range append(greeting(), 0, 3, 0, 3) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			select {
			case <-time.After(time.Second):
			case <-t.Context().Done():
				return
			}
		}
	})
	a, b := start(t, "primary", "reserve", ap, keyOld), start(t, "reserve", "primary", bp[1:], keyOld)
	b.connected(t, 0)
	seq := uint64(0)
	eventually(t, "it is given up, and again", func() bool {
		seq++
		a.say("compass", state(7, seq))
		eventually(t, "the other path delivers", func() bool { return b.last("compass").Seq == seq })
		return a.path(0).Refusals[ReasonSlow] >= 2
	})
}

// TestGarbage of every kind, behind a good beginning and without one.
func TestGarbage(t *testing.T) {
	x := underAttack(t, keyOld)
	x.speak("before")
	before := measure()
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	n := uint64(0)
	for round := range 50 {
		for name, prefix := range map[string][]byte{
			"noise": nil, "a greeting": greeting(), "a long knock": append(greeting(), 0xff, 0xff),
			"a knock of noise": append(greeting(), 0x04, 0x00), "TLS": {0x16, 3, 1, 0x3f, 0xff, 1},
		} {
			conn, err := x.attack()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write(append(bytes.Clone(prefix), noise[round*256:]...)) // it may be refused before
			closedByPeer(t, conn)
			_ = conn.Close()
			n++
			eventually(t, fmt.Sprint(name, " is counted"), func() bool { return refused(x.primary.path(0)) == n })
		}
		x.speak("meanwhile")
	}
	x.within(before, 8<<20, 8)
	if s := x.primary.path(0); !s.Accepted || s.Refusals[ReasonProtocol]+s.Refusals[ReasonVersion] != n {
		t.Errorf("status: %+v", s)
	}
	x.onlyWhatWasSaid()
}
