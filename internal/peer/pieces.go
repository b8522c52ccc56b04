package peer

// What is longer than a message of gossip goes in pieces, each in a frame of its
// own and only while no gossip waits: a word of gossip waits for one piece at
// most. There are two such streams on a connection, reports and the letters of
// calls. Within each the pieces of a message follow one another, and a letter's
// go before a report's.
//
//	item  := kind(1) length piece        kinds from 3 on all begin so
//	piece := total offset bytes          of a message of total bytes
//
// An item of a kind that an end does not know is skipped by its length. Each end
// says in its hello up to which kind it reads, and gets no other.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	kindReport = 3
	kindLetter = 4
	// Items is the last kind of item that this release reads, as it says in its hello.
	Items = kindPresence

	// pieceSize is the most that gossip waits for: 33 ms on a line of 1 Mbit/s.
	pieceSize = 4 << 10
)

var (
	errPiece  = errors.New("decode a frame: a piece that does not follow the one before it")
	errLength = errors.New("decode a frame: a message in pieces that is too long or empty")
)

// cut is a message of which sent bytes are on their way.
type cut struct {
	message []byte
	sent    int
}

func (c *cut) active() bool { return c.sent < len(c.message) }

// piece returns the next piece, and advance goes on after it was sent.
func (c *cut) piece() []byte { return c.message[c.sent:min(c.sent+pieceSize, len(c.message))] }

func (c *cut) advance() {
	if c.sent += len(c.piece()); !c.active() {
		*c = cut{}
	}
}

// addPiece adds the next piece of c to the frame.
func (w *frameWriter) addPiece(kind byte, c *cut) {
	var head [2 * binary.MaxVarintLen64]byte
	h := binary.AppendUvarint(head[:0], uint64(len(c.message)))
	h = binary.AppendUvarint(h, uint64(c.sent))
	piece := c.piece()
	b := append(w.frame, kind)
	b = binary.AppendUvarint(b, uint64(len(h)+len(piece)))
	b = append(b, h...)
	w.frame = append(b, piece...)
}

// assembly puts the pieces of one stream together again.
type assembly struct {
	message []byte
	total   int
}

// add returns the message that a piece completes, which is the caller's to keep.
// A piece from offset 0 begins a new message, whatever became of the one before.
func (a *assembly) add(piece []byte, most int) ([]byte, error) {
	p := parser{b: piece}
	total, offset := p.uvarint(), p.uvarint()
	switch {
	case p.short:
		return nil, errShort
	case total == 0 || total > uint64(most):
		return nil, errLength
	case offset == 0:
		// What it takes grows with what comes, not with what is announced.
		*a = assembly{total: int(total)}
	case offset != uint64(len(a.message)) || total != uint64(a.total):
		return nil, errPiece
	}
	if len(p.b) == 0 || len(p.b) > a.total-len(a.message) {
		return nil, errPiece
	}
	if need := len(a.message) + len(p.b); need > cap(a.message) {
		// It doubles, and ends as large as it is announced.
		grown := make([]byte, len(a.message), min(a.total, max(need, 2*cap(a.message))))
		copy(grown, a.message)
		a.message = grown
	}
	a.message = append(a.message, p.b...)
	if len(a.message) < a.total {
		return nil, nil
	}
	whole := a.message
	*a = assembly{}
	return whole, nil
}

// further reads the items that are no gossip. done gets what they complete.
type further struct {
	report, letter assembly
	done           func(kind byte, message []byte) error
}

func (f *further) item(p *parser) error {
	kind := p.byte()
	n := p.uvarint()
	content := p.bytes(n)
	if p.short {
		return errShort
	}
	var message []byte
	var err error
	switch kind {
	case kindReport:
		message, err = f.report.add(content, maxReportMessage)
	case kindLetter:
		message, err = f.letter.add(content, maxLetter)
	case kindPresence:
		message = content
	}
	if err != nil || message == nil || f.done == nil {
		return err
	}
	if err := f.done(kind, message); err != nil {
		return fmt.Errorf("decode a message in pieces: %w", err)
	}
	return nil
}

// aside is what one connection sends beside gossip.
type aside struct {
	number         uint64 // of the connection: younger ones have greater numbers
	report, letter cut
	reported       uint64 // the number of the report
	written        uint64 // the serial of the last letter begun
	presence       [][]byte
	presented      time.Time // when presence was made
}

// addAside adds a piece to the frame and returns what is to be done when it is
// sent, nil when there is nothing to send.
func (p *path) addAside(c *channel) (sent func()) {
	a := &c.aside
	if sent := p.addPresence(c); sent != nil {
		return sent
	}
	if !a.letter.active() && c.far.Items >= kindLetter {
		a.letter.message = p.link.letters.next(a, c.far.Boot)
	}
	if a.letter.active() {
		c.writer.addPiece(kindLetter, &a.letter)
		return a.letter.advance
	}
	if !a.report.active() && c.far.Items >= kindReport {
		a.report.message, a.reported = p.link.reports.take(p)
	}
	if a.report.active() {
		c.writer.addPiece(kindReport, &a.report)
		return a.report.advance
	}
	return nil
}
