package peer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fixedKnock is one that another implementation of the format could make.
func fixedKnock(t testing.TB) (challenge []byte, k knocked) {
	t.Helper()
	derived, err := deriveAll([]Key{keyOld, keyNew}, "reserve", "primary")
	if err != nil {
		t.Fatal(err)
	}
	at := terms{
		node: "reserve", peer: "primary", local: netip.MustParseAddr("192.0.2.12"), remote: netip.MustParseAddr("192.0.2.11"),
		versions: versions{3, 5}, secrets: derived,
	}
	challenge = append(greeting(), 0, 3, 0, 4)
	challenge = append(challenge, bytes.Repeat([]byte{0xc0}, nonceSize)...)
	k = knocked{versions: at.versions, nonce: [nonceSize]byte{0xd0}, node: at.node, peer: at.peer}
	spoken := append(at.spoken(true, challenge), k.unproved()...)
	for _, key := range derived.keys {
		k.offers = append(k.offers, offer{key.id, prove(key, dialingEnd, spoken)})
	}
	return challenge, k
}

// TestKnockIsGolden has the bytes of both keys' proofs: the derivation is as much a
// part of the format as the layout.
func TestKnockIsGolden(t *testing.T) {
	challenge, k := fixedKnock(t)
	golden(t, "knock.bin", append(challenge, framed(k.body())...))
}

// answering is the listening end of fixedKnock.
func answering(t testing.TB, keys ...Key) terms {
	t.Helper()
	derived, err := deriveAll(keys, "primary", "reserve")
	if err != nil {
		t.Fatal(err)
	}
	return terms{
		node: "primary", peer: "reserve", local: netip.MustParseAddr("192.0.2.11"), remote: netip.MustParseAddr("192.0.2.12"),
		versions: versions{3, 4}, secrets: derived,
	}
}

func (t terms) judgeBody(body, challenge []byte) (agreement, error) {
	k, err := parseKnock(body)
	if err != nil {
		return agreement{}, err
	}
	return t.judge(k, append(t.spoken(false, challenge), k.unproved()...))
}

// A proof is of one connection between two nodes by one path.
func TestAKnockFitsItsConnectionAlone(t *testing.T) {
	challenge, k := fixedKnock(t)
	other := bytes.Clone(challenge)
	other[len(other)-1]++
	for _, test := range []struct {
		name      string
		at        terms
		challenge []byte
		reason    Reason
	}{
		{"its own", answering(t, keyOld), challenge, 0},
		{"either key", answering(t, keyNew), challenge, 0},
		{"replayed to another challenge", answering(t, keyOld), other, ReasonForged},
		{"another key", answering(t, keyOther), challenge, ReasonWrongKey},
		{"moved to another listening address", moved(answering(t, keyOld), "192.0.2.77", "192.0.2.12"), challenge, ReasonForged},
		{"moved to another dialing address", moved(answering(t, keyOld), "192.0.2.11", "192.0.2.77"), challenge, ReasonForged},
		{"the addresses exchanged", moved(answering(t, keyOld), "192.0.2.12", "192.0.2.11"), challenge, ReasonForged},
		{"held out to its own node", named(answering(t, keyOld), "reserve", "primary"), challenge, ReasonLabel},
		{"held out to a third node", named(answering(t, keyOld), "third", "reserve"), challenge, ReasonLabel},
	} {
		_, err := test.at.judgeBody(k.body(), test.challenge)
		if got := reasonOr0(err); got != test.reason {
			t.Errorf("%s: %v, want %v", test.name, err, test.reason)
		}
	}
}

func moved(t terms, local, remote string) terms {
	t.local, t.remote = netip.MustParseAddr(local), netip.MustParseAddr(remote)
	return t
}

func named(t terms, node, peer string) terms {
	t.node, t.peer = node, peer
	return t
}

func reasonOr0(err error) Reason {
	if err == nil {
		return 0
	}
	return reasonOf(err)
}

// TestEveryBitOfAKnock flips each bit and cuts at each byte: never is it believed.
func TestEveryBitOfAKnock(t *testing.T) {
	challenge, k := fixedKnock(t)
	k.offers = k.offers[:1]
	body, at := k.body(), answering(t, keyOld)
	if _, err := at.judgeBody(body, challenge); err != nil {
		t.Fatal(err)
	}
	for bit := range len(body) * 8 {
		flipped := bytes.Clone(body)
		flipped[bit/8] ^= 1 << (bit % 8)
		if a, err := at.judgeBody(flipped, challenge); err == nil {
			t.Errorf("believed with bit %d flipped: %+v", bit, a)
		}
	}
	for n := range body {
		if _, err := at.judgeBody(body[:n], challenge); err == nil {
			t.Errorf("believed when cut to %d bytes", n)
		}
	}
	for bit := range len(challenge) * 8 {
		flipped := bytes.Clone(challenge)
		flipped[bit/8] ^= 1 << (bit % 8)
		if _, err := at.judgeBody(body, flipped); err == nil {
			t.Errorf("believed with bit %d of the challenge flipped", bit)
		}
	}
}

