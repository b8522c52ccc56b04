package peer

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A host that is out of descriptors for a moment takes no connection, and then it does
// again, while the one by which the peer speaks stands all the time.
func TestOutOfDescriptors(t *testing.T) {
	const variable = "TANIST_TEST_STARVED"
	if os.Getenv(variable) == "" { // the limit is the process's
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), variable+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	e, me, peer := lone(t)
	friend := callFrom(t, peer, me)
	greetAs(t, friend, "reserve", "primary")
	write(t, friend, frameOf(t, "compass", state(1, 1)))
	eventually(t, "the peer is heard", func() bool { return e.last("compass").Seq == 1 })

	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 40
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var hog []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		hog = append(hog, f)
	}
	_ = hog[0].Close() // for this end of a connection, and none for the other
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(peer, 0))}
	var conn net.Conn
	eventually(t, "a connection, unless the link itself has the last descriptor", func() (ok bool) {
		var err error
		conn, err = d.DialContext(t.Context(), "tcp4", netip.AddrPortFrom(me, port).String())
		return err == nil
	})
	eventually(t, "it lacks descriptors", func() bool { return e.path(0).ReceiveError.Text != "" })
	for _, f := range hog[1:] {
		_ = f.Close()
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	write(t, friend, frameOf(t, "compass", state(1, 2)))
	eventually(t, "the peer is heard all the time", func() bool { return e.last("compass").Seq == 2 })
	younger := callFrom(t, peer, me)
	greetAs(t, younger, "reserve", "primary")
	write(t, younger, frameOf(t, "compass", state(1, 3)))
	eventually(t, "the next connection is taken", func() bool { return e.last("compass").Seq == 3 })
}
