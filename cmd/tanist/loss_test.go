package main

import (
	"testing"

	"github.com/tanist-ha/tanist/internal/control"
)

func TestLossWords(t *testing.T) {
	n := func(n uint64) *uint64 { return &n }
	for want, l := range map[string]control.Loss{
		"nothing: semi-synchronous replication was on": {Proved: n(0), AtMost: n(0), SemiSync: true},
		"proved 0, at most about 7":                    {Proved: n(0), AtMost: n(7)},
		"proved 2, at most about 2: 0-1-5..6":          {Proved: n(2), AtMost: n(2), Transactions: "0-1-5..6", SemiSync: true},
		"nothing is known: the source was never heard": {},
	} {
		if got := lossWords(l); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
