package peer

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	keyOld   testKey = "the old key"
	keyNew   testKey = "the new key"
	keyOther testKey = "another cluster's key"
)

func onePath() (a, b []Path) {
	p := Path{Local: loopback(), Peer: loopback()}
	return []Path{p}, []Path{{Local: p.Peer, Peer: p.Local}}
}

func TestAKeyProvesBothEnds(t *testing.T) {
	ap, bp := twoPaths()
	a, b := start(t, "primary", "reserve", ap, keyOld), start(t, "reserve", "primary", bp, keyOld)
	for _, e := range []*end{a, b} {
		e.connected(t, 0, 1)
		for i, s := range e.Paths() {
			if !s.Proved || s.SecondKey || s.Version != NewestVersion || refused(s) != 0 {
				t.Errorf("path %d: %+v", i, s)
			}
		}
	}
	want := full(t)
	a.say("compass", want)
	eventually(t, "the message", func() bool { return b.last("compass").Seq == want.Seq })
	if diff := cmp.Diff(want, b.state("compass"), same); diff != "" {
		t.Error(diff)
	}
	if !a.Authenticated() || start(t, "x", "y", []Path{{Local: loopback(), Peer: loopback()}}).Authenticated() {
		t.Error("Authenticated does not tell a link with a key from one without")
	}
}

