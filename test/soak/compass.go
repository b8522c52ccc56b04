package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// A Compass round moves the service, or tries to, in one of many ways, some of them
// with a fault thrown in. After each the pair comes to rest, and then the world has
// to be whole: one host has the address, its databases take writes and the other's
// do not, exactly one lsyncd runs, and the labels of both hosts are right.

// round is one way to begin.
type round struct {
	title string
	begin beginning
}

// beginning does something to the pair whose Active it is told.
type beginning func(context.Context, *soak, *lab.Node) (aftermath, error)

// aftermath is what a beginning leaves behind.
type aftermath struct {
	off   *lab.Node // has no power
	apart *lab.Node // was cut off while it took writes: its databases may have more than the other's
}

func rounds() []round {
	return []round{
		{"switchover asked on the active host", switchAsked(false)},
		{"switchover asked on the standby", switchAsked(true)},
		{"power cut of the active host", powerCut},
		{"power cut of the standby in a switchover", duringSwitchover((*soak).peerOff)},
		{"power cut of the active host in a switchover", duringSwitchover((*soak).activeOff)},
		{"daemon of the active host killed", killed},
		{"daemon of the active host killed in a switchover", duringSwitchover(signalled(false, syscall.SIGKILL))},
		{"daemon of the standby killed in a switchover", duringSwitchover(signalled(true, syscall.SIGKILL))},
		{"daemon of the active host hangs", hung},
		{"daemon of the active host told to leave", left},
		{"cable of the active host pulled", unplugged},
		{"second path cut in a switchover", duringSwitchover((*soak).pathCut)},
		{"database of the active host killed", databaseDown},
		{"lsyncd started by hand on the standby in a switchover", duringSwitchover((*soak).strayLsyncd)},
		{"label edited by hand on the standby in a switchover", duringSwitchover((*soak).strayLabel)},
		{"databases of the standby opened by hand", strayWrites},
	}
}

// compass runs so many rounds, whose titles have only in them, in an order that the
// seed decides. Every kind of round comes before any comes again.
func compass(seed uint64, only string) func(context.Context, *soak, int) error {
	return func(ctx context.Context, k *soak, times int) error {
		k.tell("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		k.random = rng
		kinds := slices.DeleteFunc(rounds(), func(r round) bool { return !strings.Contains(r.title, only) })
		if len(kinds) == 0 {
			return fmt.Errorf("no kind of round is called %q", only)
		}
		var order []int
		moved := 0
		for i := range times {
			if len(order) == 0 {
				order = rng.Perm(len(kinds))
			}
			r := kinds[order[0]]
			order = order[1:]
			bounded, cancel := context.WithTimeout(ctx, 3*bound)
			to, err := k.round(bounded, i, r)
			cancel()
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", i+1, r.title, err)
			}
			if to {
				moved++
			}
		}
		k.tell("%d rounds, the service moved in %d; %d times what must not be", times, moved, len(k.broken))
		return nil
	}
}

func (k *soak) round(ctx context.Context, i int, r round) (moved bool, err error) {
	active, err := k.holder(ctx)
	if err != nil {
		return false, err
	}
	w, err := k.write(ctx, active)
	if err != nil {
		return false, err
	}
	defer w.Stop()
	after, err := r.begin(ctx, k, active)
	if err != nil {
		return false, err
	}
	if after.off != nil {
		if err := k.AwaitState(ctx, k.Peer(after.off), "active"); err != nil {
			return false, err
		}
	}
	w.Stop()
	if after.off != nil {
		if err := k.comeBack(ctx, after.off); err != nil {
			return false, err
		}
	}
	if after.apart != nil {
		if _, err := k.rejoin(ctx, after.apart, true); err != nil {
			return false, err
		}
	}
	now, err := k.rest(ctx)
	if err != nil {
		return false, err
	}
	if after.apart == nil {
		if err := k.compare(ctx, w, now); err != nil {
			return false, err
		}
	}
	k.tell("%d: %s: from %s to %s", i+1, r.title, active.Hostname, now.Hostname)
	return now != active, nil
}

// holder is the host with the address.
func (k *soak) holder(ctx context.Context) (*lab.Node, error) {
	var holder *lab.Node
	err := site.Await(ctx, "one host has the address", func(context.Context) error {
		holder = nil
		for _, n := range k.Nodes() {
			held, err := k.HoldsVIP(n)
			switch {
			case err != nil:
				return err
			case held && holder != nil:
				return errors.New("both have it")
			case held:
				holder = n
			}
		}
		if holder == nil {
			return errors.New("nobody has it")
		}
		return nil
	})
	return holder, err
}

