package probe

// A router is asked on its link, by ARP or neighbour discovery, which one that drops
// ICMP answers too, and by ICMP echo, which passes where a switch inspects ARP. One
// answer is enough.

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	// gatewayAsks is how often each question is put in the time that there is: one
	// lost frame is not silence.
	gatewayAsks = 3
	// gatewayTime is the time when the context has no deadline.
	gatewayTime = time.Second
	maxPacket   = 2048
)

// Gateway wants an answer from a router.
type Gateway struct {
	Address netip.Addr // with its zone, if link-local
}

// voice is one way to ask.
type voice struct {
	ask   func() error
	hear  func() error // returns nil when the router has answered
	until func(time.Time) error
	close func() error

	mu   sync.Mutex // guards over, and is held while it takes effect
	over bool       // nothing is to be heard any more
}

// listen sets until when to hear.
func (v *voice) listen(until time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over {
		until = time.Unix(1, 0)
	}
	return v.until(until)
}

// stop ends what is being heard. The socket stays open: who reads from it may not
// find another in its place.
func (v *voice) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = true
	_ = v.until(time.Unix(1, 0)) // at worst it ends with its time
}

// Probe asks in every way that this process may. It sends from the network namespace
// of the calling thread.
func (g Gateway) Probe(ctx context.Context) error {
	link, err := g.link()
	if err != nil {
		return err
	}
	var voices []*voice
	var refused []error
	for _, open := range g.ways(link) {
		if v, err := open(); err == nil {
			voices = append(voices, v)
		} else {
			refused = append(refused, err)
		}
	}
	if len(voices) == 0 {
		return fmt.Errorf("ask %s: %w", g.Address, errors.Join(refused...))
	}
	return g.converse(ctx, voices)
}

// link returns the interface that the router is on, nil when it is beyond another.
func (g Gateway) link() (*net.Interface, error) {
	if zone := g.Address.Zone(); zone != "" {
		i, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, Unusable("there is no interface %s", zone)
		}
		return i, nil
	}
	routes, err := netlink.RouteGet(net.IP(g.Address.AsSlice()))
	if err != nil {
		return nil, fmt.Errorf("find the way to %s: %w", g.Address, err)
	}
	switch {
	case len(routes) == 0:
		return nil, fmt.Errorf("there is no way to %s", g.Address)
	case routes[0].Type == unix.RTN_LOCAL:
		return nil, Unusable("%s is an address of this host", g.Address)
	case routes[0].Gw != nil && !routes[0].Gw.IsUnspecified():
		return nil, nil
	}
	i, err := net.InterfaceByIndex(routes[0].LinkIndex)
	if err != nil {
		return nil, fmt.Errorf("find the interface to %s: %w", g.Address, err)
	}
	return i, nil
}

func (g Gateway) ways(link *net.Interface) []func() (*voice, error) {
	ways := []func() (*voice, error){g.echo}
	switch {
	case link == nil || len(link.HardwareAddr) != 6: // no Ethernet, no neighbours
	case g.Address.Is4():
		ways = append(ways, func() (*voice, error) { return g.arp(link) })
	default:
		ways = append(ways, func() (*voice, error) { return g.neighbour(link) })
	}
	return ways
}

// converse asks until one answers or the time is over.
func (g Gateway) converse(ctx context.Context, voices []*voice) error {
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(gatewayTime)
	}
	answers := make(chan error, len(voices))
	var asking sync.WaitGroup
	stopAll := func() {
		for _, v := range voices {
			v.stop()
		}
	}
	defer func() {
		stopAll()
		asking.Wait()
		for _, v := range voices {
			_ = v.close() // nothing is lost
		}
	}()
	unwatch := context.AfterFunc(ctx, stopAll)
	defer unwatch()
	for _, v := range voices {
		asking.Go(func() { answers <- v.converse(end) })
	}
	var errs []error
	for range voices {
		err := <-answers
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	for _, err := range errs {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("ask %s: %w", g.Address, err)
		}
	}
	if len(voices) > 1 {
		return silence(g.Address.String() + " answers neither on the link nor to an ICMP echo")
	}
	return silence(g.Address.String() + " does not answer to an ICMP echo")
}

