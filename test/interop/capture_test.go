package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// crafted are the packets whose bytes Tanist makes itself, and those of the
// kernel that look alike. The rest of what a host sends is the kernel's: a TCP
// checksum that it leaves to the interface, an error that quotes half a packet.
const crafted = "ip proto 112 or ip6 proto 112 or arp or icmp[icmptype] == icmp-echo or " +
	"(icmp6 and (ip6[40] == 128 or ip6[40] == 135 or ip6[40] == 136))"

// capture records all that host a sends, at the switch.
type capture struct {
	t    *attempt
	file string
	cmd  *exec.Cmd
}

func newCapture(t *attempt, s segment) *capture {
	c := &capture{t: t, file: filepath.Join(t.TempDir(), "pcap")}
	c.cmd = exec.Command("tcpdump", "-Z", "root", "-i", portA, "-Q", "in", "--immediate-mode", "-U", "-w", c.file, crafted)
	var said bytes.Buffer
	c.cmd.Stderr = &said
	s.net.start(t, c.cmd)
	t.Cleanup(c.end)
	eventually(t, "tcpdump to listen", func() bool { // it writes the file's header then
		info, err := os.Stat(c.file)
		return err == nil && info.Size() > 0
	})
	return c
}

func (c *capture) end() {
	if c.cmd == nil {
		return
	}
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Error(err)
	}
	_ = c.cmd.Wait()
	c.cmd = nil
}

// read decodes what was captured so far, a packet in some lines of text.
func (c *capture) read(filter string) string {
	cmd := exec.Command("tcpdump", "-r", c.file, "-nvv", filter)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	// A packet that is being written is cut off.
	if err != nil && !strings.Contains(complaints.String(), "truncated dump file") {
		c.t.Fatalf("tcpdump: %v\n%s", err, complaints.String())
	}
	return string(out)
}

// advertised returns how many advertisements of a priority were captured so far.
func (c *capture) advertised(w way, priority int) int {
	want := fmt.Sprintf("VRRPv%d, Advertisement, vrid 51, prio %d,", w.version, priority)
	return strings.Count(c.read("src host "+w.a.String()), want)
}

// complaint is what tcpdump writes beside a packet that it does not like.
var complaint = regexp.MustCompile(`(?i)bad|wrong|incorrect|invalid|trunc|\(ttl|malformed|\[\|`)

// check ends the recording and lets tcpdump and tshark decode every packet.
func (c *capture) check() {
	c.end()
	text := c.read("")
	if !strings.Contains(text, "VRRP") {
		c.t.Errorf("no advertisement was captured:\n%s", text)
	}
	if at := complaint.FindStringIndex(text); at != nil {
		c.t.Errorf("tcpdump says %q:\n%s", text[at[0]:at[1]], text[max(0, at[0]-400):min(len(text), at[1]+200)])
	}
	for _, p := range c.tshark() {
		if !p.clean() {
			c.t.Errorf("tshark says %q of packet %s, want a good checksum (1) and nothing else", p.verdict, p.number)
			return
		}
	}
}

// dissected is a packet as tshark reads it.
type dissected struct {
	number  string
	vrrp    bool
	verdict string // checksums that were looked at and whether they are good, and every complaint
}

// clean reports whether the checksum of a packet is good, if it has one, and
// nothing was said of it.
func (d dissected) clean() bool {
	if d.vrrp {
		return d.verdict == "vrrp=1"
	}
	return d.verdict == "" || d.verdict == "icmp=1" || d.verdict == "icmpv6=1"
}

// tshark decodes the packets, where it is installed.
func (c *capture) tshark() []dissected {
	if _, err := exec.LookPath("tshark"); err != nil {
		c.t.Log("tshark is not there: only tcpdump decoded the packets")
		return nil
	}
	fields := []string{"vrrp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status", "_ws.malformed", "_ws.expert.message"}
	args := []string{"-r", c.file, "-n", "-T", "fields", "-E", "separator=|", "-e", "frame.number", "-e", "frame.protocols"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		c.t.Fatalf("tshark: %v", err)
	}
	var packets []dissected
	for line := range strings.Lines(string(out)) {
		cells := strings.Split(strings.TrimRight(line, "\n"), "|")
		p := dissected{number: cells[0], vrrp: strings.Contains(cells[1], "vrrp")}
		var said []string
		for i, cell := range cells[2:] {
			if cell != "" {
				said = append(said, strings.TrimSuffix(fields[i], ".checksum.status")+"="+cell)
			}
		}
		p.verdict = strings.Join(said, " ")
		packets = append(packets, p)
	}
	return packets
}
