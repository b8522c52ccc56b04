package heartbeat

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/tanist-ha/tanist/vrrp/auth"
)

// KeyFileError says why the keys in a file are not used, and what to do.
type KeyFileError struct {
	Err  error // names the file, never content
	Hint string
}

// Error returns what is wrong.
func (e *KeyFileError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *KeyFileError) Unwrap() error { return e.Err }

// maxKeyFile is more than two keys need.
const maxKeyFile = 4096

// ReadKeys reads a key file, which its owner alone may be able to read, and who
// is root or the reader. The error is a *KeyFileError.
func ReadKeys(path string) ([]auth.Key, error) {
	keys, hint, err := readKeys(path)
	if err != nil {
		return nil, &KeyFileError{Err: err, Hint: hint}
	}
	return keys, nil
}

func readKeys(path string) (keys []auth.Key, hint string, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not hold up the start
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, "make one with `tanist keygen` and copy it to the other node", fmt.Errorf("%s does not exist", path)
		}
		return nil, "run this as the user that runs the daemon", fmt.Errorf("read cluster key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, "", fmt.Errorf("read cluster key: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return nil, "name the file that `tanist keygen` wrote", fmt.Errorf("%s is not a file", path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, "chmod 600 " + path, fmt.Errorf("%s can be read by others than its owner (mode %04o)", path, st.Mode().Perm())
	case ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
		return nil, "chown root " + path, fmt.Errorf("%s belongs to user %d, who could read and change it", path, sys.Uid)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, "", fmt.Errorf("read cluster key: %w", err)
	}
	if keys, err = auth.ParseKeys(content); err != nil {
		return nil, "`tanist keygen` writes a key: one line of 64 hexadecimal digits", fmt.Errorf("%s: %w", path, err)
	}
	return keys, "", nil
}