// ErrSilent is in the error of a Gateway that was asked and did not answer.
var ErrSilent = errors.New("no answer")

// silence says who is silent, in words.
type silence string

func (s silence) Error() string      { return string(s) }
func (silence) Is(target error) bool { return target == ErrSilent }

func (v *voice) converse(end time.Time) error {
	began := time.Now()
	part := max(end.Sub(began)/gatewayAsks, time.Millisecond)
	var err error
	for n := range gatewayAsks {
		if err = v.listen(began.Add(part * time.Duration(n+1))); err != nil {
			return err
		}
		if err = v.ask(); err != nil {
			return err
		}
		if err = v.hear(); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return err
}

// final reports whether nothing more will be read, as opposed to one message that
// cannot be understood.
func final(err error) bool {
	errno := syscall.Errno(0)
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) || errors.As(err, &errno)
}

// arp asks from the interface's own address.
func (g Gateway) arp(link *net.Interface) (*voice, error) {
	c, err := arp.Dial(link)
	if err != nil {
		return nil, err
	}
	return &voice{
		ask: func() error { return c.Request(g.Address) },
		hear: func() error {
			for {
				p, _, err := c.Read()
				if final(err) {
					return err
				}
				if err == nil && p.Operation == arp.OperationReply && p.SenderIP == g.Address {
					return nil
				}
			}
		},
		until: c.SetDeadline, close: c.Close,
	}, nil
}

// neighbour asks from a link-local address of the interface.
func (g Gateway) neighbour(link *net.Interface) (*voice, error) {
	target := g.Address.WithZone("")
	group, err := ndp.SolicitedNodeMulticast(target)
	if err != nil {
		return nil, err
	}
	c, _, err := ndp.Listen(link, ndp.LinkLocal)
	if err != nil {
		return nil, err
	}
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeNeighborAdvertisement)
	if err := c.SetICMPFilter(&filter); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	solicitation := &ndp.NeighborSolicitation{
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: link.HardwareAddr}},
	}
	return &voice{
		ask: func() error { return c.WriteTo(solicitation, nil, group.WithZone(link.Name)) },
		hear: func() error {
			for {
				m, _, _, err := c.ReadFrom()
				if final(err) {
					return err
				}
				if a, ok := m.(*ndp.NeighborAdvertisement); err == nil && ok && a.TargetAddress == target {
					return nil
				}
			}
		},
		until: c.SetDeadline, close: c.Close,
	}, nil
}

// echo asks along the routes, by a socket that ordinary users may have too where
// net.ipv4.ping_group_range says so, else by a raw one.
func (g Gateway) echo() (*voice, error) {
	kind, reply, protocol := icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply), unix.IPPROTO_ICMP
	ping, raw, any := "udp4", "ip4:icmp", "0.0.0.0"
	if g.Address.Is6() {
		kind, reply, protocol = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, unix.IPPROTO_ICMPV6
		ping, raw, any = "udp6", "ip6:ipv6-icmp", "::"
	}
	// The text is a random one, so that nobody else's answer is taken for ours.
	text := []byte(rand.Text())
	message, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: text}}).Marshal(nil)
	if err != nil {
		return nil, fmt.Errorf("encode ICMP: %w", err)
	}
	var to net.Addr = &net.UDPAddr{IP: g.Address.AsSlice(), Zone: g.Address.Zone()}
	c, err := icmp.ListenPacket(ping, any)
	if err != nil {
		to = &net.IPAddr{IP: g.Address.AsSlice(), Zone: g.Address.Zone()}
		if c, err = icmp.ListenPacket(raw, any); err != nil {
			return nil, err
		}
	}
	return &voice{
		ask: func() error {
			_, err := c.WriteTo(message, to)
			return err
		},
		hear: func() error {
			b := make([]byte, maxPacket)
			for {
				n, _, err := c.ReadFrom(b)
				if err != nil {
					return err
				}
				m, err := icmp.ParseMessage(protocol, b[:n])
				if err != nil || m.Type != reply {
					continue
				}
				if e, ok := m.Body.(*icmp.Echo); ok && bytes.Equal(e.Data, text) {
					return nil
				}
			}
		},
		until: c.SetDeadline, close: c.Close,
	}, nil
}
