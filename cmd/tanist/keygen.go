package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// keySize is the length of a cluster key in bytes.
const keySize = 32

func newKeygen() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen [FILE]",
		Short: "Write a new cluster key, never over an existing one",
		Long: "Writes a new random cluster key, mode 0600. Both nodes need the same file: make it\n" +
			"on one and copy it to the other.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/etc/tanist/cluster.key"
			if len(args) == 1 {
				path = args[0]
			}
			if err := writeKey(path); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: copy it to the other node, mode 0600\n", path)
			return err
		},
	}
}

// writeKey writes a key under a temporary name and links it to its own: whoever
// reads the file finds a whole key, and an existing one is never replaced.
func writeKey(path string) error {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the key %s: %w", path, err)
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("write the key %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if _, err := f.WriteString(hex.EncodeToString(key) + "\n"); err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	from := fmt.Sprintf("/proc/self/fd/%d", fd)
	err = unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: a key that is in use must not be replaced unnoticed; remove it first if you mean it", path)
	}
	if err != nil {
		return fmt.Errorf("write the key %s: %w", path, err)
	}
	return nil
}