// Both operators learn why the nodes do not speak with each other.
func TestKeysThatDoNotFit(t *testing.T) {
	for _, test := range []struct {
		name   string
		a, b   []Key
		reason [2]Reason
		why    string
	}{
		{"another key", []Key{keyOld}, []Key{keyOther}, [2]Reason{ReasonWrongKey, ReasonWrongKey}, "different cluster keys"},
		{"the old key after a rotation", []Key{keyOld}, []Key{keyNew}, [2]Reason{ReasonWrongKey, ReasonWrongKey}, "different cluster keys"},
		{"two keys that are both others", []Key{keyOld, keyNew}, []Key{keyOther}, [2]Reason{ReasonWrongKey, ReasonWrongKey}, "different cluster keys"},
		{"no key there", []Key{keyOld}, nil, [2]Reason{ReasonNoKeyThere, ReasonNoKeyHere}, `key_file is missing in the configuration of "reserve"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			ap, bp := onePath()
			ends := [2]*end{start(t, "primary", "reserve", ap, test.a...), start(t, "reserve", "primary", bp, test.b...)}
			for i, e := range ends {
				eventually(t, "both directions say why", func() bool {
					s := e.path(0)
					return strings.Contains(s.SendError.Text, test.why) && strings.Contains(s.ReceiveError.Text, test.why)
				})
				s := e.path(0)
				if s.Connected || s.Accepted || s.Proved || s.SendError.Reason != test.reason[i] || s.ReceiveError.Reason != test.reason[i] {
					t.Errorf("%s: %+v", e.cfg.Node, s)
				}
				if n := s.Refusals.ByName()[test.reason[i].String()]; n < 2 || n != refused(s) {
					t.Errorf("%s counted %v", e.cfg.Node, s.Refusals)
				}
			}
		})
	}
}

// TestRotation goes through a change of the key as docs/heartbeat-auth.md has it,
// one file at a time, with somebody speaking all the time.
func TestRotation(t *testing.T) {
	ap, bp := twoPaths()
	a, b := start(t, "primary", "reserve", ap, keyOld), start(t, "reserve", "primary", bp, keyOld)
	ends := [2]*end{a, b}
	seq := uint64(0)
	speak := func(step string) {
		t.Helper()
		seq++
		for _, e := range ends {
			e.say("compass", state(7, seq))
		}
		for _, e := range ends {
			eventually(t, step+": it is heard", func() bool { return e.last("compass").Seq == seq })
		}
	}
	for _, e := range ends {
		e.connected(t, 0, 1)
	}
	speak("before")
	for _, step := range []struct {
		name   string
		node   int
		keys   []Key
		second [2]bool // whether the end then hears its peer under its second key
	}{
		{"1: the new key second, on one", 0, []Key{keyOld, keyNew}, [2]bool{false, false}},
		{"1: and on the other", 1, []Key{keyOld, keyNew}, [2]bool{false, false}},
		{"2: the new key first, on one", 0, []Key{keyNew, keyOld}, [2]bool{true, true}},
		{"2: and on the other", 1, []Key{keyNew, keyOld}, [2]bool{false, false}},
		{"3: the new key alone, on one", 0, []Key{keyNew}, [2]bool{false, false}},
		{"3: and on the other", 1, []Key{keyNew}, [2]bool{false, false}},
	} {
		if err := ends[step.node].SetKeys(step.keys); err != nil {
			t.Fatal(err)
		}
		speak(step.name)
		for i, e := range ends {
			for n := range ap {
				eventually(t, step.name+": the path is up and says which key", func() bool {
					s := e.path(n)
					return s.Connected && s.Accepted && s.Proved && s.SecondKey == step.second[i]
				})
			}
		}
	}
	var want []said
	for n := range seq {
		want = append(want, said{"compass", 7, n + 1})
	}
	for _, e := range ends {
		if diff := cmp.Diff(want, e.all()); diff != "" {
			t.Errorf("%s did not hear each message once:\n%s", e.cfg.Node, diff)
		}
		if n := refused(e.path(0)) + refused(e.path(1)); n != 0 {
			t.Errorf("%s refused %d: %+v", e.cfg.Node, n, e.Paths())
		}
	}
}

// A key that is taken away ends what was made under it, at both ends.
func TestAKeyThatIsTakenAway(t *testing.T) {
	ap, bp := onePath()
	a, b := start(t, "primary", "reserve", ap, keyOld), start(t, "reserve", "primary", bp, keyOld)
	a.connected(t, 0)
	b.connected(t, 0)
	if err := a.SetKeys([]Key{keyNew}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []*end{a, b} {
		eventually(t, "the link is down", func() bool {
			s := e.path(0)
			return !s.Connected && !s.Accepted && s.Refusals[ReasonWrongKey] > 0
		})
	}
	heard := len(b.all())
	a.say("compass", state(7, 1))
	if err := b.SetKeys([]Key{keyOld, keyNew}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the link is back with the other key", func() bool { return len(b.all()) == heard+1 })
	if err := b.SetKeys([]Key{keyOld, keyNew, keyOther}); err == nil {
		t.Error("three keys are accepted")
	}
}

// A key that comes ends what was made without one.
func TestAKeyThatComes(t *testing.T) {
	ap, bp := onePath()
	a, b := start(t, "primary", "reserve", ap), start(t, "reserve", "primary", bp)
	a.connected(t, 0)
	b.connected(t, 0)
	if err := a.SetKeys([]Key{keyNew}); err != nil {
		t.Fatal(err)
	}
	for i, e := range []*end{a, b} {
		reason := []Reason{ReasonNoKeyThere, ReasonNoKeyHere}[i]
		eventually(t, "the link is down and says why", func() bool {
			s := e.path(0)
			return !s.Connected && !s.Accepted && s.Refusals[reason] > 0
		})
	}
	if err := b.SetKeys([]Key{keyNew}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []*end{a, b} {
		eventually(t, "the link is up and proved", func() bool { s := e.path(0); return s.Connected && s.Proved })
	}
}

// Each end is one node: who has the key of the cluster and none of that node's own
// is not believed, nor is anybody by another TLS.
func TestTheCertificateIsTheNodes(t *testing.T) {
	keys, err := deriveAll([]Key{keyOld}, "reserve", "primary")
	if err != nil {
		t.Fatal(err)
	}
	right := keys.keys[0].client
	mine, err := deriveAll([]Key{keyOld}, "primary", "reserve")
	if err != nil {
		t.Fatal(err)
	}
	other, err := deriveAll([]Key{keyOther}, "reserve", "primary")
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*tls.Config)) *tls.Config {
		c := right.Clone()
		change(c)
		return c
	}
	for _, test := range []struct {
		name   string
		config *tls.Config
		reason Reason
	}{
		{"the node's own", right, 0},
		{"of the node that it speaks to: a reflection", with(func(c *tls.Config) { c.Certificates = mine.keys[0].client.Certificates }), ReasonIdentity},
		{"of another key", with(func(c *tls.Config) { c.Certificates = other.keys[0].client.Certificates }), ReasonIdentity},
		{"two certificates", with(func(c *tls.Config) {
			both := c.Certificates[0]
			both.Certificate = append(slices.Clone(both.Certificate), both.Certificate...)
			c.Certificates = []tls.Certificate{both}
		}), ReasonIdentity},
		{"none", with(func(c *tls.Config) { c.Certificates = nil }), ReasonTLS},
		{"TLS 1.2", with(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }), ReasonTLS},
		{"without the protocol's name", with(func(c *tls.Config) { c.NextProtos = nil }), ReasonTLS},
		{"for another protocol", with(func(c *tls.Config) { c.NextProtos = []string{"h2"} }), ReasonTLS},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, me, peer := loneWith(t, keyOld)
			conn := callFrom(t, peer, me)
			if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
				t.Fatal(err)
			}
			terms := termsOf(t, conn, "reserve", "primary", keyOld)
			a, err := terms.knock(conn)
			if err != nil {
				t.Fatal(err)
			}
			config := test.config.Clone()
			config.VerifyConnection = nil
			c := tls.Client(conn, config)
			if err := c.Handshake(); err == nil { // the other end may refuse later
				_ = writeHello(c, terms.hello(a))
			}
			if test.reason == 0 {
				eventually(t, "it is accepted", func() bool { return e.path(0).Proved })
				return
			}
			closedByPeer(t, conn)
			eventually(t, "it is counted", func() bool { return e.path(0).Refusals[test.reason] == 1 })
			if s := e.path(0); refused(s) != 1 || s.Accepted {
				t.Errorf("status: %+v", s)
			}
		})
	}
}

// The dialing end looks as closely.
func TestTheDialingEndWantsThePeersCertificate(t *testing.T) {
	for _, test := range []struct {
		name   string
		node   string // whose certificate the listening end has
		key    Key
		reason Reason
	}{
		{"its own: a reflection", "primary", keyOld, ReasonIdentity},
		{"of another key", "reserve", keyOther, ReasonIdentity},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, me, peer := loneWith(t, keyOld)
			foreign, err := deriveAll([]Key{test.key}, test.node, "x")
			if err != nil {
				t.Fatal(err)
			}
			listenAs(t, peer, func(conn net.Conn) {
				a, err := termsOf(t, conn, "reserve", "primary", keyOld).answerKnock(conn)
				if err != nil {
					return
				}
				config := a.key.server.Clone()
				config.VerifyConnection, config.Certificates = nil, foreign.keys[0].server.Certificates
				_ = tls.Server(conn, config).Handshake()
			})
			eventually(t, "it is counted", func() bool { return e.path(0).Refusals[test.reason] > 0 })
			if s := e.path(0); s.Connected || s.SendError.Reason != test.reason {
				t.Errorf("%s: %+v", me, s)
			}
		})
	}
}

func TestPurposesAreApart(t *testing.T) {
	one, err := deriveAll([]Key{keyOld}, "primary", "reserve")
	if err != nil {
		t.Fatal(err)
	}
	mirror, err := deriveAll([]Key{keyOld}, "reserve", "primary")
	if err != nil {
		t.Fatal(err)
	}
	a, b := one.keys[0], mirror.keys[0]
	if a.id != b.id || !slices.Equal(a.knock, b.knock) {
		t.Error("the two nodes do not derive the same of one key")
	}
	if slices.Equal(a.client.Certificates[0].Certificate[0], b.client.Certificates[0].Certificate[0]) {
		t.Error("both nodes have one certificate")
	}
	again, err := deriveAll([]Key{keyOld}, "primary", "reserve")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.client.Certificates[0].Certificate[0], again.keys[0].client.Certificates[0].Certificate[0]) {
		t.Error("a restart makes another certificate")
	}
}
