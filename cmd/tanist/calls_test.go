package main

import (
	"context"
	"strings"
	"testing"
)

// A panic in what the peer asked for is an answer and a line with its place.
func TestGuarded(t *testing.T) {
	var told []string
	trouble := func(_, doing string, err error) { told = append(told, doing+": "+err.Error()) }
	answer, err := guarded(t.Context(), "doctor/open", []byte("ab"), func(_ context.Context, b []byte) ([]byte, error) {
		return b[:1], nil
	}, trouble)
	if string(answer) != "a" || err != nil || told != nil {
		t.Errorf("%q, %v, %v", answer, err, told)
	}
	answer, err = guarded(t.Context(), "doctor/open", nil, func(_ context.Context, b []byte) ([]byte, error) {
		return b[:1], nil
	}, trouble)
	if answer != nil || err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("%q, %v", answer, err)
	}
	if len(told) != 1 || !strings.Contains(told[0], "answer doctor/open of the peer: ") || !strings.Contains(told[0], "slice bounds") ||
		!strings.Contains(told[0], "calls_test.go") || len(told[0]) > 2*stackShown {
		t.Errorf("%q", told)
	}
}
