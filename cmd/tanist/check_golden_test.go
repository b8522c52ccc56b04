package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// updateVariable, when set, has TestCheckTexts write its golden files.
const updateVariable = "TANIST_TEST_UPDATE"

// What `tanist check` prints in the usual situations: a host as it should be, one that
// could be better, and one that lacks what the file names.
func TestCheckTexts(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	const nodes = "key_file: DIR/cluster.key\nnodes:\n  primary: {addresses: [192.0.2.11]}\n  reserve: {addresses: [192.0.2.12]}\ninstances:\n"
	for name, tt := range map[string]struct {
		config string
		keyed  os.FileMode // of the key file, 0: there is none
		code   int
	}{
		"fine":  {"  - {name: compass, interface: veth0, vrid: 51, vips: [192.0.2.100/24]}\n", 0o600, exitOK},
		"noted": {"  - {name: compass, interface: veth0, vrid: 51, vips: [192.0.2.100/24], preempt_delay: 5s}\n", 0o600, exitOK},
		"lacking": {
			"  - name: compass\n    interface: veth9\n    vrid: 51\n    vips: [192.0.2.100/24]\n    databases:\n" +
				"      - {name: pivot, address: \"unix:DIR/mysqld.sock\", user: tanist, password_file: DIR/mysql.password}\n" +
				"    promote:\n      - vip: acquire\n      - yaml: {file: DIR/values.yaml, key: active, value: \"{{.Active}}\"}\n" +
				"      - exec: {command: [DIR/no-such-program]}\n",
			0o644, exitProblem,
		},
	} {
		t.Run(name, func(t *testing.T) {
			// As long as its name in the golden files, so that carets stand where they belong.
			dir := fmt.Sprintf("/tmp/tanist-check-%010d", os.Getpid())
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			in := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
			file := filepath.Join(dir, "tanist.yaml")
			write(t, file, in(nodes+tt.config))
			if got := tanist(t, "keygen", filepath.Join(dir, "cluster.key")); got.code != exitOK {
				t.Fatalf("%+v", got)
			}
			if err := os.Chmod(filepath.Join(dir, "cluster.key"), tt.keyed); err != nil {
				t.Fatal(err)
			}
			got := tanist(t, "check", "--config", file, "--node", "primary", "--state-dir", dir)
			if got.code != tt.code {
				t.Errorf("exit status %d", got.code)
			}
			text := strings.ReplaceAll(got.stdout+got.stderr, dir, "/tmp/tanist-check-0000000000")
			golden := filepath.Join("testdata", "check", name+".txt")
			if os.Getenv(updateVariable) != "" {
				if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if diff := cmp.Diff(string(want), text); err != nil || diff != "" {
				t.Errorf("%v, %s (-want +got):\n%s\n%s", err, golden, diff, text)
			}
		})
	}
}
