package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAskTogether asks about the addresses of as many instances as a host can have,
// of which every other is the peer's and some are a stranger's.
func TestAskTogether(t *testing.T) {
	l := newLAN(t)
	const instances = 255
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }
	held := func(i int) bool { return i%2 == 0 }
	stolen := func(i int) bool { return i%10 == 1 }
	var qs []Question
	for i := range instances {
		qs = append(qs, Question{
			Interface: "self0", VIPs: []netip.Addr{address(i)}, PeerOnLink: []netip.Addr{peerAddr}, Peer: &Peer{},
			Within: ProbeWithin,
		})
	}
	own := []int{0, 11, 12, 13} // not asked: the network and the hosts' own addresses
	for i := range instances {
		switch {
		case slices.Contains(own, i):
		case held(i):
			l.peer.AddAddr(t, "peer0", fmt.Sprintf("%v/24", address(i)))
		case stolen(i):
			l.stranger.AddAddr(t, "stranger0", fmt.Sprintf("%v/24", address(i)))
		}
	}
	qs[0] = Question{Interface: "self0", VIPs: []netip.Addr{{}}}
	qs[11] = Question{Interface: "none0", VIPs: []netip.Addr{address(100)}, Within: ProbeWithin}
	peer, stranger := mac(t, l.peer, "peer0").String(), mac(t, l.stranger, "stranger0").String()
	var replies []Reply
	if err := l.self.Do(func() error { replies = AskTogether(t.Context(), qs); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := replies[0].Err; err == nil {
		t.Error("no error about an invalid address")
	}
	if err := replies[11].Err; !errors.Is(err, unix.ENODEV) {
		t.Errorf("error %v about an interface that is not there", err)
	}
	for i, r := range replies {
		if slices.Contains(own, i) {
			continue
		}
		var want []string
		switch {
		case held(i):
			want = []string{fmt.Sprintf("%v at %s, the peer's: true", address(i), peer)}
		case stolen(i):
			want = []string{fmt.Sprintf("%v at %s, the peer's: false", address(i), stranger)}
		}
		var got []string
		for _, c := range r.Answer.Claimants {
			got = append(got, fmt.Sprintf("%v at %v, the peer's: %v", c.Address, c.Hardware, c.Peer))
		}
		if r.Err != nil || !slices.Equal(got, want) || !r.Answer.Host || !r.Answer.OnLink() {
			t.Errorf("%v: claimed by %v, want %v; the peer's host %v, on the link %v, error %v",
				address(i), got, want, r.Answer.Host, r.Answer.OnLink(), r.Err)
		}
	}
}

// TestAskTogetherListensOnce bounds the time of many questions by that of one, with
// room for a slow machine: one after the other they would take 25 s.
func TestAskTogetherListensOnce(t *testing.T) {
	l := newLAN(t)
	var qs []Question
	for i := range 255 {
		q := Question{Interface: "self0", VIPs: []netip.Addr{vipAddr}, PeerOnLink: []netip.Addr{peerAddr}}
		if i%8 != 0 {
			q.PeerTCP = []netip.AddrPort{netip.AddrPortFrom(peerAddr, uint16(i%8))}
		}
		qs = append(qs, q)
	}
	began := time.Now()
	if err := l.self.Do(func() error {
		for i, r := range AskTogether(t.Context(), qs) {
			if r.Err != nil || !r.Answer.Host {
				t.Errorf("question %d: host %v, error %v", i, r.Answer.Host, r.Err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("255 questions took %v", took)
	}
}
