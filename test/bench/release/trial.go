package main

// A trial: daemons with a hostile step in their plans, one cause, one measurement.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/control"
)

// hostile is a step that does its worst.
type hostile struct {
	name, title string
	step        string // with DIR for the directory; empty: none
	passes      bool   // it ends well
	refused     bool   // the check of a planned switchover finds that it cannot
}

func hostiles() []hostile {
	script := func(name string) string {
		return "{name: hostile, timeout: 2s, exec: {command: [/bin/sh, DIR/" + name + "]}}"
	}
	return []hostile{
		{"none", "none", "", true, false},
		{"deaf", "deaf to SIGTERM, with deaf children", script("deaf"), false, false},
		{"flood", "writes without end", script("flood"), false, false},
		{"holder", "leaves a child with the pipe", script("holder"), true, false},
		{"hangs", "its exec hangs", "{name: hostile, timeout: 2s, exec: {command: [DIR/hangs]}}", false, false},
		{"missing", "not executable", "{name: hostile, timeout: 2s, exec: {command: [DIR/deaf]}}", false, true},
		{"webhook", "a webhook that never answers", "{name: hostile, timeout: 2s, notify: {webhook: \"http://" + mute + "/\"}}", true, false},
		{"read-only", "label on a read-only file system", "{name: hostile, timeout: 2s, yaml: {file: DIR/ro/label.yaml, key: active, value: \"{{.Active}} {{.Event}}\"}}", false, true},
		{"contested", "label that somebody rewrites 20 times a second", "{name: hostile, timeout: 2s, yaml: {file: DIR/label.yaml, key: active, value: \"{{.Active}} {{.Event}}\"}}", true, false},
		{"unit", "unit, nobody at D-Bus", "{name: hostile, timeout: 2s, unit: {stop: tanist-no-such.service}}", false, true},
	}
}

func names() (all []string) {
	for _, h := range hostiles() {
		all = append(all, h.name)
	}
	return all
}

// place is where the step stands.
type place string

const (
	nowhere place = "-"
	running place = "promotion, still running"
	before  place = "demotion, in front of vip"
	behind  place = "demotion, behind vip"
)

func places(cause string, h hostile) []place {
	switch {
	case h.step == "":
		return []place{nowhere}
	case cause == "switchover": // it begins only when the promotion has ended
		return []place{before, behind}
	}
	return []place{running, before, behind}
}

type bench struct {
	ctx         context.Context //nolint:containedctx // of one run of this command
	dir, binary string
	net         *network
	hold        int // what holds up the exec of one program
}

const config = `
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
log: {level: info, format: console}
instances:
  - name: a
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24]
    priority: {primary: 200, reserve: 100}
    heartbeat: {advert_interval: 100ms}
    promote: [{vip: acquire}%s]
    demote: [%s{vip: release}%s]
`

// mute is where somebody listens and never answers.
const mute = "192.0.2.11:8099"

const label = "active: nobody\n"

// others brings what is not a program: a mute listener, a read-only file system, and
// somebody who rewrites a label all the time. It ends with ctx, or by undo.
func (b *bench) others() (undo func() error, err error) {
	listener, err := net.Listen("tcp", mute) // of the calling thread's namespace
	if err != nil {
		return nil, err
	}
	ro, contested := filepath.Join(b.dir, "ro"), filepath.Join(b.dir, "label.yaml")
	if err := errors.Join(os.Mkdir(ro, 0o700), unix.Mount("tmpfs", ro, "tmpfs", 0, "size=1m")); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	undo = func() error { return errors.Join(listener.Close(), unix.Unmount(ro, unix.MNT_DETACH)) }
	err = errors.Join(
		os.WriteFile(filepath.Join(ro, "label.yaml"), []byte(label), 0o600),
		unix.Mount("tmpfs", ro, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"),
		os.WriteFile(contested, []byte(label), 0o600))
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	go func() { // ends with ctx
		for {
			select {
			case <-b.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
				_ = os.WriteFile(contested+".new", []byte(label), 0o600)
				_ = os.Rename(contested+".new", contested)
			}
		}
	}()
	return undo, nil
}

// scripts writes the programs.
func (b *bench) scripts() error {
	for name, text := range map[string]string{
		"deaf":  "trap '' TERM\nsh -c 'trap \"\" TERM; while :; do sleep 0.1; done' &\nwhile :; do sleep 0.1; done\n",
		"flood": "exec yes\n", "holder": "sleep 1000 &\n", "hangs": "#!/bin/sh\n",
	} {
		mode := os.FileMode(0o600)
		if name == "hangs" {
			mode = 0o700
		}
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), mode); err != nil {
			return err
		}
	}
	var err error
	if b.hold, err = unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY); err != nil {
		return fmt.Errorf("hold up an exec: %w", err)
	}
	err = unix.FanotifyMark(b.hold, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, filepath.Join(b.dir, "hangs"))
	if err != nil {
		return fmt.Errorf("hold up an exec: %w", err)
	}
	return nil
}

func (b *bench) write(h hostile, w place) error {
	var at [3]string
	if h.step != "" {
		step := strings.ReplaceAll(h.step, "DIR", b.dir)
		switch w {
		case nowhere:
		case running:
			at[0] = ", " + step
		case before:
			at[1] = step + ", "
		case behind:
			at[2] = ", " + step
		}
	}
	// The other host has no such step: what it does in a role of its own is not measured.
	return errors.Join(
		os.WriteFile(filepath.Join(b.dir, "primary.yaml"), fmt.Appendf(nil, config, at[0], at[1], at[2]), 0o600),
		os.WriteFile(filepath.Join(b.dir, "reserve.yaml"), fmt.Appendf(nil, config, "", "", ""), 0o600))
}

