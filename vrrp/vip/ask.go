package vip

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// AskWithin is for asking a silent peer's kernel.
	AskWithin = 100 * time.Millisecond
	// ProbeWithin is for asking before an address is acquired without need for
	// haste. It is also the longest that Ask listens.
	ProbeWithin = 200 * time.Millisecond

	// askRounds is how often each question is put: one lost frame is not silence.
	askRounds = 5
	// pollSlice bounds how late the end of ctx is noticed.
	pollSlice = 10 * time.Millisecond
)

// ErrNoCarrier says that the interface is down or has no link: nobody can
// answer, so silence means nothing.
var ErrNoCarrier = errors.New("interface has no carrier")

// Question says what to ask the network about, in IPv4, IPv6 or both.
type Question struct {
	Interface string
	// VIPs are the addresses whose holder is wanted, by ARP and by neighbour
	// solicitation. This host must not hold them itself.
	VIPs []netip.Addr
	// PeerOnLink are the peer's own addresses in the interface's subnets, asked
	// in the same way and by ICMP echo. IPv6 ones can be asked only with an IPv6
	// address of this host's on the interface.
	PeerOnLink []netip.Addr
	// PeerTCP are ports of the peer, wherever the host's routes lead. A connection
	// and a refusal both say that its kernel is alive, and so does an answer to an
	// ICMP echo to their addresses.
	PeerTCP []netip.AddrPort
	// PeerTCPFrom are the addresses that those ports take connections from, one for
	// each. They are asked from there as well as from where the routes say, and from a
	// port that takes root: in a flood the peer's kernel answers no other.
	PeerTCPFrom []netip.Addr
	// Peer says which answers are the peer's and learns from this one. With nil,
	// all of them are.
	Peer *Peer
	// Within is how long to listen, at most ProbeWithin; 0 is AskWithin. All of
	// it is used: a second holder may answer later than the first.
	Within time.Duration
}

// Claimant is hardware that claimed a virtual address. It is never this host's.
type Claimant struct {
	Address  netip.Addr
	Hardware net.HardwareAddr
	// Peer is true for hardware that the peer was heard with, now or earlier, and
	// for any while none is known. Else it is a stranger's.
	Peer bool
}

// Answer is what was heard, in the order of addresses.
type Answer struct {
	Claimants []Claimant // who answers for a VIP, each once
	Host      bool       // one of the peer's own addresses or ports answered
	// HostHardware is the hardware that answered for PeerOnLink.
	HostHardware []net.HardwareAddr

	round uint8 // that is being asked
	heard uint8 // a bit for each round in which a host address was answered for
}

// PeerClaims reports whether the peer answered for a VIP.
func (a Answer) PeerClaims() bool {
	return slices.ContainsFunc(a.Claimants, func(c Claimant) bool { return c.Peer })
}

// Strangers returns the claimants that are not the peer.
func (a Answer) Strangers() []Claimant {
	return slices.DeleteFunc(slices.Clone(a.Claimants), func(c Claimant) bool { return c.Peer })
}

// OnLink reports whether the peer's host answered on the link itself, and in all
// rounds but one at the most: then it would also have answered for a VIP. Where
// frames get lost the silence of a VIP means little.
func (a Answer) OnLink() bool { return bits.OnesCount8(a.heard) >= askRounds-1 }

// Ask asks the kernels on the network, not the daemons: who has the virtual
// addresses, and is the peer's host alive. It puts all questions at once, five
// times, from the network namespace of the calling thread.
//
// With an error the Answer holds what was heard, but silence in it means
// nothing. ErrNoCarrier and ErrNoARP say so of the interface.
func Ask(ctx context.Context, q Question) (Answer, error) {
	return ask(ctx, q.bounded())
}

func ask(ctx context.Context, q Question) (Answer, error) {
	r := together(ctx, []Question{q})[0]
	return r.Answer, r.Err
}

