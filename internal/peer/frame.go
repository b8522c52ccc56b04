package peer

// A frame carries what is to be said of several instances at once: uint32 length,
// big-endian, then items. An item is either a whole message, or says that an
// instance is as its last whole message on the same connection said. Nodes speak
// ten times a second and change seldom, so nearly everything is of the second
// kind and takes neither encoding nor decoding.
//
//	item  := kind(1) number vitals [length content]
//	vitals := seq stamp echo
//
// Numbers are unsigned varints, instants signed ones. The number stands for the
// instance on this connection; content is JSON: see wire.go. Items that are no
// gossip are in frames of their own: see pieces.go.

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

const (
	kindWhole = 1
	kindAgain = 2

	headSize = 4
	// frameFull is when a frame takes no further item: what is in one frame is
	// sent although newer may come while the kernel takes it.
	frameFull = 16 << 10
	// maxFrame bounds a frame: one that is nearly full and the longest item.
	maxFrame = frameFull + MaxMessage + 64
	// keptContent is the longest content that a receiver remembers, and so the
	// longest that need not be repeated.
	keptContent = 64 << 10

	// maxWeight bounds what all that a peer says by one connection takes, in bytes: the
	// latest of each instance, its texts and entryWeight for each entry of its lists.
	// 255 instances of a hundred databases each weigh 10 MB.
	maxWeight   = 128 << 20
	entryWeight = 256
)

// vitals are what is new in every message.
type vitals struct {
	seq         uint64
	stamp, echo mono.Instant
}

func vitalsOf(s *failover.PeerState) vitals { return vitals{seq: s.Seq, stamp: s.Stamp, echo: s.Echo} }

func (v vitals) put(s *failover.PeerState) { s.Seq, s.Stamp, s.Echo = v.seq, v.stamp, v.echo }

// item is one message that waits to be sent.
type item struct {
	number  int // of the instance
	content []byte
	vitals  vitals
}

// frameWriter makes the frames of one connection.
type frameWriter struct {
	frame []byte   // its head included, reused
	said  [][]byte // by number: the content that the other end remembers
}

func (w *frameWriter) begin() { w.frame = append(w.frame[:0], 0, 0, 0, 0) }

func (w *frameWriter) full() bool { return len(w.frame) >= frameFull }

func (w *frameWriter) add(it item) {
	for len(w.said) <= it.number {
		w.said = append(w.said, nil)
	}
	// A content is never changed in place, so one that is the same is unchanged.
	again := len(it.content) > 0 && len(w.said[it.number]) == len(it.content) && &w.said[it.number][0] == &it.content[0]
	kind := byte(kindWhole)
	if again {
		kind = kindAgain
	}
	b := append(w.frame, kind)
	b = binary.AppendUvarint(b, uint64(it.number))
	b = binary.AppendUvarint(b, it.vitals.seq)
	b = binary.AppendVarint(b, int64(it.vitals.stamp))
	b = binary.AppendVarint(b, int64(it.vitals.echo))
	if !again {
		b = binary.AppendUvarint(b, uint64(len(it.content)))
		b = append(b, it.content...)
		w.said[it.number] = nil
		if len(it.content) <= keptContent {
			w.said[it.number] = it.content
		}
	}
	w.frame = b
}

// end returns the frame, valid until the next begin.
func (w *frameWriter) end() []byte {
	binary.BigEndian.PutUint32(w.frame, uint32(len(w.frame)-headSize))
	return w.frame
}

// Said is what the peer says of one instance. Its slices and what it points at
// are shared with what the peer says later and must not be changed.
type Said struct {
	Instance string
	State    failover.PeerState
}

var (
	errShort   = errors.New("decode a frame: it ends within an item")
	errKind    = errors.New("decode a frame: an item of an unknown kind")
	errUnsaid  = errors.New("decode a frame: an instance that is as before and was never told of")
	errNoSeq   = errors.New("decode a frame: an item without seq")
	errRenamed = errors.New("decode a frame: a number that stands for two instances")
	errTooMany = fmt.Errorf("more than %d instances", maxInstances)
	errNothing = errors.New("decode a frame: nothing in it")
	errTooMuch = fmt.Errorf("decode a frame: states that take more than %d MB", maxWeight>>20)
	errTooLong = fmt.Errorf("decode a frame: a message of more than %d bytes", MaxMessage)
)