// row measures a row; nil says that the address stays, as it must.
func (b *bench) row(cause string, h hostile, w place, n int) ([]time.Duration, error) {
	if err := b.write(h, w); err != nil {
		return nil, err
	}
	var times []time.Duration
	for range n {
		took, stays, err := b.trial(cause, cause == "switchover" && (h.refused || !h.passes && w == before))
		if err != nil || stays {
			return nil, err
		}
		times = append(times, took)
	}
	return times, nil
}

// linkPatience is how long a link may be down before that demotes: half of the time in
// which the peer finds out, here three intervals of 100 ms and 60 ms.
const linkPatience = 180 * time.Millisecond

// patience is for everything that has to happen at all.
const patience = 30 * time.Second

type daemon struct {
	*exec.Cmd
	log    *bytes.Buffer
	client *control.Client
}

func (b *bench) start(node string) (*daemon, error) {
	state := filepath.Join(b.dir, node)
	if err := errors.Join(os.RemoveAll(state), os.Mkdir(state, 0o700)); err != nil {
		return nil, err
	}
	socket := filepath.Join(state, "s")
	d := &daemon{log: new(bytes.Buffer), client: control.Dial(socket)}
	d.Cmd = exec.CommandContext(b.ctx, b.binary, "run", "--config", filepath.Join(b.dir, node+".yaml"), "--node", node,
		"--socket", socket, "--state-dir", state)
	d.Stderr = d.log
	return d, b.net.start(d.Cmd, node == "reserve")
}

// end ends a daemon at once and waits.
func (d *daemon) end() {
	_ = d.Process.Signal(unix.SIGTERM)
	time.Sleep(50 * time.Millisecond) // two signals at once are one
	_ = d.Process.Signal(unix.SIGTERM)
	late := time.AfterFunc(patience, func() { _ = d.Process.Kill() })
	defer late.Stop()
	_ = d.Wait()
}

func (b *bench) await(what string, ok func() bool) error {
	for limit := time.Now().Add(patience); !ok(); {
		if time.Now().After(limit) {
			return errors.New("waited in vain for " + what)
		}
		select {
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (d *daemon) state(ctx context.Context) (state string, peerReady bool) {
	doc, err := d.client.Status(ctx)
	if err != nil || len(doc.Instances) == 0 {
		return "", false
	}
	ready := len(doc.Peer.Instances) == 1 && doc.Peer.Instances[0].State == "backup" && doc.Peer.Reachable
	return doc.Instances[0].State, ready
}

// trial makes a pair, or a host alone, and demotes it. stays: the switchover was
// taken back and the address never left, which is what was wanted.
func (b *bench) trial(cause string, wantStays bool) (took time.Duration, stays bool, err error) {
	if err := b.net.setLink(true); err != nil {
		return 0, false, err
	}
	d, err := b.start("primary")
	if err != nil {
		return 0, false, err
	}
	defer func() {
		d.end()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, d.log)
		}
	}()
	if err := b.await("the address", b.net.holds); err != nil {
		return 0, false, err
	}
	if cause == "switchover" {
		peer, err := b.start("reserve")
		if err != nil {
			return 0, false, err
		}
		defer peer.end()
		err = b.await("a settled pair", func() bool {
			state, ready := d.state(b.ctx)
			theirs, _ := peer.state(b.ctx)
			return state == "active" && ready && theirs == "backup"
		})
		if err != nil {
			return 0, false, err
		}
	}
	select {
	case <-time.After(300 * time.Millisecond): // what follows an acquisition is over, and a hostile step runs
	case <-b.ctx.Done():
		return 0, false, b.ctx.Err()
	}
	for len(b.net.gone) > 0 {
		<-b.net.gone
	}
	began := time.Now()
	result, err := b.cause(cause, d)
	if err != nil {
		return 0, false, err
	}
	if wantStays {
		r := <-result
		if len(b.net.gone) > 0 || !b.net.holds() || (r != "rolled_back" && r != "timed_out" && r != "refused") {
			return 0, false, fmt.Errorf("the switchover ended as %s, and the address is here: %v", r, b.net.holds())
		}
		return 0, true, nil
	}
	select {
	case at := <-b.net.gone:
		took := at.Sub(began)
		if cause == "link" {
			took -= linkPatience
		}
		return took, false, nil
	case <-time.After(patience):
		return 0, false, errors.New("the address stays")
	case <-b.ctx.Done():
		return 0, false, b.ctx.Err()
	}
}

// cause begins the demotion; of a switchover the result follows.
func (b *bench) cause(cause string, d *daemon) (<-chan string, error) {
	switch cause {
	case "link":
		return nil, b.net.setLink(false)
	case "term":
		return nil, d.Process.Signal(unix.SIGTERM)
	case "switchover":
		result := make(chan string, 1)
		go func() { // ends with the switchover, which is bounded
			outcome, err := d.client.Switchover(b.ctx, control.SwitchoverRequest{TimeoutMS: patience.Milliseconds()}, func(control.Line) {})
			if err != nil {
				outcome.Result = err.Error()
			}
			result <- outcome.Result
		}()
		return result, nil
	}
	return nil, fmt.Errorf("no cause %q (link, term or switchover)", cause)
}
