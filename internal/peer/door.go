package peer

// A door lets so many connections in at once and no more: who comes when it is
// full takes the place of who has been there longest. So a crowd that says nothing
// keeps nobody out who answers within a round trip.

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// unprovedLimit is how many connections of a path may be there that have not
	// answered the challenge. One that a real peer makes is for a round trip and the
	// turns of two schedulers: of as many others as are looked at, half a second. They
	// take 1 MB.
	unprovedLimit = 128
	// provingLimit is how many may be there that have: they cost a handshake each.
	provingLimit = 4
)

// guest is a connection that has not been taken yet.
type guest struct {
	conn    *net.TCPConn
	at      *door // nil once it is taken
	evicted atomic.Bool
}

type door struct {
	slots chan struct{} // one for each guest whose goroutine has not left

	mu     sync.Mutex // guards inside
	inside []*guest   // that are not evicted, the one that came first first
}

func newDoor(limit int) *door { return &door{slots: make(chan struct{}, limit)} }

// enter takes a guest over from the door that it is at, if any. It waits for the
// end of the guest that it puts out, which is at once, and reports false when ctx
// ended.
func (d *door) enter(ctx context.Context, g *guest) bool {
	select {
	case d.slots <- struct{}{}:
	default:
		d.evict()
		select {
		case d.slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	g.at.leave(g)
	d.inside, g.at = append(d.inside, g), d
	return true
}

func (d *door) evict() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.inside) == 0 {
		return // all of them are on their way out
	}
	g := d.inside[0]
	d.inside = slices.Delete(d.inside, 0, 1)
	g.evicted.Store(true)
	abort(g.conn)
}

// leave gives the place of a guest back.
func (d *door) leave(g *guest) {
	if d == nil {
		return
	}
	d.mu.Lock()
	if at := slices.Index(d.inside, g); at >= 0 {
		d.inside = slices.Delete(d.inside, at, at+1)
	}
	d.mu.Unlock()
	<-d.slots
}
