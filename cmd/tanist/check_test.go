package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

const notedConfig = `
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
instances:
  - name: compass
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24]
    preempt_delay: 5s
%s`

const unfindable = `    databases:
      - {name: pivot, address: "unix:%s"}
`

// What could be better is said, and is no mistake.
func TestCheckPrintsNotes(t *testing.T) {
	if !inside(t) {
		return
	}
	here, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if err := here.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"}); err != nil {
		t.Fatal(err)
	}
	number(t, here, "192.0.2.11/24")
	dir := t.TempDir()
	file := filepath.Join(dir, "tanist.yaml")
	write := func(databases string) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, notedConfig, databases), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	got := tanist(t, "check", "--config", file, "--node", "primary")
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "note: "+file+":10:") || !strings.HasSuffix(got.stdout, "\nok: "+file+"\n") {
		t.Errorf("%+v", got)
	}
	// Beside a mistake too.
	write(fmt.Sprintf(unfindable, filepath.Join(dir, "nobody")))
	got = tanist(t, "check", "--config", file, "--node", "primary", "--json")
	var doc struct {
		OK              bool
		Problems, Notes []checkProblem
	}
	if err := json.Unmarshal([]byte(got.stdout), &doc); err != nil {
		t.Fatal(err)
	}
	if got.code != exitProblem || doc.OK || len(doc.Problems) != 1 || len(doc.Notes) != 3 ||
		!strings.Contains(doc.Notes[0].Message, "preempt_delay") || !strings.Contains(doc.Notes[1].Message, "the peer link is not authenticated") ||
		!strings.Contains(doc.Notes[2].Message, "no replicate_from") {
		t.Errorf("%+v", doc)
	}
}
