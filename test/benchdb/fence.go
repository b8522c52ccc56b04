package main

// Whether a server that was stopped is dead before the other host's takes writes.

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/test/site"
)

// fenceWatch watches both servers of the victim.
type fenceWatch struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	ended  time.Time  // of the old server's process, zero: not yet
	closed time.Time  // the latest instant at which the new server was still closed
	opened bool
	err    error // of the last look
}

// lookInterval is the time between two looks at the new server.
const lookInterval = 2 * time.Millisecond

// watchFence begins to watch, and returns when it holds on to the old process.
func (t *trial) watchFence(ctx context.Context, pid int) (*fenceWatch, error) {
	db, err := t.to.DBAt(victim.Socket())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	ctx, cancel := context.WithCancel(ctx)
	w := &fenceWatch{stop: cancel}
	held := make(chan struct{})
	w.done.Go(func() {
		once := sync.OnceFunc(func() { close(held) })
		defer once()
		err := t.from.AwaitEnd(ctx, pid, once)
		w.note(func() {
			if w.ended = time.Now(); err != nil {
				w.ended, w.err = time.Time{}, err
			}
		})
	})
	w.done.Go(func() {
		defer db.Close()
		for ctx.Err() == nil && !w.isOpen() {
			asked := time.Now()
			var closed bool
			err := db.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&closed)
			w.note(func() {
				switch {
				case err != nil && ctx.Err() == nil:
					w.err = err
				case err == nil && closed:
					w.closed, w.err = asked, nil
				case err == nil:
					w.opened, w.err = true, nil
				}
			})
			if wait(ctx, lookInterval) != nil {
				return
			}
		}
	})
	<-held
	return w, nil
}

func (w *fenceWatch) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *fenceWatch) isOpen() (open bool) {
	w.note(func() { open = w.opened })
	return open
}

// end returns when the old server was dead, zero for never, and whether that was
// before the new one was open for all that was seen.
func (w *fenceWatch) end(ctx context.Context) (time.Time, bool, error) {
	err := site.Await(ctx, victim.Name()+" is seen open", func(context.Context) error {
		if !w.isOpen() {
			return errors.New("it never was")
		}
		return nil
	})
	w.stop()
	w.done.Wait()
	switch {
	case err != nil:
		return w.ended, false, errors.Join(err, w.err)
	case w.ended.IsZero():
		return w.ended, false, nil // the wait for it ended with w.stop
	}
	return w.ended, w.ended.Before(w.closed), nil
}
