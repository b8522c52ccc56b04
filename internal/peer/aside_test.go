package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// kinds returns the kinds of the items in a frame.
func kinds(t *testing.T, r *frameReader, frame []byte) (ks []byte) {
	t.Helper()
	if frame[0] > kindAgain {
		for p := (parser{b: frame}); len(p.b) > 0 && !p.short; {
			ks = append(ks, p.byte())
			p.bytes(p.uvarint())
		}
		return ks
	}
	said, err := r.read(frame, nil)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat([]byte{kindWhole}, len(said))
}

// A word of gossip waits for one piece of a report at most, and a call for one too.
func TestGossipGoesFirst(t *testing.T) {
	l, err := New(Config{Node: "a", Peer: "b", Port: port, Paths: []Path{{Local: loopback(), Peer: loopback()}}})
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe() // what is not read is not sent
	p := l.paths[0]
	p.reads.Store(Items)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	c := &channel{conn: here, far: hello{Items: Items}}
	if err := l.Report(make([]byte, 10*pieceSize)); err != nil {
		t.Fatal(err)
	}
	go func() { done <- p.empty(ctx, c, nil) }()
	var r frameReader
	next := func() string {
		t.Helper()
		if err := there.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		frame, err := readFrame(there, nil, maxFrame)
		if err != nil {
			t.Fatal(err)
		}
		if len(frame) > pieceSize+32 {
			t.Errorf("a frame of %d bytes", len(frame))
		}
		return string(kinds(t, &r, frame))
	}
	pieces, calls, gossip := string([]byte{kindReport}), string([]byte{kindLetter}), string([]byte{kindWhole})
	if got := next(); got != pieces {
		t.Fatalf("the first frame has %q", got)
	}
	// The second piece may be on its way by now, and the third is not before its end.
	l.Send("compass", state(7, 1))
	l.Flush()
	l.letters.put(&letter{kind: letterOver, id: 1, until: now().Add(limit)})
	frames := []string{next(), next(), next()}
	if !slices.Contains(frames[:2], gossip) || !slices.Contains(frames, calls) {
		t.Errorf("after gossip and a letter came %q", frames)
	}
	if got := next(); got != pieces {
		t.Errorf("then came %q", got)
	}
	_ = there.Close()
	if err := <-done; err == nil {
		t.Error("the sender ended without an error on a closed connection")
	}
	cancel()
}

// An older peer gets nothing that it does not know, and a caller is told.
func TestAnOlderPeerIsLeftAlone(t *testing.T) {
	ap, bp := twoPaths()
	a := start(t, "primary", "reserve", ap)
	b := startConfig(t, Config{Node: "reserve", Peer: "primary", Paths: bp, items: kindAgain})
	a.connected(t, 0, 1)
	if err := a.Report([]byte("news")); err != nil || a.ReportWanted() {
		t.Errorf("a report would be sent: %v", err)
	}
	if _, err := a.Call(patience(t), KindClock, nil); !errors.Is(err, ErrOldRelease) {
		t.Errorf("a call: %v, want %v", err, ErrOldRelease)
	}
	for seq := uint64(1); seq <= 20; seq++ {
		a.say("compass", state(7, seq))
		eventually(t, "gossip", func() bool { return b.last("compass").Seq == seq })
	}
	if _, _, ok := b.PeerReport(); ok {
		t.Error("the report was sent")
	}
}

// What a newer peer says beside gossip is passed over.
func TestUnknownItemsArePassedOver(t *testing.T) {
	e, me, peer := lone(t)
	conn := callFrom(t, peer, me)
	greetAs(t, conn, "reserve", "primary")
	write(t, conn, rawFrame("\x63\x05abcde\xff\x00"))
	frame := frameOf(t, "compass", state(1, 1))
	write(t, conn, rawFrame("\x63\x00"+string(frame[headSize:])+"\x64\x01x"))
	write(t, conn, letterFrame(letter{kind: 77, id: 5, content: []byte("of a type to come")}))
	write(t, conn, frameOf(t, "compass", state(1, 2)))
	eventually(t, "the gossip after it", func() bool { return e.last("compass").Seq == 2 })
	if s := e.path(0); s.Refusals[ReasonMalformed] != 0 || !s.Accepted {
		t.Errorf("%+v", s)
	}
}

// letterFrame is the frame of a letter that fits one piece.
func letterFrame(it letter) []byte {
	var all letters
	it.until = now().Add(limit)
	all.put(&it)
	return pieceFrame(kindLetter, all.next(&aside{}, 0))
}

