package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

// releasePatience bounds the closing of writes; the addresses go first.
const releasePatience = 20 * time.Second

func newRelease(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "release",
		Short: "Drop the addresses and close writes, without a daemon",
		Long: "Drops every virtual address and closes every database of this host. It is for a host\n" +
			"whose daemon cannot be kept running, and refuses while one answers: that one would\n" +
			"only put things back.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return release(cmd.Context(), c) },
	}
}

func release(ctx context.Context, c *common) error {
	file, self, err := load(c)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	switch _, err := control.Dial(c.socket).Status(asking); {
	case err == nil:
		return fmt.Errorf("a daemon answers on %s: stop it, or use `tanist switchover`", c.socket)
	case !errors.Is(err, control.ErrUnreachable):
		return fmt.Errorf("there is a daemon on %s: stop it first: %w", c.socket, err)
	}
	var errs []error
	for _, in := range file.Instances {
		holder, err := vip.Open(vip.Config{Interface: in.Interface, Addresses: in.VIPs})
		if err == nil {
			err = errors.Join(holder.Release(), holder.Close())
		}
		errs = append(errs, err)
	}
	ctx, cancel = context.WithTimeout(ctx, releasePatience)
	defer cancel()
	for _, in := range file.Instances {
		ds, err := openDatabases(opener{file: file, self: self, in: in}, nil)
		if err == nil {
			err = ds.CloseWrites(ctx)
			err = errors.Join(err, ds.uncertain())
			ds.close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
