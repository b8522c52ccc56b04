package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/internal/config"
)

const keyConfig = `
%s
nodes: {primary: {addresses: [192.0.2.11]}, reserve: {addresses: [192.0.2.12]}}
instances:
  - {name: compass, interface: eth0, vrid: 51, vips: [192.0.2.100/24], heartbeat: {auth: %s}}
`

// A key file that cannot be used is one problem, where it is asked for, of run
// and of check.
func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if got := tanist(t, "keygen", key); got.code != 0 {
		t.Fatalf("keygen: %+v", got)
	}
	content, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.WriteFile(open, content, 0o600), os.Chmod(open, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		keyFile, auth string
		keys          int
		want          string // of run
		inCheck       bool   // check says so too
	}{
		{key, "hmac", 1, "", false},
		{key, "permissive", 1, "", false},
		{key, "none", 1, "", false}, // the peer link's
		{open, "none", 0, "2:11: " + open + " can be read by others than its owner (mode 0644)", true},
		{open, "hmac", 0, "2:11: " + open + " can be read by others than its owner (mode 0644)", true},
		{filepath.Join(dir, "none"), "hmac", 0, "does not exist", true},
	} {
		line := "key_file: " + tt.keyFile
		file, err := config.Parse("x.yaml", fmt.Appendf(nil, keyConfig, line, tt.auth))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := clusterKeys(file)
		if len(keys) != tt.keys || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %s: %d keys, %v", tt.keyFile, tt.auth, len(keys), err)
		}
		if _, err := readKeys(file, keyPlace(file)); (err != nil) != tt.inCheck {
			t.Errorf("%s, %s: check says %v", tt.keyFile, tt.auth, err)
		}
		if err != nil && strings.Contains(err.Error(), strings.TrimSpace(string(content))) {
			t.Errorf("the key is printed: %v", err)
		}
	}
}

// Without key_file the file of the contract is meant, and the place of the
// problem is what asks for it.
func TestKeyFileByDefault(t *testing.T) {
	file, err := config.Parse("x.yaml", fmt.Appendf(nil, keyConfig, "", "hmac"))
	if err != nil {
		t.Fatal(err)
	}
	file.KeyFile = filepath.Join(t.TempDir(), "cluster.key")
	_, err = clusterKeys(file)
	var problems config.Problems
	if !errors.As(err, &problems) || len(problems) != 1 {
		t.Fatalf("%v", err)
	}
	p := problems[0]
	if p.Line != 5 || !strings.Contains(p.Message, "authentication needs the key file: ") || !strings.Contains(p.Hint, "tanist keygen") {
		t.Errorf("%+v", p)
	}
	if file, err = config.Parse("x.yaml", fmt.Appendf(nil, keyConfig, "", "none")); err != nil || keyPlace(file) != "" {
		t.Errorf("a key file without authentication: %v", err)
	}
}
