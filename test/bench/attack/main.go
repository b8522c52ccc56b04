// Command attack measures how much later than due the active node's advertisements
// leave while somebody with the other node's address attacks the pair: by the kernel's
// stamps on the wire, against the multiples of their interval at which they are due.
// What the daemon allows itself, so that many instances have one turn, is in it. Every
// attack has many short windows with a quiet one before each, and a metronome with the
// daemon's priority and nothing to do runs beside it: what it is late by is the machine's.
// It needs root.
//
//	go run ./test/bench/attack                     everything, about ten minutes
//	go run ./test/bench/attack -rounds 20 -attack connections,forged
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/test/site"
)

// What this program is when it starts itself, in the namespace it is started in.
const (
	attackerArgument  = "attacker"
	metronomeArgument = "metronome"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[1] == attackerArgument:
		err = attackAs(ctx, os.Args[2], os.Args[3])
	case len(os.Args) == 2 && os.Args[1] == metronomeArgument:
		err = beat(ctx)
	default:
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	stop()
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "attack: "+err.Error())
		}
		os.Exit(1)
	}
}

type options struct {
	window  time.Duration
	rounds  int
	attacks []attack
	binary  string
	nice    int

	attackerNice int
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("attack", flag.ContinueOnError)
	f.DurationVar(&o.window, "window", 3*time.Second, "`time` of each window")
	f.IntVar(&o.rounds, "rounds", 8, "windows of each attack")
	f.StringVar(&o.binary, "tanist", "", "`file` of tanist (default: built from this module)")
	f.IntVar(&o.nice, "nice", -20, "of the daemons, as in tanist.service")
	f.IntVar(&o.attackerNice, "attacker-nice", 0, "of the attackers: 19 leaves them what others leave, which on a busy machine is no attack")
	only := f.String("attack", strings.Join(names(), ","), "`attacks`, comma separated")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for name := range strings.SplitSeq(*only, ",") {
		at := slices.IndexFunc(attacks(), func(a attack) bool { return a.name == name })
		if at < 0 {
			return o, fmt.Errorf("no attack is called %q: there are %s", name, strings.Join(names(), ", "))
		}
		o.attacks = append(o.attacks, attacks()[at])
	}
	switch {
	case o.window < time.Second || o.window > time.Minute:
		return o, fmt.Errorf("windows of %v: want 1s to 1m", o.window)
	case o.rounds < 1 || o.rounds > 1000:
		return o, fmt.Errorf("%d windows: want 1 to 1000", o.rounds)
	case os.Geteuid() != 0:
		return o, errors.New("needs root for network namespaces")
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ta")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.binary == "" {
		if o.binary, err = site.Build(ctx, dir); err != nil {
			return err
		}
	}
	runtime.LockOSThread() // of the namespace; the process ends with it
	net, err := newNetwork()
	if err != nil {
		return err
	}
	defer net.close()
	p, err := startPair(ctx, net, dir, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	return measure(ctx, p, o, out)
}
