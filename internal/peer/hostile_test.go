package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lone starts a link whose peer is played by the test.
func lone(t *testing.T) (e *end, me, peer netip.Addr) {
	t.Helper()
	return loneWith(t)
}

func loneWith(t *testing.T, keys ...Key) (e *end, me, peer netip.Addr) {
	t.Helper()
	me, peer = loopback(), loopback()
	return start(t, "primary", "reserve", []Path{{Local: me, Peer: peer}}, keys...), me, peer
}

// listenAs serves each connection to the link's port of an address.
func listenAs(t *testing.T, at netip.Addr, serve func(net.Conn)) {
	t.Helper()
	ln, err := net.Listen("tcp4", netip.AddrPortFrom(at, port).String())
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); served.Wait() })
}

// knockAt begins a connection and waits for no answer.
func knockAt(t *testing.T, from, to netip.AddrPort) {
	t.Helper()
	family, at := unix.AF_INET, func(a netip.AddrPort) unix.Sockaddr {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	if from.Addr().Is6() {
		family, at = unix.AF_INET6, func(a netip.AddrPort) unix.Sockaddr {
			return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
		}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, at(from)); err != nil {
		t.Fatalf("bind to %v: %v", from, err)
	}
	if err := unix.Connect(fd, at(to)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		t.Fatalf("connect to %v: %v", to, err)
	}
}

func TestAStrangerIsDropped(t *testing.T) {
	e, me, peer := lone(t)
	eventually(t, "it listens", func() bool { p := e.paths[0]; p.mu.Lock(); defer p.mu.Unlock(); return p.listening != nil })
	knockAt(t, netip.AddrPortFrom(loopback(), 0), netip.AddrPortFrom(me, port))
	eventually(t, "it is counted", func() bool { return e.path(0).Refusals[ReasonDropped] > 0 })
	if got := e.Refused(); len(got) != 1 || got[0].Peer != peer || got[0].Reason != ReasonDropped || !strings.Contains(got[0].Last, "that the kernel dropped") {
		t.Errorf("%+v", got)
	}
	friend := callFrom(t, peer, me)
	greetAs(t, friend, "reserve", "primary")
	write(t, friend, frameOf(t, "compass", state(1, 1)))
	eventually(t, "the peer is heard", func() bool { return e.last("compass").Seq == 1 })
	if s := e.path(0); refused(s) != s.Refusals[ReasonDropped] || s.Received != 1 {
		t.Errorf("status: %+v", s)
	}
	if all := e.Refusals(); all[ReasonDropped] == 0 {
		t.Errorf("of all paths: %v", all.ByName())
	}
}

func TestThePeerOfAnotherPathIsAStranger(t *testing.T) {
	ap, bp := twoPaths()
	e := start(t, "primary", "reserve", ap)
	eventually(t, "it listens", func() bool { p := e.paths[0]; p.mu.Lock(); defer p.mu.Unlock(); return p.listening != nil })
	knockAt(t, netip.AddrPortFrom(bp[1].Local, 0), netip.AddrPortFrom(ap[0].Local, port))
	eventually(t, "it is counted", func() bool { return e.path(0).Refusals[ReasonDropped] > 0 })
}

func TestOnlyTheRightHelloIsAnswered(t *testing.T) {
	knock := func(k knocked) string { return string(append(greeting(), framed(k.body())...)) }
	right := knocked{versions: versions{OldestVersion, NewestVersion}, node: "reserve", peer: "primary"}
	with := func(change func(*knocked)) string {
		k := right
		change(&k)
		return knock(k)
	}
	for _, test := range []struct {
		name, says string
		reason     Reason
		why        string
	}{
		{"another protocol", "GET / HTTP/1.1\r\n\r\n", ReasonProtocol, "not this protocol"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ReasonProtocol, "not this protocol"},
		{"an older release", magic + "\x00\x02", ReasonVersion, "link format 3 at the one end, 2 at the other"},
		{"a newer release", magic + "\x00\x04", ReasonVersion, "link format 3 at the one end, 4 at the other"},
		{"no common version", with(func(k *knocked) { k.versions = versions{7, 9} }), ReasonVersion, `"primary" speaks link version 3, node "reserve" 7 to 9`},
		{"a range that is none", with(func(k *knocked) { k.versions = versions{3, 2} }), ReasonProtocol, "not this protocol"},
		{"another node", with(func(k *knocked) { k.node = "other" }), ReasonLabel, `node "primary" with peer "reserve" met node "other"`},
		{"for another node", with(func(k *knocked) { k.peer = "other" }), ReasonLabel, `with peer "other"`},
		{"with a key", with(func(k *knocked) { k.offers = make([]offer, 1) }), ReasonNoKeyHere, `key_file is missing in the configuration of "primary"`},
		{"with three keys", with(func(k *knocked) { k.offers = make([]offer, 3) }), ReasonProtocol, "not this protocol"},
		{"a knock that is cut", string(append(greeting(), framed(right.body()[:40])...)), ReasonProtocol, "not this protocol"},
		{"a knock with more behind it", string(append(greeting(), framed(append(right.body(), 0))...)), ReasonProtocol, "not this protocol"},
		{"a knock that does not come", magic + "\x00\x03\x00\x40", ReasonUnfinished, "ended before it proved itself"},
		{"a knock without end", magic + "\x00\x03\xff\xff", ReasonProtocol, "65535 bytes where 2182 are the most"},
		{"nothing", "", ReasonUnfinished, "ended before it proved itself"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, me, peer := lone(t)
			conn := callFrom(t, peer, me)
			write(t, conn, []byte(test.says))
			_ = conn.CloseWrite() // the other end may have closed it already
			closedByPeer(t, conn)
			eventually(t, "the reason", func() bool { return strings.Contains(e.path(0).ReceiveError.Text, test.why) })
			if s := e.path(0); refused(s) != 1 || s.Refusals[test.reason] != 1 || s.ReceiveError.Reason != test.reason || s.Received != 0 || s.Accepted {
				t.Errorf("want %v, status: %+v", test.reason, s)
			}
		})
	}
}

