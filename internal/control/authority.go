package control

// Who may change something. The kernel says who is at the other end of a
// connection: root, the daemon's own user and the members of group tanist may. The
// socket's mode says the same once more, for as long as nobody widens it.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Group is the group whose members may change things.
const Group = "tanist"

// maxGroups is how many groups of a process the kernel keeps (NGROUPS_MAX).
const maxGroups = 65536

type (
	callerKey struct{}
	groupsKey struct{}
)

// identified puts into the context of a connection who is at its other end.
func identified(ctx context.Context, c net.Conn) context.Context {
	if seated, ok := c.(*counted); ok {
		ctx = context.WithValue(ctx, turnedAwayKey{}, seated.turnedAway)
	}
	cred, groups := caller(c)
	return context.WithValue(context.WithValue(ctx, callerKey{}, cred), groupsKey{}, groups)
}

// caller asks the kernel who is at the other end: nil where it does not say. The
// groups are the supplementary ones of the process as it connected.
func caller(c net.Conn) (cred *unix.Ucred, groups []uint32) {
	if u, ok := c.(interface{ Unwrap() net.Conn }); ok {
		c = u.Unwrap()
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, nil
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, nil
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			groups, _ = peerGroups(fd) // a kernel without SO_PEERGROUPS knows the first group
		}
	})
	if err != nil {
		return nil, nil
	}
	return cred, groups
}

func peerGroups(fd uintptr) ([]uint32, error) {
	for n := uint32(32); n <= maxGroups; n = maxGroups {
		groups := make([]uint32, n)
		size := n * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // the kernel fills in what size says
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno != unix.ERANGE || n == maxGroups:
			return nil, os.NewSyscallError("getsockopt", errno)
		}
	}
	return nil, errors.New("more groups than a process can have")
}

// authority decides who may change something.
type authority struct {
	self     uint32 // the daemon's user
	group    uint32 // of Group
	hasGroup bool
}

// newAuthority looks up the group as it is now.
func newAuthority() (authority, error) {
	a := authority{self: uint32(os.Geteuid())}
	g, err := user.LookupGroup(Group)
	if err != nil {
		return a, nil //nolint:nilerr // there is no such group
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return a, fmt.Errorf("group %s has the number %q: %w", Group, g.Gid, err)
	}
	a.group, a.hasGroup = uint32(gid), true
	return a, nil
}

// privileged is root or the daemon's own user, whom no other can keep out.
func (a authority) privileged(uid uint32) bool { return uid == 0 || uid == a.self }

// mayChange says why a caller may not change anything, nil if it may.
func (a authority) mayChange(cred *unix.Ucred, groups []uint32) error {
	if a.privileged(cred.Uid) || a.hasGroup && (cred.Gid == a.group || slices.Contains(groups, a.group)) {
		return nil
	}
	who, name := "uid "+strconv.FormatUint(uint64(cred.Uid), 10), "USER"
	if u, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10)); err == nil {
		who, name = u.Username, u.Username
	}
	if !a.hasGroup {
		return fmt.Errorf("%s may look, and not change or try anything: that takes root, or a member of group %s, which did not exist when the daemon started: "+
			"`groupadd -r %s && usermod -aG %s %s`, restart the daemon, log in again", who, Group, Group, Group, name)
	}
	return fmt.Errorf("%s may look, and not change or try anything: that takes root or a member of group %s: `usermod -aG %s %s`, then log in again",
		who, Group, Group, name)
}
