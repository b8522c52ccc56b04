// Package probe measures a virtual address as a client sees it: a small UDP probe
// goes to it all the time, and each of two hosts answers with its number. Every
// stamp is from this process's monotonic clock.
package probe

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Interval is the time between two probes.
	Interval = time.Millisecond
	// SocketTimeout is how long a thread sits in a read before it looks whether it
	// is still wanted.
	SocketTimeout = 100 * time.Millisecond
	// SettleTime is what the last probes get to be answered.
	SettleTime = 300 * time.Millisecond

	port = 7 // echo's
)

// Clock is time since it was made.
type Clock struct{ start time.Time }

// NewClock starts a clock.
func NewClock() Clock { return Clock{time.Now()} }

// Now is the time on it.
func (c Clock) Now() time.Duration { return time.Since(c.start) }

// Of is an instant's time on it.
func (c Clock) Of(t time.Time) time.Duration { return t.Sub(c.start) }

// Place runs a function inside a network namespace; the sockets that it opens
// stay there.
type Place func(func() error) error

// Config is where to probe what. All is needed.
type Config struct {
	Clock   Clock
	Client  Place
	From    netip.Addr // the client's own address
	Hosts   [2]Place   // where the answers come from, whether they have the address or not
	Address netip.Addr // the virtual one, IPv4
	Limit   time.Duration
}

// Client is the probing client and the two responders.
type Client struct {
	clock Clock
	to    netip.Addr
	stop  atomic.Bool
	wait  sync.WaitGroup

	sent  []time.Duration // by probe; written by the sender alone
	got   []time.Duration // by probe, 0 without an answer; written by the receiver alone
	by    []int
	count atomic.Int64
	last  [2]atomic.Int64 // when each host's last answer came
	mute  atomic.Int64    // probes that a host received and could not answer
	err   error           // of a thread, read after the wait
	once  sync.Once
}

// Start starts probing for at most the limit. The caller ends it with Finish.
func Start(cfg Config) (*Client, error) {
	n := int(cfg.Limit/Interval) + 1
	cl := &Client{clock: cfg.Clock, to: cfg.Address, sent: make([]time.Duration, n), got: make([]time.Duration, n), by: make([]int, n)}
	var sockets []int
	open := func(in Place, bind netip.Addr, port int) (fd int, err error) {
		err = in(func() error {
			fd, err = probeSocket(bind, port)
			return err
		})
		if err == nil {
			sockets = append(sockets, fd)
		}
		return fd, err
	}
	fail := func(err error) (*Client, error) {
		for _, fd := range sockets {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("open the probes' sockets: %w", err)
	}
	var answer [2]int
	for h, place := range cfg.Hosts {
		var err error
		if answer[h], err = open(place, cfg.Address, port); err != nil {
			return fail(err)
		}
	}
	ask, err := open(cfg.Client, cfg.From, 0)
	if err != nil {
		return fail(err)
	}
	for h, fd := range answer {
		cl.thread(func() error { defer unix.Close(fd); return cl.respond(fd, h) })
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
	timeout := unix.NsecToTimeval(int64(SocketTimeout))
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
func (c *Client) thread(fn func() error) {
	c.wait.Go(func() {
		Punctual()
		if err := fn(); err != nil {
			c.once.Do(func() { c.err = err })
			c.stop.Store(true)
		}
	})
}

// Punctual puts the calling goroutine on an OS thread of its own that does not
// wait for others, where that is allowed: the client and the services of a real
// pair are not on the cores of its daemons. The thread ends with the goroutine.
func Punctual() {
	runtime.LockOSThread()
	_ = Schedule(unix.SCHED_RR, measuringPriority) // later is worse, and seen
}

// Real-time priorities: what measures goes before what is measured.
const (
	measuringPriority = 2
	// DaemonPriority is for a daemon that is measured.
	DaemonPriority = 1
)

// Schedule changes the policy of the calling thread.
func Schedule(policy, priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("change the scheduling policy: %w", err)
	}
	return nil
}

// Sleep waits on the calling thread, not by the runtime's timers.
func Sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // cut short by a signal it is early, and the next one makes up for it
}

// A probe is its number; an answer has the router's name behind it.
const (
	probeSize  = 8
	answerSize = probeSize + 1
)

func (c *Client) respond(fd, host int) error {
	buf := make([]byte, answerSize)
	for !c.stop.Load() {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if Again(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("answer probes on host %d: %w", host, err)
		}
		if n != probeSize {
			continue
		}
		buf[probeSize] = byte(host)
		if unix.Sendto(fd, buf, 0, from) != nil {
			c.mute.Add(1) // the address went meanwhile: this answer is lost, too
		}
	}
	return nil
}

// Again reports whether an error of a socket says no more than that there is
// nothing now.
func Again(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ECONNREFUSED)
}

