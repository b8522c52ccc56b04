// Package demo shows a pair at work on one machine: two hosts in network namespaces,
// a service behind the virtual address, a client that asks for it a hundred times a
// second, and what it saw of a planned switchover, a killed daemon and a lost host.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// Options are what a demo needs.
type Options struct {
	Program string   // the binary of tanist
	Env     []string // of the daemons, added to this program's
	Out     io.Writer
}

const configuration = `
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
log: {level: info, format: console}
instances:
  - name: demo
    interface: eth0
    vrid: 51
    vips: [192.0.2.100/24]
    lease: 1s
    heartbeat: {advert_interval: 100ms}
`

// Bounds of the scenes.
const (
	sceneTime = 15 * time.Second
	// calm is before and after what happens in a scene.
	calm = 700 * time.Millisecond
	// lookEvery is how often a condition is looked at.
	lookEvery = 10 * time.Millisecond
)

func labels() [2]string { return [2]string{"primary", "reserve"} }

// Scene is what was measured in one scene.
type Scene struct {
	Name   string
	By     string        // who answers after it
	Asked  int           // requests in it
	Lost   int           // of them without an answer within a second
	Gap    time.Duration // longest time between two answers
	Remark string
}

// demo is a pair under way.
type demo struct {
	Options
	dir     string
	net     *network
	client  *client
	daemons [2]*exec.Cmd
	scenes  []Scene
}

