package main

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if lab.Usable() != nil {
		return m.Run() // every test skips, and says why
	}
	dir, err := os.MkdirTemp("", "tanist-soak-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if binary, err = site.Build(context.Background(), dir); err != nil {
		panic(err)
	}
	return m.Run()
}

// short is a part of the soak that CI has time for. How fast the writers were is
// not held against a shared machine.
func short(t *testing.T, databases, times int, config string, part func(context.Context, *soak, int) error) {
	lab.Require(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := up(ctx, site.Options{Binary: binary, Databases: databases, Config: config}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
		defer cancel()
		if err := s.Down(ctx); err != nil {
			t.Error(err)
		}
	}()
	k := &soak{Site: s, rate: rateFor, tell: t.Logf}
	if err := part(ctx, k, times); err != nil {
		k.explain(context.WithoutCancel(ctx))
		t.Fatal(err)
	}
	for _, b := range k.broken {
		t.Error(b)
	}
}

func TestSwitchovers(t *testing.T) {
	t.Run("1 database", func(t *testing.T) { short(t, 1, 6, site.ManyConfig(1, "", true), switchovers) })
	t.Run("4 databases", func(t *testing.T) { short(t, 4, 2, site.ManyConfig(4, "", true), switchovers) })
}

func TestPowerCuts(t *testing.T) {
	const gate = "after_loss: drained"
	t.Run("1 database", func(t *testing.T) { short(t, 1, len(troubles()), site.ManyConfig(1, gate, true), cuts) })
	t.Run("4 databases", func(t *testing.T) { short(t, 4, 2, site.ManyConfig(4, gate, true), cuts) })
}

// TestCompass takes the first rounds of an order; a long run has all of them.
func TestCompass(t *testing.T) {
	short(t, 2, 6, site.CompassConfig(2, "after_loss: drained"), compass(1, ""))
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{
		{"-databases", "0"},
		{"-databases", "1,65"},
		{"-databases", "x"},
		{"-rate", "0"},
		{"-cuts", "-1"},
		{"-rounds", "10001"},
		{"-after-loss", "manual"},
		{"x"},
	} {
		if o, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q is taken: %+v", args, o)
		}
	}
	o, err := parse([]string{"-databases", "1, 32"}, io.Discard)
	if err != nil || len(o.databases) != 2 || o.databases[1] != 32 {
		t.Errorf("%+v, %v", o, err)
	}
}
