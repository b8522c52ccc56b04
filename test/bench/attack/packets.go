package main

// Attackers who make packets themselves.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// otherNode is whose address an attacker has.
func otherNode(target string) string {
	switch target {
	case standbyAddr:
		return activeAddr
	case asideAddr:
		return asideFrom
	}
	return standbyAddr
}

// flood sends what next gives from two threads for ever.
func flood(ctx context.Context, protocol int, target string, attempts *atomic.Int64, next func(n int) []byte) {
	to := netip.MustParseAddr(target).As4()
	several(2, func(int) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			fmt.Fprintln(os.Stderr, "flood:", err)
			return
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, vrrp.TTL); err != nil {
			fmt.Fprintln(os.Stderr, "flood:", err)
			return
		}
		for n := 0; ctx.Err() == nil; n++ {
			switch err := unix.Sendto(fd, next(n), 0, &unix.SockaddrInet4{Addr: to}); {
			case err == nil:
				attempts.Add(1)
			// The other host's kernel may say that it knows no such protocol.
			case !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ENOPROTOOPT) && !errors.Is(err, unix.ECONNREFUSED):
				fmt.Fprintln(os.Stderr, "flood:", err)
				return
			}
		}
	})
}

// forged are claims and goodbyes, bare and sealed with another key, with every bit
// of the address and the VRID right.
func forged(ctx context.Context, target string, attempts *atomic.Int64) {
	bare, sealed, err := claims(target, fmt.Appendf(nil, "%064x\n", 7))
	if err != nil {
		fmt.Fprintln(os.Stderr, "forge:", err)
		return
	}
	floodOf(ctx, target, attempts, slices.Concat(bare, sealed))
}

// replayed are such as the other node sent once, in a run long ago: the cluster key sealed
// them. The attacker has them from the network; here they are made.
func replayed(ctx context.Context, target string, attempts *atomic.Int64) {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		return
	}
	_, sealed, err := claims(target, key)
	if err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		return
	}
	floodOf(ctx, target, attempts, sealed)
}

func floodOf(ctx context.Context, target string, attempts *atomic.Int64, payloads [][]byte) {
	flood(ctx, vrrp.Protocol, target, attempts, func(n int) []byte { return payloads[n%len(payloads)] })
}

func claims(target string, key []byte) (bare, sealed [][]byte, err error) {
	from, to := netip.MustParseAddr(otherNode(target)), netip.MustParseAddr(target)
	keys, err := auth.ParseKeys(key)
	if err != nil {
		return nil, nil, err
	}
	sealer, err := auth.NewSealer(auth.SealerConfig{
		Mode: auth.Enforce, Keys: keys, Boot: 1, Instance: auth.Instance{VRID: 51, Name: "attacked"},
	})
	if err != nil {
		return nil, nil, err
	}
	for _, priority := range []uint8{0, 255} {
		a := vrrp.Advertisement{VRID: 51, Priority: priority, MaxAdvertInterval: 10, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")}}
		b, err := a.AppendTo(nil, from, to, vrrp.ChecksumRFC)
		if err != nil {
			return nil, nil, err
		}
		s, err := sealer.Seal(slices.Clone(b), from, to, 1, 99)
		if err != nil {
			return nil, nil, err
		}
		bare, sealed = append(bare, b), append(sealed, s)
	}
	return bare, sealed, nil
}

// halfOpen begins connections from every port. The kernel of the address that they
// come from knows of none, and ends those that are answered.
func halfOpen(ctx context.Context, target string, attempts *atomic.Int64) {
	flood(ctx, unix.IPPROTO_TCP, target, attempts, func(int) []byte { return syn(otherNode(target), target) })
}

func syn(from, to string) []byte {
	const length, flagSYN = 20, 2
	b := make([]byte, length)
	binary.BigEndian.PutUint16(b, uint16(1024+rand.IntN(64512)))
	binary.BigEndian.PutUint16(b[2:], linkPort)
	binary.BigEndian.PutUint32(b[4:], rand.Uint32())
	b[12], b[13] = length/4<<4, flagSYN
	binary.BigEndian.PutUint16(b[14:], 64240)
	pseudo := append(netip.MustParseAddr(from).AsSlice(), netip.MustParseAddr(to).AsSlice()...)
	pseudo = append(pseudo, 0, unix.IPPROTO_TCP, 0, length)
	binary.BigEndian.PutUint16(b[16:], checksum(append(pseudo, b...)))
	return b
}

// checksum is that of RFC 1071, of an even number of bytes.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 > 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
