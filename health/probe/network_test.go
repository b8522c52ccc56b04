package probe

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func tcpOf(a net.Addr) TCP {
	p := netip.MustParseAddrPort(a.String())
	return TCP{Host: p.Addr().String(), Port: p.Port()}
}

func TestTCP(t *testing.T) {
	mute := func(net.Conn) {}
	well(t, tcpOf(listen(t, "tcp4", "127.0.0.1:0", mute)))
	named := tcpOf(listen(t, "tcp", "localhost:0", mute))
	well(t, TCP{Host: "localhost", Port: named.Port})
	bad(t, TCP{Host: "127.0.0.1", Port: 1}, "connect to 127.0.0.1:1", "refused")
	bad(t, TCP{Host: "nowhere.invalid", Port: 80}, "nowhere.invalid")
	t.Run("IPv6", func(t *testing.T) { well(t, tcpOf(listen(t, "tcp6", "[::1]:0", mute))) })
	t.Run("nobody accepts", func(t *testing.T) { silent(t, full(t)) })
}

// full is a listener whose queue of connections has no room: the kernel drops what
// comes, as a black hole would.
func full(t *testing.T) TCP {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	p := TCP{Host: "127.0.0.1", Port: uint16(name.(*unix.SockaddrInet4).Port)}
	for range 100 {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port), 100*time.Millisecond)
		if err != nil {
			return p
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the queue does not fill")
	return p
}

func TestHTTP(t *testing.T) {
	var open atomic.Int32
	mux := http.NewServeMux()
	answer := func(path string, f http.HandlerFunc) { mux.HandleFunc(path, f) }
	answer("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("User-Agent") != "tanist" {
			t.Errorf("%v", r.Header)
		}
	})
	answer("/none", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	answer("/down", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	answer("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	answer("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost.example.net/ok", http.StatusFound)
	})
	answer("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	answer("/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	answer("/half", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	answer("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
	})
	answer("/header", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 2*headerLimit))
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	server.Start()
	defer server.Close()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // nobody's business
	at := func(path string) HTTP { return HTTP{URL: server.URL + path} }
	for _, path := range []string{"/ok", "/none", "/here", "/endless"} {
		well(t, at(path))
	}
	bad(t, at("/down?token=hunter2"), "answers 503 Service Unavailable")
	bad(t, at("/away"), "redirects to another host, localhost.example.net")
	bad(t, at("/round"), "redirects more than 5 times")
	bad(t, at("/header"))
	silent(t, at("/hangs"))
	silent(t, at("/half"))
	eventually(t, "no connection is left", func() bool { return open.Load() == 0 })

	bad(t, HTTP{URL: "http://user:hunter2@127.0.0.1:1/?token=hunter2"}, "127.0.0.1:1: connect")
	for _, url := range []string{"http://user:hunter2@127.0.0.1:1/?token=hunter2", "http://user:hunter2@[::1/"} {
		if err := Once(t.Context(), HTTP{URL: url}, patience); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is in %v", err)
		}
	}
	notHTTP := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n"); _ = c.Close() })
	bad(t, HTTP{URL: "http://" + notHTTP.String()})

	secure := httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	bad(t, HTTP{URL: secure.URL + "/ok"}, "certificate") // signed by nobody we trust
}

func TestLink(t *testing.T) {
	if !inside(t) {
		return
	}
	ns := other(t)
	cable(t, ns, "eth1", "far1", "", "")
	well(t, Link{"eth1"})
	ns.down(t, "far1")
	eventually(t, "the carrier is lost", func() bool { return Link{"eth1"}.Probe(t.Context()) != nil })
	bad(t, Link{"eth1"}, "eth1 has no carrier")
	linkDown(t, "eth1")
	bad(t, Link{"eth1"}, "eth1 is down")
	unusable(t, Link{"eth9"}, "there is no interface eth9")
}

func TestGateway(t *testing.T) {
	if !inside(t) {
		return
	}
	router := other(t)
	cable(t, router, "eth0", "lan0", "192.0.2.11/24", "192.0.2.1/24")
	number(t, "eth0", "fd00::11/64")
	router.number(t, "lan0", "fd00::1/64")
	// The other side of the router is reached through it.
	router.number(t, "lo", "198.51.100.1/32")
	route(t, "198.51.100.0/24", "192.0.2.1")
	gateway := func(a string) Gateway { return Gateway{netip.MustParseAddr(a)} }
	linkLocal := router.linkLocal(t, "lan0") + "%eth0"

	for _, a := range []string{"192.0.2.1", "fd00::1", linkLocal, "198.51.100.1"} {
		well(t, gateway(a))
	}
	unusable(t, gateway("192.0.2.11"), "is an address of this host")
	unusable(t, gateway("fe80::1%eth9"), "there is no interface eth9")
	bad(t, gateway("203.0.113.1"), "find the way to 203.0.113.1")
	for _, a := range []string{"192.0.2.2", "fd00::2", "fe80::dead%eth0"} {
		nobody(t, gateway(a), "answers neither on the link nor to an ICMP echo")
	}

	t.Run("one that drops ICMP answers on the link", func(t *testing.T) {
		router.sysctl(t, "net/ipv4/icmp_echo_ignore_all", "1")
		router.sysctl(t, "net/ipv6/icmp/echo_ignore_all", "1")
		for _, a := range []string{"192.0.2.1", "fd00::1", linkLocal} {
			well(t, gateway(a))
		}
		nobody(t, gateway("198.51.100.1"), "does not answer to an ICMP echo")
		router.sysctl(t, "net/ipv4/icmp_echo_ignore_all", "0")
	})
	t.Run("one that is not asked by ARP answers an echo", func(t *testing.T) {
		router.sysctl(t, "net/ipv4/conf/lan0/arp_ignore", "8")
		neighbour(t, "eth0", "192.0.2.1", router.hardware(t, "lan0"))
		well(t, gateway("192.0.2.1"))
	})
	t.Run("the cable is pulled", func(t *testing.T) {
		router.down(t, "lan0")
		for _, a := range []string{"192.0.2.1", linkLocal, "198.51.100.1"} {
			nobody(t, gateway(a))
		}
	})
}

// nobody wants no answer in a time that is short for this kernel, but not too short
// for an answer.
func nobody(t *testing.T, g Gateway, why ...string) {
	t.Helper()
	err := Once(t.Context(), shortly{g}, patience)
	if err == nil {
		t.Errorf("%s answers", g.Address)
		return
	}
	for _, w := range why {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q lacks %q", g.Address, err, w)
		}
	}
	if n := sockets(t); n > 64 {
		t.Errorf("%d descriptors are open", n)
	}
}

func sockets(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
