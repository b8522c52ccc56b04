package lab

// What can be proved without root.

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		have, want string
		covers     bool
	}{
		{"", "", true},
		{"0-1-5", "", true},
		{"", "0-1-1", false},
		{"0-1-5", "0-1-5", true},
		{"0-2-6", "0-1-5", true},
		{"0-1-10", "0-1-9", true},
		{"0-1-4", "0-1-5", false},
		{"0-1-5,1-2-3", "1-2-3,0-1-5", true},
		{"0-1-5", "0-1-5,1-2-3", false},
	} {
		if got := covers(tt.have, tt.want); got != tt.covers {
			t.Errorf("covers(%q, %q) = %t", tt.have, tt.want, got)
		}
	}
}

func TestInside(t *testing.T) {
	for name, want := range map[string]string{"/etc/hosts": "etc/hosts", "/a//b/../c": "a/c", "/../../x": "x"} {
		if got, err := inside(name); err != nil || got != want {
			t.Errorf("inside(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := inside("etc/hosts"); err == nil {
		t.Error("took a relative path")
	}
}

func TestParsePath(t *testing.T) {
	for _, p := range Paths {
		if got, err := ParsePath(p.String()); err != nil || got != p {
			t.Errorf("ParsePath(%q) = %v, %v", p, got, err)
		}
	}
	if _, err := ParsePath("eth2"); err == nil {
		t.Error("took eth2")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := tryLock(path, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryLock(path, unix.LOCK_SH); !errors.Is(err, errLocked) {
		t.Errorf("a held lock: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := waitLock(ended, path, unix.LOCK_EX); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with a context that ended: %v", err)
	}
	released := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		lock, err := waitLock(ctx, path, unix.LOCK_EX)
		if err == nil {
			err = lock.Close()
		}
		released <- err
	}()
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-released; err != nil {
		t.Errorf("wait for a lock that is released: %v", err)
	}
}

// The image's name must change with what it is made of, and with nothing else.
func TestImageHashIsStable(t *testing.T) {
	one, err := imageHash()
	if err != nil {
		t.Fatal(err)
	}
	two, err := imageHash()
	if err != nil || one != two {
		t.Errorf("%s, then %s, %v", one, two, err)
	}
	packages := imagePackages
	defer func() { imagePackages = packages }()
	imagePackages = append([]string{"one-more"}, packages...)
	if three, err := imageHash(); err != nil || three == one {
		t.Errorf("another package list, the same name %s, %v", three, err)
	}
}
