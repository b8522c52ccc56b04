package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

// decided is a program whose chance falls the given way. The VM has no chance.
func decided(p []bpf.Instruction, chance uint32) []bpf.Instruction {
	p = slices.Clone(p)
	for i, ins := range p {
		if ins == (bpf.LoadExtension{Num: bpf.ExtRand}) {
			p[i] = bpf.LoadConstant{Val: chance}
		}
	}
	return p
}

func passes(t *testing.T, p []bpf.Instruction, b []byte) bool {
	t.Helper()
	vm, err := bpf.NewVM(p)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// trailerOf is what a sieve can see of a trailer.
func trailerOf(version byte, id uint16) []byte {
	b := binary.BigEndian.AppendUint32(nil, auth.TrailerMagic)
	b = append(b, version, 0xee)
	b = binary.BigEndian.AppendUint16(b, id)
	return append(b, make([]byte, auth.TrailerLen-len(b))...)
}

// sieveOf lets in what was sealed by keys of these ids.
func sieveOf(ids ...uint16) Sieve {
	s := Sieve{On: true, Len: auth.TrailerLen, First: auth.TrailerMagic, Mask: auth.TrailerMask}
	for _, id := range ids {
		s.Second = append(s.Second, 1<<24|uint32(id))
	}
	return s
}

// many are key ids, two for each of 255 virtual routers.
func many() (ids []uint16) {
	for i := range 510 {
		ids = append(ids, uint16(1000+100*i))
	}
	return ids
}

func everyVRID() (all []uint8) {
	for i := range 255 {
		all = append(all, uint8(i+1))
	}
	return all
}

func TestSieve(t *testing.T) {
	unicast, group := Config{Local: addrA, Peer: addrB}, groupOf(addrA, heart, everyVRID()[:200]...)
	in := func(payload []byte) []byte { return ipv4Packet(addrB, addrA, 255, payload...) }
	join := func(vrid byte, tail []byte) []byte { return append([]byte{0x31, vrid, 100, 1, 0, 10, 0, 0}, tail...) }
	withOptions := append(ipv4Packet(addrB, addrA, 255), append([]byte{1, 1, 1, 0}, join(51, trailerOf(1, 7))...)...)
	withOptions[0] = 0x46
	for _, tt := range []struct {
		name      string
		cfg       Config
		ids       []uint16
		b         []byte
		in        bool
		bySampled bool
	}{
		{"one of one", unicast, []uint16{7}, in(join(51, trailerOf(1, 7))), true, true},
		{"behind options", unicast, []uint16{7}, withOptions, true, true},
		{"another id", unicast, []uint16{7}, in(join(51, trailerOf(1, 8))), false, true},
		{"another version", unicast, []uint16{7}, in(join(51, trailerOf(2, 7))), false, true},
		{"another magic", unicast, []uint16{7}, in(join(51, append([]byte{0}, trailerOf(1, 7)[1:]...))), false, true},
		{"bare", unicast, []uint16{7}, in(join(51, nil)), false, true},
		{"a byte behind it", unicast, []uint16{7}, in(append(join(51, trailerOf(1, 7)), 0)), false, true},
		{"the trailer alone", unicast, []uint16{7}, in(trailerOf(1, 7)), true, true},
		{"nothing", unicast, []uint16{7}, in(nil), false, true},
		{"a stranger", unicast, []uint16{7}, ipv4Packet(addrC, addrA, 255, join(51, trailerOf(1, 7))...), false, false},
		{"the first of 510", unicast, many(), in(join(51, trailerOf(1, many()[0]))), true, true},
		{"the 255th", unicast, many(), in(join(51, trailerOf(1, many()[254]))), true, true},
		{"the 256th", unicast, many(), in(join(51, trailerOf(1, many()[255]))), true, true},
		{"the last", unicast, many(), in(join(51, trailerOf(1, many()[509]))), true, true},
		{"none of 510", unicast, many(), in(join(51, trailerOf(1, 1001))), false, true},
		{"group", group, many(), in(join(51, trailerOf(1, many()[300]))), true, true},
		{"group, another id", group, many(), in(join(51, trailerOf(1, 1001))), false, true},
		{"group, another VRID", group, many(), in(join(201, trailerOf(1, many()[300]))), false, false},
		{"group, no VRID", group, many(), in([]byte{0x31}), false, true},
	} {
		if got := passes(t, decided(filter(tt.cfg, sieveOf(tt.ids...)), 1), tt.b); got != tt.in {
			t.Errorf("%s: let in %v, want %v", tt.name, got, tt.in)
		}
		if got := passes(t, decided(filter(tt.cfg, sieveOf(tt.ids...)), 5*SampleOf), tt.b); got != tt.bySampled {
			t.Errorf("%s, when it is its turn: let in %v, want %v", tt.name, got, tt.bySampled)
		}
		if got := passes(t, filter(tt.cfg, Sieve{}), tt.b); got != tt.bySampled {
			t.Errorf("%s, without a sieve: let in %v, want %v", tt.name, got, tt.bySampled)
		}
	}
}

// FuzzSieve seals a message of any content, puts any options before it, changes
// something, or nothing: what auth would believe passes the sieve, over either family.
func FuzzSieve(f *testing.F) {
	keys, err := auth.ParseKeys([]byte(strings.Repeat("a", 64) + "\n" + strings.Repeat("b", 64)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0x31, 51, 100, 1, 0, 10, 0, 0, 192, 0, 2, 100}, "compass", uint8(51), false, []byte{1, 1, 1, 0}, uint16(0), byte(0))
	f.Add([]byte{}, "a", uint8(1), true, []byte{}, uint16(5), byte(1))
	f.Add(trailerOf(1, 7), "b", uint8(2), true, bytes.Repeat([]byte{1}, 40), uint16(70), byte(0x80))
	f.Fuzz(func(t *testing.T, message []byte, name string, vrid uint8, second bool, options []byte, at uint16, change byte) {
		in := auth.Instance{VRID: max(vrid, 1), Name: "i" + name}
		sign := slices.Clone(keys)
		if second {
			slices.Reverse(sign)
		}
		options = options[:min(len(options), 40)/4*4]
		for _, ends := range [][2]netip.Addr{{addrB, addrA}, {addrB6, addrA6}} {
			verifier, err := auth.NewVerifier(auth.VerifierConfig{Mode: auth.Enforce, Keys: keys, Instance: in})
			if err != nil {
				t.Fatal(err)
			}
			sealer, err := auth.NewSealer(auth.SealerConfig{Mode: auth.Enforce, Keys: sign, Instance: in, Boot: 1})
			if err != nil {
				t.Fatal(err)
			}
			payload, err := sealer.Seal(slices.Clone(message), ends[0], ends[1], 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			payload[int(at)%len(payload)] ^= change
			_, err = verifier.Open(payload, ends[0], ends[1])
			if (err == nil) != (change == 0) {
				t.Fatalf("%x: %v", payload, err)
			}
			s := Sieve{On: true, Len: auth.TrailerLen, First: auth.TrailerMagic, Mask: auth.TrailerMask, Second: verifier.Marks()}
			packet, p := payload, append(s.program(), bpf.RetConstant{Val: whole})
			if ends[0].Is4() {
				packet = append(append(ipv4Packet(ends[0], ends[1], 255), options...), payload...)
				packet[0] = 0x40 | byte(ipv4MinHeader+len(options))/4
				p = filter(Config{Local: ends[1], Peer: ends[0]}, s)
			}
			passed := passes(t, decided(p, 1), packet)
			if err == nil && !passed {
				t.Errorf("%x does not pass", packet)
			}
			if knows := s.knows(packet); knows != passed {
				t.Errorf("%x: known %v, passes %v", packet, knows, passed)
			}
		}
	})
}

// TestSieveLetsThePeerIn has the peer send beside a flood over sockets of every kind.
func TestSieveLetsThePeerIn(t *testing.T) {
	nsA, nsB := dualHosts(t)
	// Kernels before 6.7 take no more than this of filters on one socket.
	for _, ns := range []*netnstest.Namespace{nsA, nsB} {
		ns.Sysctl(t, "core/optmem_max", "20480")
	}
	for _, tt := range []struct {
		name string
		a, b Config
	}{
		{"IPv4 unicast", Config{Local: addrA, Peer: addrB}, Config{Local: addrB, Peer: addrA}},
		{"IPv4 group", groupOf(addrA, heart, everyVRID()...), groupOf(addrB, heart)},
		{"IPv6 unicast", Config{Local: addrA6, Peer: addrB6}, Config{Local: addrB6, Peer: addrA6}},
		{"IPv6 group", groupOf(linkA6, heart, everyVRID()...), groupOf(linkB6, heart)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := open(t, nsA, tt.a), open(t, nsB, tt.b)
			in := run(t, a)
			// As often as keys are changed in a flood.
			for range 3 {
				if err := a.SetFilter(everyVRID(), sieveOf(many()...)); err != nil {
					t.Fatal(err)
				}
			}
			const sent, noise = 300, 40
			sealed := message(51, "peer") + string(trailerOf(1, many()[400]))
			forged := message(51, "peer") + string(trailerOf(1, 1001))
			for range sent {
				send(t, b, sealed)
				for range noise {
					send(t, b, forged)
				}
			}
			if err := a.SetFilter(everyVRID(), Sieve{}); err != nil {
				t.Fatal(err)
			}
			send(t, b, message(51, "bare"))
			netnstest.Eventually(t, limit, "what was sent last", func() bool { return slices.Contains(payloads(in), message(51, "bare")) })
			var heard, sampled int
			for _, p := range payloads(in) {
				switch p {
				case sealed:
					heard++
				case forged:
					sampled++
				}
			}
			if heard != sent {
				t.Errorf("%d heard, %d sent", heard, sent)
			}
			// 47 are to be expected.
			if sampled < 5 || sampled > 200 {
				t.Errorf("%d of %d others came in", sampled, sent*noise)
			}
			if n := a.Dropped(vrrp.DropOverflow); n != 0 {
				t.Errorf("%d found the queue full", n)
			}
		})
	}
}

// TestFilterThatCannotBeReplaced leaves no sieve behind that knows too few keys.
func TestFilterThatCannotBeReplaced(t *testing.T) {
	nsA, nsB := hosts(t)
	a, b := listen(t, nsA, addrA, addrB), listen(t, nsB, addrB, addrA)
	in := run(t, a)
	if err := a.SetFilter(nil, sieveOf(7)); err != nil {
		t.Fatal(err)
	}
	nsA.Sysctl(t, "core/optmem_max", "1024")
	if err := a.SetFilter(nil, sieveOf(many()...)); err == nil {
		t.Fatal("it could be replaced")
	}
	send(t, b, "peer")
	netnstest.Eventually(t, limit, "the peer", func() bool { return len(in.all()) == 1 })
}
