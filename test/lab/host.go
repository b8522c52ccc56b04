package lab

// What the machine under the lab must have, and how it gets it.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// hostParts are the Debian packages that the lab or its clients in the switch
// use, each with the file that proves it installed: a command or a path.
var hostParts = []struct{ pkg, proof string }{
	{"apt", "apt-get"},
	{"debian-archive-keyring", keyring},
	{"ethtool", "ethtool"},
	{"iproute2", "ip"},
	{"iputils-arping", "arping"},
	{"iputils-ping", "ping"},
	{"mmdebstrap", "mmdebstrap"},
	{"nftables", "nft"},
	{"systemd", "journalctl"},
	{"systemd-container", "systemd-nspawn"},
	{"tcpdump", "tcpdump"},
	{"util-linux", "nsenter"},
}

// command returns the path of a program of this machine. The places of root's
// programs count even when PATH leaves them out.
func command(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", name, exec.ErrNotFound)
}

// MissingPackages lists the Debian packages that a lab needs and this machine lacks.
func MissingPackages() []string {
	var missing []string
	for _, part := range hostParts {
		var err error
		if filepath.IsAbs(part.proof) {
			_, err = os.Stat(part.proof)
		} else {
			_, err = command(part.proof)
		}
		if err != nil {
			missing = append(missing, part.pkg)
		}
	}
	return missing
}

// Usable returns nil when a lab can be set up here, else one line that names
// what is missing.
func Usable() error {
	if id := osRelease("ID"); id != "debian" {
		return fmt.Errorf("the lab needs Debian, this is %q", id)
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root")
	}
	if missing := MissingPackages(); len(missing) > 0 {
		return fmt.Errorf("the lab needs the packages %s (labctl install)", strings.Join(missing, " "))
	}
	if _, err := cgroupRoots(); err != nil {
		return fmt.Errorf("the lab needs cgroup v2: %w", err)
	}
	return nil
}

// Skipper is the part of testing.TB that Require uses.
type Skipper interface {
	Helper()
	Skipf(format string, args ...any)
}

// Require skips the test, with one line that names what is missing, where no
// lab can be set up. It installs nothing.
func Require(t Skipper) {
	t.Helper()
	if err := Usable(); err != nil {
		t.Skipf("%v", err)
	}
}

// InstallPackages installs what MissingPackages names, with apt-get. It needs root.
func InstallPackages(ctx context.Context) error {
	missing := MissingPackages()
	if len(missing) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("install packages: needs root")
	}
	for _, args := range [][]string{
		{"update"},
		append([]string{"install", "-y", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=300"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", args[0], err, tail(out, 10))
		}
	}
	if still := MissingPackages(); len(still) > 0 {
		return fmt.Errorf("install packages: still missing %s", strings.Join(still, " "))
	}
	return nil
}

// osRelease returns one value of /etc/os-release, empty when it is not there.
func osRelease(key string) string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), key+"="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// tail returns the last n lines of a program's output.
func tail(out []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
