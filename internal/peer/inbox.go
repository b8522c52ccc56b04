package peer

// The inbox lets each message through once and never back in time. Within one
// boot Seq tells what is newer. Boots are random numbers, but a daemon speaks
// only by connections that it made itself: a boot is newer than another when it
// speaks by a connection younger than all those of the other.

import (
	"fmt"
	"sync"

	"github.com/tanist-ha/tanist/internal/failover"
)

// maxInstances bounds what is remembered of a peer. An interface has 255 VRIDs.
const maxInstances = 1024

type inbox struct {
	mu      sync.Mutex // guards the fields below, and is held during deliver
	deliver func(string, failover.PeerState)
	last    map[string]word
}

// word is the last message let through of an instance.
type word struct {
	boot, seq  uint64
	connection uint64 // the youngest that this boot spoke by
}

func (in *inbox) open(deliver func(string, failover.PeerState)) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.deliver = deliver
	if in.last == nil {
		in.last = map[string]word{}
	}
}

// take delivers a message that came by a connection, unless it is not new. An
// error is one instance too many.
func (in *inbox) take(connection uint64, instance string, s failover.PeerState) (fresh bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	w, known := in.last[instance]
	switch {
	case !known && len(in.last) >= maxInstances:
		return false, fmt.Errorf("more than %d instances", maxInstances)
	case !known:
		fresh = true
	case s.Boot == w.boot:
		fresh = s.Seq > w.seq
		connection = max(connection, w.connection)
	default:
		fresh = connection > w.connection
	}
	if s.Boot == w.boot {
		w.connection = connection
	}
	if fresh {
		w = word{boot: s.Boot, seq: s.Seq, connection: connection}
	}
	in.last[instance] = w
	if fresh {
		in.deliver(instance, s)
	}
	return fresh, nil
}
