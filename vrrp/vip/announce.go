package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// ErrNoARP says that the interface has no neighbours that could learn an
// address: loopback, a tunnel, or one without an Ethernet address.
var ErrNoARP = errors.New("interface does not speak ARP")

const (
	ethernetAddressLength = 6
	// announceTimeout bounds the wait for room in the send queue.
	announceTimeout = 100 * time.Millisecond
)

// announcer is a packet socket that is opened at its first use and again when
// the interface was created anew.
type announcer struct {
	mu    sync.Mutex // guards conn and index
	conn  *packet.Conn
	index int
}

// Announce sends, for each address, one gratuitous ARP request and one reply
// (RFC 5944 §4.6): some neighbours learn from only one of them. It needs no
// IPv4 address on the interface, and one on a link without carrier is lost
// silently. An interface without ARP is ErrNoARP, one that is down ENETDOWN.
func (h *Holder) Announce() error {
	ifi, err := h.table.kernel.ethernet(h.cfg.Interface)
	if err != nil {
		return fmt.Errorf("announce on %s: %w", h.cfg.Interface, err)
	}
	var errs []error
	for _, p := range h.cfg.Addresses {
		if err := h.table.announcer(h.cfg.Interface).gratuitous(ifi, p.Addr()); err != nil {
			errs = append(errs, fmt.Errorf("announce %v on %s: %w", p.Addr(), h.cfg.Interface, err))
		}
	}
	return errors.Join(errs...)
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

func (a *announcer) gratuitous(ifi *net.Interface, addr netip.Addr) error {
	unknown := make(net.HardwareAddr, ethernetAddressLength)
	request, err := broadcastARP(arp.OperationRequest, ifi.HardwareAddr, addr, unknown, addr)
	if err != nil {
		return err
	}
	reply, err := broadcastARP(arp.OperationReply, ifi.HardwareAddr, addr, ifi.HardwareAddr, addr)
	if err != nil {
		return err
	}
	return errors.Join(a.send(ifi, request), a.send(ifi, reply))
}

func (a *announcer) send(ifi *net.Interface, frame []byte) error {
	conn, err := a.open(ifi)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(announceTimeout)); err != nil {
		return err
	}
	_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: ethernet.Broadcast})
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

// broadcastARP returns an Ethernet frame to everybody.
func broadcastARP(op arp.Operation, srcHW net.HardwareAddr, src netip.Addr, dstHW net.HardwareAddr, dst netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(op, srcHW, src, dstHW, dst)
	if err != nil {
		return nil, fmt.Errorf("encode ARP: %w", err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode ARP: %w", err)
	}
	frame := ethernet.Frame{
		Destination: ethernet.Broadcast, Source: srcHW, EtherType: ethernet.EtherTypeARP, Payload: payload,
	}
	b, err := frame.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode Ethernet: %w", err)
	}
	return b, nil
}
