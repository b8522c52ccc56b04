package peer

// The receiving half of a path listens on the local address, which may come and
// go, and reads from the youngest connection of the peer.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// incoming is one accepted connection whose other end is proved. Its number says
// how young it is among those of all paths. Only the youngest stays: a peer that
// dials again has given the one before up, even where no packet of it came to say so.
type incoming struct {
	conn   *net.TCPConn
	number uint64
	agreed agreement
}

func (p *path) listen(ctx context.Context) {
	var b backoff
	for ctx.Err() == nil {
		b.begin()
		ln, err := p.bind(ctx)
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
func (p *path) accept(ctx context.Context, ln *listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	p.listens(ln)
	defer func() {
		p.listens(nil)
		_ = ln.Close() // closing twice is an error that says nothing
	}()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.next()
		switch {
		case err == nil:
		case starved(err) && ctx.Err() == nil:
			// The connection by which the peer speaks stands, and this listener is good.
			p.failReceive(err)
			wait(ctx, firstWait)
			continue
		default:
			return err
		}
		g := &guest{conn: conn}
		if !p.unproved.enter(ctx, g) {
			abort(conn)
			return ctx.Err()
		}
		wg.Go(func() { p.serve(ctx, g) })
	}
}

// starved reports whether this host lacks for a moment what a connection takes.
func starved(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// listens changes the listener whose drops are counted.
func (p *path) listens(ln *listener) {
	p.noteDropped()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listening = ln
}

// noteDropped counts what the kernel has dropped by now.
func (p *path) noteDropped() {
	p.mu.Lock()
	ln := p.listening
	p.mu.Unlock()
	if ln != nil {
		ln.noteDropped()
	}
}

func (p *path) serve(ctx context.Context, g *guest) {
	defer func() { g.at.leave(g) }() // last, so that the door bounds the goroutines too
	defer g.conn.Close()
	stop := context.AfterFunc(ctx, func() { abort(g.conn) })
	defer stop()
	in := &incoming{conn: g.conn}
	c, err := p.welcome(ctx, g, in)
	if err != nil {
		err = p.countRefusal(g, err)
	} else if p.enter(in) {
		err = p.receive(c, in)
	}
	if err != nil && ctx.Err() == nil {
		p.failReceive(fmt.Errorf("receive from %v: %w", p.peer, err))
	}
}

// welcome lets a guest prove itself.
func (p *path) welcome(ctx context.Context, g *guest, in *incoming) (*channel, error) {
	proved := func() error {
		if !p.proving.enter(ctx, g) {
			return ctx.Err()
		}
		return nil
	}
	// The number is given before the answer: a daemon that speaks by this
	// connection lived when it was given.
	c, err := answered(g.conn, p.terms(), proved, func() { in.number = p.link.accepted.Add(1) })
	if err == nil {
		in.agreed = c.agreed
		g.at.leave(g)
		g.at = nil
	}
	return c, err
}

// countRefusal returns what to say of a guest that did not become one.
func (p *path) countRefusal(g *guest, err error) error {
	reason := reasonOf(err)
	switch {
	case g.evicted.Load():
		reason = ReasonCrowded
		err = refuse(reason, "more than %d connections that prove nothing, or %d that do, came at once", unprovedLimit, provingLimit)
	case reason == ReasonSlow:
		err = refuse(reason, "it did not prove itself within %v", handshakeTime)
	case reason == 0:
		reason = ReasonUnfinished
		err = refuse(reason, "it ended before it proved itself")
	}
	p.refusals.note(reason, err)
	return err
}

// enter makes in the connection by which the peer speaks, unless a younger one is.
func (p *path) enter(in *incoming) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.link.secrets.Load().accepts(in.agreed.key) {
		return false // the key was taken away meanwhile
	}
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
	c.reader.further.done = func(kind byte, message []byte) error {
		if kind == kindPresence {
			return p.link.hearPresence(c, in.number, message)
		}
		return p.link.hear(c.far.Boot, in.number, kind, message)
	}
	for err == nil {
		batch, err = p.receiveFrame(c, in.number, batch[:0])
		clear(batch) // what was said is not to be held until the next frame of this size
	}
	current := p.leave(in)
	p.link.server.left()
	if !current || errors.Is(err, io.EOF) {
		return nil
	}
	switch reason := reasonOf(err); reason {
	case ReasonMalformed, ReasonTLS:
		p.refusals.note(reason, err)
	case ReasonSlow:
		return fmt.Errorf("nothing for %v", readTime)
	default: // it ended
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
