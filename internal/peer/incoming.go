package peer

// The receiving half of a path listens on the local address, which may come and
// go, and reads from the youngest connection of the peer.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// acceptLimit is how many connections of one path may be saying hello at once.
// Of those that said it only the youngest stays: a peer that dials again has
// given the one before up, even where no packet of it came to say so.
const acceptLimit = 4

// incoming is one accepted connection. Its number says how young it is among
// those of all paths.
type incoming struct {
	conn   *net.TCPConn
	number uint64
}

func (p *path) listen(ctx context.Context) {
	var b backoff
	for ctx.Err() == nil {
		b.begin()
		ln, err := bind(ctx, p.local, p.link.cfg.Port)
		if err == nil {
			bound := time.Now()
			err = p.accept(ctx, ln)
			b.worked(bound)
		}
		if err != nil && ctx.Err() == nil {
			p.failReceive(err)
		}
		b.wait(ctx, nil)
	}
}

// accept serves a listener until it fails or ctx ends, and all its connections.
func (p *path) accept(ctx context.Context, ln *net.TCPListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer ln.Close()
	// Closing twice is an error that says nothing.
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.AcceptTCP()
		if err != nil {
			return err // it names the address
		}
		if !p.mayGreet(conn) {
			abort(conn)
			continue
		}
		wg.Go(func() { p.serve(ctx, conn) })
	}
}

// mayGreet decides on a new connection by its source and the number of others.
func (p *path) mayGreet(conn *net.TCPConn) bool {
	from, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || from.AddrPort().Addr().Unmap() != p.peer {
		p.strangers.Add(1)
		return false
	}
	if p.greeting.Add(1) > acceptLimit {
		p.greeting.Add(-1)
		p.refused.Add(1)
		p.failReceive(fmt.Errorf("receive from %v: more than %d connections say hello at once", p.peer, acceptLimit))
		return false
	}
	return true
}

func (p *path) serve(ctx context.Context, conn *net.TCPConn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { abort(conn) })
	defer stop()
	in := &incoming{conn: conn}
	// The number is given before the answer: a daemon that speaks by this
	// connection lived when it was given.
	c, err := answered(conn, p.link.cfg, func() { in.number = p.link.accepted.Add(1) })
	p.greeting.Add(-1)
	if err != nil {
		p.refused.Add(1)
	} else if p.enter(in) {
		err = p.receive(c, in)
	}
	if err != nil && ctx.Err() == nil {
		p.failReceive(fmt.Errorf("receive from %v: %w", p.peer, err))
	}
}

// enter makes in the connection by which the peer speaks, unless a younger one is.
func (p *path) enter(in *incoming) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.incoming != nil {
		if p.incoming.number > in.number {
			return false
		}
		abort(p.incoming.conn)
	}
	p.incoming = in
	select {
	case p.kick <- struct{}{}:
	default:
	}
	return true
}

// leave reports whether in was still the connection by which the peer speaks.
func (p *path) leave(in *incoming) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.incoming != in {
		return false
	}
	p.incoming = nil
	return true
}

// receive delivers messages until the connection ends. That the peer closed it,
// or took a younger one, is no error.
func (p *path) receive(c *channel, in *incoming) error {
	var err error
	var batch []Said
	c.reader.further.done = func(kind byte, message []byte) error { return p.link.hear(c.far.Boot, in.number, kind, message) }
	for err == nil {
		batch, err = p.receiveFrame(c, in.number, batch[:0])
		clear(batch) // what was said is not to be held until the next frame of this size
	}
	current := p.leave(in)
	p.link.server.left()
	if !current || errors.Is(err, io.EOF) {
		return nil
	}
	var bad *malformed
	switch {
	case errors.As(err, &bad):
		p.malformed.Add(1)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("nothing for %v", readTime)
	}
	return err
}

// receiveFrame delivers the messages of one frame.
func (p *path) receiveFrame(c *channel, number uint64, batch []Said) ([]Said, error) {
	body, err := c.read()
	if err != nil {
		return batch, err
	}
	batch, err = c.reader.read(body, batch)
	if err != nil && !errors.Is(err, errTooMany) {
		return batch, &malformed{err}
	}
	p.received.Add(uint64(len(batch)))
	p.heard.Store(int64(now()))
	stale, tooMany := p.link.inbox.take(number, batch)
	p.duplicates.Add(uint64(stale))
	if err = errors.Join(err, tooMany); err != nil {
		// The other instances' messages are worth keeping the connection.
		p.failReceive(fmt.Errorf("receive from %v: %w", p.peer, err))
	}
	return batch, nil
}
