package probe

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// Loopback carries the packets of two ends that have addresses of their own.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: raw sockets")
	}
}

func key(t *testing.T, digit string) []auth.Key {
	t.Helper()
	keys, err := auth.ParseKeys([]byte(strings.Repeat(digit, 64) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func way(local, peer string) Path {
	return Path{Local: netip.MustParseAddr(local), Peer: netip.MustParseAddr(peer)}
}

func TestExchange(t *testing.T) {
	needRoot(t)
	here, there := way("127.0.7.1", "127.0.7.2"), way("127.0.7.2", "127.0.7.1")
	all := Heard{Sent: Count, Heard: Count}
	for _, tt := range []struct {
		name        string
		here, there Config
		want        Heard // at both ends
	}{
		{"sealed", Config{7, []Path{here}, key(t, "a")}, Config{7, []Path{there}, key(t, "a")}, all},
		{"bare", Config{7, []Path{here}, nil}, Config{7, []Path{there}, nil}, all},
		{"two keys", Config{7, []Path{here}, key(t, "a")}, Config{7, []Path{there}, key(t, "b")}, Heard{Sent: Count, Unproved: Count}},
		{"those of another exchange", Config{7, []Path{here}, key(t, "a")}, Config{8, []Path{there}, key(t, "a")}, Heard{Sent: Count}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := Open(tt.here)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			b, err := Open(tt.there)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			for _, x := range []*Exchange{a, b} {
				if err := x.Send(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if a.Heard()[0] == tt.want && b.Heard()[0] == tt.want {
					return
				}
			}
			t.Error(cmp.Diff([]Heard{tt.want, tt.want}, append(a.Heard(), b.Heard()...), cmpopts.EquateErrors()))
		})
	}
}

// A path whose address this host does not have is said to be so.
func TestExchangeWithoutAddress(t *testing.T) {
	needRoot(t)
	x, err := Open(Config{Token: 1, Paths: []Path{way("192.0.2.1", "192.0.2.2")}, Keys: key(t, "a")})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Send(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := x.Heard()[0]; h.Err == nil || h.Sent != 0 {
		t.Errorf("%+v", h)
	}
}

func TestAnswers(t *testing.T) {
	needRoot(t)
	loop := way("127.0.7.1", "127.0.7.2")
	if took, ok := Echo(t.Context(), loop); !ok || took <= 0 {
		t.Errorf("echo: %v, %v", took, ok)
	}
	if got, err := TCP(t.Context(), loop, 9); got != doctor.Refused {
		t.Errorf("a port on which nobody listens: %s, %v", got, err)
	}
	if got, err := TCP(t.Context(), way("192.0.2.1", "127.0.0.1"), 9); got != doctor.NotTried {
		t.Errorf("from an address that is not here: %s, %v", got, err)
	}
}