// rest waits until the pair is at rest and the world is whole.
func (k *soak) rest(ctx context.Context) (*lab.Node, error) {
	var active *lab.Node
	err := site.Await(ctx, "the pair is at rest and whole", func(ctx context.Context) error {
		var err error
		if active, err = k.holder(ctx); err != nil {
			return err
		}
		// Asked once: what is not so yet is looked at again with everything else.
		settled, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := k.AwaitSettled(settled, active); err != nil {
			return err
		}
		return k.whole(ctx, active)
	})
	return active, err
}

// whole compares the world with what it has to be while a host is Active.
func (k *soak) whole(ctx context.Context, active *lab.Node) error {
	for _, n := range k.Nodes() {
		f, err := k.LookFiles(ctx, n)
		if err != nil {
			return err
		}
		wanted := 0
		if n == active {
			wanted = 1
		}
		switch {
		case f.Label != site.LabelText(n.Hostname, active.Hostname):
			return fmt.Errorf("the label file of %s is\n%s", n.Hostname, f.Label)
		case f.Relationship != "" && f.Relationship != site.RelationshipText(active.Hostname):
			return fmt.Errorf("the relationship file of %s is\n%s", n.Hostname, f.Relationship)
		case f.Lsyncd != wanted:
			return fmt.Errorf("%d lsyncd run on %s", f.Lsyncd, n.Hostname)
		}
		for _, d := range k.Databases {
			rows, err := d.SQL(ctx, n, "SELECT @@GLOBAL.read_only")
			if err != nil {
				return err
			}
			if (rows[0][0] == "0") != (n == active) {
				return fmt.Errorf("%s of %s says read_only=%s", d.Name(), n.Hostname, rows[0][0])
			}
		}
	}
	return nil
}

func switchAsked(onStandby bool) beginning {
	return func(ctx context.Context, k *soak, active *lab.Node) (aftermath, error) {
		on := active
		if onStandby {
			on = k.Peer(active)
		}
		// Right after a round something of it can be under way: an operator asks again.
		err := site.Await(ctx, "a switchover is done", func(ctx context.Context) error {
			r, err := k.Tanist(ctx, on, "switchover")
			switch {
			case err != nil:
				return err
			case r.Code == 3 && strings.Contains(r.Stderr, "another transition was under way"):
				return errors.New(r.Stderr)
			case r.Code != 0:
				k.wrong("switchover asked on %s: exit status %d\n%s%s", on.Hostname, r.Code, r.Stdout, r.Stderr)
			}
			return nil
		})
		return aftermath{}, err
	}
}

func powerCut(ctx context.Context, _ *soak, active *lab.Node) (aftermath, error) {
	return aftermath{off: active, apart: active}, active.PowerOff(ctx)
}

func killed(ctx context.Context, _ *soak, active *lab.Node) (aftermath, error) {
	return aftermath{}, active.KillUnit(ctx, daemonUnit, syscall.SIGKILL)
}

// hung stops the daemon until the other host is Active, or this one is again: its
// service manager ends a daemon that shows no sign of life, and starts another.
func hung(ctx context.Context, k *soak, active *lab.Node) (aftermath, error) {
	before, err := active.MainPID(ctx, daemonUnit)
	if err != nil {
		return aftermath{}, err
	}
	if err := active.KillUnit(ctx, daemonUnit, syscall.SIGSTOP); err != nil {
		return aftermath{}, err
	}
	err = site.Await(ctx, "a host is active whose daemon runs", func(ctx context.Context) error {
		if k.BackAndActive(ctx, active, before) == nil {
			return nil
		}
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return k.AwaitState(brief, k.Peer(active), "active")
	})
	_ = active.Kill(before, syscall.SIGCONT) // it may be gone
	return aftermath{}, err
}

func left(ctx context.Context, k *soak, active *lab.Node) (aftermath, error) {
	if _, err := active.Exec(ctx, "systemctl", "stop", daemonUnit); err != nil {
		return aftermath{}, err
	}
	if err := k.AwaitState(ctx, k.Peer(active), "active"); err != nil {
		return aftermath{}, err
	}
	return aftermath{}, k.Start(ctx, active)
}