func pieceFrame(kind byte, message []byte) []byte {
	var w frameWriter
	w.begin()
	w.addPiece(kind, &cut{message: message})
	return w.end()
}

func requestFrame(id uint64, kind, body string) []byte {
	return letterFrame(letter{kind: letterRequest, id: id, content: []byte(string(rune(len(kind))) + kind + body)})
}

// A request that comes again, by the same connection or another, is not carried out
// again, nor one that comes after its end, nor one from before what is remembered.
func TestARequestIsCarriedOutOnce(t *testing.T) {
	me, peer := loopback(), loopback()
	served := make(chan string, 3*remembered)
	e := startServing(t, "primary", "reserve", []Path{{Local: me, Peer: peer}},
		func(_ context.Context, _ string, body []byte) ([]byte, error) {
			served <- string(body)
			return nil, nil
		})
	speak := func(frames ...[]byte) {
		conn := callFrom(t, peer, me)
		greetAs(t, conn, "reserve", "primary")
		for _, f := range frames {
			write(t, conn, f)
		}
	}
	one := requestFrame(100, "x", "one")
	speak(one, one)
	if got := <-served; got != "one" {
		t.Errorf("served %q", got)
	}
	speak(one, letterFrame(letter{kind: letterOver, id: 101}), requestFrame(101, "x", "too late"), requestFrame(102, "x", "two"))
	if got := <-served; got != "two" {
		t.Errorf("served %q after a repetition and a request that was over", got)
	}
	var many [][]byte
	for i := range uint64(2 * remembered) {
		many = append(many, requestFrame(200+i, "x", "many"))
	}
	for _, f := range many { // a few at once, else they are too many
		speak(f)
		if got := <-served; got != "many" {
			t.Errorf("served %q", got)
		}
	}
	speak(one, many[0], requestFrame(99, "x", "from long ago"), requestFrame(1000, "x", "last"))
	if got := <-served; got != "last" {
		t.Errorf("served %q again", got)
	}
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	if n := len(e.server.known); n > remembered+maxCalls {
		t.Errorf("%d calls are remembered", n)
	}
}

