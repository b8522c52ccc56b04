package main

// The client: it sends a small UDP probe to the virtual address all the time, and
// each router answers with its name. Every stamp is from this process's monotonic
// clock.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// probeInterval is the time between two probes.
	probeInterval = time.Millisecond
	// probePort is echo's.
	probePort = 7
	// socketTimeout is how long a thread sits in a read before it looks whether it
	// is still wanted.
	socketTimeout = 100 * time.Millisecond
	// settleTime is what the last probes get to be answered.
	settleTime = 300 * time.Millisecond
)

// clock is time since this process began.
type clock struct{ start time.Time }

func (c clock) now() time.Duration { return time.Since(c.start) }

// client is the probing client and the two responders.
type client struct {
	clock clock
	stop  atomic.Bool
	wait  sync.WaitGroup

	sent  []time.Duration // by probe; written by the sender alone
	got   []time.Duration // by probe, 0 without an answer; written by the receiver alone
	by    []side
	count atomic.Int64
	last  [2]atomic.Int64 // when each router's last answer came
	err   error           // of a thread, read after the wait
	once  sync.Once
}

// newClient starts probing the first instance's address for at most limit. The
// caller ends it with finish.
func newClient(p *pair, c clock, limit time.Duration) (*client, error) {
	n := int(limit/probeInterval) + 1
	cl := &client{clock: c, sent: make([]time.Duration, n), got: make([]time.Duration, n), by: make([]side, n)}
	var sockets []int
	open := func(in *space, bind netip.Addr, port int) (fd int, err error) {
		err = in.do(func() error {
			fd, err = probeSocket(bind, port)
			return err
		})
		if err == nil {
			sockets = append(sockets, fd)
		}
		return fd, err
	}
	fail := func(err error) (*client, error) {
		for _, fd := range sockets {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("open the probes' sockets: %w", err)
	}
	var answer [2]int
	for _, s := range []side{first, second} {
		var err error
		if answer[s], err = open(p.routers[s], vipOf(1), probePort); err != nil {
			return fail(err)
		}
	}
	ask, err := open(p.client, clientAddr(), 0)
	if err != nil {
		return fail(err)
	}
	for _, s := range []side{first, second} {
		cl.thread(func() error { defer unix.Close(answer[s]); return cl.respond(answer[s], s) })
	}
	received := make(chan struct{})
	cl.thread(func() error { defer close(received); return cl.receive(ask) })
	cl.thread(func() error {
		err := cl.send(ask)
		<-received
		return errors.Join(err, unix.Close(ask))
	})
	return cl, nil
}

// probeSocket may be bound to an address that the host does not have yet.
func probeSocket(bind netip.Addr, port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	timeout := unix.NsecToTimeval(int64(socketTimeout))
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: bind.As4(), Port: port}),
	)
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// thread runs fn on a punctual thread of its own; what fails ends the probing.
func (c *client) thread(fn func() error) {
	c.wait.Go(func() {
		punctual()
		if err := fn(); err != nil {
			c.once.Do(func() { c.err = err })
			c.stop.Store(true)
		}
	})
}

// punctual puts the calling goroutine on an OS thread of its own that does not
// wait for others, where that is allowed: the client and the services of a real
// pair are not on the cores of its daemons. The thread ends with the goroutine.
func punctual() {
	runtime.LockOSThread()
	_ = schedule(unix.SCHED_RR, measuringPriority) // later is worse, and seen
}

// Real-time priorities: what measures goes before what is measured.
const (
	measuringPriority = 2
	daemonPriority    = 1
)

// schedule changes the policy of the calling thread.
func schedule(policy, priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("change the scheduling policy: %w", err)
	}
	return nil
}

// sleep waits on the calling thread, not by the runtime's timers.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // cut short by a signal it is early, and the next one makes up for it
}

// A probe is its number; an answer has the router's name behind it.
const (
	probeSize  = 8
	answerSize = probeSize + 1
)

func (c *client) respond(fd int, s side) error {
	buf := make([]byte, answerSize)
	for !c.stop.Load() {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if again(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("answer probes on %s: %w", s, err)
		}
		if n != probeSize {
			continue
		}
		buf[probeSize] = byte(s)
		// The address may have gone meanwhile: then this answer is lost, too.
		_ = unix.Sendto(fd, buf, 0, from)
	}
	return nil
}

func again(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ECONNREFUSED)
}

func (c *client) send(fd int) error {
	to := &unix.SockaddrInet4{Addr: vipOf(1).As4(), Port: probePort}
	var buf [probeSize]byte
	next := c.clock.now()
	for i := 0; i < len(c.sent) && !c.stop.Load(); i++ {
		binary.BigEndian.PutUint64(buf[:], uint64(i))
		c.sent[i] = c.clock.now()
		c.count.Store(int64(i + 1))
		_ = unix.Sendto(fd, buf[:], 0, to) // unreachable is a lost probe
		next += probeInterval
		if wait := next - c.clock.now(); wait > 0 {
			sleep(wait)
		} else if wait < -10*probeInterval {
			next = c.clock.now() // far behind: no burst to make up for it
		}
	}
	return nil
}

func (c *client) receive(fd int) error {
	buf := make([]byte, answerSize)
	for !c.stop.Load() {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if again(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive answers: %w", err)
		}
		i := binary.BigEndian.Uint64(buf)
		if n != answerSize || i >= uint64(len(c.got)) || c.got[i] != 0 {
			continue
		}
		now := c.clock.now()
		c.got[i], c.by[i] = now, side(buf[probeSize])
		c.last[c.by[i]].Store(int64(now))
	}
	return nil
}

// answeredBy waits for an answer of a router that came after an instant.
func (c *client) answeredBy(ctx context.Context, s side, after time.Duration) error {
	return poll(ctx, fmt.Sprintf("%s answers", s), func(context.Context) error {
		if c.stop.Load() {
			return errors.New("the client has stopped")
		}
		if last := time.Duration(c.last[s].Load()); last <= after {
			return errors.New("no answer")
		}
		return nil
	})
}

// lastAnswer is when the last answer of any router came.
func (c *client) lastAnswer() time.Duration {
	return time.Duration(max(c.last[first].Load(), c.last[second].Load()))
}

// finish ends the probing. Only then seen may be called.
func (c *client) finish() error {
	c.stop.Store(true)
	c.wait.Wait()
	return c.err
}

// seen is what the client experienced in a span of time.
type seen struct {
	outage time.Duration // longest time without an answer
	lost   int           // probes sent in the span that nobody answered
	probes int
	slow   time.Duration // longest time between two probes
	// served is from the start of the span to the first answer of a router, -1
	// when there was none.
	served [2]time.Duration
}

func (c *client) seen(from, to time.Duration) seen {
	s := seen{served: [2]time.Duration{-1, -1}}
	last := from
	for _, i := range c.byArrival() {
		at := c.got[i]
		if at <= from {
			last = at // what began before and goes on counts from there
			continue
		}
		s.outage = max(s.outage, min(at, to)-last)
		last = min(at, to)
		if at <= to && s.served[c.by[i]] < 0 {
			s.served[c.by[i]] = at - from
		}
	}
	s.outage = max(s.outage, to-last)
	for i := range int(c.count.Load()) {
		if c.sent[i] >= from && c.sent[i] <= to {
			s.probes++
			if i > 0 {
				s.slow = max(s.slow, c.sent[i]-c.sent[i-1])
			}
			if c.got[i] == 0 {
				s.lost++
			}
		}
	}
	return s
}

// byArrival lists the answered probes in the order of their answers.
func (c *client) byArrival() []int {
	return arrivals(c.got[:c.count.Load()])
}
