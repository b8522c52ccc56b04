package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/demo"
)

// Every scene with what the client may see of it at most, and nothing is left.
func TestDemo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out lockedBuffer
	scenes, err := demo.Run(t.Context(), demo.Options{Program: os.Args[0], Env: []string{mainVariable + "=1"}, Out: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for i, want := range []struct {
		name, by string
		gap      time.Duration
	}{
		{"planned switchover", "reserve", 5 * time.Second},
		{"kill -9 of a daemon", "primary", 5 * time.Second},
		{"host cut", "reserve", 5 * time.Second},
	} {
		if i >= len(scenes) {
			t.Fatalf("there are %d scenes:\n%s", len(scenes), &out)
		}
		s := scenes[i]
		if s.Name != want.name || s.By != want.by || s.Asked < 50 || s.Gap <= 0 || s.Gap > want.gap {
			t.Errorf("%+v, want %+v", s, want)
		}
		if !strings.Contains(out.String(), "\n"+want.name) {
			t.Errorf("the table lacks %s:\n%s", want.name, &out)
		}
	}
	if scenes[0].Lost != 0 {
		t.Errorf("%d requests were not answered during the planned switchover", scenes[0].Lost)
	}
	nothingLeft(t)
}

// Ctrl-C in the middle of a scene takes everything down.
func TestDemoInterrupted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	t.Setenv("TMPDIR", t.TempDir())
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out lockedBuffer
	over := make(chan error, 1)
	go func() {
		_, err := demo.Run(ctx, demo.Options{Program: os.Args[0], Env: []string{mainVariable + "=1"}, Out: &out})
		over <- err
	}()
	eventually(t, "the second scene", func() bool { return strings.Contains(out.String(), "\n2.") })
	interrupt()
	if err := <-over; err == nil || err.Error() != "interrupted" {
		t.Errorf("%v\n%s", err, &out)
	}
	nothingLeft(t)
}

func nothingLeft(t *testing.T) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(children) == 0 {
		t.Fatal(err)
	}
	for _, file := range children {
		if data, _ := os.ReadFile(file); len(data) > 0 {
			t.Errorf("children %s are left", data)
		}
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespaces to end", func() bool {
		spaces, _ := filepath.Glob("/proc/self/task/*/ns/net")
		for _, s := range spaces {
			if to, err := os.Readlink(s); err == nil && to != own {
				return false
			}
		}
		return true
	})
}
