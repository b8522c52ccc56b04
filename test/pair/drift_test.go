package pair

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// TestDrift: somebody starts lsyncd on the standby and edits the label file of the
// active host. Both nodes tell of both, and mend both once they are told to.
func TestDrift(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{}, true)
	before, err := s.Status(within(t), s.Primary)
	if err != nil {
		t.Fatal(err)
	}
	sampler := s.StartSampler(t.Context())
	if _, err := s.Reserve.Exec(within(t), "systemctl", "start", "lsyncd.service"); err != nil {
		t.Fatal(err)
	}
	edited := site.LabelText(s.Primary.Hostname, s.Reserve.Hostname)
	if err := s.Primary.WriteFile(site.LabelFile, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Nodes() {
		err := site.Await(within(t), n.Hostname+" tells of both", func(ctx context.Context) error {
			doc, err := s.Status(ctx, n)
			if err != nil {
				return err
			}
			return bothDrifted(s, doc)
		})
		if err != nil {
			t.Error(err)
		}
		text := tanist(t, s, n, "status").Stdout
		for _, want := range []string{"lsyncd.service runs", "should be " + s.Primary.Hostname} {
			if !strings.Contains(text, want) {
				t.Errorf("status of %s says nothing of %q:\n%s", n.Hostname, want, text)
			}
		}
	}
	if w := look(t, s, s.Primary); w.Label != edited {
		t.Errorf("what is only to be told of was changed: %s", cmp.Diff(edited, w.Label))
	}
	repair := strings.NewReplacer(
		`value: "{{.Active}}"}`, `value: "{{.Active}}"}`+"\n        drift: repair",
		"stop: lsyncd.service}", "stop: lsyncd.service}\n        drift: repair",
	).Replace(site.Config(true))
	for _, n := range s.Nodes() {
		if err := n.WriteFile(site.ConfigFile, []byte(repair), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Exec(within(t), "systemctl", "reload", "tanist.service"); err != nil {
			t.Fatal(err)
		}
	}
	err = site.Await(within(t), "both are mended", func(ctx context.Context) error { return undrifted(ctx, s) })
	if err != nil {
		t.Fatal(err)
	}
	// And stay so, over more than one round of checks.
	end := time.Now().Add(12 * time.Second)
	err = site.Await(within(t), "two rounds of checks", func(ctx context.Context) error {
		if err := undrifted(ctx, s); err != nil {
			t.Error(err)
			return nil
		}
		if time.Now().Before(end) {
			return errors.New("not over")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	holders := sampler.Stop()
	if holders.None > 0 || holders.Both > 0 {
		t.Errorf("the address was touched: %s", holders)
	}
	wantRoles(t, s, s.Primary)
	after, err := s.Status(within(t), s.Primary)
	if err != nil || after.Instances[0].Epoch != before.Instances[0].Epoch {
		t.Errorf("epoch %d became %d (%v)", before.Instances[0].Epoch, after.Instances[0].Epoch, err)
	}
	told(t, s.Primary, "master_service_label")
	told(t, s.Reserve, "lsyncd.service runs")
}

// bothDrifted looks whether a node tells of its own drift and its peer's.
func bothDrifted(s *site.Site, doc control.Document) error {
	if len(doc.Instances) != 1 || len(doc.Peer.Instances) != 1 {
		return errors.New("not both nodes")
	}
	in, peer := doc.Instances[0], doc.Peer.Instances[0]
	ofPrimary, ofReserve, labels := in.Drift, peer.Drift, in.Labels
	if doc.Node == s.Reserve.Hostname {
		ofPrimary, ofReserve, labels = peer.Drift, in.Drift, peer.Labels
	}
	for kind, drift := range map[string][]control.Drift{"yaml": ofPrimary, "unit": ofReserve} {
		if len(drift) != 1 || drift[0].Kind != kind || drift[0].State != "would change" || drift[0].Repair != "report" ||
			drift[0].SinceSeconds == nil || *drift[0].SinceSeconds <= 0 {
			return fmt.Errorf("drift of a %s: %+v", kind, drift)
		}
	}
	if len(labels) != 1 || labels[0].Value != s.Reserve.Hostname || labels[0].Wanted == nil || *labels[0].Wanted != s.Primary.Hostname {
		return fmt.Errorf("labels of the active host: %+v", labels)
	}
	return nil
}

// undrifted looks at both hosts, and at what their nodes say of them.
func undrifted(ctx context.Context, s *site.Site) error {
	if err := s.StandbySettled(ctx, s.Reserve, s.Primary); err != nil {
		return err
	}
	w, err := s.Look(ctx, s.Primary)
	if err != nil {
		return err
	}
	if w.Label != site.LabelText(s.Primary.Hostname, s.Primary.Hostname) || w.Lsyncd == 0 || w.ReadOnly != "0" || !w.VIP {
		return fmt.Errorf("the active host is %+v", w)
	}
	for _, n := range s.Nodes() {
		doc, err := s.Status(ctx, n)
		if err != nil {
			return err
		}
		if len(doc.Instances) != 1 || len(doc.Peer.Instances) != 1 || len(doc.Instances[0].Drift)+len(doc.Peer.Instances[0].Drift) > 0 {
			return fmt.Errorf("%s says %+v and of its peer %+v", n.Hostname, doc.Instances, doc.Peer.Instances)
		}
	}
	return nil
}

// told wants the drift in the log of a host, and not with every round.
func told(t *testing.T, n *lab.Node, what string) {
	t.Helper()
	log, err := n.Journal(within(t), "tanist.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(log) {
		if strings.Contains(line, "drift") && strings.Contains(line, what) {
			lines++
		}
	}
	if lines == 0 || lines > 12 {
		t.Errorf("%d lines about drift with %q in the log of %s:\n%s", lines, what, n.Hostname, log)
	}
}
