package peer

// The sending half of a path dials until it has a connection and empties the
// outbox into it.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// farewell is how long a message may take that is sent after the end of ctx.
const farewell = 100 * time.Millisecond

var (
	errGone  = errors.New("the peer closed the connection")
	errRekey = errors.New("there are other keys")
)

func (p *path) send(ctx context.Context) {
	var b backoff
	for ctx.Err() == nil {
		b.begin()
		crowded, err := p.connect(ctx, &b, false)
		if crowded && ctx.Err() == nil {
			_, err = p.connect(ctx, &b, true)
		}
		if err != nil && ctx.Err() == nil {
			p.failSend(err)
		}
		b.wait(ctx, p.kick)
	}
}

// connect makes one connection and uses it until it ends. crowded says that the peer's
// end may be flooded, and let nobody in from an ordinary port.
func (p *path) connect(ctx context.Context, b *backoff, reserved bool) (crowded bool, err error) {
	conn, err := dial(ctx, p.local, p.peer, p.link.cfg.Port, reserved)
	if err != nil {
		var op *net.OpError
		return errors.As(err, &op) && op.Timeout(), err // it names both ends
	}
	c, err := p.greet(ctx, conn)
	if err != nil {
		abort(conn)
		if crowded = !p.countRefused(err); crowded {
			b.period = firstWait // it was thrown out, or the peer has just ended
		}
		return crowded, fmt.Errorf("connect to %v: %w", p.peer, err)
	}
	began := time.Now()
	c.aside.number = p.link.dialed.Add(1)
	p.connected.Store(true)
	p.reads.Store(int64(max(c.far.Items, kindAgain)))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		// Nothing comes back by this connection but its end.
		_, _ = c.conn.Read(make([]byte, 1))
	}()
	switch err = p.empty(ctx, c, gone); {
	case errors.Is(err, errRekey):
		_ = conn.Close()
		*b, err = backoff{}, nil // the next one is due at once
	case err != nil:
		abort(conn)
		err = fmt.Errorf("send to %v: %w", p.peer, err)
	default:
		_ = conn.Close() // the kernel still sends what it has
	}
	<-gone
	p.connected.Store(false)
	p.reads.Store(0)
	if c.aside.report.active() {
		p.link.reports.giveBack(c.aside.report.message, c.aside.reported)
	}
	p.link.Flush() // another path may be the best now
	b.worked(began)
	return false, err
}

func (p *path) greet(ctx context.Context, conn *net.TCPConn) (*channel, error) {
	stop := context.AfterFunc(ctx, func() { abort(conn) })
	defer stop()
	return dialed(conn, p.terms())
}

// empty sends what is and what comes in the outbox until the connection fails.
// It returns nil when ctx ended and everything was sent.
func (p *path) empty(ctx context.Context, c *channel, gone <-chan struct{}) error {
	stop := context.AfterFunc(ctx, func() {
		// A write that hangs is not to outlast the farewell. One that fails says so.
		_ = c.conn.SetWriteDeadline(time.Now().Add(farewell))
	})
	defer stop()
	for {
		for sent := true; sent && ctx.Err() == nil; {
			var err error
			if sent, err = p.sendSome(ctx, c, time.Now().Add(writeTime)); err == nil && !sent {
				sent, err = p.sendAside(ctx, c, time.Now().Add(writeTime))
			}
			if err != nil {
				return err
			}
		}
		select {
		case <-p.outbox.wake:
		case <-gone:
			return errGone
		case <-p.rekey:
			if !p.link.secrets.Load().prefers(c.agreed.key) {
				return errRekey
			}
		case <-ctx.Done():
			return p.finish(ctx, c)
		}
	}
}

// finish sends what still waits when ctx has ended.
func (p *path) finish(ctx context.Context, c *channel) error {
	by := time.Now().Add(farewell)
	for {
		if sent, err := p.sendSome(ctx, c, by); err != nil || !sent {
			return err
		}
	}
}

// sendSome sends a frame of what is in the outbox by a deadline, farewell at most
// if ctx ends.
func (p *path) sendSome(ctx context.Context, c *channel, by time.Time) (sent bool, err error) {
	c.items = c.items[:0]
	c.writer.begin()
	for !c.writer.full() {
		it, ok := p.outbox.take()
		if !ok {
			break
		}
		c.items = append(c.items, it)
		c.writer.add(it)
	}
	if len(c.items) == 0 {
		return false, nil
	}
	if err := c.write(ctx, c.writer.end(), by); err != nil {
		p.outbox.giveBack(c.items)
		return false, err
	}
	p.sent.Add(uint64(len(c.items)))
	return true, nil
}

// sendAside sends one piece of what is no gossip.
func (p *path) sendAside(ctx context.Context, c *channel, by time.Time) (bool, error) {
	c.writer.begin()
	done := p.addAside(c)
	if done == nil {
		return false, nil
	}
	if err := c.write(ctx, c.writer.end(), by); err != nil {
		return false, err
	}
	done()
	return true, nil
}
