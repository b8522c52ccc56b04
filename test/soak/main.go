// Command soak moves the databases of two hosts back and forth under writers and
// counts what became of every acknowledged row. It needs root, and what the lab
// needs.
//
//	go run ./test/soak                                  200 switchovers and 50 power cuts, each with 1 and with 32 databases: hours
//	go run ./test/soak -databases 4 -switchovers 20 -cuts 0
//	go run ./test/soak -databases 3 -switchovers 0 -cuts 0 -rounds 100
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "soak: "+err.Error())
		}
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err = o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak: "+err.Error())
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	databases         []int
	switchovers, cuts int
	rounds            int
	seed              uint64
	only              string
	rate              int
	durable           bool
	afterLoss         string
	binary            string
}

// rateFor is what the writers aim at: more than is asked for, since a pace that
// was lost is not made up for.
const rateFor = 650

func parse(args []string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.SetOutput(out)
	databases := f.String("databases", "1,32", "`numbers` of databases of each host, comma separated: one run for each")
	f.IntVar(&o.switchovers, "switchovers", 200, "planned `switchovers` of a run")
	f.IntVar(&o.cuts, "cuts", 50, "power `cuts` of the active host of a run")
	f.IntVar(&o.rounds, "rounds", 0, "`rounds` of a Compass site's plan, planned and not, with faults thrown in")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().Unix()), "`number` that decides about the order of the rounds")
	f.StringVar(&o.only, "only", "", "part of the `title` of the rounds to have (default: all)")
	f.IntVar(&o.rate, "rate", rateFor, "`rows` a second that the writers aim at, all together")
	f.StringVar(&o.afterLoss, "after-loss", "drained", "`policy` of the gate for the power cuts: exact or drained")
	f.BoolVar(&o.durable, "durable", false, "let every commit wait for the disk")
	f.StringVar(&o.binary, "tanist", "", "`file` of tanist (default: built from this module)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for _, word := range strings.Split(*databases, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 || n > site.MaxDatabases {
			return o, fmt.Errorf("%q databases: want 1 to %d", word, site.MaxDatabases)
		}
		o.databases = append(o.databases, n)
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rate < 1 || o.rate > 20000:
		return o, fmt.Errorf("rate %d: want 1 to 20000", o.rate)
	case min(o.switchovers, o.cuts, o.rounds) < 0 || max(o.switchovers, o.cuts, o.rounds) > 10000:
		return o, errors.New("switchovers, cuts and rounds: want 0 to 10000")
	case o.afterLoss != "exact" && o.afterLoss != "drained":
		return o, fmt.Errorf("after-loss %q: want exact or drained", o.afterLoss)
	}
	return o, nil
}

func (o options) run(ctx context.Context) (err error) {
	if err := lab.Usable(); err != nil {
		return err
	}
	if o.binary == "" {
		dir, err := os.MkdirTemp("", "tanist-soak-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if o.binary, err = site.Build(ctx, dir); err != nil {
			return err
		}
	}
	var broken []string
	for _, n := range o.databases {
		for _, part := range []struct {
			times  int
			run    func(context.Context, *soak, int) error
			config string
		}{
			{o.switchovers, switchovers, site.ManyConfig(n, "", true)},
			{o.cuts, cuts, site.ManyConfig(n, "after_loss: "+o.afterLoss, true)},
			{o.rounds, compass(o.seed, o.only), site.CompassConfig(n, "after_loss: "+o.afterLoss)},
		} {
			if part.times == 0 {
				continue
			}
			b, err := o.part(ctx, n, part.times, part.config, part.run)
			broken = append(broken, b...)
			if err != nil {
				return errors.Join(err, verdict(broken))
			}
		}
	}
	return verdict(broken)
}

func verdict(broken []string) error {
	if len(broken) == 0 {
		return nil
	}
	return fmt.Errorf("%d times what must not be:\n%s", len(broken), strings.Join(broken, "\n"))
}

// part is one run on a fresh site.
func (o options) part(ctx context.Context, databases, times int, config string, run func(context.Context, *soak, int) error) (broken []string, err error) {
	begun := time.Now()
	tell := func(format string, args ...any) {
		fmt.Printf("%8.1f s  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
	}
	s, err := up(ctx, site.Options{Binary: o.binary, Databases: databases, Durable: o.durable, Config: config}, tell)
	if err != nil {
		return nil, err
	}
	defer func() {
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
		defer cancel()
		err = errors.Join(err, s.Down(down))
	}()
	tell("%d databases on each host, %d rows a second", databases, o.rate)
	k := &soak{Site: s, rate: o.rate, tell: tell}
	err = run(ctx, k, times)
	if err != nil {
		k.explain(context.WithoutCancel(ctx))
	}
	return k.broken, err
}
