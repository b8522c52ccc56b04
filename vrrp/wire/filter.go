package wire

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// vridOffset is where the VRID is in a VRRP message.
	vridOffset = 1
	// networkHeader is the kernel's SKF_NET_OFF: what is loaded from there is
	// counted from the IP header. A raw IPv6 socket filters without it.
	networkHeader = 0xfff00000
	// whole accepts a packet in full.
	whole = 1<<18 - 1
)

// filter is a classic BPF program that keeps foreign packets out of the
// receive queue. On a path to a peer they are those of other sources; on a
// group those of virtual routers that are not in cfg.VRIDs. All the rest, well
// formed or not, comes in to be counted.
func filter(cfg Config) []bpf.Instruction {
	var p []bpf.Instruction
	switch {
	case !cfg.group():
		p = fromPeer(cfg)
	case len(cfg.VRIDs) > 0:
		p = ofVRIDs(cfg)
	}
	return append(p, bpf.RetConstant{Val: whole})
}

func fromPeer(cfg Config) []bpf.Instruction {
	source, offset := cfg.Peer.AsSlice(), uint32(ipv4Source)
	if !cfg.Peer.Is4() {
		offset = networkHeader + ipv6Source
	}
	var p []bpf.Instruction
	for ; len(source) > 0; source, offset = source[4:], offset+4 {
		p = append(p,
			bpf.LoadAbsolute{Off: offset, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(source), SkipTrue: 1},
			bpf.RetConstant{Val: 0})
	}
	return p
}

// ofVRIDs lets a packet pass that is too short to have a VRID. With 255 of
// them it is 513 instructions of the 4,096 that the kernel takes.
func ofVRIDs(cfg Config) []bpf.Instruction {
	shortest := uint32(vridOffset + 1)
	load := []bpf.Instruction{bpf.LoadAbsolute{Off: vridOffset, Size: 1}}
	if cfg.Local.Is4() {
		shortest += ipv4MinHeader
		load = []bpf.Instruction{bpf.LoadMemShift{Off: 0}, bpf.LoadIndirect{Off: vridOffset, Size: 1}}
	}
	p := append([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: shortest, SkipTrue: 1},
		bpf.RetConstant{Val: whole},
	}, load...)
	for _, vrid := range cfg.VRIDs {
		p = append(p,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(vrid), SkipTrue: 1},
			bpf.RetConstant{Val: whole})
	}
	return append(p, bpf.RetConstant{Val: 0})
}

// attachFilter replaces the filter that fd may have.
func attachFilter(fd int, cfg Config) error {
	raw, err := bpf.Assemble(filter(cfg))
	if err != nil {
		return fmt.Errorf("assemble packet filter: %w", err)
	}
	program := make([]unix.SockFilter, len(raw))
	for i, ins := range raw {
		program[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
}
