// Command release measures how long after its cause a demotion has the address off
// the interface, with steps that hang, flood or fail in the plans. It needs root.
//
//	go run ./test/bench/release                     everything, about half an hour
//	go run ./test/bench/release -n 3 -cause link -step deaf,flood
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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "release: "+err.Error())
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	f := flag.NewFlagSet("release", flag.ContinueOnError)
	n := f.Int("n", 10, "`trials` of each row")
	binary := f.String("tanist", "", "`file` of tanist (default: built from this module)")
	onlyCauses := f.String("cause", "link,term,switchover", "`causes`, comma separated")
	onlySteps := f.String("step", "", "`steps`, comma separated (default all: "+strings.Join(names(), ", ")+")")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *n < 1 || *n > 1000 {
		return fmt.Errorf("%d trials: want 1 to 1000", *n)
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root for network namespaces")
	}
	dir, err := os.MkdirTemp("", "tr")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if *binary == "" {
		if *binary, err = site.Build(ctx, dir); err != nil {
			return err
		}
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	runtime.LockOSThread() // of the namespace; the process ends with it
	net, err := newNetwork()
	if err != nil {
		return err
	}
	defer net.close()
	b := bench{ctx: ctx, dir: dir, binary: *binary, net: net}
	if err := b.scripts(); err != nil {
		return err
	}
	undo, err := b.others()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo()) }()
	fmt.Fprintf(out, "| cause | step | where | n | address gone after, ms: median / worst | expected |\n|---|---|---|---:|---:|---|\n")
	for _, c := range strings.Split(*onlyCauses, ",") {
		for _, h := range hostiles() {
			if *onlySteps != "" && !slices.Contains(strings.Split(*onlySteps, ","), h.name) {
				continue
			}
			for _, w := range places(c, h) {
				times, err := b.row(c, h, w, *n)
				if err != nil {
					return fmt.Errorf("%s, %s, %s: %w", c, h.name, w, err)
				}
				fmt.Fprintln(out, line(c, h, w, times))
			}
		}
	}
	return nil
}

// bound is what the median is held against.
const bound = 50 * time.Millisecond

func line(c string, h hostile, w place, times []time.Duration) string {
	titles := map[string]string{"link": "link down for 180 ms", "term": "SIGTERM, no peer", "switchover": "switchover"}
	if times == nil && h.refused {
		return fmt.Sprintf("| %s | %s | %s | | refused, the address stays | ok |", titles[c], h.title, w)
	}
	if times == nil {
		return fmt.Sprintf("| %s | %s | %s | | rolled back, the address stays | ok |", titles[c], h.title, w)
	}
	slices.Sort(times)
	median, worst := times[len(times)/2], times[len(times)-1]
	verdict := "ok, median ≤ 50"
	if median > bound {
		verdict = "**no**, median ≤ 50"
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
	return fmt.Sprintf("| %s | %s | %s | %d | %s / %s | %s |", titles[c], h.title, w, len(times), ms(median), ms(worst), verdict)
}