func unplugged(ctx context.Context, k *soak, active *lab.Node) (aftermath, error) {
	if err := k.CableDown(active, lab.Eth0); err != nil {
		return aftermath{}, err
	}
	err := k.AwaitState(ctx, k.Peer(active), "active")
	return aftermath{apart: active}, errors.Join(err, k.CableUp(active, lab.Eth0))
}

func databaseDown(ctx context.Context, k *soak, active *lab.Node) (aftermath, error) {
	if err := active.KillUnit(ctx, k.Databases[0].Unit(), syscall.SIGKILL); err != nil {
		return aftermath{}, err
	}
	return aftermath{apart: active}, k.AwaitState(ctx, k.Peer(active), "active")
}

// strayWrites opens what has to be closed again.
func strayWrites(ctx context.Context, k *soak, active *lab.Node) (aftermath, error) {
	for _, d := range k.Databases {
		if _, err := d.SQL(ctx, k.Peer(active), "SET GLOBAL read_only=0"); err != nil {
			return aftermath{}, err
		}
	}
	return aftermath{}, nil
}

const daemonUnit = "tanist.service"

// duringSwitchover does something while a switchover runs, at another instant each
// time. The command may end in any way that it says.
func duringSwitchover(do func(*soak, context.Context, *lab.Node) (aftermath, error)) beginning {
	return func(ctx context.Context, k *soak, active *lab.Node) (aftermath, error) {
		on := active
		if k.random.IntN(2) == 1 {
			on = k.Peer(active)
		}
		type end struct {
			r   site.Result
			err error
		}
		ended := make(chan end, 1)
		asking, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			r, err := k.Tanist(asking, on, "switchover", "--timeout", "20s")
			ended <- end{r, err}
		}()
		if err := wait(ctx, time.Duration(k.random.IntN(600))*time.Millisecond); err != nil {
			return aftermath{}, err
		}
		after, err := do(k, ctx, active)
		if err != nil || after.off == on { // a host without power does not answer
			return after, err
		}
		e := <-ended
		k.tell("the switchover asked on %s ended with %d: %s", on.Hostname, e.r.Code, lastLine(e.r.Stdout+e.r.Stderr))
		if e.r.Code == 1 {
			k.tell("its steps:\n%s", e.r.Stdout)
		}
		return after, e.err
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// activeOff takes the power of the host that had the address when the switchover
// began, and by then may have handed it over.
func (k *soak) activeOff(ctx context.Context, active *lab.Node) (aftermath, error) {
	return aftermath{off: active, apart: active}, active.PowerOff(ctx)
}

// peerOff takes the power of the host that does not, and waits for nobody: the
// other one stays Active, or becomes it again.
func (k *soak) peerOff(ctx context.Context, _ *lab.Node) (aftermath, error) {
	n, err := k.holder(ctx)
	if err != nil {
		return aftermath{}, err
	}
	return aftermath{off: k.Peer(n), apart: k.Peer(n)}, k.Peer(n).PowerOff(ctx)
}

func signalled(standby bool, sig syscall.Signal) func(*soak, context.Context, *lab.Node) (aftermath, error) {
	return func(k *soak, ctx context.Context, active *lab.Node) (aftermath, error) {
		n := active
		if standby {
			n = k.Peer(active)
		}
		return aftermath{}, n.KillUnit(ctx, daemonUnit, sig)
	}
}

// pathCut cuts the second path both ways for a while.
func (k *soak) pathCut(ctx context.Context, active *lab.Node) (aftermath, error) {
	peer := k.Peer(active)
	err := errors.Join(k.CutOneWay(ctx, active, peer, lab.Eth1), k.CutOneWay(ctx, peer, active, lab.Eth1))
	if err == nil {
		err = wait(ctx, time.Second)
	}
	return aftermath{}, errors.Join(err, k.Heal(context.WithoutCancel(ctx)))
}

func (k *soak) strayLsyncd(ctx context.Context, active *lab.Node) (aftermath, error) {
	_, err := k.Peer(active).Exec(ctx, "systemctl", "start", "lsyncd.service")
	return aftermath{}, err
}

func (k *soak) strayLabel(_ context.Context, active *lab.Node) (aftermath, error) {
	n := k.Peer(active)
	return aftermath{}, n.WriteFile(site.LabelFile, []byte(site.LabelText(n.Hostname, "nobody")), 0o640)
}
