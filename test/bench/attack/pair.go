package main

// Two daemons, one window after the other, and what they say of it.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
http: {listen: 0.0.0.0:7512}
instances:
  - name: attacked
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24]
    heartbeat: {advert_interval: 100ms}
`

const (
	// keyFile is in the pair's directory, which is an attacker's working directory.
	keyFile = "key"
	// patience bounds what is waited for between two windows.
	patience = 30 * time.Second
	// sampleEvery is how often a window looks what the active daemon has open.
	sampleEvery = 250 * time.Millisecond
)

type pair struct {
	net     *network
	dir     string
	nodes   map[string]*exec.Cmd
	logs    map[string]*bytes.Buffer
	tap     *tap
	tapping chan error
	untap   context.CancelFunc
	beats   *exec.Cmd
}

func startPair(ctx context.Context, n *network, dir string, o options) (p *pair, err error) {
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
	if out, err := exec.CommandContext(ctx, o.binary, "keygen", filepath.Join(dir, keyFile)).CombinedOutput(); err != nil {
		return p, fmt.Errorf("tanist keygen: %w: %s", err, out)
	}
	if err := p.listen(ctx, o.nice); err != nil {
		return p, err
	}
	for _, node := range []string{"primary", "reserve"} {
		state := filepath.Join(dir, node)
		if err := os.Mkdir(state, 0o700); err != nil {
			return p, err
		}
		cmd := exec.Command(o.binary, "run", "--config", file, "--node", node, "--socket", p.socket(node), "--state-dir", state) //nolint:noctx // stop ends it
		p.logs[node] = &bytes.Buffer{}
		cmd.Stderr = p.logs[node]
		if err := n.start(cmd, node == "reserve", o.nice); err != nil {
			return p, err
		}
		p.nodes[node] = cmd
	}
	if err := p.settle(ctx); err != nil {
		return p, err
	}
	return p, os.Chmod(p.socket("primary"), 0o666) // for an attacker who is a user
}

// listen starts the metronome, and the tap.
func (p *pair) listen(ctx context.Context, nice int) (err error) {
	if p.tap, err = newTap(); err != nil {
		return err
	}
	tapping, stop := context.WithCancel(ctx)
	p.untap, p.tapping = stop, make(chan error, 1)
	go func() { p.tapping <- p.tap.run(tapping) }()
	p.beats = exec.Command("/proc/self/exe", metronomeArgument) //nolint:noctx // stop ends it
	p.beats.Stderr = os.Stderr
	return p.net.start(p.beats, false, nice)
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
	if p.beats != nil && p.beats.Process != nil {
		errs = append(errs, p.beats.Process.Signal(unix.SIGTERM), p.beats.Wait())
	}
	if p.untap != nil {
		p.untap()
		errs = append(errs, <-p.tapping)
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

// settle waits until primary is active, reserve hears it, and the link is up. Where
// an attack has moved the role it is moved back.
func (p *pair) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		one, err := p.status(ctx, "primary")
		other, err2 := p.status(ctx, "reserve")
		if err == nil && err2 == nil && linked(one) && linked(other) {
			switch one.Instances[0].State + " " + other.Instances[0].State {
			case "active backup":
				return nil
			case "backup active":
				back := control.SwitchoverRequest{To: "primary", Reason: "an attack moved it", TimeoutMS: 5000}
				_, err = control.Dial(p.socket("reserve")).Switchover(ctx, back, func(control.Line) {})
			}
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

// window adds what a window shows, one of no attack without a name.
func (p *pair) window(ctx context.Context, a attack, o options, into *side) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	before, err := p.before(ctx)
	if err != nil {
		return err
	}
	end := func() (int64, time.Duration, error) { return 0, 0, nil }
	began := time.Now()
	if a.name != "" {
		if end, err = p.attack(a, o.attackerNice); err != nil {
			return err
		}
	}
	sampleErr := p.sample(ctx, o.window, into)
	took := time.Since(began)
	w, clockErr := since(began.Round(0))
	over, err := p.after(ctx, before, into, a.back())
	attempts, cpu, endErr := end()
	if err := errors.Join(sampleErr, clockErr, err, endErr, pause(ctx, rest)); err != nil {
		return err
	}
	adverts, beats := p.tap.late(w)
	into.adverts.add(adverts)
	into.beats.add(beats)
	for node, was := range before {
		into.cpu[node] += over[node] - was.cpu
	}
	into.attempts += attempts
	into.attacker += cpu
	into.took += took
	return nil
}

// state is what a daemon says of itself and has used.
type state struct {
	doc control.Document
	cpu time.Duration
}

func (p *pair) before(ctx context.Context) (map[string]state, error) {
	all := map[string]state{}
	for node, cmd := range p.nodes {
		doc, err := p.status(ctx, node)
		if err != nil {
			return nil, err
		}
		if err := forgetPeak(cmd.Process.Pid); err != nil {
			return nil, err
		}
		cpu, err := used(cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		all[node] = state{doc, cpu}
	}
	return all, nil
}

// after compares. The counters are those of the node that is attacked.
func (p *pair) after(ctx context.Context, before map[string]state, into *side, attacked string) (cpu map[string]time.Duration, err error) {
	cpu = map[string]time.Duration{}
	for node, cmd := range p.nodes {
		if cpu[node], err = used(cmd.Process.Pid); err != nil {
			return nil, err
		}
	}
	into.goroutines = max(into.goroutines, p.goroutines(ctx))
	for node, was := range before {
		doc, err := p.status(ctx, node)
		if err != nil {
			return nil, fmt.Errorf("%s under attack: %w", node, err)
		}
		a, b := was.doc.Instances[0], doc.Instances[0]
		moved := b.Since.Sub(a.Since).Abs() > 100*time.Millisecond // it wanders with the clocks that it is made of
		if a.State != b.State || a.Epoch != b.Epoch || moved {
			into.changes = append(into.changes, fmt.Sprintf("%s %s to %s, epoch %d to %d", node, a.State, b.State, a.Epoch, b.Epoch))
		}
		if node == attacked {
			grown(into.refused, was.doc.Peer.Paths[0].Refused, doc.Peer.Paths[0].Refused)
			grown(into.refused, was.doc.Heartbeat[0].Dropped, doc.Heartbeat[0].Dropped)
		}
	}
	return cpu, nil
}

// sample waits for the end of a window and looks at the active daemon meanwhile.
func (p *pair) sample(ctx context.Context, each time.Duration, into *side) error {
	for end := time.Now().Add(each); time.Now().Before(end); {
		if err := pause(ctx, min(sampleEvery, time.Until(end))); err != nil {
			return err
		}
		s, err := sizeOf(p.nodes["primary"].Process.Pid)
		if err != nil {
			return err
		}
		into.size = into.size.most(s)
	}
	return nil
}

// goroutines asks the active daemon, 0 when it gives no answer over HTTP. It connects
// by the calling thread, whose namespace it is.
func (p *pair) goroutines(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", activeAddr, webPort))
	if err != nil {
		return 0
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n")
	body, _ := io.ReadAll(conn)
	for line := range strings.Lines(string(body)) {
		if number, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(number))
			return n
		}
	}
	return 0
}

func grown(into, was, now map[string]uint64) {
	for reason, n := range now {
		if n > was[reason] {
			into[reason] += n - was[reason]
		}
	}
}

// attack starts this program as an attacker. end stops it and
// says how often it tried, and what it used of processors.
func (p *pair) attack(a attack, nice int) (end func() (int64, time.Duration, error), err error) {
	cmd := exec.Command("/proc/self/exe", attackerArgument, a.name, strings.ReplaceAll(a.target, "SOCKET", p.socket("primary"))) //nolint:noctx // end ends it
	cmd.Dir = p.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := p.net.start(cmd, !a.here, nice); err != nil {
		return nil, err
	}
	return func() (int64, time.Duration, error) {
		err := cmd.Process.Signal(unix.SIGTERM)
		err = errors.Join(err, cmd.Wait())
		attempts, parseErr := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
		if err = errors.Join(err, parseErr); err != nil {
			return 0, 0, fmt.Errorf("the attacker: %w: %s", err, out.String())
		}
		return attempts, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
	}, nil
}