// Run plays the scenes and prints a table. Whatever it made is gone when it returns,
// also when ctx ends first.
func Run(ctx context.Context, o Options) (scenes []Scene, err error) {
	if os.Getuid() != 0 {
		return nil, errors.New("the demo makes network namespaces: run it as root")
	}
	d := &demo{Options: o}
	if d.dir, err = os.MkdirTemp("", "tanist-demo-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if d.net, err = newNetwork(); err != nil {
		return nil, err
	}
	defer d.net.close()
	asking, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer func() {
		stop()
		wait.Wait()
		d.kill(0)
		d.kill(1)
	}()
	for i, h := range d.net.hosts {
		if err := serve(asking, h, labels()[i], &wait); err != nil {
			return nil, fmt.Errorf("start the service: %w", err)
		}
	}
	d.client = &client{place: d.net.middle}
	wait.Go(func() { d.client.run(asking) })
	d.say("Two hosts, primary and reserve, in network namespaces; a client asks for %s a hundred times a second.", virtual)
	for _, scene := range []func(context.Context) error{d.begin, d.planned, d.killed, d.cut} {
		bounded, cancel := context.WithTimeout(ctx, sceneTime)
		err := scene(bounded)
		cancel()
		if ctx.Err() != nil {
			return d.scenes, errors.New("interrupted")
		}
		if err != nil {
			return d.scenes, err
		}
	}
	d.table()
	return d.scenes, nil
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

func (d *demo) file(i int, name string) string { return filepath.Join(d.dir, labels()[i]+name) }

// start starts a host's daemon as an operator would.
func (d *demo) start(i int) error {
	conf := filepath.Join(d.dir, "tanist.yaml")
	if err := os.WriteFile(conf, []byte(configuration), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(d.file(i, ".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(d.Program, "run", "--config", conf, "--node", labels()[i], "--socket", d.file(i, ".sock"), "--state-dir", d.file(i, ".state"))
	cmd.Env = append(os.Environ(), d.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := d.net.hosts[i].start(cmd); err != nil {
		return fmt.Errorf("start the daemon of %s: %w", labels()[i], err)
	}
	d.daemons[i] = cmd
	return nil
}

// kill is kill -9.
func (d *demo) kill(i int) {
	if cmd := d.daemons[i]; cmd != nil {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		d.daemons[i] = nil
	}
}

// await waits for a condition; what went wrong shows in the daemons' logs.
func (d *demo) await(ctx context.Context, what string, f func() bool) error {
	for !f() {
		if ctx.Err() != nil {
			for i, l := range labels() {
				log, _ := os.ReadFile(d.file(i, ".log"))
				d.say("\nlog of %s:\n%s", l, log)
			}
			return fmt.Errorf("waited in vain for %s", what)
		}
		sleep(ctx, lookEvery)
	}
	return nil
}

func (d *demo) state(ctx context.Context, i int) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	doc, err := control.Dial(d.file(i, ".sock")).Status(ctx)
	if err != nil || len(doc.Instances) == 0 || !doc.Peer.Reachable {
		return ""
	}
	return doc.Instances[0].State
}

// answered waits until a host answers what was asked after an instant, and then until
// everything that was asked so far has ended.
func (d *demo) answered(ctx context.Context, i int, after time.Time) (time.Time, error) {
	var at time.Time
	err := d.await(ctx, labels()[i]+" to answer", func() bool {
		at = d.client.answeredBy(labels()[i], after)
		return !at.IsZero()
	})
	return at, err
}

// measure closes a scene: what the client saw since it began, when all its requests
// have ended.
func (d *demo) measure(ctx context.Context, name, remark string, from time.Time) {
	sleep(ctx, calm)
	to := time.Now()
	sleep(ctx, answerTime+dialTime)
	m := d.client.between(from, to)
	s := Scene{name, m.by, m.asked, m.lost, m.gap, remark}
	d.scenes = append(d.scenes, s)
	d.say("   %s", remark)
}

func (d *demo) begin(ctx context.Context) error {
	d.say("\n1. Both daemons start.")
	from := time.Now()
	if err := errors.Join(d.start(0), d.start(1)); err != nil {
		return err
	}
	at, err := d.answered(ctx, 0, from)
	if err != nil {
		return err
	}
	d.say("   primary is active and answers, %s after the start.", round(at.Sub(from)))
	return d.await(ctx, "the reserve to stand by", func() bool { return d.state(ctx, 0) == "active" && d.state(ctx, 1) == "backup" })
}

func (d *demo) planned(ctx context.Context) error {
	d.say("\n2. tanist switchover, on the primary.")
	sleep(ctx, calm)
	from := time.Now()
	sleep(ctx, calm)
	began := time.Now()
	out, err := control.Dial(d.file(0, ".sock")).Switchover(ctx, control.SwitchoverRequest{TimeoutMS: sceneTime.Milliseconds()}, func(control.Line) {})
	if err == nil && out.Result != "done" {
		err = errors.New("the switchover was " + out.Result + ": " + out.Reason + " " + out.Detail)
	}
	if err != nil {
		return err
	}
	took := time.Since(began)
	if _, err := d.answered(ctx, 1, began); err != nil {
		return err
	}
	d.measure(ctx, "planned switchover", "done after "+round(took)+": the reserve answers.", from)
	return nil
}

func (d *demo) killed(ctx context.Context) error {
	d.say("\n3. kill -9 of the reserve's daemon, and nobody starts it again: the address leaves with its lease of a second.")
	from := time.Now()
	sleep(ctx, calm)
	began := time.Now()
	d.kill(1)
	at, err := d.answered(ctx, 0, began)
	if err != nil {
		return err
	}
	d.measure(ctx, "kill -9 of a daemon", "the primary answers "+round(at.Sub(began))+" after it. (systemd would have restarted the daemon within the lease.)", from)
	if err := d.start(1); err != nil {
		return err
	}
	return d.await(ctx, "the reserve to come back as standby", func() bool { return d.state(ctx, 1) == "backup" && d.state(ctx, 0) == "active" })
}

func (d *demo) cut(ctx context.Context) error {
	d.say("\n4. The primary is cut off: its cable is pulled and its daemon killed.")
	from := time.Now()
	sleep(ctx, calm)
	began := time.Now()
	if err := d.net.middle.down(port(0)); err != nil {
		return err
	}
	d.kill(0)
	at, err := d.answered(ctx, 1, began)
	if err != nil {
		return err
	}
	d.measure(ctx, "host cut", "the reserve answers "+round(at.Sub(began))+" after it.", from)
	return nil
}

func round(t time.Duration) string { return t.Round(time.Millisecond).String() }

func (d *demo) table() {
	d.say("\n%-22s %-10s %10s %18s %14s", "scene", "served by", "requests", "without an answer", "longest gap")
	for _, s := range d.scenes {
		d.say("%-22s %-10s %10d %18d %14s", s.Name, s.By, s.Asked, s.Lost, round(s.Gap))
	}
	d.say("\nA request is a connection of its own; one that breaks tries again, and after a second it counts as not answered.")
}
