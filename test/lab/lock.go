package lab

// Ownership between processes: an flock dies with the process that holds it, so
// it needs no pid and survives no crash.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tick is how often a condition outside this process is looked at again.
const tick = 10 * time.Millisecond

var errLocked = errors.New("locked by somebody else")

// tryLock takes the lock of the file at path, which it creates, or returns
// errLocked. how is unix.LOCK_EX or unix.LOCK_SH. Closing the file unlocks it.
func tryLock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, errLocked
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("flock %s: %w", path, err)
	}
	// The file may have been removed between open and flock: then this lock
	// excludes nobody.
	held, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if named, err := os.Stat(path); err != nil || !os.SameFile(held, named) {
		f.Close()
		return nil, errLocked
	}
	return f, nil
}

// waitLock waits for the lock until ctx ends.
func waitLock(ctx context.Context, path string, how int) (*os.File, error) {
	var lock *os.File
	err := poll(ctx, func() (bool, error) {
		var err error
		lock, err = tryLock(path, how)
		if errors.Is(err, errLocked) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for %s: %w", path, err)
	}
	return lock, nil
}

// poll looks at a condition every tick until it holds, fails, or ctx ends.
func poll(ctx context.Context, cond func() (bool, error)) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// bounded gives ctx a deadline if it has none.
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}
