package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lone starts a link whose peer is played by the test.
func lone(t *testing.T) (e *end, me, peer netip.Addr) {
	t.Helper()
	me, peer = loopback(), loopback()
	return start(t, "primary", "reserve", []Path{{Local: me, Peer: peer}}), me, peer
}

func TestAStrangerIsRefused(t *testing.T) {
	e, me, peer := lone(t)
	conn := callFrom(t, loopback(), me)
	closedByPeer(t, conn)
	eventually(t, "it is counted", func() bool { return e.path(0).Strangers > 0 })
	friend := callFrom(t, peer, me)
	greetAs(t, friend, "reserve", "primary")
	write(t, friend, frameOf(t, "compass", state(1, 1)))
	eventually(t, "the peer is heard", func() bool { return e.last("compass").Seq == 1 })
	if s := e.path(0); s.Refused != 0 || s.Received != 1 {
		t.Errorf("status: %+v", s)
	}
}

func TestThePeerOfAnotherPathIsAStranger(t *testing.T) {
	ap, bp := twoPaths()
	e := start(t, "primary", "reserve", ap)
	closedByPeer(t, callFrom(t, bp[1].Local, ap[0].Local))
	eventually(t, "it is counted", func() bool { return e.path(0).Strangers > 0 })
}

func TestOnlyTheRightHelloIsAnswered(t *testing.T) {
	greeting := func(version uint16, body string) []byte {
		return append(binary.BigEndian.AppendUint16([]byte(magic), version), rawFrame(body)...)
	}
	for _, test := range []struct {
		name, says, reason string
	}{
		{"another protocol", "GET / HTTP/1.1\r\n\r\n", "not this protocol"},
		{"another version", string(greeting(3, `{"node":"reserve","peer":"primary"}`)), "link version 2 at the one end, 3 at the other"},
		{"another node", string(greeting(2, `{"node":"other","peer":"primary"}`)), `node "primary" with peer "reserve" met node "other"`},
		{"for another node", string(greeting(2, `{"node":"reserve","peer":"other"}`)), `with peer "other"`},
		{"no JSON", string(greeting(2, `hello`)), "invalid character"},
		{"a hello without end", magic + "\x00\x02\x00\x10\x00\x00", "more than 4096"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, me, peer := lone(t)
			conn := callFrom(t, peer, me)
			write(t, conn, []byte(test.says))
			_ = conn.CloseWrite() // the other end may have closed it already
			closedByPeer(t, conn)
			eventually(t, "the reason", func() bool { return strings.Contains(e.path(0).ReceiveError.Text, test.reason) })
			if s := e.path(0); s.Refused != 1 || s.Received != 0 || s.Accepted {
				t.Errorf("status: %+v", s)
			}
		})
	}
}

func TestBothEndsSayWhyTheyRefuse(t *testing.T) {
	a, b := loopback(), loopback()
	e := start(t, "primary", "reserve", []Path{{Local: a, Peer: b}})
	f := start(t, "spare", "primary", []Path{{Local: b, Peer: a}})
	for _, l := range []*end{e, f} {
		eventually(t, "a refusal", func() bool {
			return strings.Contains(l.path(0).SendError.Text+l.path(0).ReceiveError.Text, "refused: ")
		})
		if l.path(0).Connected {
			t.Errorf("connected: %+v", l.path(0))
		}
	}
	eventually(t, "the reason comes from the other end", func() bool {
		return strings.Contains(e.path(0).SendError.Text, "the peer says") || strings.Contains(f.path(0).SendError.Text, "the peer says")
	})
}

// A release of another version sends more than this one reads, and still learns
// why it is refused.
func TestARefusalArrives(t *testing.T) {
	_, me, peer := lone(t)
	conn := callFrom(t, peer, me)
	write(t, conn, append([]byte(magic), 0, 3))
	write(t, conn, rawFrame(strings.Repeat("x", 3000)))
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	version, err := readVersion(conn)
	if err != nil || version != Version {
		t.Fatalf("version %d, %v", version, err)
	}
	for range 20 { // what comes after the answer must not take it back
		_, _ = conn.Write([]byte("more"))
		runtime.Gosched()
	}
	h, err := readHello(conn)
	if err != nil || !strings.Contains(h.Refuse, "link version 2") || h.Node != "primary" {
		t.Errorf("answer %+v, %v", h, err)
	}
}

func TestAnotherVersionIsRefusedByTheDialingEnd(t *testing.T) {
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
			_, _ = conn.Write(append([]byte(magic), 0, 3))
			_ = conn.Close()
		}
	}()
	e := start(t, "primary", "reserve", []Path{{Local: me, Peer: peer}})
	eventually(t, "the version in the status", func() bool {
		return strings.Contains(e.path(0).SendError.Text, "link version 2 at the one end, 3 at the other")
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
			eventually(t, "it is counted", func() bool { return e.path(0).Malformed == 1 })
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
	if s := e.path(0); !s.Accepted || s.Refused != 0 {
		t.Errorf("status: %+v", s)
	}
}

func TestGreetingsAreBounded(t *testing.T) {
	e, me, peer := lone(t)
	var silent []net.Conn
	for range acceptLimit + 3 {
		silent = append(silent, callFrom(t, peer, me))
	}
	eventually(t, "the surplus is refused", func() bool { return e.path(0).Refused >= 3 })
	for _, c := range silent {
		closedByPeer(t, c) // the others at the end of their time
	}
	friend := callFrom(t, peer, me)
	greetAs(t, friend, "reserve", "primary")
	eventually(t, "then there is room again", func() bool { return e.path(0).Accepted })
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
			_, _ = answered(conn, Config{Node: "reserve", Peer: "primary"}, func() {})
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
	conn, err := dial(t.Context(), me, peer, port)
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
