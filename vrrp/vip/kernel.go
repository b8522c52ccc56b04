package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// From linux/if_link.h and linux/ip.h.
const (
	iflaInetConf                  = 1
	ipv4DevconfPromoteSecondaries = 20
)

// kernel is the open sockets to the kernel's network configuration. They stay
// in the network namespace in which they were opened.
type kernel struct {
	*netlink.Handle
	settings *nl.SocketHandle // for what netlink.Handle has no call for
	ioctls   int              // any socket answers interface ioctls
}

func openKernel(timeout time.Duration) (*kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	k := &kernel{Handle: handle, ioctls: -1}
	if err := k.open(timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink: %w", err), k.close())
	}
	return k, nil
}

func (k *kernel) open(timeout time.Duration) error {
	if err := k.SetSocketTimeout(timeout); err != nil {
		return err
	}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	k.settings = &nl.SocketHandle{Socket: socket}
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	if err := errors.Join(socket.SetSendTimeout(&tv), socket.SetReceiveTimeout(&tv)); err != nil {
		return err
	}
	k.ioctls, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return os.NewSyscallError("socket", err)
}

func (k *kernel) close() error {
	err := k.Handle.Close()
	if k.settings != nil {
		err = errors.Join(err, k.settings.Close())
	}
	if k.ioctls >= 0 {
		err = errors.Join(err, os.NewSyscallError("close", unix.Close(k.ioctls)))
	}
	return err
}

// index looks the interface up by its name, every time: a NIC that was created
// anew, or renamed, has another index. It costs about a microsecond.
func (k *kernel) index(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(k.ioctls, unix.SIOCGIFINDEX, ifr)
	}
	if err != nil {
		return 0, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return int(ifr.Uint32()), nil
}

// promoteSecondaries sets net.ipv4.conf.IFACE.promote_secondaries over netlink,
// which works where /proc/sys is read-only.
func (k *kernel) promoteSecondaries(index int) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.settings}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)

	on := binary.NativeEndian.AppendUint32(nil, 1)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, nil)
	inet := spec.AddRtAttr(unix.AF_INET|unix.NLA_F_NESTED, nil)
	conf := inet.AddRtAttr(iflaInetConf|unix.NLA_F_NESTED, nil)
	conf.AddRtAttr(ipv4DevconfPromoteSecondaries, on)
	req.AddData(spec)

	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
