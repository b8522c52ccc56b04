package control

// Connections are few, and nobody gets all of them: a user has some, all users
// together leave some for root and the daemon's own user. Who wants more is told so.

import (
	"net"
	"net/http"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	maxConnections = 64 // one more waits in the kernel
	// userConnections bounds those of one user that is not root.
	userConnections = 16
	// usersConnections bounds those of all users but root: the rest is its.
	usersConnections = 48
	// awayConnections bounds those that are told that they are too many. Beyond it
	// they are closed without a word.
	awayConnections = 4
)

type turnedAwayKey struct{}

// limited bounds the connections that are open at once.
type limited struct {
	net.Listener
	open   chan struct{}
	away   chan struct{}
	places *places
}

func newLimited(l net.Listener, privileged func(uid uint32) bool) limited {
	return limited{
		l, make(chan struct{}, maxConnections), make(chan struct{}, awayConnections),
		newPlaces(privileged, userConnections, usersConnections),
	}
}

func (l limited) Accept() (net.Conn, error) {
	for {
		l.open <- struct{}{}
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.open
			return nil, err
		}
		cred, _ := caller(c)
		switch {
		case cred == nil:
			return &counted{Conn: c, open: l.open}, nil
		case l.places.take(cred.Uid):
			return &counted{Conn: c, open: l.open, over: func() { l.places.giveBack(cred.Uid) }}, nil
		}
		<-l.open
		select {
		case l.away <- struct{}{}:
			return &counted{Conn: c, open: l.away, turnedAway: true}, nil
		default:
			_ = c.Close()
		}
	}
}

// counted gives its place back once, whoever closes it and how often.
type counted struct {
	net.Conn
	open       chan struct{}
	over       func()
	turnedAway bool
	once       sync.Once
}

func (c *counted) Unwrap() net.Conn { return c.Conn }

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		if c.over != nil {
			c.over()
		}
		<-c.open
	})
	return err
}

// places bounds what users that are not privileged have of something, each and all
// together.
type places struct {
	privileged func(uid uint32) bool
	each, all  int

	mu    sync.Mutex // guards the fields below
	of    map[uint32]int
	users int // of all of them
}

func newPlaces(privileged func(uid uint32) bool, each, all int) *places {
	return &places{privileged: privileged, each: each, all: all, of: map[uint32]int{}}
}

func (p *places) take(uid uint32) bool {
	if p.privileged(uid) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[uid] >= p.each || p.users >= p.all {
		return false
	}
	p.of[uid]++
	p.users++
	return true
}

func (p *places) giveBack(uid uint32) {
	if p.privileged(uid) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	if p.of[uid]--; p.of[uid] == 0 {
		delete(p.of, uid)
	}
}

// turns bound the commands of one kind that are under way. One of them is for root and
// the daemon's own user alone.
type turns struct {
	privileged func(uid uint32) bool
	all, users chan struct{}
}

func newTurns(privileged func(uid uint32) bool, most int) *turns {
	return &turns{privileged: privileged, all: make(chan struct{}, most), users: make(chan struct{}, most-1)}
}

// take answers those who have to come again, and reports whether the caller may go on,
// until it calls over.
func (t *turns) take(w http.ResponseWriter, r *http.Request, many string) (over func(), ok bool) {
	cred, _ := r.Context().Value(callerKey{}).(*unix.Ucred)
	taken := []chan struct{}{t.all}
	if cred == nil || !t.privileged(cred.Uid) {
		taken = []chan struct{}{t.users, t.all}
	}
	over = func() {}
	for _, places := range taken {
		select {
		case places <- struct{}{}:
		default:
			over()
			http.Error(w, many, http.StatusTooManyRequests)
			return nil, false
		}
		before := over
		over = func() { <-places; before() }
	}
	return over, true
}

// seated answers those that are too many.
func seated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away, _ := r.Context().Value(turnedAwayKey{}).(bool); away {
			w.Header().Set("Connection", "close")
			http.Error(w, "too many connections of this user are open", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}