func (c *Client) send(fd int) error {
	to := &unix.SockaddrInet4{Addr: c.to.As4(), Port: port}
	var buf [probeSize]byte
	next := c.clock.Now()
	for i := 0; i < len(c.sent) && !c.stop.Load(); i++ {
		binary.BigEndian.PutUint64(buf[:], uint64(i))
		c.sent[i] = c.clock.Now()
		c.count.Store(int64(i + 1))
		_ = unix.Sendto(fd, buf[:], 0, to) // unreachable is a lost probe
		next += Interval
		if wait := next - c.clock.Now(); wait > 0 {
			Sleep(wait)
		} else if wait < -10*Interval {
			next = c.clock.Now() // far behind: no burst to make up for it
		}
	}
	return nil
}

func (c *Client) receive(fd int) error {
	buf := make([]byte, answerSize)
	for !c.stop.Load() {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if Again(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive answers: %w", err)
		}
		i := binary.BigEndian.Uint64(buf)
		if n != answerSize || buf[probeSize] > 1 || i >= uint64(len(c.got)) || c.got[i] != 0 {
			continue
		}
		now := c.clock.Now()
		c.got[i], c.by[i] = now, int(buf[probeSize])
		c.last[c.by[i]].Store(int64(now))
	}
	return nil
}

// LastAnswer is when a host's last answer came, 0 for never. It fails when the
// probing has ended.
func (c *Client) LastAnswer(host int) (time.Duration, error) {
	if c.stop.Load() {
		return 0, errors.New("the probing has ended")
	}
	return time.Duration(c.last[host].Load()), nil
}

// Finish ends the probing. Only then Seen may be called.
func (c *Client) Finish() error {
	c.stop.Store(true)
	c.wait.Wait()
	return c.err
}

// Seen is what the client experienced in a span of time.
type Seen struct {
	Outage time.Duration // longest time without an answer
	Lost   int           // probes sent in the span that nobody answered
	Mute   int           // probes of any time that arrived where the address went before the answer
	Probes int
	Slow   time.Duration // longest time between two probes
	// Served is from the start of the span to the first answer of a host, -1 when
	// there was none.
	Served [2]time.Duration
}

// Seen returns what was experienced between two instants of the clock.
func (c *Client) Seen(from, to time.Duration) Seen {
	s := Seen{Served: [2]time.Duration{-1, -1}, Mute: int(c.mute.Load())}
	last := from
	for _, i := range c.byArrival() {
		at := c.got[i]
		if at <= from {
			last = at // what began before and goes on counts from there
			continue
		}
		s.Outage = max(s.Outage, min(at, to)-last)
		last = min(at, to)
		if at <= to && s.Served[c.by[i]] < 0 {
			s.Served[c.by[i]] = at - from
		}
	}
	s.Outage = max(s.Outage, to-last)
	for i := range int(c.count.Load()) {
		if c.sent[i] >= from && c.sent[i] <= to {
			s.Probes++
			if i > 0 {
				s.Slow = max(s.Slow, c.sent[i]-c.sent[i-1])
			}
			if c.got[i] == 0 {
				s.Lost++
			}
		}
	}
	return s
}

// byArrival lists the answered probes in the order of their answers.
func (c *Client) byArrival() []int {
	return Arrivals(c.got[:c.count.Load()])
}

// Arrivals lists the indices of what arrived, by its stamp.
func Arrivals(got []time.Duration) []int {
	var all []int
	for i, at := range got {
		if at != 0 {
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(got[a], got[b]) })
	return all
}
