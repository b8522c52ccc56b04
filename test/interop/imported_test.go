package interop

// What `tanist import keepalived` makes of a pair behaves as that pair: the same host
// is active, with the same addresses, says the same on the wire, and calls the same
// programs with the same words.

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const corpus = "../../internal/keepalived/testdata/"

// couple is a pair of daemons of one kind, on hosts a and b.
type couple struct {
	start, leave [2]func()
}

// observed is what a pair did.
type observed struct {
	Addresses [2][]string          // of a and b, when a is active
	Wire      string               // what a says then
	Told      [2]map[string]string // what each host's programs were last called with
	Taken     []string             // addresses of b, after a left
	TakenTold map[string]string    // of b
	Returned  [2]bool              // which of the two has the addresses after a came back
}

// logScript writes the host and the words it is called with.
const logScript = `host=b; ip -4 -o address show dev eth0 | grep -q 'inet 192.0.2.11/' && host=a
line=$host; for word in "$@"; do line="$line [$word]"; done; echo "$line" >> %s
`

func TestImportedPair(t *testing.T) {
	of := func(addresses ...string) (all []netip.Prefix) {
		for _, a := range addresses {
			all = append(all, netip.MustParsePrefix(a))
		}
		return all
	}
	everyWay(t, []way{
		{name: "mysql-pair", version: 3, interval: 500 * time.Millisecond, vips: of("192.0.2.60/24")},
		{name: "howto-pair", version: 2, interval: time.Second, vips: of("192.0.2.100/24")},
		{name: "fast-v3", version: 3, interval: 300 * time.Millisecond, vips: of("192.0.2.250/24", "192.0.2.251/24")},
	}, func(t *attempt, w way) {
		dir := t.TempDir()
		files := [2]string{filepath.Join(dir, "a.conf"), filepath.Join(dir, "b.conf")}
		for i, name := range []string{w.name + ".conf", w.name + ".peer.conf"} {
			text, err := os.ReadFile(corpus + name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files[i], []byte(calling(string(text), dir)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		theirs := observe(t, w, dir, func(s segment) couple { return keepalivedCouple(t, w, s, files) })
		ours := observe(t, w, dir, func(s segment) couple { return tanistCouple(t, s, dir, files) })
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Errorf("keepalived (-) and what was imported (+):\n%s", diff)
		}
		if len(theirs.Addresses[0]) != len(w.vips) || theirs.Wire == "" {
			t.Errorf("nothing to compare: %+v", theirs)
		}
	})
}

// calling makes the programs of the corpus ones that leave a trace, and the checks
// of servers that are not here ones that are well.
func calling(text, dir string) string {
	text = strings.ReplaceAll(text, "/bin/true ", "/bin/sh "+dir+"/log ")
	text = regexp.MustCompile(`script ".*"`).ReplaceAllString(text, `script "/bin/true"`)
	text = strings.ReplaceAll(text, "advert_int 0.05", "advert_int 0.3") // the machine may be busy
	return strings.Replace(text, "  notify_master", fmt.Sprintf("  notify \"/bin/sh %s/log any\" root\n  notify_master", dir), 1)
}

func observe(t *attempt, w way, dir string, made func(segment) couple) observed {
	log := filepath.Join(dir, "told")
	_ = os.Remove(log)
	if err := os.WriteFile(filepath.Join(dir, "log"), fmt.Appendf(nil, logScript, log), 0o700); err != nil {
		t.Fatal(err)
	}
	s := newSegment(t)
	c, wire := made(s), newCapture(t, s)
	holds := func(what string, holder, other *space) {
		eventually(t, what, func() bool { return len(holder.has(w.vips)) == len(w.vips) && len(other.has(w.vips)) == 0 })
	}
	settled := func() { // long enough for whatever is called then
		time.Sleep(3*w.interval + time.Second)
	}
	var o observed
	c.start[0]()
	holds("host a to be active", s.a, s.b)
	c.start[1]()
	settled()
	o.Addresses = [2][]string{held(s.a, w), held(s.b, w)}
	o.Wire = said(wire)
	o.Told = [2]map[string]string{lastTold(t, log, "a"), lastTold(t, log, "b")}
	c.leave[0]()
	holds("host b to take over", s.b, s.a)
	settled()
	o.Taken, o.TakenTold = held(s.b, w), lastTold(t, log, "b")
	c.start[0]()
	time.Sleep(8 * time.Second) // a returned host that preempts has by then
	o.Returned = [2]bool{len(s.a.has(w.vips)) > 0, len(s.b.has(w.vips)) > 0}
	c.leave[0]()
	c.leave[1]()
	return o
}

func held(s *space, w way) (list []string) {
	for _, a := range s.has(w.vips) {
		list = append(list, a.IPNet.String())
	}
	slices.Sort(list)
	return list
}

var advertisement = regexp.MustCompile(`VRRPv\d, Advertisement, .*prio [1-9].*addrs.*`)

// said is the latest advertisement of host a.
func said(c *capture) string {
	all := advertisement.FindAllString(c.read("proto 112 and src host 192.0.2.11"), -1)
	if len(all) == 0 {
		return ""
	}
	return regexp.MustCompile(`, \(ttl \d+\)`).ReplaceAllString(all[len(all)-1], "")
}

// lastTold returns, by the first word that its programs were called with, the last
// words on a host.
func lastTold(t *attempt, log, host string) map[string]string {
	text, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	last := map[string]string{}
	for line := range strings.Lines(string(text)) {
		words, ok := strings.CutPrefix(strings.TrimSpace(line), host+" ")
		if !ok {
			continue
		}
		kind := "of the state"
		if strings.HasPrefix(words, "[any]") {
			kind = "of any"
		}
		last[kind] = words
	}
	return last
}

func keepalivedCouple(t *attempt, w way, s segment, files [2]string) (c couple) {
	for i, host := range []*space{s.a, s.b} {
		k := newKeepalived(t, host, ways()[0], 100, "")
		text, err := os.ReadFile(files[i])
		if err == nil {
			err = os.WriteFile(k.file("keepalived.conf"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.start[i], c.leave[i] = k.start, k.leave
	}
	return c
}

func tanistCouple(t *attempt, s segment, dir string, files [2]string) (c couple) {
	conf, err := exec.Command(binary(t), "import", "keepalived", files[0], files[1]).Output()
	if err != nil {
		t.Fatalf("import: %v", err)
	}
	labels := regexp.MustCompile(`(?m)^  ([\w.-]+): \{addresses: \[192\.0\.2\.(11|12)\]\}$`).FindAllSubmatch(conf, -1)
	if len(labels) != 2 {
		t.Fatalf("the import has %d nodes:\n%s", len(labels), conf)
	}
	for i, host := range []*space{s.a, s.b} {
		d := newTanist(t, host)
		d.configure(string(conf))
		label := labels[0][1]
		if string(labels[1][2]) == []string{"11", "12"}[i] {
			label = labels[1][1]
		}
		c.start[i] = func() {
			d.cmd = exec.Command(binary(t), "run", "--config", d.file("tanist.yaml"), "--node", string(label), "--socket", d.file("socket"), "--state-dir", d.dir)
			d.cmd.Stderr = &d.log
			host.start(t, d.cmd)
		}
		c.leave[i] = func() {
			if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := d.cmd.Wait(); err != nil {
				t.Errorf("leave: %v", err)
			}
			d.cmd = nil
		}
	}
	return c
}
