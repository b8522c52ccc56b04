package pair

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/test/site"
)

// TestReload: under its unit a daemon takes a new file up, or leaves things as
// they are, and no client notices either.
func TestReload(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{}, true)
	c := client(t, s)
	pid, err := s.Primary.MainPID(within(t), "tanist.service")
	if err != nil {
		t.Fatal(err)
	}
	sampler := s.StartSampler(t.Context())
	failures := c.Report().Failures
	reload := func(text, result string) string {
		t.Helper()
		before, err := s.Status(within(t), s.Primary)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Primary.WriteFile(site.ConfigFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Primary.Exec(within(t), "systemctl", "reload", "tanist.service"); err != nil {
			t.Fatal(err)
		}
		said := ""
		err = site.Await(within(t), "the reload", func(ctx context.Context) error {
			doc, err := s.Status(ctx, s.Primary)
			switch {
			case err != nil:
				return err
			case doc.Reload == nil, before.Reload != nil && !doc.Reload.At.After(before.Reload.At), doc.Reload.Result == "running":
				return errors.New("not over")
			case doc.Reload.Result != result:
				t.Errorf("%+v, want it %s", *doc.Reload, result)
			}
			said = doc.Reload.Detail + doc.Reload.Error
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	usual := site.Config(true)
	if said := reload(strings.Replace(usual, "lease: 2s", "lease: 4s", 1), "applied"); !strings.Contains(said, site.Instance) {
		t.Errorf("it says %q", said)
	}
	if err := s.AwaitState(within(t), s.Primary, "active"); err != nil {
		t.Fatal(err)
	}
	if said := reload(strings.Replace(usual, "vrid: 51", "vrid: 999", 1), "refused"); !strings.Contains(said, "tanist.yaml:9:") {
		t.Errorf("it says %q", said)
	}
	reload(strings.Replace(usual, "lease: 2s", "lease: 4s", 1), "unchanged")
	c.ResetGap()
	if err := c.AwaitAck(within(t)); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Primary.MainPID(within(t), "tanist.service"); err != nil || now != pid {
		t.Errorf("process %d is now %d (%v)", pid, now, err)
	}
	wantRoles(t, s, s.Primary)
	holders := sampler.Stop()
	t.Logf("holders: %s", holders)
	if holders.None > 0 || holders.Both > 0 {
		t.Errorf("nobody had the address for %s, both for %s", holders.None, holders.Both)
	}
	if failed := c.Report().Failures - failures; failed > 0 {
		t.Errorf("%d statements of the client failed", failed)
	}
	c.Stop() // which cuts one off
	wantRows(t, c, s.Primary)
}
