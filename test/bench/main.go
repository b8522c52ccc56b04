// Command bench measures Tanist beside keepalived: the same network, intervals and
// priorities, both in one run, one table. It needs root, nft and keepalived.
//
//	go run ./test/bench                                       every scenario, minutes
//	go run ./test/bench -scenario kill,stop -interval 100ms,1s -n 5
//	go run ./test/bench -full                                 hours
//	go run ./test/bench -cost                                 CPU and memory
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/test/site"
)

func main() {
	spinIfTold()
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		}
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err = run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	intervals []time.Duration
	programs  []string
	instances []int
	binary    string
	lease     time.Duration
	multicast bool
	realtime  bool
	keep      string
	json      string
	scenarios []scenario
	full      bool
	n, nLong  int
	loss      time.Duration
	cost      bool
	busy      bool
	asked     int
	keyless   bool
	window    time.Duration
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	names := make([]string, 0, len(scenarios()))
	for _, sc := range scenarios() {
		names = append(names, sc.name)
	}
	wanted := f.String("scenario", "", "`scenarios`, comma separated (default all: "+strings.Join(names, ", ")+")")
	interval := f.String("interval", "", "advertisement `intervals`, comma separated (default 100ms; with -full 1s,250ms,100ms,10ms; with -cost 1s,100ms,10ms)")
	f.BoolVar(&o.full, "full", false, "four intervals, more trials, 120 s of loss: takes hours")
	f.IntVar(&o.n, "n", 0, "`trials` of a scenario (default 2; with -full 5)")
	f.IntVar(&o.nLong, "n-long", 0, "`trials` of the scenarios that take longest, or hardly vary: heal, loss, mute, deaf (default 1; with -full 3)")
	f.DurationVar(&o.loss, "loss", 0, "for how long packets get lost (default 20s; with -full 120s)")
	programs := f.String("program", "tanist,keepalived", "`programs` to measure")
	instances := f.String("instances", "1,64,255", "with -cost: `numbers` of virtual routers")
	f.StringVar(&o.binary, "tanist", "", "`file` of tanist (default: built from this module)")
	f.DurationVar(&o.lease, "lease", 2*time.Second, "lease of Tanist's address")
	f.BoolVar(&o.multicast, "multicast", false, "advertise to the group, not to the peer's address")
	f.BoolVar(&o.realtime, "realtime", false, "run the daemons of both programs under SCHED_RR, against what else this machine does")
	f.StringVar(&o.keep, "keep", "", "leave configurations and logs in this new `directory`")
	f.StringVar(&o.json, "json", "", "write the results to this `file` as well")
	f.BoolVar(&o.cost, "cost", false, "measure CPU and memory at rest")
	f.BoolVar(&o.busy, "busy", true, "with -cost: keep every core busy for a while at the highest number of instances")
	f.IntVar(&o.asked, "ask", 0, "with -cost: ask Tanist for its status in each way so many `times`, at rest and beside busy cores")
	f.BoolVar(&o.keyless, "keyless", false, "give Tanist no cluster key: the peer link proves nothing")
	f.DurationVar(&o.window, "window", 20*time.Second, "with -cost: `time` over which CPU is measured")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	var err error
	if *interval == "" {
		*interval = o.defaultIntervals()
	}
	if *wanted != "" {
		names = strings.Split(*wanted, ",")
	}
	if o.scenarios, err = findScenarios(names); err != nil {
		return o, err
	}
	o.fillIn()
	if o.intervals, err = list(*interval, time.ParseDuration); err != nil {
		return o, err
	}
	if o.instances, err = list(*instances, strconv.Atoi); err != nil {
		return o, err
	}
	o.programs = strings.Split(*programs, ",")
	return o, o.check()
}

func (o options) defaultIntervals() string {
	switch {
	case o.cost:
		return "1s,100ms,10ms"
	case o.full:
		return "1s,250ms,100ms,10ms"
	}
	return "100ms"
}

