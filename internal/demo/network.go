package demo

// Two hosts on a switch, and the client on the switch itself: network namespaces
// without names, which end with the threads and programs that are in them.

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The network: documentation addresses, which nothing else has.
const (
	nic        = "eth0"
	bridge     = "switch0"
	clientAddr = "192.0.2.1/24"
	virtual    = "192.0.2.100"
)

// hostAddrs are the two hosts' own addresses.
func hostAddrs() [2]string { return [2]string{"192.0.2.11", "192.0.2.12"} }

// space is a network namespace with a thread of its own. What is started in it is
// killed when that thread ends with its process, however that ends.
type space struct {
	*netlink.Handle
	work  chan func()
	ended chan struct{}
}

func newSpace() (*space, error) {
	s := &space{work: make(chan func()), ended: make(chan struct{})}
	made := make(chan error)
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // one that cannot come back is not unlocked: the runtime ends it
		home, err := netns.Get()
		if err != nil {
			made <- err
			return
		}
		defer home.Close()
		ns, err := netns.New()
		if err == nil {
			defer ns.Close()
			s.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		}
		made <- err
		for f := range s.work {
			f()
		}
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
	}()
	err := <-made
	if err == nil {
		err = s.up("lo")
	}
	if err != nil {
		close(s.work)
		<-s.ended
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return s, nil
}

// close ends the thread.
func (s *space) close() {
	close(s.work)
	<-s.ended
	s.Close()
}

// do runs f inside. What it starts or opens is inside too.
func (s *space) do(f func() error) error {
	done := make(chan error, 1)
	s.work <- func() { done <- f() }
	return <-done
}

// start starts a program inside.
func (s *space) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is this program's
	return s.do(cmd.Start)
}

func (s *space) up(name string) error { return s.set(name, s.LinkSetUp) }

func (s *space) down(name string) error { return s.set(name, s.LinkSetDown) }

func (s *space) set(name string, do func(netlink.Link) error) error {
	l, err := s.LinkByName(name)
	if err == nil {
		err = do(l)
	}
	if err != nil {
		return fmt.Errorf("set %s up or down: %w", name, err)
	}
	return nil
}

func (s *space) address(name, prefix string) error {
	l, err := s.LinkByName(name)
	if err != nil {
		return fmt.Errorf("look up %s: %w", name, err)
	}
	a, err := netlink.ParseAddr(prefix)
	if err == nil {
		err = s.AddrAdd(l, a)
	}
	if err != nil {
		return fmt.Errorf("add %s to %s: %w", prefix, name, err)
	}
	return nil
}

// network is the switch and the two hosts.
type network struct {
	middle *space
	hosts  [2]*space
}

func port(host int) string { return [2]string{"port-primary", "port-reserve"}[host] }

func newNetwork() (n *network, err error) {
	n = &network{}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	for _, s := range []**space{&n.middle, &n.hosts[0], &n.hosts[1]} {
		if *s, err = newSpace(); err != nil {
			return n, err
		}
	}
	if err := n.middle.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
		return n, fmt.Errorf("make the switch: %w", err)
	}
	if err := errors.Join(n.middle.up(bridge), n.middle.address(bridge, clientAddr)); err != nil {
		return n, err
	}
	for i, h := range n.hosts {
		if err := n.plug(i, h); err != nil {
			return n, err
		}
	}
	return n, nil
}

// plug connects a host with the switch.
func (n *network) plug(i int, h *space) error {
	l, err := n.middle.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("look up the switch: %w", err)
	}
	var there netns.NsHandle
	err = h.do(func() (err error) { there, err = netns.Get(); return err })
	if err == nil {
		err = n.middle.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: port(i), MasterIndex: l.Attrs().Index}, PeerName: nic, PeerNamespace: netlink.NsFd(there),
		})
		_ = there.Close()
	}
	if err != nil {
		return fmt.Errorf("plug in %s: %w", port(i), err)
	}
	return errors.Join(n.middle.up(port(i)), h.up(nic), h.address(nic, hostAddrs()[i]+"/24"))
}

func (n *network) close() {
	for _, s := range []*space{n.hosts[0], n.hosts[1], n.middle} {
		if s != nil {
			s.close()
		}
	}
}