// FuzzKnock: what reads as a knock or a verdict writes the same bytes, and nothing
// that was not made with the key is believed.
func FuzzKnock(f *testing.F) {
	challenge, k := fixedKnock(f)
	good := k.body()
	f.Add(good)
	f.Add((&knocked{versions: versions{3, 3}, node: "reserve", peer: "primary"}).body())
	v := verdict{reason: "label", why: "why", version: 3}
	f.Add(v.body())
	keyed, plain := answering(f, keyOld), answering(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if k, err := parseKnock(body); err == nil {
			if diff := cmp.Diff(body, k.body()); diff != "" {
				t.Errorf("round trip of a knock:\n%s", diff)
			}
		}
		if v, err := parseVerdict(body); err == nil {
			if diff := cmp.Diff(body, v.body()); diff != "" {
				t.Errorf("round trip of a verdict:\n%s", diff)
			}
		}
		// An offer beside the one that counts proves nothing: the digest is of it too.
		if _, err := keyed.judgeBody(body, challenge); err == nil {
			if got, _ := parseKnock(body); !bytes.Equal(got.unproved(), k.unproved()) || !slices.Contains(got.offers, k.offers[0]) {
				t.Errorf("believed: %x", body)
			}
		}
		if a, err := plain.judgeBody(body, challenge); err == nil && a.key != nil {
			t.Errorf("a key where there is none: %x", body)
		}
	})
}

func TestTheHighestCommonVersion(t *testing.T) {
	for _, test := range []struct {
		one, other versions
		want       uint16
	}{
		{versions{3, 3}, versions{3, 3}, 3},
		{versions{3, 5}, versions{3, 4}, 4},
		{versions{3, 4}, versions{4, 9}, 4},
		{versions{1, 2}, versions{3, 4}, 0},
		{versions{3, 4}, versions{1, 2}, 0},
		{versions{0, 65535}, versions{7, 7}, 7},
	} {
		if got, back := test.one.common(test.other), test.other.common(test.one); got != test.want || back != test.want {
			t.Errorf("%v and %v: %d and %d, want %d", test.one, test.other, got, back, test.want)
		}
	}
}

// Two releases work together as long as they have a version in common.
func TestReleases(t *testing.T) {
	for _, test := range []struct {
		name   string
		there  versions
		agreed uint16
	}{
		{"an older one", versions{2, 3}, 3},
		{"a newer one", versions{3, 6}, 3},
		{"one far older", versions{1, 2}, 0},
		{"one far newer", versions{4, 6}, 0},
	} {
		for _, keys := range [][]Key{nil, {keyOld}} {
			t.Run(test.name, func(t *testing.T) {
				ap, bp := onePath()
				here, there := startAs(t, "primary", "reserve", ap, versions{3, 3}, keys...), startAs(t, "reserve", "primary", bp, test.there, keys...)
				for _, e := range []*end{here, there} {
					if test.agreed != 0 {
						eventually(t, "they agree", func() bool { s := e.path(0); return s.Connected && s.Version == test.agreed })
						continue
					}
					eventually(t, "both say which they speak", func() bool {
						s := e.path(0)
						return s.SendError.Reason == ReasonVersion && s.ReceiveError.Reason == ReasonVersion &&
							strings.Contains(s.SendError.Text, "link version") && strings.Contains(s.SendError.Text, test.there.String())
					})
				}
				if test.agreed != 0 {
					here.say("compass", state(7, 1))
					eventually(t, "and understand each other", func() bool { return there.last("compass").Seq == 1 })
				}
			})
		}
	}
}

func startAs(t *testing.T, node, peer string, paths []Path, v versions, keys ...Key) *end {
	t.Helper()
	l, err := New(Config{Node: node, Peer: peer, Paths: paths, Port: port, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	l.versions = v
	return run(t, l)
}

// A newer release says more than this one knows, in the hello and in frames.
func TestWhatANewerReleaseSaysBesideIsIgnored(t *testing.T) {
	e, me, peer := loneWith(t, keyOld)
	conn := callFrom(t, peer, me)
	at := termsOf(t, conn, "reserve", "primary", keyOld)
	at.versions = versions{3, 7}
	a, err := at.knock(conn)
	if err != nil {
		t.Fatal(err)
	}
	secured, err := a.key.secure(conn, clientConfig, tls.Client)
	if err != nil {
		t.Fatal(err)
	}
	h := strings.Replace(string(helloFrame(t, at.hello(a))[headSize:]), `{`, `{"weather":{"wind":[1,2]},`, 1)
	write(t, secured, rawFrame(h))
	if _, err := readHello(secured); err != nil {
		t.Fatal(err)
	}
	frame := frameOf(t, "compass", state(7, 1))
	body := "\x63\x04what" + string(frame[headSize:]) + "\x7f\x00"
	write(t, secured, rawFrame(body))
	eventually(t, "what is between is understood", func() bool { return e.last("compass").Seq == 1 })
	if s := e.path(0); refused(s) != 0 || s.Version != 3 {
		t.Errorf("status: %+v", s)
	}
}

func helloFrame(t *testing.T, h hello) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeHello(&b, h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Who says nothing, or too slowly, is gone after handshakeTime, at either end.
func TestTheHandshakeHasItsTime(t *testing.T) {
	for name, say := range map[string]func(net.Conn){
		"silent": func(net.Conn) {},
		"one byte at a time": func(c net.Conn) {
			for _, b := range greeting() {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				select {
				case <-t.Context().Done():
				case <-time.After(handshakeTime / 4):
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := tcpPair(t)
			go say(theirs)
			began := time.Now()
			_, err := answerAs(t, ours, "primary", "reserve", keyOld)
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < handshakeTime/2 {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
		})
	}
}
