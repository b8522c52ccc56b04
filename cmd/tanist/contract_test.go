package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tanist-ha/tanist/internal/config"
)

// promised are the commands and flags that scripts, units and documents rely on.
func promised() map[string][]string {
	return map[string][]string{
		"run": nil, "check": {"json"}, "status": {"watch", "json"}, "check-master": {"quiet", "legacy", "json"},
		"switchover": {"to", "dry-run", "timeout", "force", "reason", "json"},
		"block":      {"reason", "for", "json"}, "unblock": {"json"},
		"maintenance on": {"reason", "for", "json"}, "maintenance off": {"json"},
		"replication status": {"all", "json"}, "replication stop": {"all", "json"}, "replication start": {"all", "json"},
		"replication follow": {"all", "json"}, "replication rejoin": {"all", "discard", "reason", "json"},
		"replication wait": {"all", "timeout", "json"},
		"hooks plan":       {"json"}, "history": {"n", "epoch", "json"}, "doctor": {"json"}, "announce": {"json"},
		"release": nil, "keygen": nil, "import keepalived": nil, "demo": nil, "version": {"json"}, "config schema": nil,
	}
}

// Each command is there, says what it is for and what it takes, and is completed.
func TestPromisedCommands(t *testing.T) {
	root := newRoot()
	for name, flags := range promised() {
		words := strings.Fields(name)
		cmd, rest, err := root.Find(words)
		if err != nil || len(rest) > 0 {
			t.Errorf("tanist %s: %v", name, err)
			continue
		}
		for _, f := range flags {
			if cmd.Flags().Lookup(f) == nil && (len(f) > 1 || cmd.Flags().ShorthandLookup(f) == nil) {
				t.Errorf("tanist %s has no flag %s", name, f)
			}
		}
		help := tanist(t, append(words, "--help")...)
		for _, part := range append([]string{"Usage:", "--config file", "--node label", "--socket file", "--state-dir directory", "--instance name"}, flags...) {
			if !strings.Contains(help.stdout, part) {
				t.Errorf("tanist %s --help does not say %s", name, part)
			}
		}
		if help.code != exitOK || help.stderr != "" {
			t.Errorf("tanist %s --help: %d, %s", name, help.code, help.stderr)
		}
		given := append([]string{"__complete"}, words[:len(words)-1]...)
		if got := tanist(t, append(given, words[len(words)-1])...); !strings.Contains(got.stdout, words[len(words)-1]+"\t") {
			t.Errorf("tanist %s is not completed: %s", name, got.stdout)
		}
	}
}

// What is misused or cannot reach a daemon says so on standard error alone, in the exit
// status that scripts know.
func TestPromisedFailures(t *testing.T) {
	dir := t.TempDir()
	away := []string{"--socket", filepath.Join(dir, "none"), "--config", filepath.Join(dir, "none.yaml"), "--state-dir", dir}
	for _, tc := range []struct {
		args   string
		code   int
		stdout string
	}{
		{"status", 1, ""},
		{"status --json", 1, ""},
		{"check-master", 2, "unknown\n"},
		{"check-master --quiet", 2, ""},
		{"check-master --legacy", 1, ""},
		{"check-master --bad", 2, ""},
		{"check-master extra", 2, ""},
		{"switchover", 1, ""},
		{"switchover --dry-run --json", 1, ""},
		{"switchover --force", 1, ""},
		{"block --reason x", 1, ""},
		{"block", 1, ""},
		{"unblock", 1, ""},
		{"maintenance", 1, ""},
		{"maintenance onn", 1, ""},
		{"maintenance on --reason x", 1, ""},
		{"maintenance on", 1, ""},
		{"maintenance off", 1, ""},
		{"replication status", 1, ""},
		{"replication", 2, ""},
		{"replication follow", 2, ""},
		{"replication rejoin x --discard", 2, ""},
		{"hooks plan promote", 1, ""},
		{"hooks plan", 1, ""},
		{"hooks plan nope", 1, ""},
		{"hooks", 1, ""},
		{"announce", 1, ""},
		{"release", 1, ""},
		{"check", 1, ""},
		{"run", 1, ""},
		{"import", 1, ""},
		{"import keepalived", 1, ""},
		{"nonsense", 1, ""},
	} {
		got := tanist(t, append(strings.Fields(tc.args), away...)...)
		if got.code != tc.code || got.stdout != tc.stdout {
			t.Errorf("tanist %s: exit status %d, %q on standard output, want %d, %q", tc.args, got.code, got.stdout, tc.code, tc.stdout)
		}
		if tc.args == "check-master --quiet" {
			if got.stderr != "" {
				t.Errorf("tanist %s: %s", tc.args, got.stderr)
			}
			continue
		}
		if got.stderr == "" || strings.Contains(got.stderr, "arg(s)") || strings.Contains(got.stderr, "invalid argument") {
			t.Errorf("tanist %s does not say what to do: %q", tc.args, got.stderr)
		}
	}
}

// A user who may not open the socket is told that, and nothing is done as if no daemon ran.
func TestForbiddenSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	binary, program := forAnybody(t, dir), filepath.Join(dir, "s")
	l, err := net.Listen("unix", program)
	if err == nil {
		err = errors.Join(os.Chmod(program, 0o600), os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(readmeYAML(t)), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range []string{
		"status", "check-master", "switchover", "block --reason x", "announce", "hooks plan promote", "doctor",
		"history --follow", "release", "replication status", "replication stop --all",
	} {
		cmd := exec.CommandContext(t.Context(), binary, append(strings.Fields(args), "--socket", program, "--config", filepath.Join(dir, "c.yaml"), "--node", "primary")...)
		cmd.Env, cmd.Dir = []string{mainVariable + "=1"}, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Run(); err == nil || !strings.Contains(stderr.String(), "this user may not ask the daemon") || strings.Contains(stderr.String(), "no daemon") {
			t.Errorf("tanist %s: %v, %s", args, err, stderr.String())
		}
	}
}

// forAnybody copies this program to where every user may run it.
func forAnybody(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(dir, "tanist")
	b, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(program, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// readmeYAML is the configuration that the README shows.
func readmeYAML(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "```yaml\n")
	yaml, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("README.md shows no configuration")
	}
	return yaml
}

// The configuration that the README shows is one.
func TestReadmeConfiguration(t *testing.T) {
	if _, err := config.Parse("README.md", []byte(readmeYAML(t))); err != nil {
		t.Error(err)
	}
}
