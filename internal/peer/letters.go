package peer

// Letters are what the two sides of a call say to each other. Each is sent once
// by every connection that stands, and by every one that comes to stand until it
// is over: so it needs no path in particular, and a path that dies loses nothing.
// Whoever reads them lets each through once.
//
//	letter  := type(1) id content
//	request := microseconds length kind body      how long the caller waits
//	answer  := outcome(1) body
//	over    :=                                    the caller waits no longer

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

type letterType byte

const (
	letterRequest letterType = 1
	letterAnswer  letterType = 2
	letterOver    letterType = 3
)

const (
	maxLetter = MaxCall + maxCallKind + 64
	// keptAnswers is how many answers wait for a path at most, and keptOvers the same
	// of those calls that are over: of more the oldest goes.
	keptAnswers = 16
	keptOvers   = 16
	// overTime is how long a path may take to come back and still tell of the end of
	// a call.
	overTime = 5 * time.Second
)

var errLetter = errors.New("a letter that is not of this format")

// letter is one that waits. Its content is never changed in place.
type letter struct {
	serial  uint64
	kind    letterType
	id      uint64
	to      uint64       // the boot of the daemon it is for, 0: of the first that can take it
	by      uint64       // the first connection that took it
	until   mono.Instant // it is worth nothing from then on
	content []byte
	// lost is told when the daemon that may have a request is gone.
	lost func()
}

// letters hold what waits, the oldest first. The requests are as many as calls may
// be asked at once.
type letters struct {
	mu     sync.Mutex // guards the fields below
	serial uint64
	waits  []*letter
}

// put makes it wait until it is taken out or its time is over.
func (l *letters) put(it *letter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	most := keptAnswers
	if it.kind == letterOver {
		most = keptOvers
	}
	if same := func(o *letter) bool { return o.kind == it.kind }; it.kind != letterRequest && l.count(same) >= most {
		i := slices.IndexFunc(l.waits, same)
		l.waits = slices.Delete(l.waits, i, i+1)
	}
	l.serial++
	it.serial = l.serial
	l.waits = append(l.waits, it)
}

func (l *letters) count(cond func(*letter) bool) (n int) {
	for _, it := range l.waits {
		if cond(it) {
			n++
		}
	}
	return n
}

func (l *letters) expire() {
	at := now()
	l.waits = slices.DeleteFunc(l.waits, func(it *letter) bool { return it.until <= at })
}

// drop takes a letter out and returns for which daemon it was, 0 if none had it.
func (l *letters) drop(kind letterType, id uint64) (to uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.waits, func(it *letter) bool { return it.kind == kind && it.id == id })
	if i < 0 {
		return 0
	}
	to = l.waits[i].to
	l.waits = slices.Delete(l.waits, i, i+1)
	return to
}

// next returns the message that a connection to the daemon of a boot sends next,
// nil when it has sent them all.
func (l *letters) next(a *aside, boot uint64) []byte {
	it := l.after(a, boot)
	if it == nil {
		return nil
	}
	b := binary.AppendUvarint([]byte{byte(it.kind)}, it.id)
	if it.kind == letterRequest {
		b = binary.AppendUvarint(b, uint64(max(0, it.until.Sub(now()).Microseconds())))
	}
	return append(b, it.content...)
}

func (l *letters) after(a *aside, boot uint64) *letter {
	var lost []func()
	defer func() {
		for _, f := range lost {
			f()
		}
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	for _, it := range l.waits {
		switch {
		case it.serial <= a.written:
			continue
		case it.to == 0:
			it.to, it.by = boot, a.number
		case it.to != boot && it.lost != nil && it.by < a.number:
			lost = append(lost, it.lost)
		}
		a.written = it.serial
		if it.to == boot {
			return it
		}
	}
	return nil
}

// read takes a letter that came by a connection from the daemon of a boot. One of a
// type that this release does not know says nothing.
func (l *Link) read(boot, connection uint64, message []byte) error {
	p := parser{b: message}
	kind, id := letterType(p.byte()), p.uvarint()
	if id == 0 {
		p.fail()
	}
	switch kind {
	case letterRequest:
		patience := p.uvarint()
		of := p.bytes(p.uvarint())
		if p.short || len(of) == 0 || len(of) > maxCallKind || len(p.b) > MaxCall {
			return errLetter
		}
		l.server.request(boot, connection, wanted{
			id: id, kind: string(of), body: p.b,
			patience: time.Duration(min(patience, uint64(MaxCallTime.Microseconds()))) * time.Microsecond,
		})
	case letterAnswer:
		o := outcome(p.byte())
		if p.short || len(p.b) > MaxCall {
			return errLetter
		}
		l.asked.take(id, o, p.b)
	case letterOver:
		if p.short {
			return errLetter
		}
		l.server.over(boot, connection, id)
	}
	return nil
}
