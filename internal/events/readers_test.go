package events

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks/journal"
)

// What rotations dropped is said, and so is damage.
func TestWhatIsNotHeld(t *testing.T) {
	n := newNode(t)
	big := strings.Repeat("x", 60<<10)
	for i := range 220 { // three files' worth
		r := step(fmt.Sprint(i))
		r.Reason = big
		n.add(r)
		if _, err := n.journal.Maintain(); err != nil {
			t.Fatal(err)
		}
	}
	n.stop() // what the feed itself kept is gone
	c, err := journal.Read(n.path)
	if err != nil {
		t.Fatal(err)
	}
	var held []uint64
	for _, e := range c.Entries {
		held = append(held, e.Number)
	}
	if len(held) == 220 {
		t.Fatal("nothing was dropped")
	}
	n.start()
	r := n.read("?from=1", "", true)
	r.want("state of primary, next 1")
	gone, got := 0, 0
	for want := uint64(1); want <= 220; {
		e, ok := r.next()
		switch {
		case !ok:
			t.Fatalf("it ended before %d", want)
		case e.Gap != nil:
			for ; want <= e.Gap.To; want++ {
				if slices.Contains(held, want) {
					t.Errorf("%d is held", want)
				}
				gone++
			}
			if e.Gap.First != want {
				t.Errorf("%+v", e.Gap)
			}
		case e.Number != want || e.Step.Name != fmt.Sprint(want-1):
			t.Fatalf("%d %s, want %d", e.Number, e.Step.Name, want)
		default:
			want++
			got++
		}
	}
	if gone+got != 220 || gone == 0 {
		t.Errorf("%d gone, %d got", gone, got)
	}
}

// One that reads nothing is cut off and counted; the writer and the others do not notice.
func TestAReaderThatNeverReads(t *testing.T) {
	n := newNode(t)
	c, err := net.Dial("tcp", strings.TrimPrefix(n.at, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	until(t, "the reader", func() bool { open, _ := n.feed.Readers(); return open == 1 })
	other := n.read("", "", true)
	other.want("state of primary, next 1")
	var took time.Duration
	end, word := time.Now().Add(patience), strings.Repeat("x", 250<<10) // the kernel takes some megabytes
	for i := uint64(1); ; i++ {
		if time.Now().After(end) {
			t.Fatalf("it was not cut off after %d", i)
		}
		r := step(fmt.Sprint(i))
		r.Reason = word
		began := time.Now()
		n.add(r)
		took = max(took, time.Since(began))
		other.want(fmt.Sprintf("%d %d", i, i))
		if open, cut := n.feed.Readers(); open == 1 && cut[string(TooSlow)] == 1 {
			break
		}
		if i > 60 {
			time.Sleep(50 * time.Millisecond) // it has all that the kernel takes: it is up to its patience
		}
	}
	t.Logf("the longest record took %s", took)
}

// One that reads, and too slowly for what is kept, hears why, and can go on from there.
func TestAReaderThatFallsBehind(t *testing.T) {
	n := newNode(t)
	p := place{next: n.feed.Next(), live: true}
	for i := range maxRecent + 1 {
		if err := n.journal.Append(step(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.journal.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.feed.take(&p); !errors.Is(err, errTooSlow) {
		t.Fatalf("%v", err)
	}
	if got := len(n.feed.recent); got != maxRecent {
		t.Errorf("%d are kept", got)
	}
	r := n.read(fmt.Sprintf("?from=%d", p.next), "", true)
	r.want("state of primary, next 1", "1 0", "2 1")
	// As it is over the wire: the stream of such a reader ends with the word.
	w := httptest.NewRecorder()
	s := stream{feed: n.feed, out: http.NewResponseController(w), w: w, lines: true}
	s.run(t.Context(), place{next: 1, live: true})
	if got := w.Body.String(); got != `{"kind":"cut","next":1,"why":"too_slow","detail":"further behind than is kept"}`+"\n" {
		t.Error(got)
	}
}

// A hundred readers from the first event on: all get all, and the file is read a few
// times and not a hundred.
func TestAHundredReaders(t *testing.T) {
	const readers, held, fresh = 100, 1500, 150
	n := newNode(t)
	for i := range held {
		if err := n.journal.Append(step(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	n.add(step("last"))
	var wg sync.WaitGroup
	ready := make(chan bool, readers)
	for range readers {
		wg.Go(func() {
			r, err := n.tryRead(t.Context(), "?from=1", "", true)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.body.Close()
			for want := uint64(0); want <= held+1+fresh; want++ {
				e, ok := r.next()
				if !ok || want > 0 && e.Number != want {
					t.Errorf("%+v in place of %d", e, want)
					return
				}
				if want == held+1 {
					ready <- true
				}
			}
		})
	}
	for range readers {
		select {
		case <-ready:
		case <-time.After(patience):
			t.Fatal("not all have caught up")
		}
	}
	for i := range fresh {
		n.add(step(fmt.Sprint("new ", i)))
	}
	wg.Wait()
	if got := n.reads.Load(); got > 10 {
		t.Errorf("the file was read %d times", got)
	}
	until(t, "their end", func() bool { open, _ := n.feed.Readers(); return open == 0 })
}

// Strangers on the network take no more than their places: the host's own get one.
func TestStrangersLeaveRoom(t *testing.T) {
	n := newNode(t)
	for range maxPublic {
		n.read("/public", "", true).want("state of primary, next 1")
	}
	if r := n.read("/public", "", true); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") != "2" {
		t.Errorf("one more of them: %d %v", r.status, r.header)
	}
	for range maxReaders - maxPublic {
		n.read("", "", true).want("state of primary, next 1")
	}
}

func TestReadersAreBounded(t *testing.T) {
	n := newNode(t)
	for range maxReaders {
		n.read("", "", true).want("state of primary, next 1")
	}
	r := n.read("", "", true)
	if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") != "2" {
		t.Errorf("%d %v", r.status, r.header)
	}
}
