// Command labctl works the lab by hand. The lab it sets up outlives it, under the
// id "hand" unless told otherwise, until labctl down.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/tanist-ha/tanist/test/lab"
)

// verb is one subcommand. Its arguments are words, each in capitals a value; the
// last may repeat or be left out where it says so.
type verb struct {
	name, args, help string
	min, max         int // number of arguments, max -1 for any
	run              func(ctx context.Context, c call) error
}

// call is a verb with what was given to it.
type call struct {
	id   string
	args []string
}

// attach returns the lab that the verb is about, and its nodes for the given names.
func (c call) attach(names ...string) (*lab.Lab, []*lab.Node, error) {
	l, err := lab.Attach(c.id, supervisor()...)
	if err != nil {
		return nil, nil, err
	}
	nodes := make([]*lab.Node, len(names))
	for i, name := range names {
		if nodes[i], err = l.Node(name); err != nil {
			return nil, nil, err
		}
	}
	return l, nodes, nil
}

// supervisor is this program in the part that keeps a node on.
func supervisor() []string {
	exe, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{exe, "supervise"}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *lab.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Code > 0:
		os.Exit(exit.Code) // the command has said why
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "labctl:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

func run(ctx context.Context, args []string) error {
	all := verbs()
	flags := flag.NewFlagSet("labctl", flag.ContinueOnError)
	id := flags.String("id", "hand", "which lab")
	flags.Usage = func() { usage(flags, all) }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return errUsage
	}
	if flags.NArg() == 0 {
		usage(flags, all)
		return errUsage
	}
	name, args := flags.Arg(0), flags.Args()[1:]
	for _, v := range all {
		if v.name != name {
			continue
		}
		if len(args) < v.min || v.max >= 0 && len(args) > v.max {
			fmt.Fprintf(os.Stderr, "usage: labctl [-id ID] %s %s\n", v.name, v.args)
			return errUsage
		}
		return v.run(ctx, call{id: *id, args: args})
	}
	return fmt.Errorf("no verb %q; labctl -h lists them", name)
}

func usage(flags *flag.FlagSet, all []verb) {
	fmt.Fprintln(os.Stderr, "usage: labctl [-id ID] VERB ...")
	flags.PrintDefaults()
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	for _, v := range all {
		fmt.Fprintf(w, "  %s %s\t%s\n", v.name, v.args, v.help)
	}
	w.Flush()
}
