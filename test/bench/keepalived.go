package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// keepalived runs the VRRP part of keepalived in the foreground.
type keepalived struct{ binary string }

func findKeepalived() (keepalived, error) {
	path, err := exec.LookPath("keepalived")
	if err != nil {
		return keepalived{}, fmt.Errorf("find keepalived: %w", err)
	}
	return keepalived{path}, nil
}

func (keepalived) name() string { return "keepalived" }

func (k keepalived) version(ctx context.Context) string { return words(ctx, k.binary, "--version") }

// together: with the same interval and neighbouring priorities both would be
// Active at the same moment, and nopreempt keeps whichever won.
func (keepalived) together() bool { return false }

func (keepalived) configure(dir string, s side, set settings) error {
	return os.WriteFile(filepath.Join(dir, "keepalived.conf"), []byte(keepalivedConfig(s, set)), 0o600)
}

func keepalivedConfig(s side, set settings) string {
	path := fmt.Sprintf("  unicast_src_ip %v\n  unicast_ttl 255\n  unicast_peer {\n    %v\n  }\n", s.addr(), s.other().addr())
	if set.Multicast {
		path = ""
	}
	if !set.Preempt {
		path += "  nopreempt\n"
	}
	var b strings.Builder
	b.WriteString("global_defs {\n  vrrp_version 3\n}\n")
	for i := 1; i <= set.Instances; i++ {
		fmt.Fprintf(&b, `vrrp_instance i%d {
  interface %s
  state BACKUP
  virtual_router_id %d
  priority %d
  advert_int %g
%s  virtual_ipaddress {
    %v/%d
  }
}
`, i, eth, i, s.priority(), set.Interval.Seconds(), path, vipOf(i), subnetBits)
	}
	return b.String()
}

func (k keepalived) launch(on *space, dir string, realtime bool) (*process, error) {
	return on.start(filepath.Join(dir, "log"), realtime, k.binary,
		"--use-file", filepath.Join(dir, "keepalived.conf"), "--dont-fork", "--log-console", "--vrrp",
		"--pid", filepath.Join(dir, "pid"), "--vrrp_pid", filepath.Join(dir, "vrrp.pid"))
}

// ready: there is no status to ask, so the log tells.
func (keepalived) ready(_ context.Context, p *pair) error {
	d := p.daemons[second]
	if !d.alive() {
		return errors.New("the daemon of b has ended")
	}
	data, err := os.ReadFile(d.log)
	if err != nil {
		return err
	}
	if n := strings.Count(string(data), "Entering BACKUP STATE"); n < p.set.Instances {
		return fmt.Errorf("%d of %d instances of b are Backup", n, p.set.Instances)
	}
	return nil
}

// handover: keepalived has no command for it, so its operators stop it.
func (keepalived) handover(_ context.Context, p *pair, from side) error {
	return p.daemons[from].terminate()
}
