package lab

// The base image: one Debian root file system that every node of every lab
// overlays. It is built once per recipe and never changed afterwards.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	suite    = "bookworm" // MariaDB 10.11, systemd 252, lsyncd 2.2.3
	keyring  = "/usr/share/keyrings/debian-archive-keyring.gpg"
	imageDir = "/var/cache/tanist-lab"
)

// imagePackages is what a node has beyond Debian's essential packages and apt.
var imagePackages = []string{
	"ca-certificates", "dbus", "ethtool", "iproute2", "iptables", "iputils-arping", "iputils-ping", "jq",
	"keepalived", "less", "libpam-systemd", "lsyncd", "mariadb-server", "netcat-openbsd", "nftables",
	"nginx-light", "openssh-client", "openssh-server", "procps", "rsync", "socat", "strace", "systemd",
	"systemd-sysv", "tcpdump",
}

// imageOptions keeps the image small and its build quick.
var imageOptions = []string{
	"--variant=apt", "--mode=root", "--format=directory",
	`--aptopt=APT::Install-Recommends "false"`,
	`--aptopt=Acquire::Languages "none"`,
	"--dpkgopt=force-unsafe-io",
	"--dpkgopt=path-exclude=/usr/share/man/*",
	"--dpkgopt=path-exclude=/usr/share/doc/*",
	"--dpkgopt=path-exclude=/usr/share/locale/*",
	"--dpkgopt=path-exclude=/usr/share/info/*",
}

//go:embed image
var recipe embed.FS

// Image returns the root directory of the base image and builds it if this
// recipe was never built here; that takes from 40 s to a few minutes. Concurrent
// callers wait for the one that builds. log gets progress lines and may be nil.
func Image(ctx context.Context, log func(format string, args ...any)) (string, error) {
	root, use, err := useImage(ctx, log)
	if err != nil {
		return "", err
	}
	return root, use.Close()
}

// useImage returns the image and a lock that keeps it from being purged until
// the caller has mounted it.
func useImage(ctx context.Context, log func(format string, args ...any)) (string, *os.File, error) {
	hash, err := imageHash()
	if err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(imageDir, 0o755); err != nil {
		return "", nil, err
	}
	root := filepath.Join(imageDir, hash)
	for {
		use, err := waitLock(ctx, root+".lock", unix.LOCK_SH)
		if err != nil {
			return "", nil, fmt.Errorf("lock the base image: %w", err)
		}
		if isDir(root) {
			return root, use, nil
		}
		use.Close()
		if err := ensureImage(ctx, root, log); err != nil {
			return "", nil, err
		}
	}
}

// ensureImage builds the image at root unless somebody else just did.
func ensureImage(ctx context.Context, root string, log func(format string, args ...any)) error {
	lock, err := waitLock(ctx, root+".lock", unix.LOCK_EX)
	if err != nil {
		return fmt.Errorf("lock the base image: %w", err)
	}
	defer lock.Close()
	if isDir(root) {
		return nil
	}
	if log != nil {
		log("building the base image %s (%s)", filepath.Base(root), suite)
	}
	b := newBuilder(root)
	// Under the lock, whatever stands at the temporary name is a build that was cut.
	if err := b.discard(ctx); err != nil {
		return fmt.Errorf("remove a cut build: %w", err)
	}
	if err := b.build(ctx); err != nil {
		return errors.Join(fmt.Errorf("build the base image: %w", err), b.discard(context.WithoutCancel(ctx)))
	}
	if err := b.end(ctx); err != nil {
		return fmt.Errorf("end the build: %w", err)
	}
	if err := os.Rename(b.root, root); err != nil {
		return fmt.Errorf("publish the base image: %w", err)
	}
	return nil
}

// imageHash names the image by everything that decides its contents but the
// state of the archive.
func imageHash() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, suite, imagePackages, imageOptions)
	err := fs.WalkDir(recipe, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := recipe.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(data), data)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the image recipe: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// builder makes one image. All that it runs lives in its cgroup, so that a build
// whose owner was killed can be ended before its rests are removed.
type builder struct {
	root  string
	group cgroup
}

func newBuilder(root string) builder {
	return builder{root: root + ".tmp", group: cgroup("tanist-lab-image-" + filepath.Base(root))}
}

