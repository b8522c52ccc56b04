package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tanist-ha/tanist/internal/control"
)

// tanist runs `tanist run` in the foreground, without a service manager: what is
// killed stays dead until it is started again.
type tanist struct{ binary string }

func (tanist) name() string { return "tanist" }

func (t tanist) version(ctx context.Context) string { return words(ctx, t.binary, "version") }

func (tanist) together() bool { return true }

func (t tanist) configure(dir string, s side, set settings) error {
	key := filepath.Join(filepath.Dir(dir), "cluster.key")
	if s == first && !set.Keyless {
		if out, err := exec.Command(t.binary, "keygen", key).CombinedOutput(); err != nil {
			return fmt.Errorf("make a cluster key: %w: %s", err, out)
		}
	}
	return os.WriteFile(filepath.Join(dir, "tanist.yaml"), []byte(tanistConfig(key, set)), 0o600)
}

func tanistConfig(key string, set settings) string {
	mode := "unicast"
	if set.Multicast {
		mode = "multicast"
	}
	keyFile := "key_file: " + key
	if set.Keyless {
		keyFile = ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, `nodes:
  a: {addresses: [%v]}
  b: {addresses: [%v]}
%s
log: {level: info, format: console}
instances:
`, first.addr(), second.addr(), keyFile)
	for i := 1; i <= set.Instances; i++ {
		fmt.Fprintf(&b, `  - name: i%d
    interface: %s
    vrid: %d
    vips: [%v/%d]
    priority: {a: %d, b: %d}
    preempt: %t
    lease: %v
    heartbeat: {version: 3, mode: %s, advert_interval: %v, auth: none}
`, i, eth, i, vipOf(i), subnetBits, priorityFirst, prioritySecond, set.Preempt, set.Lease, mode, set.Interval)
	}
	return b.String()
}

func (t tanist) launch(on *space, dir string, realtime bool) (*process, error) {
	argv := append([]string{t.binary, "run"}, where(dir)...)
	return on.start(filepath.Join(dir, "log"), realtime, argv...)
}

// where are the flags that tell the daemon in a directory from the other one. The
// directory is named like the node.
func where(dir string) []string {
	return []string{
		"--config", filepath.Join(dir, "tanist.yaml"), "--node", filepath.Base(dir),
		"--state-dir", dir, "--socket", filepath.Join(dir, "s"),
	}
}

func (tanist) ready(ctx context.Context, p *pair) error {
	for _, s := range []side{first, second} {
		if !p.daemons[s].alive() {
			return fmt.Errorf("the daemon of %s has ended", s)
		}
		doc, err := control.Dial(filepath.Join(p.dirs[s], "s")).Status(ctx)
		if err != nil {
			return err
		}
		if err := inRole(doc, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func inRole(doc control.Document, s side) error {
	want := [...]string{"active", "backup"}[s]
	for _, in := range doc.Instances {
		if in.State != want {
			return fmt.Errorf("%s is %s (%s), not %s", in.Name, in.State, in.Reason, want)
		}
		if s == second && !in.Gate.Open {
			return fmt.Errorf("the gate of %s is closed: %v", in.Name, in.Gate.Reasons)
		}
		if in.LastTransition != nil && in.LastTransition.Result == "running" {
			return fmt.Errorf("a plan of %s runs", in.Name)
		}
	}
	if len(doc.Instances) == 0 {
		return errors.New("it has no instance")
	}
	return nil
}

func (t tanist) handover(ctx context.Context, p *pair, from side) error {
	argv := append([]string{"switchover", "--to", from.other().String()}, where(p.dirs[from])...)
	if out, err := exec.CommandContext(ctx, t.binary, argv...).CombinedOutput(); err != nil {
		return fmt.Errorf("tanist switchover: %w: %s", err, out)
	}
	return nil
}