func TestBothEndsSayWhyTheyRefuse(t *testing.T) {
	a, b := loopback(), loopback()
	e := start(t, "primary", "reserve", []Path{{Local: a, Peer: b}})
	f := start(t, "spare", "primary", []Path{{Local: b, Peer: a}})
	for _, l := range []*end{e, f} {
		eventually(t, "a refusal of its own and one of the peer's", func() bool {
			s := l.path(0)
			return strings.Contains(s.SendError.Text, "refused: the peer says") && strings.Contains(s.ReceiveError.Text, "refused: node")
		})
		if s := l.path(0); s.Connected || s.Accepted || s.SendError.Reason != ReasonLabel || s.ReceiveError.Reason != ReasonLabel {
			t.Errorf("status: %+v", s)
		}
	}
}

// A release of another format sends more than this one reads, and still learns
// that it is another one: its format is in what this end says first.
func TestAnotherFormatLearnsIt(t *testing.T) {
	e, me, peer := lone(t)
	conn := callFrom(t, peer, me)
	write(t, conn, append([]byte(magic), 0, 2))
	write(t, conn, rawFrame(strings.Repeat("x", 3000)))
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, greetingSize)
	if _, err := io.ReadFull(conn, first); err != nil || string(first) != magic+"\x00\x03" {
		t.Fatalf("it begins with %q, %v", first, err)
	}
	eventually(t, "and this end says so", func() bool { return e.path(0).Refusals[ReasonVersion] == 1 })
}

func TestAnotherFormatIsRefusedByTheDialingEnd(t *testing.T) {
	me, peer := loopback(), loopback()
	ln, err := net.Listen("tcp4", netip.AddrPortFrom(peer, port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(append([]byte(magic), 0, 2))
			_ = conn.Close()
		}
	}()
	e := start(t, "primary", "reserve", []Path{{Local: me, Peer: peer}})
	eventually(t, "the format in the status", func() bool {
		s := e.path(0)
		return strings.Contains(s.SendError.Text, "link format 3 at the one end, 2 at the other") && s.Refusals[ReasonVersion] > 0
	})
}

