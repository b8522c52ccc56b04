package main

// The metronome: on the active node's host, with the daemons' priority, it sends a
// packet whenever an advertisement is due, and does nothing else.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

func beat(ctx context.Context) error {
	runtime.LockOSThread()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, beatProtocol)
	if err != nil {
		return fmt.Errorf("open the metronome's socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, networkControl); err != nil {
		return fmt.Errorf("open the metronome's socket: %w", err)
	}
	to := &unix.SockaddrInet4{Addr: netip.MustParseAddr(standbyAddr).As4()}
	for ctx.Err() == nil {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
			return fmt.Errorf("read the clock: %w", err)
		}
		due := unix.NsecToTimespec((now.Nano()/advertGap.Nanoseconds() + 1) * advertGap.Nanoseconds())
		switch err := unix.ClockNanosleep(unix.CLOCK_BOOTTIME, unix.TIMER_ABSTIME, &due, nil); {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for the next beat: %w", err)
		}
		// The other host has no such protocol and says so.
		if err := unix.Sendto(fd, []byte("beat"), 0, to); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
			return fmt.Errorf("send a beat: %w", err)
		}
	}
	return nil
}
