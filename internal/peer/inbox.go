package peer

// The inbox lets each message through once and never back in time. Within one
// boot Seq tells what is newer. Boots are random numbers, but a daemon speaks
// only by connections that it made itself: a boot is newer than another when it
// speaks by a connection younger than all those of the other.

import "sync"

// maxInstances bounds what is remembered of a peer. An interface has 255 VRIDs.
const maxInstances = 1024

type inbox struct {
	mu      sync.Mutex // guards the fields below, and is held during deliver
	deliver func([]Said)
	last    map[string]*word
}

// word is the last message let through of an instance.
type word struct {
	boot, seq  uint64
	connection uint64 // the youngest that this boot spoke by
}

func (in *inbox) open(deliver func([]Said)) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.deliver = deliver
	if in.last == nil {
		in.last = map[string]*word{}
	}
}

// take delivers those of the messages that came by a connection that are new, and
// says how many were not; it reorders said. An error is one instance too many.
func (in *inbox) take(connection uint64, said []Said) (stale int, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	fresh := said[:0]
	for i := range said {
		isFresh, tooMany := in.fresh(connection, &said[i])
		switch {
		case tooMany != nil:
			err = tooMany
		case isFresh:
			fresh = append(fresh, said[i])
		default:
			stale++
		}
	}
	if len(fresh) > 0 {
		in.deliver(fresh)
	}
	return stale, err
}

// fresh reports whether a message is new, and notes it.
func (in *inbox) fresh(connection uint64, s *Said) (bool, error) {
	w := in.last[s.Instance]
	switch {
	case w == nil && len(in.last) >= maxInstances:
		return false, errTooMany
	case w == nil:
		w = &word{}
		in.last[s.Instance] = w
	}
	return w.follows(s.State.Boot, s.State.Seq, connection), nil
}

// follows makes w what came by a connection, if that is newer.
func (w *word) follows(boot, seq, connection uint64) bool {
	var fresh bool
	if boot == w.boot {
		fresh = seq > w.seq
		connection = max(connection, w.connection)
		w.connection = connection
	} else {
		fresh = connection > w.connection
	}
	if fresh {
		*w = word{boot: boot, seq: seq, connection: connection}
	}
	return fresh
}
