package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckMasterLegacy(t *testing.T) {
	for _, tc := range []struct {
		state    string
		held     bool
		sentence string
	}{
		{"active", true, "Данный сервер является активным мастер сервером\n"},
		{"backup", false, "Данный сервер НЕ является активным мастер сервером\n"},
		{"promoting", true, "Данный сервер НЕ является активным мастер сервером\n"},
		{"demoting", true, "Данный сервер НЕ является активным мастер сервером\n"},
		{"fault", false, "Данный сервер НЕ является активным мастер сервером\n"},
		{"active", false, ""}, // the kernel disagrees
		{"conflict", false, ""},
	} {
		f := serve(t, tc.state, tc.held)
		got := tanist(t, "check-master", "--legacy", "--socket", f.socket)
		switch {
		case got.stdout != tc.sentence:
			t.Errorf("%s, held %v: said %q", tc.state, tc.held, got.stdout)
		case tc.sentence != "" && (got.code != 0 || got.stderr != ""):
			t.Errorf("%s, held %v: %+v", tc.state, tc.held, got)
		case tc.sentence == "" && (got.code != 1 || !strings.HasPrefix(got.stderr, "unknown: ")):
			t.Errorf("%s, held %v: %+v", tc.state, tc.held, got)
		}
	}
	got := tanist(t, "check-master", "--legacy", "--socket", filepath.Join(t.TempDir(), "none"))
	if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "no daemon answers") {
		t.Errorf("without a daemon: %+v", got)
	}
	f := serve(t, "active", true)
	other := tanist(t, "check-master", "--legacy", "--instance", "other", "--socket", f.socket)
	if other.code != 1 || other.stdout != "" {
		t.Errorf("an instance that is not there: %+v", other)
	}
	for _, flag := range []string{"--json", "--quiet"} {
		if got := tanist(t, "check-master", "--legacy", flag, "--socket", f.socket); got.stdout != "" || got.code == 0 {
			t.Errorf("with %s: %+v", flag, got)
		}
	}
}
