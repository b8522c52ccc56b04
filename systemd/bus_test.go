package systemd

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

// A socket that broke under a call says nothing about the unit, also before the
// connection counts as lost: the call is repeated on another.
func TestBrokenSocketIsALostConnection(t *testing.T) {
	for _, err := range []error{
		&net.OpError{Op: "write", Net: "unix", Err: os.NewSyscallError("write", syscall.EPIPE)},
		&net.OpError{Op: "read", Net: "unix", Err: os.NewSyscallError("read", syscall.ECONNRESET)},
		io.EOF, net.ErrClosed,
	} {
		if !new(bus).lost(fmt.Errorf("status of x.service: %w", err)) {
			t.Errorf("%v is held against the unit", err)
		}
	}
}
