package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// ErrNoARP says that the interface has no neighbours that could learn an
// address: loopback, a tunnel, or one without an Ethernet address.
var ErrNoARP = errors.New("interface does not speak ARP")

// announceTimeout bounds the wait for room in the send queue.
const announceTimeout = 100 * time.Millisecond

// announcer is a packet socket that is opened at its first use and again when
// the interface was created anew.
type announcer struct {
	mu    sync.Mutex // guards conn and index
	conn  *packet.Conn
	index int
}

// Announce tells the neighbours, for each address, where it is now: by one
// gratuitous ARP request and one reply, or by an unsolicited neighbour
// advertisement. It needs no address on the interface, and one on a link without
// carrier is lost silently. It does not wait for a link: on one that is down it
// is ENETDOWN, without the interface ENODEV, and the caller, who knows for how
// long an announcement is worth something, repeats it. An interface without ARP
// is ErrNoARP.
func (h *Holder) Announce() error {
	announcer, router := h.table.announcer(h.cfg.Interface), false
	ifi, err := announcer.look(h.table.kernel, h.cfg.Interface)
	if err != nil {
		return fmt.Errorf("announce on %s: %w", h.cfg.Interface, err)
	}
	if slices.ContainsFunc(h.cfg.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		router = routes(h.cfg.Interface)
	}
	var errs []error
	for _, p := range h.cfg.Addresses {
		if err := announcer.announce(ifi, p.Addr(), router); err != nil {
			errs = append(errs, fmt.Errorf("announce %v on %s: %w", p.Addr(), h.cfg.Interface, err))
		}
	}
	return errors.Join(errs...)
}

// routes reports whether the host forwards IPv6 from the interface. Where that
// cannot be read it does not claim to.
func routes(name string) bool {
	b, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "forwarding"))
	return err == nil && len(b) > 0 && b[0] != '0'
}

// ethernet returns the interface as it is now; bonds and bridges change their
// hardware address.
func (k *kernel) ethernet(name string) (*net.Interface, error) {
	index, err := k.index(name)
	if err != nil {
		return nil, err
	}
	link, err := k.LinkByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("look up interface %s: %w", name, err)
	}
	attrs := link.Attrs()
	if attrs.RawFlags&(unix.IFF_LOOPBACK|unix.IFF_NOARP) != 0 || len(attrs.HardwareAddr) != ethernetAddressLength {
		return nil, ErrNoARP
	}
	return &net.Interface{
		Index: index, MTU: attrs.MTU, Name: name, HardwareAddr: attrs.HardwareAddr, Flags: attrs.Flags,
	}, nil
}

// look returns the interface as it is now, as ethernet does, and asks nothing for
// which the kernel takes its RTNL lock: who announces renews leases, and the lock can
// be another's for seconds.
func (a *announcer) look(k *kernel, name string) (*net.Interface, error) {
	index, flags, err := k.link(name)
	if err != nil {
		return nil, err
	}
	switch {
	case flags&(unix.IFF_LOOPBACK|unix.IFF_NOARP) != 0:
		return nil, ErrNoARP
	case flags&unix.IFF_RUNNING == 0:
		// It may be coming up, which the kernel completes with the lock: until then
		// it throws frames away.
		return k.ethernet(name)
	}
	ifi := &net.Interface{Index: index, Name: name}
	ifi.HardwareAddr, err = a.hardware(ifi)
	return ifi, err
}

// hardware is what the interface's packet socket says of it.
func (a *announcer) hardware(ifi *net.Interface) (net.HardwareAddr, error) {
	conn, err := a.open(ifi)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var address unix.Sockaddr
	var nameErr error
	if err := raw.Control(func(fd uintptr) { address, nameErr = unix.Getsockname(int(fd)) }); err != nil {
		return nil, err
	}
	if nameErr != nil {
		return nil, os.NewSyscallError("getsockname", nameErr)
	}
	link, ok := address.(*unix.SockaddrLinklayer)
	if !ok || link.Halen != ethernetAddressLength {
		return nil, ErrNoARP
	}
	return net.HardwareAddr(link.Addr[:ethernetAddressLength]), nil
}

func (a *announcer) announce(ifi *net.Interface, addr netip.Addr, router bool) error {
	if addr.Is4() {
		frames, err := gratuitousARP(ifi.HardwareAddr, addr)
		if err != nil {
			return err
		}
		return errors.Join(a.send(ifi, frames[0]), a.send(ifi, frames[1]))
	}
	frame, err := advertisement(ifi.HardwareAddr, addr, router)
	if err != nil {
		return err
	}
	return a.send(ifi, frame)
}

func (a *announcer) send(ifi *net.Interface, frame []byte) error {
	conn, err := a.open(ifi)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(announceTimeout)); err != nil {
		return err
	}
	_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:ethernetAddressLength]})
	return err
}

func (a *announcer) open(ifi *net.Interface) (*packet.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil && a.index == ifi.Index {
		return a.conn, nil
	}
	if err := a.closeLocked(); err != nil {
		return nil, err
	}
	// Protocol 0 receives nothing. It also keeps the kernel from leaving an
	// ENETDOWN on the socket, which the first send after a link is up again
	// would get.
	conn, err := packet.Listen(ifi, packet.Raw, 0, nil)
	if err != nil {
		return nil, err
	}
	a.conn, a.index = conn, ifi.Index
	return conn, nil
}

func (a *announcer) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closeLocked()
}

func (a *announcer) closeLocked() error {
	if a.conn == nil {
		return nil
	}
	err := a.conn.Close()
	a.conn = nil
	return err
}
