package interop

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// keepalived is Debian's, on host b.
type keepalived struct {
	t    *attempt
	host *space
	dir  string
	cmd  *exec.Cmd // nil: it does not run
}

// keepalivedConf speaks in the given way. A unicast pair sets unicast_ttl: over
// IPv6 keepalived 2.2.7 sends with hop limit 64 otherwise, which RFC 9568
// §5.1.2.3 has dropped.
func keepalivedConf(w way, priority int, more string) string {
	unicast := ""
	if !w.multicast {
		unicast = fmt.Sprintf("  unicast_src_ip %v\n  unicast_ttl 255\n  unicast_peer {\n    %v\n  }\n", w.b, w.a)
	}
	var addresses strings.Builder
	for _, p := range w.vips {
		fmt.Fprintf(&addresses, "    %v\n", p)
	}
	return fmt.Sprintf(`
global_defs {
  vrrp_version %d
}
vrrp_instance interop {
  interface %s
  state BACKUP
  virtual_router_id 51
  priority %d
  advert_int %v
%s%s  virtual_ipaddress {
%s  }
}
`, w.version, nic, priority, w.interval.Seconds(), more, unicast, addresses.String())
}

// newKeepalived configures it and starts nothing. more are lines of the instance.
func newKeepalived(t *attempt, host *space, w way, priority int, more string) *keepalived {
	k := &keepalived{t: t, host: host, dir: t.TempDir()}
	if err := os.WriteFile(k.file("keepalived.conf"), []byte(keepalivedConf(w, priority, more)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.kill()
		if t.Failed() {
			b, _ := os.ReadFile(k.file("log"))
			t.Logf("keepalived's log:\n%s", b)
		}
	})
	return k
}

func (k *keepalived) file(name string) string { return filepath.Join(k.dir, name) }

func (k *keepalived) start() {
	out, err := os.OpenFile(k.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer out.Close() // the process has its own descriptor
	k.cmd = exec.Command("keepalived", "--use-file", k.file("keepalived.conf"), "--dont-fork", "--log-console", "--log-detail",
		"--vrrp", "--pid", k.file("pid"), "--vrrp_pid", k.file("vrrp.pid"))
	k.cmd.Stdout, k.cmd.Stderr = out, out
	k.cmd.Env = append(os.Environ(), "TMPDIR="+k.dir) // where it prints its counters
	k.host.start(k.t, k.cmd)
}

// leave ends it in order.
func (k *keepalived) leave() {
	if err := k.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		k.t.Fatal(err)
	}
	_ = k.cmd.Wait() // its status says nothing
	k.cmd = nil
}

// kill is kill -9 of both its processes. The child is stopped first: it says
// goodbye when it sees its parent die, and a parent whose child died starts
// another. What they had in the kernel stays there.
func (k *keepalived) kill() {
	if k.cmd == nil {
		return
	}
	child := k.child()
	if child > 0 {
		_ = syscall.Kill(child, syscall.SIGSTOP)
	}
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
	if child > 0 {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	k.cmd = nil
}

// child is the process that speaks VRRP, 0 while there is none.
func (k *keepalived) child() (pid int) {
	if b, err := os.ReadFile(k.file("vrrp.pid")); err == nil {
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	return pid
}

// said returns how often its log has a text.
func (k *keepalived) said(text string) int {
	b, err := os.ReadFile(k.file("log"))
	if err != nil {
		return 0
	}
	return strings.Count(string(b), text)
}

// What keepalived 2.2.7 logs.
const (
	heardGoodbye   = "Backup received priority 0 advertisement"
	enteringBackup = "Entering BACKUP STATE (init)"
)

func outranked(by netip.Addr, priority int) string {
	return fmt.Sprintf("received advert from %v with higher priority %d", by, priority)
}
