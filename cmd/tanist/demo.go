package main

import (
	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/demo"
)

func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show a pair at work on this machine: a switchover, a killed daemon, a lost host",
		Long: "Starts two daemons on two hosts that are network namespaces of this machine, and a client\n" +
			"that measures what it sees of a planned switchover, a killed daemon and a host that is cut\n" +
			"off. It needs root and nothing else, takes less than 20 s, touches no interface or file of\n" +
			"this host, and leaves nothing, also after Ctrl-C.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := demo.Run(cmd.Context(), demo.Options{Program: "/proc/self/exe", Out: cmd.OutOrStdout()})
			return err
		},
	}
}
