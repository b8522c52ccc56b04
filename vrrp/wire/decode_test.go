package wire

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

	"github.com/tanist-ha/tanist/vrrp/internal/netnstest"
)

// capture records what host b sends and receives. The function it returns ends
// that once our goodbye is there, and returns the file.
func (p *pair) capture() func() string {
	p.t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		p.t.Skip("needs tcpdump to decode our packets (apt-get install tcpdump)")
	}
	file := filepath.Join(p.dir, "capture.pcap")
	var said bytes.Buffer
	cmd := exec.Command("tcpdump", "-Z", "root", "-i", heart, "--immediate-mode", "-U", "-w", file, "ip proto 112 or ip6 proto 112")
	cmd.Stderr = &said
	if err := p.nsB.Do(cmd.Start); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// It writes the file's header when it listens.
	netnstest.Eventually(p.t, interopLimit, "tcpdump to listen", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() > 0
	})
	return func() string {
		netnstest.Eventually(p.t, interopLimit, "our goodbye to be captured", func() bool {
			out, err := exec.Command("tcpdump", "-r", file, "-n", "src host "+p.form.ours.Local.String()).Output()
			return err == nil && strings.Contains(string(out), "prio 0,")
		})
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			p.t.Fatal(err)
		}
		_ = cmd.Wait()
		return file
	}
}

// complaint is what tcpdump writes beside a packet that it does not like.
var complaint = regexp.MustCompile(`(?i)bad|wrong|invalid|trunc|\(ttl|malformed`)

// checkCapture lets tcpdump and tshark decode our packets of a capture.
func (p *pair) checkCapture(file string, priority int) {
	p.t.Helper()
	src := p.form.ours.Local.String()
	out, err := exec.Command("tcpdump", "-r", file, "-nvv", "src host "+src).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tcpdump: %v\n%s", err, out)
	}
	text := string(out)
	want := fmt.Sprintf("VRRPv%v, Advertisement, vrid 51, prio %d", p.form.version, priority)
	if strings.Count(text, want) < 2 || !strings.Contains(text, "prio 0,") {
		p.t.Errorf("tcpdump does not see %q and a goodbye:\n%s", want, text)
	}
	_, packets, _ := strings.Cut(text, "\n") // the first line is about the file
	if found := complaint.FindString(packets); found != "" {
		p.t.Errorf("tcpdump says %q:\n%s", found, packets)
	}
	p.checkWithTshark(file, src)
}

func (p *pair) checkWithTshark(file, src string) {
	p.t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		return // tcpdump has decoded them
	}
	field := "ip"
	if !p.form.ours.Local.Is4() {
		field = "ipv6"
	}
	filter := fmt.Sprintf("%s.src == %s && vrrp", field, src)
	all, err := exec.Command("tshark", "-r", file, "-Y", filter, "-T", "fields", "-e", "vrrp.checksum.status", "-e", "_ws.expert.message", "-e", "_ws.malformed").Output()
	if err != nil {
		p.t.Fatalf("tshark: %v", err)
	}
	for _, line := range strings.Split(strings.TrimRight(string(all), "\n"), "\n") {
		if status := strings.TrimRight(line, "\t"); status != "1" {
			p.t.Errorf("tshark says %q of a packet, want a good checksum (1) and nothing else", status)
			return
		}
	}
}
