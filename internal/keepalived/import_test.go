package keepalived

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/tanist-ha/tanist/internal/config"
)

var update = flag.Bool("update", false, "write golden files")

// corpus lists the configurations in testdata: a file, and where there is one the
// peer's, or the ids of both.
func corpus(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		if name := strings.TrimSuffix(f, ".conf"); !strings.HasSuffix(name, ".peer") {
			names = append(names, name)
		}
	}
	if len(names) < 15 {
		t.Fatalf("the corpus has %d files", len(names))
	}
	return names
}

func importOf(t testing.TB, name string) (Result, error) {
	t.Helper()
	peer := name + ".peer.conf"
	if _, err := os.Stat(peer); err != nil {
		peer = ""
	}
	var o Options
	if ids, err := os.ReadFile(name + ".ids"); err == nil {
		o.ID, o.PeerID, _ = strings.Cut(strings.TrimSpace(string(ids)), " ")
	}
	return Import(name+".conf", peer, o)
}

// What becomes of every file of the corpus; Tanist takes it when nothing had to be
// filled in, and refuses it, at every placeholder, when something had.
func TestCorpus(t *testing.T) {
	whole := 0
	for _, name := range corpus(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			got, err := importOf(t, name)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".yaml", got.YAML)
			_, err = config.Parse(name, got.YAML)
			var problems config.Problems
			switch errors.As(err, &problems); {
			case len(got.Missing) == 0 && err != nil:
				t.Errorf("Tanist refuses it: %v", err)
			case len(got.Missing) == 0:
				whole++
			case err == nil:
				t.Errorf("Tanist takes it with %v", got.Missing)
			}
			for _, word := range got.Missing {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("Tanist says nothing of %s: %v", word, err)
				}
			}
			for _, p := range problems {
				if !strings.Contains(p.Source, placeholder) && !strings.Contains(p.Message, placeholder) {
					t.Errorf("beside placeholders: %v", p)
				}
			}
		})
	}
	if whole < 8 {
		t.Errorf("only %d of the files needed nothing filled in", whole)
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

// The corpus is what keepalived accepts.
func TestKeepalivedAcceptsTheCorpus(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root for a network namespace, so nothing here was tried with keepalived")
	}
	for _, program := range []string{"keepalived", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: %s is not installed, so nothing here was tried with keepalived", program)
		}
	}
	for _, name := range corpus(t) {
		ids, _ := os.ReadFile(name + ".ids")
		for i, file := range []string{name + ".conf", name + ".peer.conf"} {
			if _, err := os.Stat(file); err != nil {
				if len(ids) == 0 || i == 0 {
					continue
				}
				file = name + ".conf"
			}
			id := ""
			if words := strings.Fields(string(ids)); i < len(words) {
				id = "--config-id=" + words[i]
			}
			t.Run(filepath.Base(file)+id, func(t *testing.T) {
				path, err := filepath.Abs(file)
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.CommandContext(t.Context(), "/bin/sh", "-ec",
					`ip link add eth0 type veth peer name eth1; for l in eth0 eth1; do ip link set $l up; done; exec keepalived --log-console --config-test --use-file "$0" $1`, path, id)
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}

// Whatever stands in the files, the import ends, and what it writes is YAML with two
// nodes.
func FuzzImport(f *testing.F) {
	for _, name := range corpus(f) {
		one, err := os.ReadFile(name + ".conf")
		if err != nil {
			f.Fatal(err)
		}
		two, _ := os.ReadFile(name + ".peer.conf")
		f.Add(one, two, "", "")
	}
	for _, s := range []string{
		"$A = $A $A\n$A", "$A = \\\n$A\n${A}", "~SEQ(A, 1, 1000) ~SEQ(B, 1, 1000) $A $B", "include *", "a {\n}\n}\n{ {", `vrrp_instance "{" { notify "a\`,
		"vrrp_instance a { virtual_ipaddress { ::ffff:1.2.3.4 fe80::1%eth0 0.0.0.0/0 192.0.2.0/24 } advert_int NaN priority 300 }",
	} {
		f.Add([]byte(s), []byte("vrrp_instance x { interface \x7f }"), "a", "b")
	}
	f.Fuzz(func(t *testing.T, one, two []byte, id, peerID string) {
		dir := t.TempDir()
		a, b := filepath.Join(dir, "a.conf"), filepath.Join(dir, "b.conf")
		if err := errors.Join(os.WriteFile(a, one, 0o600), os.WriteFile(b, two, 0o600)); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(one, []byte("include")) || bytes.Contains(two, []byte("include")) {
			return // not whatever is on this host
		}
		if len(two) == 0 {
			b = ""
		}
		got, err := Import(a, b, Options{id, peerID})
		if err != nil {
			return
		}
		var read struct {
			Nodes     map[string]any `yaml:"nodes"`
			Instances []any          `yaml:"instances"`
		}
		if err := yaml.Unmarshal(got.YAML, &read); err != nil {
			t.Fatalf("%v\n%s", err, got.YAML)
		}
		if len(read.Nodes) != 2 || len(read.Instances) == 0 {
			t.Errorf("%d nodes, %d instances\n%s", len(read.Nodes), len(read.Instances), got.YAML)
		}
		if _, err := config.Parse("imported", got.YAML); err != nil && len(got.Missing) == 0 {
			t.Errorf("nothing is to be filled in, and Tanist says %v\n%s", err, got.YAML)
		}
	})
}