// run runs a program of this machine and returns the end of its output as part of
// the error.
func (b builder) run(ctx context.Context, stdin io.Reader, argv ...string) error {
	dir, err := b.group.createUnified()
	if err != nil {
		return err
	}
	defer dir.Close()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = stdin
	cmd.Cancel = b.group.kill
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, tail(out, 10))
	}
	return nil
}

// end ends all that still runs and takes its mounts away.
func (b builder) end(ctx context.Context) error {
	ctx, cancel := bounded(ctx, downPatience)
	defer cancel()
	if err := b.group.kill(); err != nil {
		return err
	}
	if err := b.group.remove(ctx); err != nil {
		return err
	}
	return unmountBelow(ctx, b.root)
}

// discard ends the build and removes what it made.
func (b builder) discard(ctx context.Context) error {
	if err := b.end(ctx); err != nil {
		return err
	}
	return os.RemoveAll(b.root)
}

func (b builder) build(ctx context.Context) error {
	sources, err := aptSources(ctx)
	if err != nil {
		return err
	}
	proxies, err := aptProxies(ctx)
	if err != nil {
		return err
	}
	mmdebstrap, err := command("mmdebstrap")
	if err != nil {
		return err
	}
	args := slices.Concat(imageOptions, proxies, []string{"--include=" + strings.Join(imagePackages, ","), suite, b.root}, sources)
	if err := b.run(ctx, nil, slices.Insert(args, 0, mmdebstrap)...); err != nil {
		return err
	}
	if err := copyTree(b.root); err != nil {
		return err
	}
	script, err := recipe.ReadFile("image/finish.sh")
	if err != nil {
		return err
	}
	return b.run(ctx, bytes.NewReader(script), "chroot", b.root, "/bin/sh", "-eus")
}

// copyTree lays the recipe's files over the image.
func copyTree(root string) error {
	tree, err := fs.Sub(recipe, "image/tree")
	if err != nil {
		return err
	}
	return fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(root, path)
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		data, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	})
}

// aptSources returns the source lines of the suite and of its security updates,
// with the archives that this machine's own apt uses.
func aptSources(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages", "Origin: Debian").Output()
	if err != nil {
		return nil, fmt.Errorf("ask apt for its archives: %w", err)
	}
	uri := map[string]string{}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		label, u, _ := strings.Cut(s.Text(), " ")
		if _, known := uri[label]; !known {
			uri[label] = u
		}
	}
	var lines []string
	for _, want := range []struct{ label, suite string }{
		{"Debian", suite},
		{"Debian-Security", suite + "-security"},
	} {
		u, ok := uri[want.label]
		if !ok {
			return nil, fmt.Errorf("apt on this machine knows no archive labelled %s (apt-get update?)", want.label)
		}
		lines = append(lines, fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, u, want.suite))
	}
	return lines, nil
}

// aptProxies repeats this machine's proxy settings, which mmdebstrap does not read.
func aptProxies(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "--no-empty", "--format", `%f "%v"%n`,
		"Acquire::http::Proxy", "Acquire::https::Proxy").Output()
	if err != nil {
		return nil, fmt.Errorf("ask apt for its proxies: %w", err)
	}
	var opts []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		opts = append(opts, "--aptopt="+s.Text())
	}
	return opts, nil
}

// PurgeImages removes every base image, and rests of cut builds, that no mounted
// node stands on, and returns their directories.
func PurgeImages(ctx context.Context) ([]string, error) {
	entries, err := os.ReadDir(imageDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var purged []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(imageDir, e.Name())
		gone, err := purgeImage(ctx, dir)
		if err != nil {
			return purged, fmt.Errorf("purge %s: %w", dir, err)
		}
		if gone {
			purged = append(purged, dir)
		}
	}
	return purged, nil
}

func purgeImage(ctx context.Context, dir string) (bool, error) {
	root := strings.TrimSuffix(dir, ".tmp")
	lock, err := waitLock(ctx, root+".lock", unix.LOCK_EX)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	b := newBuilder(root)
	if err := b.discard(ctx); err != nil {
		return false, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	if bytes.Contains(mounts, []byte("lowerdir="+root+",")) || !isDir(root) {
		return dir == b.root, nil
	}
	// A removal that is cut half-way must not leave half an image under its name.
	if err := os.Rename(root, b.root); err != nil {
		return false, err
	}
	return true, os.RemoveAll(b.root)
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}
