package interop

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Others sum the seal up with the advertisement, whose checksum leaves it out.
var (
	tcpdumpOnSeal = regexp.MustCompile(`\(bad vrrp cksum [0-9a-f]+\), `)
	tsharkOnSeal  = regexp.MustCompile(`^vrrp=0 _ws\.expert\.message=Bad checksum \[should be 0x[0-9a-f]{4}\]$`)
)

// TestSealedIsDecoded: programs that know nothing of the seal behind an
// advertisement read the advertisement. They take its checksum for wrong, and find
// nothing else.
func TestSealedIsDecoded(t *testing.T) {
	everyWay(t, []way{ways()[0], ways()[2], ways()[5]}, func(t *attempt, w way) {
		s := newSegment(t)
		d := newTanist(t, s.a)
		d.configure(fmt.Sprintf("key_file: %q\n", d.file("key")) + tanistConf(w, 200, false, "auth: hmac"))
		if out, err := exec.Command(binary(t), "keygen", d.file("key")).CombinedOutput(); err != nil {
			t.Fatalf("keygen: %v\n%s", err, out)
		}
		sent := newCapture(t, s)
		d.start()
		d.is("active", "")
		eventually(t, "some advertisements", func() bool { return sent.advertised(w, 200) >= 3 })
		d.leave()
		sent.end()
		if n := sent.advertised(w, 0); n != 1 {
			t.Errorf("%d goodbyes on the wire, want 1", n)
		}
		text := sent.read("")
		addresses := fmt.Sprintf("addrs(2): %v,%v\n", w.vips[0].Addr(), w.vips[1].Addr())
		if all, read := strings.Count(text, "VRRP"+fmt.Sprintf("v%d,", w.version)), strings.Count(text, addresses); all != read {
			t.Errorf("tcpdump reads the addresses of %d advertisements of %d:\n%s", read, all, text)
		}
		if found := complaint.FindString(tcpdumpOnSeal.ReplaceAllString(text, "")); found != "" {
			t.Errorf("tcpdump says %q:\n%s", found, sent.read("proto 112 or ip6 proto 112"))
		}
		for _, p := range sent.tshark() {
			if p.vrrp && !tsharkOnSeal.MatchString(p.verdict) || !p.vrrp && !p.clean() {
				t.Errorf("tshark says %q of packet %s", p.verdict, p.number)
				break
			}
		}
	})
}
