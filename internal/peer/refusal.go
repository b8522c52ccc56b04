package peer

// What is refused has a typed reason, which the other end is told where it can be,
// and which is counted.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/internal/words"
)

// Reason is why a connection or a message was refused. Its text travels to the
// other end and is the label of the counters: it never changes its meaning.
type Reason uint8

// The reasons, in the order in which a connection meets them.
const (
	ReasonStranger   Reason = iota + 1 // from another address than the peer's of this path, where the kernel took no filter
	ReasonCrowded                      // more than are looked at, or newer ones took its place before it proved itself
	ReasonSlow                         // it did not prove itself in time
	ReasonUnfinished                   // it ended before it proved itself, as one does that asks whether this host lives
	ReasonProtocol                     // it speaks something else
	ReasonVersion                      // no version of the protocol is common to both ends
	ReasonNoKeyHere                    // the peer proves itself with a key, this node has none
	ReasonNoKeyThere                   // the peer has no key
	ReasonWrongKey                     // none of the peer's keys is one of this node's
	ReasonForged                       // the proof does not fit: replayed, altered, or moved to other addresses
	ReasonLabel                        // another node, or for another node
	ReasonIdentity                     // its certificate is not the peer's
	ReasonTLS                          // what it says is not sealed as agreed: altered or cut
	ReasonMalformed                    // a proved peer's message that is not of this format
	ReasonDropped                      // packets that the kernel dropped: from other addresses, or of a flood

	lastReason = ReasonDropped
)

// String returns the reason as status, log and metrics name it.
func (r Reason) String() string {
	switch r {
	case ReasonStranger:
		return "stranger"
	case ReasonCrowded:
		return "crowded"
	case ReasonSlow:
		return "slow"
	case ReasonUnfinished:
		return "unfinished"
	case ReasonProtocol:
		return "protocol"
	case ReasonVersion:
		return "version"
	case ReasonNoKeyHere:
		return "no_key_here"
	case ReasonNoKeyThere:
		return "no_key_there"
	case ReasonWrongKey:
		return "wrong_key"
	case ReasonForged:
		return "forged"
	case ReasonLabel:
		return "label"
	case ReasonIdentity:
		return "identity"
	case ReasonTLS:
		return "tls"
	case ReasonMalformed:
		return "malformed"
	case ReasonDropped:
		return "dropped"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Reasons returns every reason, for counters that must exist at zero.
func Reasons() []Reason {
	all := make([]Reason, 0, lastReason)
	for r := ReasonStranger; r <= lastReason; r++ {
		all = append(all, r)
	}
	return all
}

// fromThere is a reason of the other end as this one has it.
func (r Reason) fromThere() Reason {
	switch r {
	case ReasonNoKeyHere:
		return ReasonNoKeyThere
	case ReasonNoKeyThere:
		return ReasonNoKeyHere
	default:
		return r
	}
}

// refusal is what one end does not accept of the other.
type refusal struct {
	reason Reason
	why    string
}

func (r *refusal) Error() string { return "refused: " + r.why }

func refuse(r Reason, format string, args ...any) *refusal {
	return &refusal{reason: r, why: fmt.Sprintf(format, args...)}
}

// refusedThere is what the other end said. Nobody proves that it did.
func refusedThere(word, why string) *refusal {
	reason := words.Value(ReasonStranger, word)
	if reason == words.Unknown || reason == 0 {
		return refuse(ReasonProtocol, "the peer says: %s: %s", printable(word), printable(why))
	}
	return refuse(reason.fromThere(), "the peer says: %s", printable(why))
}

// printable leaves out of a foreign text what a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), maxWhy)], ""))
}

// reasonOf finds the reason in what ended a connection, 0 when it ended as
// connections do.
func reasonOf(err error) Reason {
	var no *refusal
	var bad *malformed
	var op *net.OpError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &no):
		return no.reason
	case errors.As(err, &bad):
		return ReasonMalformed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonSlow
	case errors.As(err, &header), errors.As(err, &alert), errors.As(err, &op) && (op.Op == "local error" || op.Op == "remote error"):
		return ReasonTLS // crypto/tls says so of what it cannot open, and of what the other end could not
	case errors.Is(err, context.Canceled), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &op):
		return 0
	}
	return ReasonTLS
}

// Refusals counts by Reason.
type Refusals [lastReason + 1]uint64

// ByName returns the counts under the reasons' names, also those at zero.
func (r Refusals) ByName() map[string]uint64 {
	named := make(map[string]uint64, lastReason)
	for _, reason := range Reasons() {
		named[reason.String()] = r[reason]
	}
	return named
}

// spellGap is the longest time between two refusals of one spell. A node tries again
// after longestWait, and an attempt may take handshakeTime.
const spellGap = 10 * time.Second

// refusals are those of a path.
type refusals struct {
	counts [lastReason + 1]atomic.Uint64

	mu     sync.Mutex // guards spells
	spells [lastReason + 1]spell
}

// spell is a row of refusals for one reason, no two of them further apart than spellGap.
type spell struct {
	count     uint64
	since, at mono.Instant // of the first and of the last
	last      error
}

func (r *refusals) note(reason Reason, err error) { r.add(reason, 1, err) }

func (r *refusals) add(reason Reason, n uint64, err error) {
	if n > 0 {
		r.noteAt(now(), reason, n, err)
	}
}

func (r *refusals) noteAt(at mono.Instant, reason Reason, n uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.spells[reason]
	if s.count == 0 || at.Sub(s.at) > spellGap {
		*s = spell{since: at}
	}
	s.count, s.at, s.last = s.count+n, at, err
	r.counts[reason].Add(n)
}

func (r *refusals) load() (counts Refusals) {
	for i := range r.counts {
		counts[i] = r.counts[i].Load()
	}
	return counts
}

func (r *refusals) spell(reason Reason) spell {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spells[reason]
}

// Refused is what was refused for one reason on one path.
type Refused struct {
	Peer   netip.Addr
	Reason Reason
	Count  uint64 // since the making of the Link
	Last   string // what was said of the last one

	// Lately are those of the last spell, in which at most 10 s lie between one and the
	// next: Since is when it began and At when the last one was, by CLOCK_BOOTTIME.
	Lately    uint64
	Since, At mono.Instant
}

// Refused returns what was refused, by path and reason; nothing of what never was.
func (l *Link) Refused() (all []Refused) {
	for _, p := range l.paths {
		for _, reason := range Reasons() {
			if s := p.refusals.spell(reason); s.count > 0 {
				all = append(all, Refused{
					Peer: p.peer, Reason: reason, Count: p.refusals.counts[reason].Load(), Last: brief(s.last.Error()),
					Lately: s.count, Since: s.since, At: s.at,
				})
			}
		}
	}
	return all
}
