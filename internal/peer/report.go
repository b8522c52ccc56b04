package peer

// A report is one long document about the whole node, of which only the newest is
// worth anything. It goes by one path, the best, and by another when that one
// fails before all of it is handed over. A report that the network loses is not
// sent again: the next one follows.
//
//	report := number body

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// MaxReport is the longest report, in bytes.
const MaxReport = 256 << 10

const maxReportMessage = MaxReport + binary.MaxVarintLen64

// reports holds the newest report each way.
type reports struct {
	mu sync.Mutex // guards the fields below

	number uint64 // of the newest of this node
	newest []byte // the message of it, nil when a path has taken it

	heard word // the peer's newest
	body  []byte
	at    mono.Instant
}

// Report leaves body to be sent as this node's newest report, instead of one that
// is not being sent yet. It never blocks; body must not be changed afterwards. How
// often is the caller's to bound. An error says that it is longer than MaxReport.
func (l *Link) Report(body []byte) error {
	if len(body) > MaxReport {
		return fmt.Errorf("report to %s: %d bytes, more than %d", l.cfg.Peer, len(body), MaxReport)
	}
	r := &l.reports
	r.mu.Lock()
	r.number++
	r.newest = append(binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+len(body)), r.number), body...)
	r.mu.Unlock()
	l.Flush()
	return nil
}

// ReportWanted reports whether a report would be sent now.
func (l *Link) ReportWanted() bool { return l.best() != nil }

// PeerReport returns the newest report of the peer and when it came, by
// CLOCK_BOOTTIME. The body must not be changed.
func (l *Link) PeerReport() (body []byte, at mono.Instant, ok bool) {
	r := &l.reports
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.body, r.at, r.at != 0
}

// take returns the message that waits if p is the path for it.
func (r *reports) take(p *path) ([]byte, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newest == nil || p.link.best() != p {
		return nil, 0
	}
	message := r.newest
	r.newest = nil
	return message, r.number
}

// giveBack returns a message that was taken and not sent, unless there is a newer one.
func (r *reports) giveBack(message []byte, number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if number == r.number {
		r.newest = message
	}
}

// hear keeps a report of the peer if it is newer than the one that is kept.
func (r *reports) hear(boot, connection uint64, message []byte) error {
	p := parser{b: message}
	number := p.uvarint()
	if p.short || number == 0 {
		return errors.New("a report without a number")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard.follows(boot, number, connection) {
		r.body, r.at = p.b, now()
	}
	return nil
}

// best is the first path by which a report would arrive: one that stands, to a
// peer that reads reports, and by which the peer was heard a moment ago. Where
// none was heard, one that stands. It returns nil when there is none.
func (l *Link) best() *path {
	var stands *path
	for _, p := range l.paths {
		if p.reads.Load() < kindReport {
			continue
		}
		if now().Sub(mono.Instant(p.heard.Load())) < failover.LinkPatience {
			return p
		}
		if stands == nil {
			stands = p
		}
	}
	return stands
}
