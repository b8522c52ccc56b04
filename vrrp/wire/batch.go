package wire

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many packets one system call reads at most.
	batchSize = 8
	// longest is more than the longest advertisement, 255 IPv6 addresses, with the
	// longest IPv4 header and a trailer.
	longest = 8192
	// longestControl is more than what the kernel says beside a packet: of IPv6 the hop
	// limit and the destination, and of either how many found the queue full.
	longestControl = 256
)

// batch reads packets into memory of its own, several with one system call: for the
// address of each, unix.Recvmsg makes another call and an allocation.
type batch struct {
	headers [batchSize]unix.Mmsghdr
	iovecs  [batchSize]unix.Iovec
	sources [batchSize]unix.RawSockaddrInet6 // of IPv6 alone: an IPv4 packet has its own
	control [batchSize][longestControl]byte
	packets [batchSize][longest]byte
}

// received is one packet, valid until the next read.
type received struct {
	b, control []byte
	flags      int32
	source     unix.RawSockaddrInet6
}

func newBatch(ipv6 bool) *batch {
	b := &batch{}
	for i := range b.headers {
		b.iovecs[i].Base = &b.packets[i][0]
		b.iovecs[i].SetLen(longest)
		h := &b.headers[i].Hdr
		h.Iov = &b.iovecs[i]
		h.SetIovlen(1)
		h.Control = &b.control[i][0]
		if ipv6 {
			h.Name = (*byte)(unsafe.Pointer(&b.sources[i])) //nolint:gosec // the kernel fills in what Namelen says
		}
	}
	return b
}

// read reads what is queued, at most limit packets, and returns how many it read. The
// error is EAGAIN when there are none.
func (b *batch) read(fd, limit int) (int, error) {
	limit = min(limit, batchSize)
	for i := range b.headers[:limit] {
		h := &b.headers[i].Hdr
		h.SetControllen(longestControl)
		if h.Name != nil {
			h.Namelen = unix.SizeofSockaddrInet6
		}
	}
	first := unsafe.Pointer(&b.headers[0]) //nolint:gosec // x/sys has no wrapper
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(first), uintptr(limit), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// at returns the packet of a place below what read returned.
func (b *batch) at(i int) received {
	h := &b.headers[i]
	r := received{b: b.packets[i][:h.Len], control: b.control[i][:h.Hdr.Controllen], flags: h.Hdr.Flags}
	if h.Hdr.Namelen == unix.SizeofSockaddrInet6 {
		r.source = b.sources[i]
	}
	return r
}
