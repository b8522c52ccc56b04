package pair

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// The daemon is killed, or its host loses its power, at each boundary of a planned
// switchover: between two steps, where a step of the plan itself waits for the
// test, and at each write and each sync of the journal, where a tracer holds it.
// One pair serves for all: after each it has to have found itself, and the next
// switchover begins from wherever that is.

var boundaries = flag.String("boundaries", "some", "some, or all boundaries of a switchover on two hosts (see CONTRIBUTING.md)")

// A gate is a step that waits while its file is there.
const (
	gateDir    = "/run/gates/"
	gateScript = `#!/bin/sh
[ -e ` + gateDir + `$1 ] || exit 0
touch ` + gateDir + `$1.reached
while [ -e ` + gateDir + `$1 ]; do sleep 0.02; done
`
	journalFile = "/var/lib/tanist/journal"
	// switchoverTime bounds the operator's command: one that nobody answers any more.
	switchoverTime = 10 * time.Second
	// lookTime bounds one look at a pair that may still be on its way.
	lookTime = 2 * time.Second
)

// gated puts a gate before each step of both plans, and one after the last.
func gated(config string) string {
	var b strings.Builder
	count, list := 0, ""
	gate := func() {
		count++
		fmt.Fprintf(&b, "      - exec: {command: [/usr/local/sbin/gate, %s%d]}\n        on_error: continue\n        timeout: 60s\n", list, count)
	}
	end := func() {
		if list != "" {
			gate()
		}
	}
	for line := range strings.Lines(config) {
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "promote:" || trimmed == "demote:":
			end()
			list, count = strings.TrimSuffix(trimmed, ":"), 0
		case list != "" && strings.HasPrefix(line, "      - "):
			gate()
		}
		b.WriteString(line)
	}
	end()
	return b.String()
}

// way is how something ends at a boundary.
type way string

const (
	killed   way = "killed"            // systemd starts the daemon again
	away     way = "killed and away"   // for longer than the lease
	cut      way = "power cut"         // the host boots later
	unborn   way = "killed at a write" // the record is not written
	unsynced way = "killed at a sync"  // it is written, and not synced
)

// point is one boundary. Old says on which node: the one that gives the role away.
type point struct {
	old  bool
	gate int // before this step, 0: none
	nth  int // write or sync of the journal
	way  way
}

func (p point) String() string {
	node, where := "new node", ""
	if p.old {
		node = "old node"
	}
	switch {
	case p.gate > 0:
		where = fmt.Sprintf("before step %d, %s", p.gate, p.way)
	default:
		where = fmt.Sprintf("%s, number %d", p.way, p.nth)
	}
	return node + " " + where
}

const (
	promoteSteps, demoteSteps = 5, 5
	// journalWrites and journalSyncs are those that each node certainly makes.
	journalWrites, journalSyncs = 7, 2
)

// points are all boundaries, or those that a test run has time for.
func points(all bool) []point {
	var ps []point
	for _, old := range []bool{true, false} {
		for gate := 1; gate <= promoteSteps+1; gate++ {
			ps = append(ps, point{old: old, gate: gate, way: killed})
			if all || gate == 2 || gate == 3 {
				ps = append(ps, point{old: old, gate: gate, way: away})
			}
			// With writes open, what is on its way to the other host goes with the power.
			if quiet := !old || gate > 1; quiet && (all || gate == 3) && (old || gate <= 3) {
				ps = append(ps, point{old: old, gate: gate, way: cut})
			}
		}
		for nth := 1; nth <= journalWrites; nth++ {
			if all || nth <= 4 {
				ps = append(ps, point{old: old, nth: nth, way: unborn})
			}
			if nth <= journalSyncs {
				ps = append(ps, point{old: old, nth: nth, way: unsynced})
			}
		}
	}
	return ps
}

type ordeal struct {
	t      *testing.T
	s      *site.Site
	active *lab.Node
}