// frameReader reads the frames of one connection.
type frameReader struct {
	said    []*Said // by number, as last told in whole
	weights []int   // by number
	weight  int     // all of them
	further further
}

// read appends what the items of a frame say. Those of instances beyond
// maxInstances are left out, which errTooMany tells; after any other error the
// connection is of no use.
func (r *frameReader) read(body []byte, out []Said) ([]Said, error) {
	if len(body) == 0 {
		return out, errNothing
	}
	var surplus error
	for p := (parser{b: body}); len(p.b) > 0; {
		if p.b[0] > kindAgain {
			if err := r.further.item(&p); err != nil {
				return out, err
			}
			continue
		}
		s, err := r.item(&p)
		switch {
		case errors.Is(err, errTooMany):
			surplus = err
		case err != nil:
			return out, err
		default:
			out = append(out, s)
		}
	}
	return out, surplus
}

func (r *frameReader) item(p *parser) (Said, error) {
	kind := p.byte()
	number := p.uvarint()
	v := vitals{seq: p.uvarint(), stamp: mono.Instant(p.varint()), echo: mono.Instant(p.varint())}
	var content []byte
	switch {
	case kind == kindWhole:
		n := p.uvarint()
		if n > MaxMessage {
			return Said{}, errTooLong
		}
		content = p.bytes(n)
	case kind != kindAgain && !p.short:
		return Said{}, errKind
	}
	switch {
	case p.short:
		return Said{}, errShort
	case v.seq == 0:
		return Said{}, errNoSeq
	case number >= maxInstances:
		return Said{}, errTooMany
	}
	said, err := r.resolve(int(number), kind, content)
	if err != nil {
		return Said{}, err
	}
	v.put(&said.State)
	return said, nil
}

// resolve returns what an instance is by a content, or by the one before.
func (r *frameReader) resolve(number int, kind byte, content []byte) (Said, error) {
	for len(r.said) <= number {
		r.said = append(r.said, nil)
	}
	before := r.said[number]
	if kind == kindAgain {
		if before == nil {
			return Said{}, errUnsaid
		}
		return *before, nil
	}
	instance, state, err := decode(content)
	if err != nil {
		return Said{}, err
	}
	if before != nil && before.Instance != instance {
		return Said{}, errRenamed
	}
	s := Said{Instance: instance, State: state}
	if !r.weigh(number, len(content)+entryWeight*entries(&state)) {
		return Said{}, errTooMuch
	}
	r.said[number] = nil
	if len(content) <= keptContent {
		r.said[number] = &s
	}
	return s, nil
}

// weigh notes what is now told of an instance, and reports whether all is not too much.
func (r *frameReader) weigh(number, weight int) bool {
	for len(r.weights) <= number {
		r.weights = append(r.weights, 0)
	}
	r.weight += weight - r.weights[number]
	r.weights[number] = weight
	return r.weight <= maxWeight
}

// entries are those of all lists of a state: one can be of three bytes of JSON, and
// takes a hundred times that.
func entries(s *failover.PeerState) int {
	n := len(s.Why.Gate) + len(s.Gate) + len(s.Positions) + len(s.Stopped) + len(s.Steps) + len(s.Drift) + len(s.Labels)
	if s.Give != nil {
		n += len(s.Give.Positions) + len(s.Give.Lost)
	}
	if s.Take != nil {
		n += len(s.Take.Why.Gate)
	}
	if s.Granted != nil {
		n += len(s.Granted.Why.Gate)
	}
	return n
}

// parser takes bytes apart. After short nothing that it returned counts.
type parser struct {
	b     []byte
	short bool
}

func (p *parser) fail() {
	p.b, p.short = nil, true
}

func (p *parser) byte() byte {
	if len(p.b) == 0 {
		p.fail()
		return 0
	}
	c := p.b[0]
	p.b = p.b[1:]
	return c
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) bytes(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.fail()
		return nil
	}
	b := p.b[:n]
	p.b = p.b[n:]
	return b
}