// However many requests come, few are served at once, little is kept, and gossip
// is heard.
func TestAFloodOfRequests(t *testing.T) {
	me, peer := loopback(), loopback()
	var running, most atomic.Int64
	e := startServing(t, "primary", "reserve", []Path{{Local: me, Peer: peer}},
		func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer running.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	conn := callFrom(t, peer, me)
	greetAs(t, conn, "reserve", "primary")
	body := strings.Repeat("x", 1000)
	for id := range uint64(20_000) {
		write(t, conn, requestFrame(id+1, "hang", body))
		if id%1000 == 0 {
			write(t, conn, frameOf(t, "compass", state(1, id+1)))
		}
	}
	write(t, conn, frameOf(t, "compass", state(1, 30_000)))
	eventually(t, "the gossip behind them", func() bool { return e.last("compass").Seq == 30_000 })
	if n := most.Load(); n < 1 || n > maxCalls {
		t.Errorf("%d were served at once", n)
	}
	e.letters.mu.Lock()
	waiting := len(e.letters.waits)
	e.letters.mu.Unlock()
	if waiting > keptAnswers {
		t.Errorf("%d answers wait", waiting)
	}
	_ = conn.Close()
	eventually(t, "their end, as the caller is gone", func() bool { return running.Load() == 0 })
}

// A new daemon of the peer begins anew, an old one is not heard any more.
func TestEachDaemonHasItsOwnCalls(t *testing.T) {
	var s server
	s.link = &Link{}
	s.open(t.Context())
	over := map[uint64]bool{}
	s.known[7] = func() { over[7] = true }
	for _, test := range []struct {
		boot, connection uint64
		want             bool
	}{{50, 3, true}, {50, 2, true}, {60, 3, false}, {60, 4, true}, {50, 4, false}, {60, 9, true}, {50, 9, false}, {50, 10, true}} {
		if got := s.from(test.boot, test.connection); got != test.want {
			t.Errorf("boot %d by connection %d: %v", test.boot, test.connection, got)
		}
	}
	if !over[7] || len(s.known) != 0 {
		t.Error("what the daemon before asked goes on")
	}
}

// A report is as new as its daemon and its number say, whatever way it takes.
func TestAReportDoesNotGoBack(t *testing.T) {
	e, me, peer := lone(t)
	speak := func(numbers ...uint64) {
		conn := callFrom(t, peer, me)
		greetAs(t, conn, "reserve", "primary")
		for _, n := range numbers {
			write(t, conn, pieceFrame(kindReport, append([]byte{byte(n)}, fmt.Sprint(n)...)))
		}
		want := e.last("compass").Seq + 1
		write(t, conn, frameOf(t, "compass", state(1, want)))
		eventually(t, "what follows them", func() bool { return e.last("compass").Seq >= want })
	}
	speak(2, 1)
	if got := e.report(); got != "2" {
		t.Errorf("report %q after an older one", got)
	}
	speak(2, 3)
	if got := e.report(); got != "3" {
		t.Errorf("report %q", got)
	}
	var r reports
	for _, test := range []struct {
		boot, connection uint64
		number           byte
		want             string
	}{{50, 1, 9, "9"}, {60, 2, 1, "1"}, {50, 1, 10, "1"}, {60, 2, 2, "2"}} {
		if err := r.hear(test.boot, test.connection, append([]byte{test.number}, fmt.Sprint(test.number)...)); err != nil || string(r.body) != test.want {
			t.Errorf("boot %d, number %d: %q, %v", test.boot, test.number, r.body, err)
		}
	}
}

func TestAsideFormatIsGolden(t *testing.T) {
	request := letter{kind: letterRequest, id: 300, content: []byte("\x05clockbody")}
	for file, frame := range map[string][]byte{
		"report.bin":  pieceFrame(kindReport, append([]byte{7}, `{"node":"primary"}`...)),
		"answer.bin":  letterFrame(letter{kind: letterAnswer, id: 300, content: []byte("\x01body")}),
		"over.bin":    letterFrame(letter{kind: letterOver, id: 300}),
		"request.bin": pieceFrame(kindLetter, append([]byte{byte(letterRequest), 0xac, 0x02, 0xc0, 0x84, 0x3d}, request.content...)), // a second
	} {
		golden(t, file, frame)
	}
	// Its patience passes while it waits, so its bytes are read instead.
	p := parser{b: letterFrame(request)[headSize:]}
	p.byte()
	p = parser{b: p.bytes(p.uvarint())}
	_, _, kind, id, patience := p.uvarint(), p.uvarint(), p.byte(), p.uvarint(), p.uvarint()
	if kind != byte(letterRequest) || id != 300 || patience == 0 || patience > uint64(limit.Microseconds()) || !bytes.Equal(p.b, request.content) {
		t.Errorf("a request is %d %d %d %q", kind, id, patience, p.b)
	}
}

// FuzzAside: whatever pieces come, what they complete is within bounds, and comes
// out again of the pieces that it is cut in.
func FuzzAside(f *testing.F) {
	f.Add(pieceFrame(kindReport, []byte("\x07report"))[headSize:])
	f.Add(requestFrame(5, "clock", "body")[headSize:])
	f.Add([]byte("\x03\x04\x03\x00ab\x03\x03\x03\x02c"))
	f.Add([]byte("\x63\x01x\x04\x03\x01\x00x"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r frameReader
		done := 0
		r.further.done = func(kind byte, message []byte) error {
			done++
			most := map[byte]int{kindReport: maxReportMessage, kindLetter: maxLetter}[kind]
			if len(message) == 0 || len(message) > most {
				t.Fatalf("kind %d: %d bytes", kind, len(message))
			}
			var again frameReader
			var got []byte
			again.further.done = func(k byte, m []byte) error {
				if k != kind {
					t.Errorf("kind %d came out as %d", kind, k)
				}
				got = m
				return nil
			}
			for c := (cut{message: message}); c.active(); c.advance() {
				var w frameWriter
				w.begin()
				w.addPiece(kind, &c)
				if _, err := again.read(w.end()[headSize:], nil); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(message, got) {
				t.Errorf("cut and put together it differs:\n%q\n%q", message, got)
			}
			l := &Link{}
			l.server.link = l
			l.server.open(t.Context())
			defer l.server.close()
			_ = l.hear(1, 1, kind, message) // an error or not, and no panic
			return nil
		}
		_, _ = r.read(body, nil)
		if n := len(r.further.report.message) + len(r.further.letter.message); n > len(body) {
			t.Errorf("%d bytes are held of %d that came", n, len(body))
		}
	})
}
