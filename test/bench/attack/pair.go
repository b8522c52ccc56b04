package main

// Two daemons, one attack after the other, and what they say of it.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/control"
)

const configuration = `
key_file: DIR/key
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
log: {format: console}
instances:
  - name: attacked
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24]
    heartbeat: {advert_interval: 100ms}
`

// patience bounds what is waited for between two rows.
const patience = 30 * time.Second

type pair struct {
	net   *network
	dir   string
	nodes map[string]*exec.Cmd
	logs  map[string]*bytes.Buffer
}

func startPair(ctx context.Context, n *network, dir, binary string) (p *pair, err error) {
	p = &pair{net: n, dir: dir, nodes: map[string]*exec.Cmd{}, logs: map[string]*bytes.Buffer{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	file := filepath.Join(dir, "tanist.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(configuration, "DIR", dir)), 0o600); err != nil {
		return p, err
	}
	if out, err := exec.CommandContext(ctx, binary, "keygen", filepath.Join(dir, "key")).CombinedOutput(); err != nil {
		return p, fmt.Errorf("tanist keygen: %w: %s", err, out)
	}
	for _, node := range []string{"primary", "reserve"} {
		state := filepath.Join(dir, node)
		if err := os.Mkdir(state, 0o700); err != nil {
			return p, err
		}
		cmd := exec.Command(binary, "run", "--config", file, "--node", node, "--socket", p.socket(node), "--state-dir", state) //nolint:noctx // stop ends it
		p.logs[node] = &bytes.Buffer{}
		cmd.Stderr = p.logs[node]
		if err := n.start(cmd, node == "reserve"); err != nil {
			return p, err
		}
		p.nodes[node] = cmd
	}
	return p, p.settle(ctx)
}

func (p *pair) socket(node string) string { return filepath.Join(p.dir, node+".s") }

func (p *pair) stop() error {
	var errs []error
	for node, cmd := range p.nodes {
		errs = append(errs, cmd.Process.Signal(unix.SIGTERM))
		if err := cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w\n%s", node, err, p.logs[node]))
		}
	}
	return errors.Join(errs...)
}

func (p *pair) status(ctx context.Context, node string) (control.Document, error) {
	doc, err := control.Dial(p.socket(node)).Status(ctx)
	if err == nil && (len(doc.Instances) != 1 || len(doc.Peer.Paths) != 1 || doc.Instances[0].Heartbeat == nil) {
		err = fmt.Errorf("%s: not what was configured", node)
	}
	return doc, err
}

// settle waits until primary is active, reserve hears it, and the link is up.
func (p *pair) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		one, err := p.status(ctx, "primary")
		other, err2 := p.status(ctx, "reserve")
		if err == nil && err2 == nil && one.Instances[0].State == "active" && other.Instances[0].State == "backup" &&
			linked(one) && linked(other) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the pair does not settle: %w\n%s\n%s", errors.Join(ctx.Err(), err, err2), p.logs["primary"], p.logs["reserve"])
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func linked(doc control.Document) bool {
	path := doc.Peer.Paths[0]
	return path.Proved && path.Heard && path.HearsUs != nil && *path.HearsUs
}

// row attacks for a time and measures meanwhile.
func (p *pair) row(ctx context.Context, name string, each time.Duration) (r row, err error) {
	r = row{name: name, attempts: "", role: "stayed", refused: map[string]uint64{}}
	if err := p.settle(ctx); err != nil {
		return r, err
	}
	before := map[string]control.Document{}
	for node := range p.nodes {
		if before[node], err = p.status(ctx, node); err != nil {
			return r, err
		}
	}
	during, cancel := context.WithTimeout(ctx, each)
	defer cancel()
	end := func() (string, error) { return "", nil }
	if name != "none" {
		if end, err = p.attack(name); err != nil {
			return r, err
		}
	}
	used, err := p.cpu("primary")
	if err != nil {
		return r, errors.Join(err, ignore(end()))
	}
	r.late, err = p.net.listen(during)
	after, cpuErr := p.cpu("primary")
	r.cpu = (after - used).Seconds() / each.Seconds()
	err = errors.Join(err, cpuErr)
	attempts, endErr := end()
	if err = errors.Join(err, endErr, ctx.Err()); err != nil {
		return r, err
	}
	r.attempts = attempts
	for node, was := range before {
		now, err := p.status(ctx, node)
		if err != nil {
			return r, err
		}
		if a, b := was.Instances[0], now.Instances[0]; a.State != b.State || a.Epoch != b.Epoch {
			r.role = fmt.Sprintf("**%s: %s, epoch %d**", node, b.State, b.Epoch)
		}
		if node == "primary" {
			grown(r.refused, was.Peer.Paths[0].Refused, now.Peer.Paths[0].Refused)
			grown(r.refused, was.Heartbeat[0].Dropped, now.Heartbeat[0].Dropped)
		}
	}
	return r, nil
}

func ignore(_ string, err error) error { return err }

// cpu is what a daemon has used of processors so far.
func (p *pair) cpu(node string) (time.Duration, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.nodes[node].Process.Pid))
	if err != nil {
		return 0, err
	}
	// utime and stime, in clock ticks, are the 12th and the 13th behind the name.
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", p.nodes[node].Process.Pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100, nil
}

func grown(into, was, now map[string]uint64) {
	for reason, n := range now {
		if n > was[reason] {
			into[reason] = n - was[reason]
		}
	}
}

// attack starts this program on the standby's host. end stops it and says how
// often it tried.
func (p *pair) attack(name string) (end func() (string, error), err error) {
	cmd := exec.Command("/proc/self/exe", workerArgument, name) //nolint:noctx // end ends it
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := p.net.start(cmd, true); err != nil {
		return nil, err
	}
	return func() (string, error) {
		err := cmd.Process.Signal(unix.SIGTERM)
		err = errors.Join(err, cmd.Wait())
		return strings.TrimSpace(out.String()), err
	}, nil
}
