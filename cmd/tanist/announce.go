package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/node"
)

func newAnnounce(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "announce",
		Short: "Tell the neighbours now where the addresses are",
		Long: "Sends gratuitous ARP and unsolicited neighbour advertisements for the addresses that\n" +
			"this node holds, as often as after a takeover (garp in the configuration): for a switch,\n" +
			"router or host that still sends to the other node. With several instances and without\n" +
			"--instance, for all that are held here.\n\n" +
			"The daemon does it, because only it knows that the address does not move at this moment:\n" +
			"neighbours believe whoever speaks last. Without a daemon nothing is announced, whatever\n" +
			"the kernel has: nobody renews that address, and it leaves within its lease.\n\n" +
			"Exit status: 0 announced; 1 not, with the reason.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), control.AnnounceTime+askPatience)
			defer cancel()
			list, err := control.Dial(c.socket).Announce(ctx, control.AnnounceRequest{Instance: c.instance})
			if errors.Is(err, control.ErrUnreachable) {
				err = fmt.Errorf("%w: an address that no daemon renews is not announced, it leaves within its lease: start the daemon", err)
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(list); err != nil {
					return err
				}
			} else {
				showAnnounced(cmd.OutOrStdout(), cmd.ErrOrStderr(), list)
			}
			for _, a := range list {
				if a.Times > 0 {
					return nil
				}
			}
			return exitError{exitProblem}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showAnnounced(stdout, stderr io.Writer, list []control.Announced) {
	for _, a := range list {
		if a.Times > 0 {
			times := fmt.Sprintf("%d times", a.Times)
			if a.Times == 1 {
				times = "once"
			}
			fmt.Fprintf(stdout, "%s: announced %s on %s %s\n", a.Instance, strings.Join(a.VIPs, ", "), a.Interface, times)
		}
		if a.Refused != "" {
			fmt.Fprintln(stderr, clean(a.Instance+": "+a.Refused))
		}
	}
}

// Announce announces what is meant and held. It does not wait for a pause between two announcements that goes beyond its time.
func (d *daemon) Announce(ctx context.Context, r control.AnnounceRequest) ([]control.Announced, error) {
	names := d.node.Names()
	if r.Instance != "" {
		name, err := d.instanceName(r.Instance)
		if err != nil {
			return nil, err
		}
		names = []string{name}
	}
	list := []control.Announced{}
	for _, name := range names {
		s := d.service(name)
		if s == nil {
			continue // a reload has just taken it out
		}
		a := control.Announced{Instance: name, Interface: s.cfg.Interface}
		for _, p := range s.cfg.VIPs {
			a.VIPs = append(a.VIPs, p.String())
		}
		var err error
		if a.Times, err = d.burst(ctx, s); err != nil {
			a.Refused = d.whyUnannounced(ctx, name, err)
		}
		list = append(list, a)
	}
	return list, nil
}

// burstTime bounds the announcements of one instance.
const burstTime = 2 * time.Second

// burst announces the addresses of one instance as after a takeover.
func (d *daemon) burst(ctx context.Context, s *service) (times int, err error) {
	ctx, cancel := context.WithTimeout(ctx, burstTime)
	defer cancel()
	for range max(1, s.cfg.GARP.Repeat) {
		if times > 0 && s.cfg.GARP.Interval > 0 && !sleep(ctx, s.cfg.GARP.Interval) {
			break
		}
		if err := d.node.Announce(ctx, s.cfg.Name); err != nil {
			return times, err
		}
		times++
	}
	return times, nil
}

func (d *daemon) whyUnannounced(ctx context.Context, name string, err error) string {
	if !errors.Is(err, node.ErrNotHeld) {
		return err.Error()
	}
	why := err.Error() + ", nothing is announced"
	if st, err := d.node.Status(ctx, name); err == nil {
		why += ": it is " + st.State.String()
		if st.PeerFresh && st.PeerState.Holds {
			why += ", " + st.Peer + " holds it"
		}
	}
	return why
}
