package peer

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/failover"
)

// A frame says of each instance what changed, and next to nothing of the others.
func TestAnUnchangedStateIsSaidByItsVitals(t *testing.T) {
	var w frameWriter
	var r frameReader
	one, other := full(t), state(7, 1)
	contents := [][]byte{contentOf(t, "compass", one), contentOf(t, "sextant", other)}
	var sizes []int
	for round := range 3 {
		if round == 2 {
			other.Epoch++
			contents[1] = contentOf(t, "sextant", other)
		}
		one.Seq++
		other.Seq++
		one.Stamp, other.Echo = one.Stamp+1, other.Echo-1
		w.begin()
		w.add(item{number: 0, content: contents[0], vitals: vitalsOf(&one)})
		w.add(item{number: 1, content: contents[1], vitals: vitalsOf(&other)})
		frame := w.end()
		sizes = append(sizes, len(frame))
		got, err := r.read(frame[headSize:], nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Said{{"compass", one}, {"sextant", other}}, got, same); diff != "" {
			t.Errorf("round %d: sent (-) and read (+) differ:\n%s", round, diff)
		}
	}
	if whole := len(contents[0]) + len(contents[1]); sizes[0] < whole || sizes[1] > 80 || sizes[2] > len(contents[1])+120 {
		t.Errorf("frames of %v bytes for contents of %d", sizes, whole)
	}
}

// What the other end may not remember is said in whole every time.
func TestALongContentIsRepeated(t *testing.T) {
	var w frameWriter
	var r frameReader
	s := state(7, 1)
	for i := range keptContent / 1000 {
		s.Stopped = append(s.Stopped, fmt.Sprintf("%01000d.service", i))
	}
	content := contentOf(t, "compass", s)
	for range 2 {
		s.Seq++
		w.begin()
		w.add(item{content: content, vitals: vitalsOf(&s)})
		frame := w.end()
		got, err := r.read(frame[headSize:], nil)
		if err != nil || len(frame) < len(content) {
			t.Fatalf("a frame of %d bytes, %v", len(frame), err)
		}
		if diff := cmp.Diff([]Said{{"compass", s}}, got, same); diff != "" {
			t.Error(diff)
		}
	}
	if r.said[0] != nil {
		t.Error("the reader remembers it")
	}
}

// The instances that are too many cost the others nothing.
func TestInstancesBeyondTheLimitAreLeftOut(t *testing.T) {
	var w frameWriter
	var r frameReader
	s := state(7, 1)
	w.begin()
	w.add(item{number: maxInstances, content: contentOf(t, "surplus", s), vitals: vitalsOf(&s)})
	w.add(item{number: maxInstances - 1, content: contentOf(t, "last", s), vitals: vitalsOf(&s)})
	got, err := r.read(w.end()[headSize:], nil)
	if !errors.Is(err, errTooMany) || len(got) != 1 || got[0].Instance != "last" {
		t.Errorf("%v, %v", got, err)
	}
}

// Many instances that speak in one turn take one frame, and a frame ends before
// it grows long.
func TestWhatIsSentTogetherComesTogether(t *testing.T) {
	ap, bp := twoPaths()
	ap, bp = ap[:1], bp[:1]
	a, b := start(t, "primary", "reserve", ap), start(t, "reserve", "primary", bp)
	a.connected(t, 0)
	b.connected(t, 0)
	const instances = 255
	turn := func(seq uint64) int {
		b.mu.Lock()
		before := b.batches
		b.mu.Unlock()
		for i := range instances {
			a.Send(fmt.Sprint("i", i), state(7, seq))
		}
		a.Flush()
		eventually(t, "all of them", func() bool { return b.path(0).Received == seq*instances })
		eventually(t, "the last of them", func() bool { return b.last("i254").Seq == seq })
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.batches - before
	}
	size := instances * (len(contentOf(t, "i254", state(7, 1))) + 16)
	if n, most := turn(1), size/frameFull+2; n > most {
		t.Errorf("in whole they came in %d frames, want %d at most", n, most)
	}
	for seq := uint64(2); seq < 10; seq++ {
		// A sender that was awake already may take the first ones alone.
		if n := turn(seq); n > 2 {
			t.Errorf("unchanged, they came in %d frames", n)
		}
	}
	if got := b.path(0).Duplicates + a.path(0).Superseded; got != 0 {
		t.Errorf("%d of them doubled or superseded", got)
	}
}

// A new connection knows nothing of what the one before it was told.
func TestANewConnectionIsToldInWhole(t *testing.T) {
	ap, bp := twoPaths()
	ap, bp = ap[:1], bp[:1]
	a, b := start(t, "primary", "reserve", ap), start(t, "reserve", "primary", bp)
	s := state(7, 1)
	s.Epoch, s.Stopped = 9, []string{"lsyncd.service"}
	a.say("compass", s)
	eventually(t, "the first", func() bool { return b.last("compass").Seq == 1 })
	b.stop()
	b = start(t, "reserve", "primary", bp)
	b.connected(t, 0)
	eventually(t, "the state after the reconnection", func() bool {
		s.Seq++
		a.say("compass", s)
		return b.last("compass").Seq > 1
	})
	got := b.state("compass")
	got.Seq = s.Seq
	if diff := cmp.Diff(s, got, same); diff != "" {
		t.Error(diff)
	}
}

// FuzzFrames: whatever frames come, a reader ends with messages or an error, and
// what it reads can be sent on and reads the same again.
func FuzzFrames(f *testing.F) {
	s := failover.PeerState{Boot: 7, Seq: 1, Stamp: 5, Echo: -3, State: failover.Backup}
	content, err := encode("compass", s)
	if err != nil {
		f.Fatal(err)
	}
	var w frameWriter
	w.begin()
	for seq := range uint64(3) {
		s.Seq = seq + 1
		w.add(item{number: 1, content: content, vitals: vitalsOf(&s)})
	}
	f.Add(bytes.Clone(w.end()[headSize:]))
	f.Add([]byte("\x02\x00\x01\x00\x00"))
	f.Add([]byte("\x01\x00\x01\x00\x00\x22" + `{"instance":"x","state":"active"}` + " "))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r frameReader
		got, err := r.read(body, nil)
		if err != nil && !errors.Is(err, errTooMany) {
			return
		}
		var w frameWriter
		var again frameReader
		w.begin()
		numbers := map[string]int{}
		for _, s := range got {
			n, known := numbers[s.Instance]
			if !known {
				n = len(numbers)
				numbers[s.Instance] = n
			}
			content, err := encode(s.Instance, s.State)
			if err != nil {
				t.Fatal(err)
			}
			w.add(item{number: n, content: content, vitals: vitalsOf(&s.State)})
		}
		if len(got) == 0 {
			return
		}
		back, err := again.read(w.end()[headSize:], nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, back, same); diff != "" {
			t.Errorf("read (-) and read again (+) differ:\n%s", diff)
		}
	})
}

// Saying that nothing changed is what a node does all day.
func TestNothingIsAllocatedForAnUnchangedState(t *testing.T) {
	l, err := New(Config{Node: "a", Peer: "b", Port: port, Paths: []Path{{Local: loopback(), Peer: loopback()}}})
	if err != nil {
		t.Fatal(err)
	}
	s := full(t)
	var w frameWriter
	turn := func() {
		s.Seq++
		l.Send("compass", s)
		l.Flush()
		w.begin()
		it, _ := l.paths[0].outbox.take()
		w.add(it)
		w.end()
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations for a state that did not change", n)
	}
}
