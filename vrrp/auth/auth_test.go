package auth

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testBoot = 0x18A0B1C2D3E4F506

var (
	instance = Instance{VRID: 51, Name: "compass"}
	srcA     = netip.MustParseAddr("10.77.0.11")
	dstA     = netip.MustParseAddr("10.77.0.12")
	srcB     = netip.MustParseAddr("10.77.1.11")
	dstB     = netip.MustParseAddr("10.77.1.12")
	advert   = []byte{0x31, 51, 254, 1, 0, 25, 0x0a, 0x0b, 10, 77, 0, 100}
)

// testKey is the bytes from first, from first+1 on.
func testKey(t testing.TB, firsts ...byte) []Key {
	t.Helper()
	var file []byte
	for _, first := range firsts {
		var b [KeyLen]byte
		for i := range b {
			b[i] = first + byte(i)
		}
		file = append(file, hex.EncodeToString(b[:])+"\n"...)
	}
	keys, err := ParseKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newSealer(t testing.TB, boot uint64, keys []Key) *Sealer {
	t.Helper()
	s, err := NewSealer(SealerConfig{Mode: Enforce, Keys: keys, Instance: instance, Boot: boot})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newVerifier(t testing.TB, mode Mode, keys []Key) *Verifier {
	t.Helper()
	v, err := NewVerifier(VerifierConfig{Mode: mode, Keys: keys, Instance: instance})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func seal(t testing.TB, s *Sealer, src, dst netip.Addr, sequence, epoch uint64) []byte {
	t.Helper()
	b, err := s.Seal(slices.Clone(advert), src, dst, sequence, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden has bytes that another implementation of the format made.
func TestGolden(t *testing.T) {
	for _, tt := range []struct {
		file            string
		first           byte
		in              Instance
		payload         int
		src, dst        string
		boot, seq, epch uint64
	}{
		{"ipv4.hex", 0, instance, 12, "10.77.0.11", "10.77.0.12", testBoot, 7, 42},
		{"ipv6.hex", 32, instance, 40, "fe80::11%eth0", "ff02::12%eth0", testBoot, 1 << 40, 1 << 33},
		{"empty.hex", 0, Instance{VRID: 255, Name: "é"}, 0, "192.0.2.1", "::ffff:224.0.0.18", 1, 1, 0},
	} {
		t.Run(tt.file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
			if err != nil {
				t.Fatal(err)
			}
			src, dst := netip.MustParseAddr(tt.src), netip.MustParseAddr(tt.dst)
			keys := testKey(t, tt.first)
			s, err := NewSealer(SealerConfig{Mode: Enforce, Keys: keys, Instance: tt.in, Boot: tt.boot})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Seal(slices.Clone(want[:tt.payload]), src, dst, tt.seq, tt.epch)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("sealed (-want +got):\n%s", diff)
			}
			v, err := NewVerifier(VerifierConfig{Mode: Enforce, Keys: keys, Instance: tt.in})
			if err != nil {
				t.Fatal(err)
			}
			opened, err := v.Open(want, src, dst)
			if err != nil {
				t.Fatal(err)
			}
			wantOpened := Opened{
				Payload: want[:tt.payload], Proved: true, NewBoot: true,
				Epoch: tt.epch, Boot: tt.boot, Sequence: tt.seq,
			}
			if diff := cmp.Diff(wantOpened, opened); diff != "" {
				t.Errorf("opened (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOpenByMode has what each mode makes of each kind of packet.
func TestOpenByMode(t *testing.T) {
	ours, foreign := testKey(t, 0), testKey(t, 99)
	sealed := seal(t, newSealer(t, 5, ours), srcA, dstA, 1, 9)
	otherVersion, forged := slices.Clone(sealed), slices.Clone(sealed)
	otherVersion[len(advert)+offVersion] = 2
	forged[2]++ // the priority
	for _, tt := range []struct {
		name     string
		b        []byte
		src, dst netip.Addr
		reason   Reason
	}{
		{"proved", sealed, srcA, dstA, 0},
		{"bare", advert, srcA, dstA, ReasonMissing},
		{"nothing", nil, srcA, dstA, ReasonMissing},
		{"cut", sealed[:len(sealed)-1], srcA, dstA, ReasonMissing},
		{"other version", otherVersion, srcA, dstA, ReasonVersion},
		{"two families", sealed, srcA, netip.IPv6LinkLocalAllNodes(), ReasonFamily},
		{"no addresses", sealed, netip.Addr{}, netip.Addr{}, ReasonFamily},
		{"foreign key", seal(t, newSealer(t, 5, foreign), srcA, dstA, 1, 9), srcA, dstA, ReasonKey},
		{"altered", forged, srcA, dstA, ReasonTag},
		{"moved to another source", sealed, srcB, dstA, ReasonTag},
		{"moved to another destination", sealed, srcA, dstB, ReasonTag},
		{"turned round", sealed, dstA, srcA, ReasonTag},
	} {
		for _, mode := range []Mode{None, Permissive, Enforce} {
			t.Run(tt.name+"/"+mode.String(), func(t *testing.T) {
				v := newVerifier(t, mode, ours)
				got, err := v.Open(tt.b, tt.src, tt.dst)
				payload, _, _ := split(tt.b)
				want, wantErr := Opened{Payload: payload}, error(nil)
				switch {
				case mode != None && tt.reason == 0:
					want = Opened{Payload: payload, Proved: true, Epoch: 9, Boot: 5, Sequence: 1, NewBoot: true}
				case mode == Permissive:
					want.Doubt = tt.reason
				case mode == Enforce:
					want, wantErr = Opened{}, tt.reason
				}
				if !errors.Is(err, wantErr) {
					t.Errorf("error %v, want %v", err, wantErr)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("opened (-want +got):\n%s", diff)
				}
				if tt.reason != 0 && v.Seen() != (Seen{}) {
					t.Errorf("what is not proved left %+v", v.Seen())
				}
			})
		}
	}
}

// TestDerive holds that purposes, keys and lengths are apart from each other, and
// that nothing else gets at the heartbeat's keys.
func TestDerive(t *testing.T) {
	keys := testKey(t, 0, 100)
	seen := map[string]string{}
	for i, k := range keys {
		for _, purpose := range []string{"tanist a", "tanist b", "tanist a\x00"} {
			b, err := k.Derive(purpose, 32)
			if err != nil || len(b) != 32 {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			here := fmt.Sprint(i, purpose)
			if at, again := seen[string(b)]; again {
				t.Errorf("%s gives what %s does", here, at)
			}
			seen[string(b)] = here
			if again, _ := k.Derive(purpose, 32); !bytes.Equal(b, again) {
				t.Errorf("%s gives another key each time", here)
			}
		}
	}
	for _, purpose := range []string{"", "tanist heartbeat 1\x00\x33compass"} {
		if _, err := keys[0].Derive(purpose, 32); err == nil {
			t.Errorf("a key for %q", purpose)
		}
	}
	if _, err := (Key{}).Derive("tanist a", 32); err == nil {
		t.Error("an empty key gives one")
	}
}

// TestInstancesAreApart seals for one virtual router and opens for another.
func TestInstancesAreApart(t *testing.T) {
	keys := testKey(t, 0)
	b := seal(t, newSealer(t, 5, keys), srcA, dstA, 1, 0)
	for _, in := range []Instance{{VRID: 52, Name: "compass"}, {VRID: 51, Name: "compas"}, {VRID: 51, Name: "compass2"}} {
		v, err := NewVerifier(VerifierConfig{Mode: Enforce, Keys: keys, Instance: in})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Open(b, srcA, dstA); err == nil {
			t.Errorf("%+v: no error", in)
		}
	}
}

// TestRotation goes through a change of the key on two nodes, one file at a
// time, and opens at each stage what the other node seals.
func TestRotation(t *testing.T) {
	const before, after = 0, 100
	stages := [][2][]byte{ // the key files of the two nodes
		{{before}, {before}},
		{{before, after}, {before}},
		{{before, after}, {before, after}},
		{{after, before}, {before, after}},
		{{after, before}, {after, before}},
		{{after}, {after, before}},
		{{after}, {after}},
	}
	for i, files := range stages {
		for _, dir := range [][2][]byte{{files[0], files[1]}, {files[1], files[0]}} {
			b := seal(t, newSealer(t, 5, testKey(t, dir[0]...)), srcA, dstA, 1, 0)
			got, err := newVerifier(t, Enforce, testKey(t, dir[1]...)).Open(b, srcA, dstA)
			if err != nil {
				t.Errorf("stage %d, sealed with %v, opened with %v: %v", i, dir[0], dir[1], err)
			}
			if want := dir[0][0] != dir[1][0]; got.SecondKey != want {
				t.Errorf("stage %d, sealed with %v, opened with %v: second key %v", i, dir[0], dir[1], got.SecondKey)
			}
		}
	}
}

// TestKeysOfOneID tries both.
func TestKeysOfOneID(t *testing.T) {
	v := newVerifier(t, Enforce, testKey(t, 0, 100))
	s := newSealer(t, 5, testKey(t, 100))
	for _, k := range v.keys {
		k.id = s.sign.id
	}
	if got, err := v.Open(seal(t, s, srcA, dstA, 1, 0), srcA, dstA); err != nil || !got.SecondKey {
		t.Errorf("second key %v, error %v", got.SecondKey, err)
	}
}

// TestReplay is the replay rule, clause by clause: what arrives at one Verifier,
// in order.
func TestReplay(t *testing.T) {
	type packet struct {
		boot, sequence uint64
		path           int
		want           Reason
	}
	confirm := func(boot, sequence uint64) func(*Verifier) {
		return func(v *Verifier) { v.Confirm(boot, sequence) }
	}
	for _, tt := range []struct {
		name   string
		seen   Seen
		first  []packet
		then   func(*Verifier)
		second []packet
	}{
		{name: "each is believed once", first: []packet{{5, 1, 0, 0}, {5, 1, 0, ReasonReplay}, {5, 2, 0, 0}, {5, 1, 0, ReasonReplay}}},
		{name: "sequence 0 is none", first: []packet{{5, 0, 0, ReasonReplay}}},
		{name: "losses are no matter", first: []packet{{5, 1, 0, 0}, {5, 1 << 60, 0, 0}}},
		{name: "overtaken on its path", first: []packet{{5, 3, 0, 0}, {5, 2, 0, ReasonReplay}}},
		{name: "the same one on two paths", first: []packet{{5, 1, 0, 0}, {5, 1, 1, 0}, {5, 1, 1, ReasonReplay}}},
		{name: "a path may lag", first: []packet{{5, 100, 0, 0}, {5, 100 - MaxLag, 1, 0}, {5, 101 - MaxLag, 1, 0}}},
		{name: "a path that was held back", first: []packet{{5, 100, 0, 0}, {5, 99 - MaxLag, 1, ReasonStale}, {5, 100, 1, 0}}},
		{name: "a restart", first: []packet{{5, 100, 0, 0}, {6, 1, 0, 0}, {6, 1, 1, 0}}},
		{name: "of before the restart", first: []packet{{5, 100, 0, 0}, {6, 1, 0, 0}, {5, 101, 0, ReasonOldBoot}, {6, 2, 0, 0}}},
		{name: "of before the restart, on a path without news of it", first: []packet{{5, 100, 1, 0}, {6, 1, 0, 0}, {5, 101, 1, ReasonOldBoot}}},
		{name: "of two restarts ago", first: []packet{{4, 1, 0, 0}, {6, 1, 0, 0}, {5, 1, 0, ReasonOldBoot}}},
		{
			name: "what was kept over our restart", seen: Seen{Boot: 5, Highest: 5, Sequence: 100},
			first: []packet{{4, 200, 0, ReasonOldBoot}, {5, 50, 0, ReasonStale}, {5, 101, 0, 0}},
		},
		{
			name: "a lower identity that the peer confirmed", first: []packet{{9, 50, 0, 0}, {5, 1, 0, ReasonOldBoot}},
			then: confirm(5, 20), second: []packet{{5, 1, 0, ReasonStale}, {5, 21, 0, 0}, {9, 51, 0, ReasonOldBoot}, {7, 1, 0, ReasonOldBoot}, {10, 1, 0, 0}},
		},
		{
			name: "a confirmed sequence number", first: []packet{{5, 1, 0, 0}},
			then: confirm(5, 100), second: []packet{{5, 2, 0, ReasonStale}, {5, 100, 0, 0}},
		},
		{
			name: "an older confirmation", first: []packet{{5, 100, 0, 0}},
			then: confirm(5, 50), second: []packet{{5, 60, 1, ReasonStale}, {5, 101, 0, 0}},
		},
		{
			name: "a confirmation that was held back over a restart", first: []packet{{5, 100, 0, 0}, {6, 1, 0, 0}},
			then: confirm(5, 101), second: []packet{{6, 2, 0, 0}, {5, 102, 0, ReasonOldBoot}},
		},
		{
			name: "the same of a restart with a lower identity", first: []packet{{9, 50, 0, 0}},
			then: func(v *Verifier) { v.Confirm(5, 0); v.Confirm(9, 51) }, second: []packet{{5, 1, 0, 0}, {9, 52, 0, ReasonOldBoot}},
		},
		{
			name: "a higher identity that the peer confirmed", first: []packet{{5, 100, 0, 0}},
			then: confirm(6, 0), second: []packet{{5, 101, 0, ReasonOldBoot}, {6, 1, 0, 0}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVerifier(t, Enforce, testKey(t, 0))
			v.seen = tt.seen
			check := func(ps []packet) {
				for i, p := range ps {
					path := path{src: []netip.Addr{srcA, srcB}[p.path], dst: dstA}
					before := v.Seen().Boot
					fresh, got := v.believe(path, trailer{boot: p.boot, sequence: p.sequence})
					if got != p.want {
						t.Errorf("packet %d %+v: %v", i, p, got)
					}
					if want := got == 0 && p.boot != before; fresh != want {
						t.Errorf("packet %d %+v: new boot %v, want %v", i, p, fresh, want)
					}
				}
			}
			check(tt.first)
			if tt.then != nil {
				tt.then(v)
			}
			check(tt.second)
		})
	}
}

// TestKept hands what one Verifier knew to the next, as a restart does: of the
// run that was heard before, only what is new is believed.
func TestKept(t *testing.T) {
	first := newVerifier(t, Enforce, testKey(t, 0))
	s := newSealer(t, 5, testKey(t, 0))
	if _, err := first.Open(seal(t, s, srcA, dstA, 100, 0), srcA, dstA); err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(VerifierConfig{Mode: Enforce, Keys: testKey(t, 0), Instance: instance, Seen: first.Seen()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		boot, sequence uint64
		src            netip.Addr
		want           error
	}{
		{5, 100, srcA, ReasonReplay},
		{5, 100, srcB, ReasonReplay}, // the path it came over before is not known any more
		{5, 99, srcB, ReasonReplay},
		{4, 200, srcA, ReasonOldBoot},
		{5, 101, srcA, nil},
		{6, 1, srcA, nil}, // another run counts from its own beginning
	} {
		got, err := v.Open(seal(t, newSealer(t, tt.boot, testKey(t, 0)), tt.src, dstA, tt.sequence, 0), tt.src, dstA)
		if !errors.Is(err, tt.want) || err == nil && got.NewBoot != (tt.boot == 6) {
			t.Errorf("%+v: %+v, %v", tt, got, err)
		}
	}
}

// TestChange changes mode and keys of a Verifier that has heard something.
func TestChange(t *testing.T) {
	older, newer := testKey(t, 0), testKey(t, 100)
	v := newVerifier(t, Permissive, older)
	opened := func(keys []Key, sequence uint64) error {
		t.Helper()
		got, err := v.Open(seal(t, newSealer(t, 5, keys), srcA, dstA, sequence, 0), srcA, dstA)
		if err != nil {
			return err
		}
		if got.Doubt != 0 {
			return got.Doubt
		}
		return nil
	}
	for i, step := range []struct {
		mode     Mode
		keys     []Key
		seal     []Key
		sequence uint64
		want     error
	}{
		{Permissive, older, older, 10, nil},
		{Enforce, older, older, 10, ReasonReplay},
		{Enforce, []Key{older[0], newer[0]}, newer, 10, ReasonReplay},
		{Enforce, []Key{older[0], newer[0]}, newer, 11, nil},
		{Enforce, newer, older, 12, ReasonKey},
		{Enforce, newer, newer, 12, nil},
	} {
		if err := v.Change(step.mode, step.keys); err != nil {
			t.Fatal(err)
		}
		if err := opened(step.seal, step.sequence); !errors.Is(err, step.want) {
			t.Errorf("step %d: %v, want %v", i, err, step.want)
		}
	}
	if err := v.Change(Enforce, nil); err == nil {
		t.Error("a change to no key")
	}
	if err := opened(newer, 13); err != nil {
		t.Errorf("after a change that failed: %v", err)
	}
	if err := v.Change(None, nil); err != nil {
		t.Error(err)
	}
}

func TestPathsAreBounded(t *testing.T) {
	s, v := newSealer(t, 5, testKey(t, 0)), newVerifier(t, Enforce, testKey(t, 0))
	src := srcA
	for i := range MaxPaths + 1 {
		_, err := v.Open(seal(t, s, src, dstA, 1, 0), src, dstA)
		if full := i == MaxPaths; full != errors.Is(err, ReasonPaths) || !full && err != nil {
			t.Errorf("path %d: %v", i, err)
		}
		src = src.Next()
	}
	if _, err := v.Open(seal(t, s, srcA, dstA, 2, 0), srcA, dstA); err != nil {
		t.Errorf("a known path: %v", err)
	}
}

// TestStageByStage rolls authentication out on two nodes, one step at a time:
// no stage may cut them off.
func TestStageByStage(t *testing.T) {
	keys := testKey(t, 0)
	for _, stage := range [][2]Mode{
		{None, None}, {Permissive, None}, {Permissive, Permissive}, {Enforce, Permissive}, {Enforce, Enforce},
	} {
		for _, dir := range [][2]Mode{{stage[0], stage[1]}, {stage[1], stage[0]}} {
			s, err := NewSealer(SealerConfig{Mode: dir[0], Keys: keys, Instance: instance, Boot: 5})
			if err != nil {
				t.Fatal(err)
			}
			got, err := newVerifier(t, dir[1], keys).Open(seal(t, s, srcA, dstA, 1, 0), srcA, dstA)
			if err != nil || !bytes.Equal(got.Payload, advert) {
				t.Errorf("%v to %v: payload %x, %v", dir[0], dir[1], got.Payload, err)
			}
		}
	}
}

func TestParseKeys(t *testing.T) {
	one, two := strings.Repeat("0a", KeyLen), strings.Repeat("Fb", KeyLen)
	for _, tt := range []struct {
		name, file string
		keys       int
	}{
		{"as keygen writes it", one + "\n", 1},
		{"without the newline", one, 1},
		{"two", one + "\n" + two + "\n", 2},
		{"from another system", one + "\r\n" + two + "\r\n", 2},
		{"empty", "", 0},
		{"a newline", "\n", 0},
		{"three", one + "\n" + two + "\n" + one + "\n", 0},
		{"twice the same", one + "\n" + strings.ToUpper(one) + "\n", 0},
		{"short", one[1:] + "\n", 0},
		{"long", one + "0\n", 0},
		{"an empty line between", one + "\n\n" + two, 0},
		{"an empty line behind", one + "\n\n", 0},
		{"a space behind", one + " \n", 0},
		{"no hexadecimal digit", "zz" + one[2:] + "\n", 0},
		{"zeros", strings.Repeat("00", KeyLen) + "\n", 0},
		{"binary", string(bytes.Repeat([]byte{0x1f}, KeyLen)), 0},
	} {
		keys, err := ParseKeys([]byte(tt.file))
		if len(keys) != tt.keys || (err == nil) != (tt.keys > 0) {
			t.Errorf("%s: %d keys, %v", tt.name, len(keys), err)
		}
		if err != nil && (strings.Contains(err.Error(), "0a0a") || strings.Contains(err.Error(), "zz")) {
			t.Errorf("%s: the error shows the file: %v", tt.name, err)
		}
	}
}

// TestKeysDoNotPrint puts a key where a careless log line would.
func TestEqual(t *testing.T) {
	one, both := testKey(t, 0), testKey(t, 0, 100)
	for _, tt := range []struct {
		a, b []Key
		want bool
	}{
		{nil, nil, true},
		{one, testKey(t, 0), true},
		{both, testKey(t, 0, 100), true},
		{one, testKey(t, 100), false},
		{one, both, false},
		{one, nil, false},
		{both, testKey(t, 100, 0), false},
	} {
		if got := Equal(tt.a, tt.b); got != tt.want {
			t.Errorf("%d and %d keys: %v", len(tt.a), len(tt.b), got)
		}
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	file := strings.Repeat("7b", KeyLen)
	keys, err := ParseKeys([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	hidden := struct{ inner []Key }{keys}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, value := range []any{keys[0], &keys[0], keys, VerifierConfig{Keys: keys}, hidden} {
			got := fmt.Sprintf(format, value)
			for _, leak := range []string{"7b7b", "123 123", "0x7b", "{{{"} {
				if strings.Contains(strings.ReplaceAll(got, ", ", " "), leak) {
					t.Errorf("%s of %T shows the key: %s", format, value, got)
				}
			}
		}
	}
}

func TestConfigurationsRefused(t *testing.T) {
	good := testKey(t, 0)
	for _, tt := range []struct {
		name string
		keys []Key
		in   Instance
		mode Mode
		boot uint64
	}{
		{"no key", nil, instance, Enforce, 1},
		{"an empty key", []Key{{}}, instance, Enforce, 1},
		{"three keys", testKeys3(t), instance, Enforce, 1},
		{"VRID 0", good, Instance{Name: "x"}, Enforce, 1},
		{"no name", good, Instance{VRID: 1}, Enforce, 1},
		{"unknown mode", good, instance, Enforce + 1, 1},
		{"no boot identity", good, instance, Permissive, 0},
	} {
		if _, err := NewSealer(SealerConfig{Mode: tt.mode, Keys: tt.keys, Instance: tt.in, Boot: tt.boot}); err == nil {
			t.Errorf("%s: a Sealer", tt.name)
		}
		_, err := NewVerifier(VerifierConfig{Mode: tt.mode, Keys: tt.keys, Instance: tt.in})
		if err == nil && tt.boot != 0 {
			t.Errorf("%s: a Verifier", tt.name)
		}
	}
}

func testKeys3(t *testing.T) []Key {
	t.Helper()
	return slices.Concat(testKey(t, 0), testKey(t, 50, 100))
}

func TestSealRefuses(t *testing.T) {
	s := newSealer(t, 5, testKey(t, 0))
	for name, fn := range map[string]func() ([]byte, error){
		"sequence 0":   func() ([]byte, error) { return s.Seal(advert, srcA, dstA, 0, 0) },
		"two families": func() ([]byte, error) { return s.Seal(advert, srcA, netip.IPv6LinkLocalAllNodes(), 1, 0) },
		"no address":   func() ([]byte, error) { return s.Seal(advert, netip.Addr{}, netip.Addr{}, 1, 0) },
	} {
		if b, err := fn(); err == nil || !bytes.Equal(b, advert) {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
}

func TestNextBoot(t *testing.T) {
	now := time.Unix(1_800_000_000, 5)
	for _, tt := range []struct {
		name string
		wall time.Time
		last uint64
		want uint64
	}{
		{"first", now, 0, 1_800_000_000_000_000_005},
		{"later", now, 1_799_999_999_000_000_000, 1_800_000_000_000_000_005},
		{"the clock was set back", now, 1_900_000_000_000_000_000, 1_900_000_000_000_000_001},
		{"in the same instant", now, 1_800_000_000_000_000_005, 1_800_000_000_000_000_006},
		{"a clock without time", time.Unix(0, 0), 0, 1},
		{"a clock before its time", time.Unix(-5, 0), 7, 8},
		{"the last one", now, 1<<64 - 1, 1<<64 - 1},
	} {
		if got := NextBoot(tt.wall, tt.last); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if s := r.String(); s == "" || seen[s] || !strings.HasPrefix(s, "auth_") || !strings.HasSuffix(r.Error(), s) {
			t.Errorf("reason %d is called %q", r, s)
		}
		seen[r.String()] = true
	}
	if got := fmt.Sprint(Reason(0), lastReason+1, Enforce+1); !strings.HasPrefix(got, "Reason(0)") &&
		!strings.Contains(got, "Mode(3)") {
		t.Errorf("names of nothing: %s", got)
	}
}

// FuzzOpen gives a Verifier whatever comes: without the key nothing is proved.
func FuzzOpen(f *testing.F) {
	good := seal(f, newSealer(f, 5, testKey(f, 0)), srcA, dstA, 1, 9)
	f.Add(good, true)
	f.Add(advert, true)
	f.Add(good[1:], false)
	f.Fuzz(func(t *testing.T, b []byte, known bool) {
		keys := testKey(t, 77)
		if known {
			keys = testKey(t, 0)
		}
		for _, mode := range []Mode{None, Permissive, Enforce} {
			got, err := newVerifier(t, mode, keys).Open(b, srcA, dstA)
			if got.Proved && !(known && bytes.Equal(b, good)) {
				t.Fatalf("%v: %x is proved", mode, b)
			}
			if (err != nil) != (mode == Enforce && !got.Proved) {
				t.Fatalf("%v: %+v, error %v", mode, got, err)
			}
			if err == nil && !bytes.HasPrefix(b, got.Payload) {
				t.Fatalf("%v: payload %x is not of %x", mode, got.Payload, b)
			}
		}
	})
}

// FuzzSeal compares the round trip, then flips one bit and cuts the end off:
// neither is ever proved.
func FuzzSeal(f *testing.F) {
	f.Add(advert, srcA.AsSlice(), dstA.AsSlice(), uint64(1), uint64(2), uint64(3), uint(0))
	f.Add([]byte{}, netip.IPv6LinkLocalAllNodes().AsSlice(), netip.IPv6LinkLocalAllRouters().AsSlice(), uint64(9), uint64(1), uint64(0), uint(77))
	f.Fuzz(func(t *testing.T, payload, from, to []byte, boot, sequence, epoch uint64, bit uint) {
		src, _ := netip.AddrFromSlice(from)
		dst, _ := netip.AddrFromSlice(to)
		if boot == 0 {
			return
		}
		keys := testKey(t, 0)
		b, err := newSealer(t, boot, keys).Seal(slices.Clone(payload), src, dst, sequence, epoch)
		if err != nil {
			return
		}
		got, err := newVerifier(t, Enforce, keys).Open(b, src, dst)
		if err != nil {
			t.Fatal(err)
		}
		want := Opened{Payload: payload, Proved: true, Epoch: epoch, Boot: boot, Sequence: sequence, NewBoot: true}
		if len(payload) == 0 {
			want.Payload = []byte{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("round trip (-want +got):\n%s", diff)
		}
		bit %= uint(len(b) * 8)
		flipped := slices.Clone(b)
		flipped[bit/8] ^= 1 << (bit % 8)
		if _, err := newVerifier(t, Enforce, keys).Open(flipped, src, dst); err == nil {
			t.Fatalf("proved with bit %d flipped", bit)
		}
		if _, err := newVerifier(t, Enforce, keys).Open(b[:bit/8], src, dst); err == nil {
			t.Fatalf("proved when cut to %d bytes", bit/8)
		}
	})
}

// TestEveryBit flips each bit of a sealed advertisement and of its addresses.
func TestEveryBit(t *testing.T) {
	keys := testKey(t, 0)
	good := seal(t, newSealer(t, 5, keys), srcA, dstA, 1, 9)
	input := slices.Concat(good, srcA.AsSlice(), dstA.AsSlice())
	for bit := range len(input) * 8 {
		flipped := slices.Clone(input)
		flipped[bit/8] ^= 1 << (bit % 8)
		n := len(good)
		src, dst := netip.AddrFrom4([4]byte(flipped[n:])), netip.AddrFrom4([4]byte(flipped[n+4:]))
		if _, err := newVerifier(t, Enforce, keys).Open(flipped[:n], src, dst); err == nil {
			t.Errorf("proved with bit %d flipped", bit)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	s := newSealer(b, 5, testKey(b, 0))
	buf := make([]byte, 0, 2048)
	b.ReportAllocs()
	for sequence := uint64(1); b.Loop(); sequence++ {
		if _, err := s.Seal(append(buf, advert...), srcA, dstA, sequence, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenForged(b *testing.B) {
	v := newVerifier(b, Enforce, testKey(b, 0))
	forged := seal(b, newSealer(b, 5, testKey(b, 0)), srcA, dstA, 1, 1)
	forged[0] ^= 1
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Open(forged, srcA, dstA); !errors.Is(err, ReasonTag) {
			b.Fatal(err)
		}
	}
}
