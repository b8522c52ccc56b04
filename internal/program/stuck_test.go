package program

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/test/deadfs"
)

// However often a program is looked for on a dead file system, one look-up waits.
func TestFindOnADeadFileSystem(t *testing.T) {
	fs := deadfs.Mount(t)
	c := Command{Argv: []string{filepath.Join(fs.Dir, "program")}}
	find := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := Find(ctx, c)
		return err
	}
	before := runtime.NumGoroutine()
	for range 20 {
		if err := find(10 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	}
	if n := runtime.NumGoroutine() - before; n > 1 {
		t.Errorf("%d goroutines wait", n)
	}
	fs.Release()
	// The file system is still dead, but says so; who asks anew gets that.
	if err := find(time.Minute); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("released: %v", err)
	}
	c.Argv = []string{"true"}
	if err := find(time.Minute); err != nil {
		t.Error(err)
	}
}