func TestMalformedFramesEndTheConnection(t *testing.T) {
	for _, test := range []struct {
		name   string
		frame  []byte
		reason string
	}{
		{"too long", binary.BigEndian.AppendUint32(nil, maxFrame+1), "a frame of 1065025 bytes, more than 1065024"},
		{"absurdly long", []byte{0xff, 0xff, 0xff, 0xff}, "a frame of 4294967295 bytes"},
		{"empty", rawFrame(""), "nothing in it"},
		{"an unknown kind", rawFrame("\x00\x00\x01\x00\x00"), "unknown kind"},
		{"a further kind without end", rawFrame("\x63\x05abcd"), "ends within an item"},
		{"an empty piece", rawFrame("\x03\x02\x05\x00"), "a piece that does not follow"},
		{"a piece of nothing", rawFrame("\x03\x03\x00\x00x"), "too long or empty"},
		{"a report beyond the limit", rawFrame("\x03\x05\x8b\x80\x10\x00x"), "too long or empty"},
		{"a letter beyond the limit", rawFrame("\x04\x05\x81\x81\x04\x00x"), "too long or empty"},
		{"a piece longer than its message", rawFrame("\x03\x04\x01\x00xy"), "a piece that does not follow"},
		{"a piece without the one before", rawFrame("\x03\x03\x05\x01x"), "a piece that does not follow"},
		{"pieces of two messages", rawFrame("\x03\x03\x05\x00x" + "\x03\x03\x06\x01x"), "a piece that does not follow"},
		{"pieces of two streams", rawFrame("\x03\x03\x05\x00x" + "\x04\x03\x05\x01x"), "a piece that does not follow"},
		{"a report without a number", rawFrame("\x03\x03\x01\x00\x00"), "a report without a number"},
		{"a call without an ID", rawFrame("\x04\x05\x03\x00\x01\x00\x00"), "a letter that is not of this format"},
		{"a call without a kind", rawFrame("\x04\x06\x04\x00\x01\x01\x09\x00"), "a letter that is not of this format"},
		{"a kind without end", rawFrame("\x04\x07\x05\x00\x01\x01\x09\x05x"), "a letter that is not of this format"},
		{"an answer without an outcome", rawFrame("\x04\x04\x02\x00\x02\x01"), "a letter that is not of this format"},
		{"not JSON", rawFrame("\x01\x00\x01\x00\x00\x05hello"), "invalid character"},
		{"nothing said", rawFrame("\x01\x00\x01\x00\x00\x02{}"), "without instance"},
		{"a content without end", rawFrame("\x01\x00\x01\x00\x00\x05{}"), "ends within an item"},
		{"a content beyond the limit", rawFrame("\x01\x00\x01\x00\x00\xff\xff\xff\xff\x0f"), "more than 1048576 bytes"},
		{"a number without end", rawFrame("\x02\x80"), "ends within an item"},
		{"no seq", rawFrame("\x02\x00\x00\x00\x00"), "without seq"},
		{"as before, and nothing was", rawFrame("\x02\x01\x01\x00\x00"), "never told"},
		{"a number for two instances", rawFrame("\x01\x00\x01\x00\x00\x22" + `{"instance":"x","state":"active"}` + " "), "two instances"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, me, peer := lone(t)
			conn := callFrom(t, peer, me)
			greetAs(t, conn, "reserve", "primary")
			write(t, conn, frameOf(t, "compass", state(1, 1)))
			write(t, conn, test.frame)
			closedByPeer(t, conn)
			eventually(t, "it is counted", func() bool { return e.path(0).Refusals[ReasonMalformed] == 1 })
			eventually(t, "the reason", func() bool { return strings.Contains(e.path(0).ReceiveError.Text, test.reason) })
			if got := e.last("compass").Seq; got != 1 {
				t.Errorf("the message before it: %d", got)
			}
			again := callFrom(t, peer, me)
			greetAs(t, again, "reserve", "primary")
			write(t, again, frameOf(t, "compass", state(1, 2)))
			eventually(t, "a new connection is taken", func() bool { return e.last("compass").Seq == 2 })
		})
	}
}