func (q Question) bounded() Question {
	if q.Within <= 0 {
		q.Within = AskWithin
	}
	q.Within = min(q.Within, ProbeWithin)
	return q
}

func (q Question) validate() error {
	addrs := slices.Concat(q.VIPs, q.PeerOnLink)
	for _, port := range q.PeerTCP {
		addrs = append(addrs, port.Addr())
	}
	addrs = append(addrs, q.PeerTCPFrom...)
	if n := len(q.PeerTCPFrom); n > 0 && n != len(q.PeerTCP) {
		return fmt.Errorf("%d ports of the peer that take connections from %d addresses", len(q.PeerTCP), n)
	}
	for _, addr := range addrs {
		if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() {
			return fmt.Errorf("%v is not a host address", addr)
		}
	}
	return nil
}

// plain is the question with addresses as they come in frames.
func (q Question) plain() Question {
	q.VIPs, q.PeerOnLink = plainAddrs(q.VIPs), plainAddrs(q.PeerOnLink)
	q.PeerTCP = slices.Clone(q.PeerTCP)
	for i, p := range q.PeerTCP {
		q.PeerTCP[i] = netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
	}
	q.PeerTCPFrom = plainAddrs(q.PeerTCPFrom)
	return q
}

// asking is one Ask, or the part of several that goes where the routes lead. It
// runs on the caller's thread alone, with non-blocking sockets and poll(2).
type asking struct {
	question Question
	index    int // of its interface
	answer   Answer
	err      error // nothing is asked any more
	voices   []voice
	routed   *asking // asks for it along the routes, nil: nobody has to
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

// open opens a way to ask on the link for each family that is asked about.
func (a *asking) open() error {
	q := a.question
	ifi, source, err := scene(q)
	if err != nil {
		return err
	}
	a.index = ifi.Index
	own, err := ownHardware()
	if err != nil {
		return err
	}
	onLink := slices.Concat(q.VIPs, q.PeerOnLink)
	peer4, peer6 := byFamily(q.PeerOnLink)
	return errors.Join(
		a.add(slices.ContainsFunc(onLink, netip.Addr.Is4), func() (voice, error) { return openARP(q, ifi, own) }),
		a.add(slices.ContainsFunc(onLink, netip.Addr.Is6), func() (voice, error) { return openSolicitations(q, ifi, own, source) }),
		a.add(len(peer4) > 0, func() (voice, error) { return openEcho(ifi.Name, ifi.Index, unix.AF_INET, peer4) }),
		a.add(len(peer6) > 0, func() (voice, error) { return openEcho(ifi.Name, ifi.Index, unix.AF_INET6, peer6) }),
	)
}

func (a *asking) add(wanted bool, open func() (voice, error)) error {
	if !wanted {
		return nil
	}
	v, err := open()
	if err == nil {
		a.voices = append(a.voices, v)
	}
	return err
}

// scene returns the interface, if somebody could hear us on it, and an IPv6
// address of our own there to ask from, if there is one.
func scene(q Question) (ifi *net.Interface, source netip.Addr, err error) {
	k, err := openKernel(answerTimeout)
	if err != nil {
		return nil, netip.Addr{}, err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	if ifi, err = k.ethernet(q.Interface); err != nil {
		return nil, netip.Addr{}, err
	}
	if ifi.Flags&net.FlagRunning == 0 {
		return nil, netip.Addr{}, ErrNoCarrier
	}
	if !slices.ContainsFunc(q.PeerOnLink, netip.Addr.Is6) {
		return ifi, netip.Addr{}, nil
	}
	list, err := k.addresses(ifi.Index)
	return ifi, sourceAmong(list, q.VIPs), err
}

// sourceAmong prefers a link-local address, which every neighbour can answer.
func sourceAmong(list []found, vips []netip.Addr) (source netip.Addr) {
	for _, a := range list {
		if a.Addr().Is4() || a.undetected() || slices.Contains(vips, a.Addr()) {
			continue
		}
		if !source.IsValid() || a.Addr().IsLinkLocalUnicast() {
			source = a.Addr()
		}
	}
	return source
}

// ownHardware is of all interfaces: any of them may answer for what is ours.
func ownHardware() ([]net.HardwareAddr, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var own []net.HardwareAddr
	for _, i := range list {
		if len(i.HardwareAddr) == ethernetAddressLength {
			own = append(own, i.HardwareAddr)
		}
	}
	return own, nil
}

func byFamily(as []netip.Addr) (v4, v6 []netip.Addr) {
	for _, a := range as {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	return v4, v6
}

// converse asks in rounds spread over the time, and listens throughout.
func converse(ctx context.Context, links []*asking, within time.Duration) {
	for _, a := range links {
		a.fail(errors.Join(a.open(), ctx.Err()))
	}
	all := slices.Concat(links, openRouted(links))
	start := time.Now()
	for round := range askRounds {
		for _, a := range all {
			a.ask(round)
		}
		end := start.Add(within * time.Duration(round+1) / askRounds)
		if err := listen(ctx, all, end); err != nil {
			for _, a := range all {
				a.fail(err)
			}
			break
		}
	}
	for _, a := range all {
		a.fail(a.close())
	}
	for _, a := range links {
		a.hearRouted()
	}
}

func (a *asking) fail(err error) {
	if err != nil {
		a.err = errors.Join(a.err, fmt.Errorf("ask on %s: %w", a.question.Interface, err))
	}
}

func (a *asking) ask(round int) {
	a.answer.round = uint8(round)
	for _, v := range a.voices {
		if a.err != nil {
			return
		}
		a.fail(v.ask())
	}
}

// listen ends early when nobody is left who asks.
func listen(ctx context.Context, all []*asking, end time.Time) error {
	for slices.ContainsFunc(all, func(a *asking) bool { return a.err == nil }) {
		if err := ctx.Err(); err != nil {
			return err
		}
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if err := listenOnce(all, min(left, pollSlice)); err != nil {
			return err
		}
	}
	return nil
}

func listenOnce(all []*asking, wait time.Duration) error {
	type ear struct {
		voice  voice
		answer *Answer
	}
	var fds []unix.PollFd
	var ears []ear
	for _, a := range all {
		if a.err != nil {
			continue
		}
		for _, v := range a.voices {
			for _, fd := range v.listening() {
				fds, ears = append(fds, fd), append(ears, ear{v, &a.answer})
			}
		}
	}
	timeout := unix.NsecToTimespec(wait.Nanoseconds())
	if _, err := unix.Ppoll(fds, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for answers: %w", err)
	}
	for i, fd := range fds {
		if fd.Revents != 0 {
			ears[i].voice.hear(int(fd.Fd), ears[i].answer)
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
		a.Claimants = append(a.Claimants, Claimant{Address: addr, Hardware: bytes.Clone(hw)})
	}
}

func (a *Answer) hostHardware(hw net.HardwareAddr) {
	a.Host = true
	a.heard |= 1 << a.round
	if !slices.ContainsFunc(a.HostHardware, func(known net.HardwareAddr) bool { return bytes.Equal(known, hw) }) {
		a.HostHardware = append(a.HostHardware, bytes.Clone(hw))
	}
}

// conclude says whose each claim is. What answered for the peer's own address
// is the peer's from now on.
func (a *Answer) conclude(peer *Peer) {
	slices.SortFunc(a.HostHardware, func(x, y net.HardwareAddr) int { return bytes.Compare(x, y) })
	for _, hw := range a.HostHardware {
		peer.heard(hw)
	}
	for i, c := range a.Claimants {
		a.Claimants[i].Peer = peer.has(c.Hardware)
	}
	slices.SortFunc(a.Claimants, func(x, y Claimant) int {
		return cmp.Or(x.Address.Compare(y.Address), bytes.Compare(x.Hardware, y.Hardware))
	})
}