func TestBoundaries(t *testing.T) {
	t.Parallel()
	ps := points(*boundaries == "all")
	s := up(t, site.Options{Databases: 1, Config: gated(site.ManyConfig(1, "", true))}, false)
	for _, n := range s.Nodes() {
		if err := n.WriteFile("/usr/local/sbin/gate", []byte(gateScript), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Exec(within(t), "mkdir", "-p", gateDir); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitSettled(within(t), s.Primary); err != nil {
		t.Fatal(err)
	}
	o := &ordeal{t: t, s: s, active: s.Primary}
	w := writers(t, s, s.Primary, 1)
	finished := 0
	for i, p := range ps {
		begun, was := time.Now(), o.active
		err := o.suffer(p)
		if err == nil {
			err = o.found(w)
		}
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		if o.active != was {
			finished++
		}
		t.Logf("%2d %-45s %s is active, %.1f s", i+1, p, o.active.Hostname, time.Since(begun).Seconds())
	}
	t.Logf("%d boundaries, %d switchovers finished, %d undone", len(ps), finished, len(ps)-finished)
	w.Stop()
	if err := s.AwaitEqual(within(t), o.active); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Nodes() {
		rows, err := s.Rows(within(t), w, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			t.Logf("%s of %s: %d acknowledged rows", r.Database.Name(), n.Hostname, r.Found)
			if len(r.Missing) > 0 || len(r.Duplicated) > 0 || r.Found == 0 {
				t.Errorf("%s of %s: %d acknowledged rows are missing, the first is %+v", r.Database.Name(), n.Hostname, len(r.Missing), r.Missing[:min(1, len(r.Missing))])
			}
		}
	}
}

// suffer begins a switchover and lets the point come.
func (o *ordeal) suffer(p point) error {
	ctx := within(o.t)
	victim := o.s.Peer(o.active)
	if p.old {
		victim = o.active
	}
	pid, err := victim.MainPID(ctx, "tanist.service")
	if err != nil {
		return err
	}
	var reached func(context.Context) error
	var after func() error
	if p.gate > 0 {
		reached, after, err = o.atGate(ctx, p, victim, pid)
	} else {
		reached, err = o.atJournal(ctx, p, victim, pid)
		after = func() error { return nil }
	}
	if err != nil {
		return err
	}
	answer := make(chan error, 1)
	go func() { // whatever it is: the wish is over with it
		_, err := o.s.Tanist(ctx, o.s.Peer(victim), "switchover", "--timeout", switchoverTime.String())
		answer <- err
	}()
	err = reached(ctx)
	if err == nil {
		err = after()
	}
	return errors.Join(err, <-answer)
}

// atGate waits until a plan has come to the gate and ends the daemon there.
func (o *ordeal) atGate(ctx context.Context, p point, victim *lab.Node, pid int) (reached func(context.Context) error, after func() error, err error) {
	gate := gateDir + "promote" + strconv.Itoa(p.gate)
	if p.old {
		gate = gateDir + "demote" + strconv.Itoa(p.gate)
	}
	if err := victim.WriteFile(gate, nil, 0o600); err != nil {
		return nil, nil, err
	}
	reached = func(ctx context.Context) error {
		return site.Await(ctx, "the plan is at "+gate, func(context.Context) error {
			_, err := victim.ReadFile(gate + ".reached")
			return err
		})
	}
	return reached, func() error { return o.end(ctx, p.way, victim, pid, gate) }, nil
}

func (o *ordeal) end(ctx context.Context, how way, victim *lab.Node, pid int, gate string) error {
	const dropIn = "/etc/systemd/system/tanist.service.d/away.conf"
	switch how {
	case cut:
		if err := victim.PowerOff(ctx); err != nil {
			return err
		}
		time.Sleep(site.Lease + 2*time.Second) // the time that the host is away, not a wait for anything
		if err := victim.PowerOn(ctx); err != nil {
			return err
		}
		_, err := victim.Exec(ctx, "mkdir", "-p", gateDir)
		return err
	case away:
		err := victim.WriteFile(dropIn, []byte(unrestarted), 0o644)
		if err == nil {
			_, err = victim.Exec(ctx, "systemctl", "daemon-reload")
		}
		if err != nil {
			return err
		}
	case killed, unborn, unsynced:
	}
	if err := victim.Kill(pid, sigKILL); err != nil {
		return err
	}
	if _, err := victim.Exec(ctx, "sh", "-c", "rm -f "+gate+" "+gate+".reached"); err != nil {
		return err
	}
	if how != away {
		return nil
	}
	time.Sleep(site.Lease + 2*time.Second) // as above
	if err := victim.Remove(dropIn); err != nil {
		return err
	}
	_, err := victim.Exec(ctx, "sh", "-c", "systemctl daemon-reload && systemctl reset-failed tanist.service; systemctl start tanist.service")
	return err
}

// atJournal lets a tracer end the daemon at a write or a sync of its journal.
func (o *ordeal) atJournal(ctx context.Context, p point, victim *lab.Node, pid int) (reached func(context.Context) error, err error) {
	outside, err := victim.Outside(pid)
	if err != nil {
		return nil, err
	}
	call := uintptr(unix.SYS_PWRITE64)
	if p.way == unsynced {
		call = unix.SYS_FDATASYNC
	}
	ctx, cancel := context.WithTimeout(ctx, 2*switchoverTime) // a write that never comes
	cmd, err := tracer(ctx, outside, call, p.nth, journalFile)
	if err != nil {
		cancel()
		return nil, err
	}
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	lines := bufio.NewReader(said)
	first, err := lines.ReadString('\n')
	if err != nil || first != attached {
		cancel()
		return nil, errors.Join(fmt.Errorf("the tracer: %s", first), err, cmd.Wait())
	}
	return func(context.Context) error {
		defer cancel()
		rest, err := io.ReadAll(lines)
		ended := cmd.Wait() // when the daemon has
		switch {
		case err != nil:
		case ctx.Err() != nil:
			err = fmt.Errorf("the daemon lives: %s", rest)
		case ended != nil:
			err = fmt.Errorf("the tracer: %w: %s", ended, rest)
		default:
			o.t.Logf("%s", rest)
		}
		return err
	}, nil
}

// found waits until the pair has found itself, whoever has the role.
func (o *ordeal) found(w *site.Writers) error {
	ctx := within(o.t)
	begun := time.Now()
	err := site.Await(ctx, "the pair has found itself", func(ctx context.Context) error {
		a, err := o.holder()
		if err != nil {
			return err
		}
		o.active = a
		if err := o.like(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, lookTime)
		defer cancel()
		return o.s.AwaitSettled(ctx, a)
	})
	if err != nil {
		return err
	}
	if err := o.s.AwaitEqual(ctx, o.active); err != nil {
		return err
	}
	return w.AwaitFrom(ctx, o.s.ServerID(o.active), begun)
}

func (o *ordeal) holder() (*lab.Node, error) {
	var holders []*lab.Node
	for _, n := range o.s.Nodes() {
		held, err := o.s.HoldsVIP(n)
		if err != nil {
			return nil, err
		}
		if held {
			holders = append(holders, n)
		}
	}
	if len(holders) != 1 {
		return nil, fmt.Errorf("%d hosts have the address", len(holders))
	}
	return holders[0], nil
}

// like says what is not as it should be with this active host.
func (o *ordeal) like(ctx context.Context) error {
	d := o.s.Databases[0]
	for _, n := range o.s.Nodes() {
		label, err := n.ReadFile(site.LabelFile)
		if err != nil {
			return err
		}
		if want := site.LabelText(n.Hostname, o.active.Hostname); string(label) != want {
			return fmt.Errorf("the label file of %s is not %s's", n.Hostname, o.active.Hostname)
		}
		rows, err := d.SQL(ctx, n, "SELECT @@GLOBAL.read_only")
		if err != nil {
			return err
		}
		if closed := rows[0][0] == "1"; closed == (n == o.active) {
			return fmt.Errorf("read_only of %s: %s", n.Hostname, rows[0][0])
		}
		out, err := n.Exec(ctx, "sh", "-c", "pgrep -cx lsyncd || true")
		if err != nil {
			return err
		}
		if runs := strings.TrimSpace(out) != "0"; runs != (n == o.active) {
			return fmt.Errorf("lsyncd of %s runs: %t", n.Hostname, runs)
		}
	}
	return nil
}