func TestTheYoungestConnectionStays(t *testing.T) {
	e, me, peer := lone(t)
	var before net.Conn
	for seq := uint64(1); seq <= 10; seq++ { // as a peer that lost its connections without a word
		conn := callFrom(t, peer, me)
		greetAs(t, conn, "reserve", "primary")
		write(t, conn, frameOf(t, "compass", state(1, seq)))
		eventually(t, "it is heard", func() bool { return e.last("compass").Seq == seq })
		if before != nil {
			eventually(t, "the one before is closed, though it speaks", func() bool {
				_, err := before.Write(frameOf(t, "compass", state(1, 1)))
				return err != nil
			})
		}
		before = conn
	}
	if s := e.path(0); !s.Accepted || refused(s) != 0 {
		t.Errorf("status: %+v", s)
	}
}

func TestThoseThatSayNothingAreBounded(t *testing.T) {
	e, me, peer := lone(t)
	var silent []net.Conn
	for range unprovedLimit + 3 {
		silent = append(silent, callFrom(t, peer, me))
	}
	eventually(t, "the oldest of them make room", func() bool { return e.path(0).Refusals[ReasonCrowded] == 3 })
	friend := callFrom(t, peer, me)
	greetAs(t, friend, "reserve", "primary")
	eventually(t, "the peer is let in at once", func() bool { return e.path(0).Accepted })
	if s := e.path(0); s.Refusals[ReasonCrowded] != 4 || s.Refusals[ReasonSlow] != 0 {
		t.Errorf("status: %+v", s)
	}
	for _, c := range silent {
		closedByPeer(t, c) // at the end of their time
	}
	eventually(t, "each was counted", func() bool { return e.path(0).Refusals[ReasonSlow] == unprovedLimit-1 })
}

// A peer that is stopped answers with its kernel only: the connection stands and
// nobody reads.
func TestASlowReaderHoldsNothingUp(t *testing.T) {
	ap, bp := twoPaths()
	ln, err := net.Listen("tcp4", netip.AddrPortFrom(bp[0].Local, port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			_, _ = answerAs(t, conn, "reserve", "primary")
		}
	}()
	a := start(t, "primary", "reserve", ap)
	b := start(t, "reserve", "primary", bp[1:])
	b.connected(t, 0)
	eventually(t, "the slow path connects", func() bool { return a.path(0).Connected })

	s := state(7, 0)
	long := strings.Repeat("x", 32<<10)
	send := func(n uint64) {
		for range n {
			s.Seq++
			s.Why.Detail = fmt.Sprint(s.Seq, long) // one that changes is sent in whole
			a.say("compass", s)
		}
	}
	send(200)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 20 {
		send(200)
		want := s.Seq
		eventually(t, "the other path delivers the newest", func() bool { return b.last("compass").Seq == want })
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d bytes while nobody read", grown)
	}
	if a.path(0).Superseded == 0 {
		t.Error("nothing was superseded")
	}
	eventually(t, "the write deadline ends the slow connection", func() bool {
		send(1)
		return strings.Contains(a.path(0).SendError.Text, "timeout")
	})
}

// What the kernel takes of a path on which nothing moves is what the peer's
// kernel takes and hardly more: it would come out after the stall, all of it old.
func TestLittleIsQueuedInTheKernel(t *testing.T) {
	me, peer := loopback(), loopback()
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
		return errors.Join(err, cerr)
	}}
	small.SetMultipathTCP(false)
	ln, err := small.Listen(t.Context(), "tcp4", netip.AddrPortFrom(peer, port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := dial(t.Context(), me, peer, port, false)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	taken := 0
	for err = nil; err == nil; {
		var n int
		n, err = conn.Write(make([]byte, 200))
		taken += n
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || taken > 32<<10 {
		t.Errorf("the kernel took %d bytes that nobody reads: %v", taken, err)
	}
	t.Logf("%d bytes taken", taken)
}
