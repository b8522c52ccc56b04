package vip

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultWithin = 100 * time.Millisecond
	// askRounds is how often each question is put: one lost frame is not silence.
	askRounds = 3
	// pollSlice bounds how late the end of ctx is noticed.
	pollSlice = 10 * time.Millisecond
)

// ErrNoCarrier says that the interface is down or has no link: nobody can
// answer, so silence means nothing.
var ErrNoCarrier = errors.New("interface has no carrier")

// Question says what to ask the network about. All addresses are IPv4.
type Question struct {
	Interface string
	// VIPs are the addresses whose holder is wanted. This host must not hold
	// them itself: it would not hear its own answer.
	VIPs []netip.Addr
	// PeerOnLink are the peer's own addresses in the interface's subnets, asked
	// by ARP and by ICMP echo.
	PeerOnLink []netip.Addr
	// PeerTCP are ports of the peer. A connection and a refusal both say that
	// its kernel is alive.
	PeerTCP []netip.AddrPort
	// Within is how long to listen; 0 is 100 ms. All of it is used: a second
	// holder may answer later than the first.
	Within time.Duration
}

// Claimant is hardware that claimed a virtual address.
type Claimant struct {
	Address  netip.Addr
	Hardware net.HardwareAddr
}

// Answer is what was heard, in the order of addresses.
type Answer struct {
	Claimants []Claimant // who answers for a VIP, each once
	Host      bool       // one of the peer's own addresses or ports answered
	// HostHardware is the hardware that answered for PeerOnLink.
	HostHardware []net.HardwareAddr
}

// Claimed reports whether anybody answered for a VIP.
func (a Answer) Claimed() bool { return len(a.Claimants) > 0 }

// Ask asks the kernels on the network, not the daemons: who has the virtual
// addresses, and is the peer's host alive. It puts all questions at once, three
// times, from the network namespace of the calling thread.
//
// With an error the Answer holds what was heard, but silence in it means
// nothing. ErrNoCarrier and ErrNoARP say so of the interface.
func Ask(ctx context.Context, q Question) (Answer, error) {
	if err := q.validate(); err != nil {
		return Answer{}, fmt.Errorf("ask: %w", err)
	}
	if q.Within <= 0 {
		q.Within = defaultWithin
	}
	a := asking{question: q}
	err := errors.Join(a.open(), ctx.Err())
	if err == nil {
		err = a.converse(ctx)
	}
	err = errors.Join(err, a.close())
	a.answer.sort()
	if err != nil {
		return a.answer, fmt.Errorf("ask on %s: %w", q.Interface, err)
	}
	return a.answer, nil
}

func (q Question) validate() error {
	for _, addr := range slices.Concat(q.VIPs, q.PeerOnLink) {
		if !addr.Is4() {
			return fmt.Errorf("address %v is not IPv4", addr)
		}
	}
	for _, port := range q.PeerTCP {
		if !port.Addr().Is4() {
			return fmt.Errorf("address %v is not IPv4", port)
		}
	}
	return nil
}

// asking is one Ask. It runs on the caller's thread alone, with non-blocking
// sockets and poll(2).
type asking struct {
	question Question
	answer   Answer
	voices   []voice
}

// voice is one way to ask.
type voice interface {
	// ask puts the question once more.
	ask() error
	// listening returns the descriptors that may have an answer, and for what
	// to poll them.
	listening() []unix.PollFd
	// hear takes the answer from one of them.
	hear(fd int, answer *Answer)
	close() error
}

func (a *asking) open() error {
	neighbours, err := openARP(a.question)
	if err != nil {
		return err
	}
	a.voices = append(a.voices, neighbours)
	if len(a.question.PeerOnLink) > 0 {
		echo, err := openEcho(a.question)
		if err != nil {
			return err
		}
		a.voices = append(a.voices, echo)
	}
	a.voices = append(a.voices, &ports{targets: a.question.PeerTCP})
	return nil
}

// converse asks in rounds spread over the time, and listens throughout.
func (a *asking) converse(ctx context.Context) error {
	start := time.Now()
	for round := range askRounds {
		for _, v := range a.voices {
			if err := v.ask(); err != nil {
				return err
			}
		}
		end := start.Add(a.question.Within * time.Duration(round+1) / askRounds)
		if err := a.listen(ctx, end); err != nil {
			return err
		}
	}
	return nil
}

func (a *asking) listen(ctx context.Context, end time.Time) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if err := a.listenOnce(min(left, pollSlice)); err != nil {
			return err
		}
	}
}

func (a *asking) listenOnce(wait time.Duration) error {
	var fds []unix.PollFd
	var owners []voice
	for _, v := range a.voices {
		for _, fd := range v.listening() {
			fds, owners = append(fds, fd), append(owners, v)
		}
	}
	timeout := unix.NsecToTimespec(wait.Nanoseconds())
	if _, err := unix.Ppoll(fds, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for answers: %w", err)
	}
	for i, fd := range fds {
		if fd.Revents != 0 {
			owners[i].hear(int(fd.Fd), &a.answer)
		}
	}
	return nil
}

func (a *asking) close() error {
	var errs []error
	for _, v := range a.voices {
		errs = append(errs, v.close())
	}
	return errors.Join(errs...)
}

func (a *Answer) claim(addr netip.Addr, hw net.HardwareAddr) {
	known := slices.ContainsFunc(a.Claimants, func(c Claimant) bool {
		return c.Address == addr && bytes.Equal(c.Hardware, hw)
	})
	if !known {
		a.Claimants = append(a.Claimants, Claimant{Address: addr, Hardware: hw})
	}
}

func (a *Answer) hostHardware(hw net.HardwareAddr) {
	a.Host = true
	if !slices.ContainsFunc(a.HostHardware, func(known net.HardwareAddr) bool { return bytes.Equal(known, hw) }) {
		a.HostHardware = append(a.HostHardware, hw)
	}
}

func (a *Answer) sort() {
	slices.SortFunc(a.Claimants, func(x, y Claimant) int {
		return cmp.Or(x.Address.Compare(y.Address), bytes.Compare(x.Hardware, y.Hardware))
	})
	slices.SortFunc(a.HostHardware, func(x, y net.HardwareAddr) int { return bytes.Compare(x, y) })
}
