// Command benchdb measures what clients of many databases see when these move:
// two hosts of the lab with real MariaDB, Tanist beside keepalived with a notify
// script, one table. It needs root, and what the lab needs.
//
//	go run ./test/benchdb                                      every scenario, 1 and 32 databases
//	go run ./test/benchdb -scenario switchover,compass -databases 1 -n 20
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "benchdb: "+err.Error())
		}
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err = run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchdb: "+err.Error())
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	databases    []int
	scenarios    []scenario
	n, nCompass  int
	rate         int
	durable      bool
	binary, json string
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("benchdb", flag.ContinueOnError)
	f.SetOutput(out)
	var names []string
	for _, sc := range scenarios() {
		names = append(names, sc.name)
	}
	wanted := f.String("scenario", strings.Join(names, ","), "`scenarios`, comma separated")
	databases := f.String("databases", "1,32", "`numbers` of databases of each host, comma separated")
	f.IntVar(&o.n, "n", 10, "`trials` of a scenario")
	f.IntVar(&o.nCompass, "n-compass", 3, "`trials` with keepalived and the notify script, each of which takes half a minute and more")
	f.IntVar(&o.rate, "rate", 500, "`rows` a second that the writers aim at, all together")
	f.BoolVar(&o.durable, "durable", false, "let every commit wait for the disk")
	f.StringVar(&o.binary, "tanist", "", "`file` of tanist (default: built from this module)")
	f.StringVar(&o.json, "json", "", "write the trials to this `file` as well")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	for _, word := range strings.Split(*databases, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 || n > site.MaxDatabases {
			return o, fmt.Errorf("%q databases: want 1 to %d", word, site.MaxDatabases)
		}
		o.databases = append(o.databases, n)
	}
	for _, name := range strings.Split(*wanted, ",") {
		i := slices.IndexFunc(scenarios(), func(sc scenario) bool { return sc.name == strings.TrimSpace(name) })
		if i < 0 {
			return o, fmt.Errorf("no scenario %q (%s)", name, strings.Join(names, ", "))
		}
		o.scenarios = append(o.scenarios, scenarios()[i])
	}
	if o.n < 1 || o.n > 1000 || o.nCompass < 1 || o.nCompass > 1000 {
		return o, fmt.Errorf("%d and %d trials: want 1 to 1000", o.n, o.nCompass)
	}
	if o.rate < 1 || o.rate > 20000 {
		return o, fmt.Errorf("rate %d: want 1 to 20000", o.rate)
	}
	return o, nil
}

// times is how often a scenario is run.
func (o options) times(sc scenario) int {
	if sc.program == compassProgram {
		return o.nCompass
	}
	return o.n
}

func run(ctx context.Context, o options, out io.Writer) error {
	if err := lab.Usable(); err != nil {
		return err
	}
	if o.binary == "" {
		dir, err := os.MkdirTemp("", "tanist-benchdb-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if o.binary, err = site.Build(ctx, dir); err != nil {
			return err
		}
	}
	// Threads that come out of a system call find a free processor of the runtime,
	// whatever the writers do.
	runtime.GOMAXPROCS(16)
	r := newReport(ctx, o)
	err := o.all(ctx, &r)
	r.print(out)
	return errors.Join(err, r.write(o.json))
}

// all runs every scenario with every number of databases. Scenarios of the same
// program share a pair of hosts for as long as nothing goes wrong.
func (o options) all(ctx context.Context, r *report) (err error) {
	for _, sc := range o.scenarios {
		if sc.program == "" {
			if err := sc.alone(ctx, o, r); err != nil {
				return err
			}
		}
	}
	for _, n := range o.databases {
		for _, program := range []string{tanistProgram, compassProgram} {
			b := bed{options: o, databases: n, program: program}
			for _, sc := range o.scenarios {
				if sc.program != program {
					continue
				}
				if err := b.trials(ctx, sc, r); err != nil {
					return errors.Join(err, b.down(ctx))
				}
			}
			if err := b.down(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func tell(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// write writes the trials as JSON; no file is no wish.
func (r *report) write(file string) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}
