package probe

// Links and routers are real ones: this test runs again in a network namespace of
// its own, beside which another is the router.

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const insideEnv = "TANIST_PROBE_TEST_INSIDE"

// inside reports whether this is the process in the namespace. Outside it runs that
// process and passes its verdict on.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return true
	}
	needRoot(t, "a network namespace")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("it did not run:\n%s", out)
	}
	return false
}

// shortly probes for as long as a test can wait for nothing.
type shortly struct{ gateway Gateway }

func (s shortly) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	return s.gateway.Probe(ctx)
}

// space is another host's network.
type space struct {
	ns      netns.NsHandle
	netlink *netlink.Handle
}

func other(t *testing.T) *space {
	t.Helper()
	s := &space{}
	s.do(t, func() (err error) {
		if s.ns, err = netns.New(); err != nil {
			return err
		}
		s.netlink, err = netlink.NewHandle()
		return err
	})
	t.Cleanup(func() { _ = s.netlink.Close(); _ = s.ns.Close() })
	s.up(t, "lo")
	return s
}

// do runs f on a thread that is thrown away: it may leave its namespace.
func (s *space) do(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if s.netlink != nil {
			if err := netns.Set(s.ns); err != nil {
				done <- err
				return
			}
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func (s *space) link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := s.netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (s *space) up(t *testing.T, name string) {
	t.Helper()
	if err := s.netlink.LinkSetUp(s.link(t, name)); err != nil {
		t.Fatal(err)
	}
}

func (s *space) down(t *testing.T, name string) {
	t.Helper()
	if err := s.netlink.LinkSetDown(s.link(t, name)); err != nil {
		t.Fatal(err)
	}
}

func address(t *testing.T, text string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	if a.IP.To4() == nil {
		a.Flags = syscall.IFA_F_NODAD
	}
	return a
}

func (s *space) number(t *testing.T, name, text string) {
	t.Helper()
	if err := s.netlink.AddrAdd(s.link(t, name), address(t, text)); err != nil {
		t.Fatal(err)
	}
}

func (s *space) hardware(t *testing.T, name string) net.HardwareAddr {
	t.Helper()
	return s.link(t, name).Attrs().HardwareAddr
}

// sysctl sets one of the namespace's: /proc/sys/net is that of the opening thread.
func (s *space) sysctl(t *testing.T, name, value string) {
	t.Helper()
	s.do(t, func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0) })
}

// linkLocal returns the link-local address of an interface, once it may be used.
func (s *space) linkLocal(t *testing.T, name string) (text string) {
	t.Helper()
	eventually(t, "a link-local address", func() bool {
		text = usableLinkLocal(t, s.netlink, s.link(t, name))
		return text != ""
	})
	return text
}

func usableLinkLocal(t *testing.T, h *netlink.Handle, l netlink.Link) string {
	t.Helper()
	list, err := h.AddrList(l, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.IP.IsLinkLocalUnicast() && a.Flags&syscall.IFA_F_TENTATIVE == 0 {
			return a.IP.String()
		}
	}
	return ""
}

func here(t *testing.T) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func localLink(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// cable joins this namespace with another.
func cable(t *testing.T, s *space, near, far, nearAddress, farAddress string) {
	t.Helper()
	h := here(t)
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: near}, PeerName: far}); err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetNsFd(localLink(t, far), int(s.ns)); err != nil {
		t.Fatal(err)
	}
	if nearAddress != "" {
		number(t, near, nearAddress)
		s.number(t, far, farAddress)
	}
	if err := h.LinkSetUp(localLink(t, near)); err != nil {
		t.Fatal(err)
	}
	s.up(t, far)
	eventually(t, "the carrier of "+near, func() bool { return localLink(t, near).Attrs().OperState == netlink.OperUp })
	eventually(t, "a link-local address of "+near, func() bool { return usableLinkLocal(t, h, localLink(t, near)) != "" })
}

func number(t *testing.T, name, text string) {
	t.Helper()
	if err := netlink.AddrAdd(localLink(t, name), address(t, text)); err != nil {
		t.Fatal(err)
	}
}

func linkDown(t *testing.T, name string) {
	t.Helper()
	if err := netlink.LinkSetDown(localLink(t, name)); err != nil {
		t.Fatal(err)
	}
}

func route(t *testing.T, to, via string) {
	t.Helper()
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)}); err != nil {
		t.Fatal(err)
	}
}

// neighbour makes the kernel know where an address is without asking.
func neighbour(t *testing.T, name, ip string, hw net.HardwareAddr) {
	t.Helper()
	err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: localLink(t, name).Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: hw,
	})
	if err != nil {
		t.Fatal(err)
	}
}
