package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

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
	// SampleOf is of how many packets that a sieve does not know one comes in. It is a
	// power of 2.
	SampleOf = 256
	// jumpLimit is how many instructions a condition can skip.
	jumpLimit = 255
)

// Sieve knows packets by how they end. Without any Second there is no sieve.
type Sieve struct {
	// On says that what it does not know is kept out. One that is not on is for
	// Conn.Unknown alone.
	On bool
	// Len is of how many bytes the end is, at least 8. They begin with First, and the
	// next four, under Mask, are one of Second. Numbers are big endian.
	Len         uint32
	First, Mask uint32
	Second      []uint32
}

// filter is a classic BPF program that keeps foreign packets out of the
// receive queue. On a path to a peer they are those of other sources; on a
// group those of virtual routers that are not in cfg.VRIDs. All the rest, well
// formed or not, comes in to be counted, unless there is a sieve.
//
// With 255 virtual routers that have two keys each it has some 800 instructions, of the
// 4,096 that the kernel takes. Two such programs, one of them about to be replaced, are
// within the 20,480 bytes of net.core.optmem_max of kernels before 6.7.
func filter(cfg Config, s Sieve) []bpf.Instruction {
	var p []bpf.Instruction
	switch {
	case !cfg.group():
		p = fromPeer(cfg)
	case len(cfg.VRIDs) > 0:
		p = ofVRIDs(cfg)
	}
	if s.On && len(s.Second) > 0 {
		p = append(p, s.program()...)
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

// ofVRIDs lets a packet pass that is too short to have a VRID.
func ofVRIDs(cfg Config) []bpf.Instruction {
	shortest := uint32(vridOffset + 1)
	load := []bpf.Instruction{bpf.LoadAbsolute{Off: vridOffset, Size: 1}}
	if cfg.Local.Is4() {
		shortest += ipv4MinHeader
		load = []bpf.Instruction{bpf.LoadMemShift{Off: 0}, bpf.LoadIndirect{Off: vridOffset, Size: 1}}
	}
	return when(bpf.LoadExtension{Num: bpf.ExtLen}, bpf.JumpGreaterOrEqual, shortest,
		append(load, unlessAmong(cfg.VRIDs, bpf.RetConstant{Val: 0})...))
}

// program lets a packet pass that the sieve knows, and of all others, chosen by chance,
// one of SampleOf.
func (s Sieve) program() []bpf.Instruction {
	var p []bpf.Instruction
	for some := range slices.Chunk(s.Second, jumpLimit) {
		p = append(p, unlessAmong(some, bpf.Jump{Skip: 1})...)
		p = append(p, bpf.RetConstant{Val: whole})
	}
	p = append([]bpf.Instruction{
		bpf.LoadIndirect{Off: 4, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: s.Mask},
	}, p...)
	p = when(bpf.LoadIndirect{Off: 0, Size: 4}, bpf.JumpEqual, s.First, p)
	toEnd := []bpf.Instruction{bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: s.Len}, bpf.TAX{}}
	p = when(bpf.LoadExtension{Num: bpf.ExtLen}, bpf.JumpGreaterOrEqual, s.Len, append(toEnd, p...))
	return append(p,
		bpf.LoadExtension{Num: bpf.ExtRand},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: SampleOf - 1, SkipTrue: 1},
		bpf.RetConstant{Val: 0})
}

// knows reports whether the program would let a packet pass that was not chosen by chance.
func (s Sieve) knows(b []byte) bool {
	if len(s.Second) == 0 || len(b) < int(s.Len) {
		return false
	}
	end := b[len(b)-int(s.Len):]
	return binary.BigEndian.Uint32(end) == s.First && slices.Contains(s.Second, binary.BigEndian.Uint32(end[4:])&s.Mask)
}

// when goes through then if what is loaded fulfils the condition, and else past it.
func when(load bpf.Instruction, cond bpf.JumpTest, val uint32, then []bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{
		load, bpf.JumpIf{Cond: cond, Val: val, SkipTrue: 1}, bpf.Jump{Skip: uint32(len(then))},
	}, then...)
}

// unlessAmong does otherwise, and goes past it if what was loaded is one of the values,
// of which there are at most jumpLimit.
func unlessAmong[T uint8 | uint32](values []T, otherwise bpf.Instruction) []bpf.Instruction {
	var p []bpf.Instruction
	for i, v := range values {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(v), SkipTrue: uint8(len(values) - i)})
	}
	return append(p, otherwise)
}

// attachFilter replaces the filter that fd may have. One that cannot be replaced comes
// off: what it kept out is refused later, but it might keep the peer out.
func attachFilter(fd int, cfg Config, s Sieve) error {
	err := attach(fd, filter(cfg, s))
	if err == nil {
		return nil
	}
	if detachErr := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); !errors.Is(detachErr, unix.ENOENT) {
		err = errors.Join(err, os.NewSyscallError("setsockopt SO_DETACH_FILTER", detachErr))
	}
	return err
}

func attach(fd int, p []bpf.Instruction) error {
	raw, err := bpf.Assemble(p)
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
