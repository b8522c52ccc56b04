package mysql

// A killed server is noticed when its process ends, not when it is next asked.

import (
	"context"
	"net"
	"sync"
)

// Watch calls ended whenever the process behind the server's unix socket has
// ended, until ctx does. It is told of a process when a measurement connects to
// it, so a server that was never measured, or that is reached over TCP, is not
// watched. One goroutine may watch a database.
func (d *Database) Watch(ctx context.Context, ended func()) {
	for {
		p := d.server.current()
		if p == nil {
			select {
			case <-ctx.Done():
				return
			case <-d.server.changed:
			}
			continue
		}
		err := p.await(ctx)
		over := p.ended()
		p.close()
		if ctx.Err() != nil {
			return
		}
		if err == nil && over {
			ended()
		}
	}
}

// serverProcess is the process that measurements are answered by.
type serverProcess struct {
	changed chan struct{} // one pending: that there is another process

	mu   sync.Mutex // guards held
	held *process
}

// dialNoted connects, and takes hold of who listens. Who that is may stay unknown:
// a measurement needs no process.
func (d *Database) dialNoted(ctx context.Context, _, _ string) (net.Conn, error) {
	c, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	d.server.note(c)
	return c, nil
}

func (s *serverProcess) note(c net.Conn) {
	p, err := processBehind(c)
	if err != nil {
		return
	}
	if !isServer(p.pid) {
		p.close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil && s.held.pid == p.pid && !s.held.ended() {
		p.close()
		return
	}
	s.forget()
	s.held = p
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// forget gives the process up; the caller holds the lock.
func (s *serverProcess) forget() {
	if s.held != nil {
		s.held.close()
		s.held = nil
	}
}

// current returns a descriptor of the process for the caller to close, nil when
// there is none any more.
func (s *serverProcess) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return nil
	}
	p, err := s.held.again()
	if err != nil {
		s.forget()
		return nil
	}
	return p
}

func (s *serverProcess) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
}
