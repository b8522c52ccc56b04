package peer

// A proved connection says which run of the heartbeat the peer is now and how far
// it has counted, so that a node that lost its disk and its clock is believed
// again, and what somebody held back is known to be old.
//
//	presence := number count × (instance boot sequence)
//
// Items of it go at the beginning of a connection and then every presenceTime, and
// only by connections that a key proves.

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

const (
	kindPresence = 5

	// presenceTime is the longest that the peer does not know a new run, once a
	// connection stands.
	presenceTime = time.Second
	// presenceRuns is how many runs go in one item: so many make a piece.
	presenceRuns = pieceSize / 64
)

// Run is one instance's run of a node's heartbeat.
type Run struct {
	Instance string
	Boot     uint64 // identity of the run
	Sequence uint64 // of the last advertisement
}

var errPresence = errors.New("a presence that is not of this format")

// presences keeps the order of what comes.
type presences struct {
	mu    sync.Mutex // guards the fields below, and is held during Config.Confirm
	said  uint64     // the number of the last item of this node
	heard word
}

// addPresence adds an item that is due to the frame and returns what is to be done
// when it is sent, nil when none is.
func (p *path) addPresence(c *channel) (sent func()) {
	a, runs := &c.aside, p.link.cfg.Runs
	if c.agreed.key == nil || c.far.Items < kindPresence || runs == nil {
		return nil
	}
	if len(a.presence) == 0 {
		if !a.presented.IsZero() && time.Since(a.presented) < presenceTime {
			return nil
		}
		a.presented = time.Now()
		if a.presence = p.link.presences.items(runs()); len(a.presence) == 0 {
			return nil
		}
	}
	item := a.presence[0]
	b := binary.AppendUvarint(append(c.writer.frame, kindPresence), uint64(len(item)))
	c.writer.frame = append(b, item...)
	return func() { a.presence = a.presence[1:] }
}

func (p *presences) items(runs []Run) (items [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(runs) > 0 {
		n := min(len(runs), presenceRuns)
		p.said++
		items = append(items, presence(p.said, runs[:n]))
		runs = runs[n:]
	}
	return items
}

func presence(number uint64, runs []Run) []byte {
	b := binary.AppendUvarint(nil, number)
	b = binary.AppendUvarint(b, uint64(len(runs)))
	for _, r := range runs {
		b = appendText(b, r.Instance)
		b = binary.AppendUvarint(b, r.Boot)
		b = binary.AppendUvarint(b, r.Sequence)
	}
	return b
}

func parsePresence(message []byte) (number uint64, runs []Run, err error) {
	p := parser{b: message}
	number = p.uvarint()
	count := p.uvarint()
	for ; count > 0 && !p.short; count-- {
		r := Run{Instance: p.text(pieceSize), Boot: p.uvarint(), Sequence: p.uvarint()}
		if len(runs) == maxInstances || r.Boot == 0 {
			return 0, nil, errPresence
		}
		runs = append(runs, r)
	}
	if p.short || len(p.b) > 0 || number == 0 {
		return 0, nil, errPresence
	}
	return number, runs, nil
}

// hearPresence passes on what came by a connection, if that is proved and nothing
// newer came before.
func (l *Link) hearPresence(c *channel, connection uint64, message []byte) error {
	number, runs, err := parsePresence(message)
	if err != nil || c.agreed.key == nil || l.cfg.Confirm == nil {
		return err
	}
	l.presences.mu.Lock()
	defer l.presences.mu.Unlock()
	if l.presences.heard.follows(c.far.Boot, number, connection) {
		l.cfg.Confirm(runs)
	}
	return nil
}
