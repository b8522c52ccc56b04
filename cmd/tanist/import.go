package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/keepalived"
)

func newImport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Make a configuration of another program's",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return errors.New("say of which: keepalived") },
	}
	var to string
	var o keepalived.Options
	from := &cobra.Command{
		Use:   "keepalived FILE [PEERFILE]",
		Short: "Make a configuration of keepalived.conf, with a comment on what it could not carry over",
		Long: "Reads keepalived.conf of one host, and of the other if it is named, and prints the\n" +
			"configuration of a Tanist pair that does the same. What could not be carried over as it was\n" +
			"stands in comments, each with its place and what to do about it. What neither file says is\n" +
			"to be filled in where it says FILL-IN; `tanist check` refuses it until then.\n\n" +
			"Where one file serves both hosts by lines that begin with @, name it once, and both ids.\n\n" +
			"docs/import-keepalived.md has the way from a pair of keepalived to one of Tanist, one host\n" +
			"at a time. Exit status: 0 written, also with something to be filled in; 1 it cannot be read.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return errors.New("name keepalived.conf of one host, and that of the other if it is at hand")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.PeerID != "" && o.ID == "" {
				return errors.New("--peer-id is of no use without --id")
			}
			peer := ""
			if len(args) == 2 {
				peer = args[1]
			}
			got, err := keepalived.Import(args[0], peer, o)
			if err != nil {
				return err
			}
			if err := put(cmd.OutOrStdout(), to, got.YAML); err != nil {
				return err
			}
			if got.Notes > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "tanist: %d comments say what was not carried over as it was: read them\n", got.Notes)
			}
			if len(got.Missing) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "tanist: to be filled in: %s\n", strings.Join(got.Missing, ", "))
			}
			return nil
		},
	}
	from.Flags().StringVarP(&to, "output", "o", "", "write to `FILE`, which must not exist, in place of standard output")
	from.Flags().StringVar(&o.ID, "id", "", "keepalived's --config-id of the host of FILE")
	from.Flags().StringVar(&o.PeerID, "peer-id", "", "that of the other host")
	cmd.AddCommand(from)
	return cmd
}

// put writes to a new file, or to w when there is no path.
func put(w io.Writer, path string, text []byte) error {
	if path == "" {
		_, err := w.Write(text)
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists, and is not replaced", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
