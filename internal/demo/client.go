package demo

// The service is one that says on which host it runs. The client asks for it through
// the virtual address all the time, over a connection for each request.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	servicePort = 8080
	// askEvery is the time between two requests.
	askEvery = 10 * time.Millisecond
	// answerTime is what a request has. One whose connection breaks tries again
	// meanwhile, as clients do.
	answerTime = time.Second
	retryEvery = 5 * time.Millisecond
	// dialTime bounds one try: a lost packet is sent again by the kernel only after
	// a second.
	dialTime = 200 * time.Millisecond
)

// serve answers on a host with its label until ctx ends, whether that has the
// address or not.
func serve(ctx context.Context, h *space, label string, wait *sync.WaitGroup) error {
	var l net.Listener
	err := h.do(func() (err error) { l, err = net.Listen("tcp4", ":"+strconv.Itoa(servicePort)); return err })
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	wait.Go(func() {
		defer stop()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(answerTime))
			_, _ = io.WriteString(c, label+"\n")
			_ = c.Close()
		}
	})
	return nil
}

// answer is what became of one request.
type answer struct {
	asked, answered time.Time // answered is zero when it was not
	by              string
}

// client asks.
type client struct {
	place *space
	wait  sync.WaitGroup

	mu      sync.Mutex // guards answers
	answers []answer
}

// run asks until ctx ends. At most answerTime/askEvery requests are under way.
func (c *client) run(ctx context.Context) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	defer c.wait.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.wait.Go(func() {
			a := answer{asked: time.Now()}
			bounded, cancel := context.WithTimeout(ctx, answerTime)
			defer cancel()
			for bounded.Err() == nil {
				by, err := c.ask(bounded)
				if err == nil {
					a.answered, a.by = time.Now(), by
					break
				}
				sleep(bounded, retryEvery)
			}
			if ctx.Err() != nil {
				return // nobody's fault
			}
			c.mu.Lock()
			c.answers = append(c.answers, a)
			c.mu.Unlock()
		})
	}
}

func (c *client) ask(ctx context.Context) (string, error) {
	conn, err := c.dial()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	end := time.Now().Add(dialTime)
	if bound, ok := ctx.Deadline(); ok && bound.Before(end) {
		end = bound
	}
	if err := conn.SetReadDeadline(end); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn) // waits for the connection, too
	if err == nil && len(b) < 2 {
		err = errors.New("no answer")
	}
	if err != nil {
		return "", err
	}
	return string(b[:len(b)-1]), nil
}

// dial begins a connection and does not wait for it: the thread of the namespace is
// there for all requests.
func (c *client) dial() (*os.File, error) {
	to := &unix.SockaddrInet4{Addr: netip.MustParseAddr(virtual).As4(), Port: servicePort}
	fd := -1
	err := c.place.do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Connect(fd, to); errors.Is(err, unix.EINPROGRESS) {
			return nil
		}
		return err
	})
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), "request"), nil
}

// measured is what the client saw in a span of time.
type measured struct {
	asked, lost int
	gap         time.Duration // longest time between two answers
	by          string        // who answered last
}

// between measures the requests of a span. Those that were asked in it must have
// ended.
func (c *client) between(from, to time.Time) measured {
	c.mu.Lock()
	defer c.mu.Unlock()
	var m measured
	var times []time.Time
	last := from
	for _, a := range c.answers {
		if !a.asked.Before(from) && a.asked.Before(to) {
			m.asked++
			if a.answered.IsZero() {
				m.lost++
			}
		}
		if a.answered.After(from) && a.answered.Before(to) {
			times = append(times, a.answered)
			if a.answered.After(last) {
				last, m.by = a.answered, a.by
			}
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	before := from
	for _, t := range append(times, to) {
		m.gap = max(m.gap, t.Sub(before))
		before = t
	}
	return m
}

// answeredBy returns when a host first answered after an instant, zero for never.
func (c *client) answeredBy(label string, after time.Time) (first time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.answers {
		if a.by == label && a.asked.After(after) && (first.IsZero() || a.answered.Before(first)) {
			first = a.answered
		}
	}
	return first
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
