package lab

// What makes a node a host of its own: its disk over the base image, its names,
// its database identity and its file synchronisation.

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Lsyncd is the shape of lsyncd.service on a node. A boot starts it in none.
type Lsyncd string

// The shapes that operators have.
const (
	// LsyncdNative is a unit with SuccessExitStatus=143: stopped is inactive.
	LsyncdNative Lsyncd = "native"
	// LsyncdPlain is the same without it: stopped is failed, with Result=exit-code.
	LsyncdPlain Lsyncd = "plain"
	// LsyncdLSB is the unit generated from the package's init script: no main
	// process, and active whether or not lsyncd still runs.
	LsyncdLSB Lsyncd = "lsb"
)

// furnish mounts the node's disk and writes what differs between hosts.
func (n *Node) furnish(image string, o Options) error {
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(n.file(dir), 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", image, n.file("upper"), n.file("work"))
	if err := unix.Mount("tanist-lab", n.root(), "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount its disk: %w", err)
	}
	files := map[string]string{
		"/etc/hostname": n.Hostname + "\n",
		"/etc/hosts":    n.lab.hosts(),
		// With none, systemd takes every boot for the first and asks questions on the console.
		"/etc/machine-id": fmt.Sprintf("%x\n", sha256.Sum256([]byte(n.space.name)))[:32] + "\n",
		"/etc/mysql/mariadb.conf.d/99-node.cnf": fmt.Sprintf(
			"[mariadbd]\nserver_id=%d\nreport_host=%s\n", n.serverID, n.Hostname),
		"/etc/lsyncd/lsyncd.conf.lua": lsyncdConfig(n.lab.Peer(n).Hostname),
	}
	for path, content := range files {
		if err := n.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	shape := o.Lsyncd
	if shape == "" {
		shape = LsyncdNative
	}
	return n.shapeLsyncd(shape)
}

// hosts is /etc/hosts of both nodes: each host's name is its service address, with
// -hb added its heartbeat address.
func (l *Lab) hosts() string {
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1 localhost\n::1 localhost\n%s sw\n", l.Switch.Addr(Eth0))
	for _, n := range l.Nodes() {
		fmt.Fprintf(&b, "%s %s %s\n", n.Addr(Eth0), n.Hostname, n.name)
		fmt.Fprintf(&b, "%s %s-hb %s-hb\n", n.Addr(Eth1), n.Hostname, n.name)
	}
	return b.String()
}

// lsyncdConfig copies /srv/data to the peer. Whether lsyncd goes to the background
// is left to its command line, so one file serves all shapes of the unit.
func lsyncdConfig(peer string) string {
	return fmt.Sprintf(`settings {
  logfile = "/var/log/lsyncd/lsyncd.log",
  statusFile = "/var/log/lsyncd/lsyncd.status",
  statusInterval = 1,
  insist = true,
}
sync {
  default.rsyncssh,
  source = "/srv/data",
  host = %q,
  targetdir = "/srv/data",
  delay = 1,
  rsync = { archive = true },
  ssh = { options = { ConnectTimeout = "3", BatchMode = "yes" } },
}
`, peer)
}

// SetLsyncd gives lsyncd.service another shape. It must be stopped.
func (n *Node) SetLsyncd(ctx context.Context, shape Lsyncd) error {
	if err := n.shapeLsyncd(shape); err != nil {
		return fmt.Errorf("shape lsyncd.service on %s: %w", n.name, err)
	}
	_, err := n.Exec(ctx, "systemctl", "daemon-reload")
	return err
}

func (n *Node) shapeLsyncd(shape Lsyncd) error {
	const unit = "/etc/systemd/system/lsyncd.service"
	switch shape {
	case LsyncdLSB: // without a unit file systemd generates one from the init script
		return n.Remove(unit)
	case LsyncdNative, LsyncdPlain:
		data, err := n.ReadFile("/usr/local/lib/lab/lsyncd-" + string(shape) + ".service")
		if err != nil {
			return err
		}
		return n.WriteFile(unit, data, 0o644)
	}
	return fmt.Errorf("no shape %q (native, plain, lsb)", shape)
}
