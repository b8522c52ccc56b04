package config

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/hooks"
)

// What is left of every good file is good, names the same addresses and databases,
// and has no step, no check and no word of a comment.
func TestEssentials(t *testing.T) {
	entries, err := os.ReadDir("testdata/good")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".yaml") {
			continue
		}
		read++
		t.Run(e.Name(), func(t *testing.T) {
			f := mustParse(t, e.Name())
			text, err := f.Essentials()
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(f.Name, text)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			want := *f
			want.KeyFile, want.PeerPort, want.HTTP, want.Log, want.Notices = got.KeyFile, got.PeerPort, nil, got.Log, got.Notices
			want.Instances = slices.Clone(f.Instances)
			for i, in := range f.Instances {
				d := defaultInstance()
				in.Priority, in.Preempt, in.PreemptDelay, in.StartupDelay, in.GARP, in.Gate = d.Priority, false, 0, 0, d.GARP, d.Gate
				in.Promote, in.Demote, in.Fence, in.FenceRequired, in.Health = hooks.DefaultPromote(), hooks.DefaultDemote(), nil, false, nil
				in.OnIsolation, in.Witness = d.OnIsolation, nil
				in.Heartbeat.Auth, got.Instances[i].Heartbeat.Auth = 0, 0 // it goes with key_file
				in.Databases, in.Discover = slices.Clone(in.Databases), slices.Clone(in.Discover)
				for j := range in.Databases {
					in.Databases[j].ReplicateFrom, in.Databases[j].HeartbeatTable = nil, Table{}
				}
				for j := range in.Discover {
					in.Discover[j].ReplicateFrom, in.Discover[j].HeartbeatTable = nil, Table{}
				}
				want.Instances[i] = in
			}
			if diff := same(&want, got); diff != "" {
				t.Errorf("%s\n%s", diff, text)
			}
			for _, word := range []string{"#", "exec", "webhook", "promote", "replicate_from", "health"} {
				if strings.Contains(string(text), word) {
					t.Errorf("it has %q:\n%s", word, text)
				}
			}
		})
	}
	if read < 3 {
		t.Errorf("only %d files were looked at", read)
	}
}