// fillIn gives what was not named its default: minutes, or all there is.
func (o *options) fillIn() {
	n, nLong, loss := 2, 1, 20*time.Second
	if o.full {
		n, nLong, loss = 5, 3, 120*time.Second
	}
	if o.n == 0 {
		o.n = n
	}
	if o.nLong == 0 {
		o.nLong = min(o.n, nLong)
	}
	if o.loss == 0 {
		o.loss = loss
	}
}

func list[T any](text string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	for _, word := range strings.Split(text, ",") {
		v, err := parse(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func (o options) check() error {
	for _, i := range o.intervals {
		if i < 10*time.Millisecond || i > 10*time.Second || i%(10*time.Millisecond) != 0 {
			return fmt.Errorf("interval %v: want 10ms to 10s in steps of 10ms", i)
		}
	}
	for _, n := range o.instances {
		if n < 1 || n > 255 {
			return fmt.Errorf("%d instances: want 1 to 255", n)
		}
	}
	if o.n < 1 || o.n > 1000 || o.nLong < 1 || o.nLong > 1000 {
		return fmt.Errorf("%d and %d trials: want 1 to 1000", o.n, o.nLong)
	}
	if o.asked < 0 || o.asked > 1000 {
		return fmt.Errorf("ask %d times: want 0 to 1000", o.asked)
	}
	if o.loss < time.Second || o.loss > maxLoss {
		return fmt.Errorf("loss for %v: want 1s to %v", o.loss, maxLoss)
	}
	if o.window < time.Second || o.window > 10*time.Minute {
		return fmt.Errorf("window %v: want 1s to 10m", o.window)
	}
	return nil
}

// usable says what is missing on this machine, nil when nothing is.
func usable() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root for network namespaces")
	}
	for _, name := range []string{"nft", "keepalived"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("needs %s (Debian: apt-get install nftables keepalived)", name)
		}
	}
	return nil
}

// build makes the programs that are asked for.
func (o options) build(ctx context.Context, dir string) ([]program, error) {
	var all []program
	for _, name := range o.programs {
		switch strings.TrimSpace(name) {
		case "tanist":
			binary := o.binary
			if binary == "" {
				var err error
				if binary, err = site.Build(ctx, dir); err != nil {
					return nil, err
				}
			}
			all = append(all, tanist{binary})
		case "keepalived":
			k, err := findKeepalived()
			if err != nil {
				return nil, err
			}
			all = append(all, k)
		default:
			return nil, fmt.Errorf("no program %q (tanist or keepalived)", name)
		}
	}
	return all, nil
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	if err := usable(); err != nil {
		return err
	}
	if err := adoptOrphans(); err != nil {
		return err
	}
	// Threads that come out of a system call find a free processor of the runtime,
	// whatever the others do.
	runtime.GOMAXPROCS(16)
	dir, gone, err := o.directory()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gone()) }()
	programs, err := o.build(ctx, dir)
	if err != nil {
		return err
	}
	base := settings{Lease: o.lease, Multicast: o.multicast, Instances: 1, Realtime: o.realtime, Keyless: o.keyless}
	tell := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	var r Report
	r.Machine, r.Lease = machine(ctx, programs), o.lease
	if o.cost {
		plan := costPlan{Instances: o.instances, Intervals: o.intervals, Window: o.window, Busy: o.busy, Asked: o.asked}
		r.Costs, err = measureCosts(ctx, programs, plan, base, dir, tell)
	} else {
		c := campaign{o.scenarios, o.intervals, programs, o.n, o.nLong, o.loss}
		r.Trials, err = c.run(ctx, base, dir, tell)
	}
	r.print(out)
	return errors.Join(err, r.write(o.json))
}

// directory makes the place for configurations and logs.
func (o options) directory() (dir string, gone func() error, err error) {
	if o.keep != "" {
		dir, err = filepath.Abs(o.keep)
		if err == nil {
			err = os.Mkdir(dir, 0o700)
		}
		return dir, func() error { return nil }, err
	}
	dir, err = os.MkdirTemp("", "tanist-bench-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// firstLine is an error without the logs that come with it.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// write writes the results as JSON; no file is no wish.
func (r Report) write(file string) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}
