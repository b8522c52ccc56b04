package pair

import (
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/test/site"
)

// fenced notes whether the database was still closed when the fence ran.
const fenced = `
    fence_required: true
    fence:
      - name: power off
        exec: {command: [/bin/sh, -c, "mariadb -N -e 'SELECT @@read_only' > /run/fenced; test ! -e /run/no-fence"]}
`

func TestFence(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{Config: site.Config(true) + fenced}, true)
	t.Run("a required fence that fails stops the takeover", func(t *testing.T) {
		if err := s.Reserve.WriteFile("/run/no-fence", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.Primary.PowerOff(within(t)); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitState(within(t), s.Reserve, "refused"); err != nil {
			t.Fatal(err)
		}
		doc, err := s.Status(within(t), s.Reserve)
		if err != nil {
			t.Fatal(err)
		}
		if in := doc.Instances[0]; in.Reason != "fence_failed" || !strings.Contains(in.Detail, "power off") {
			t.Errorf("%s: %s", in.Reason, in.Detail)
		}
		if w := look(t, s, s.Reserve); w.VIP || w.ReadOnly != "1" || w.Lsyncd != 0 {
			t.Errorf("the host that was refused: %+v", w)
		}
	})
	t.Run("one that ends well runs before anything is opened", func(t *testing.T) {
		if err := s.Reserve.Remove("/run/no-fence"); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitState(within(t), s.Reserve, "active"); err != nil {
			t.Fatal(err)
		}
		if w := look(t, s, s.Reserve); !w.VIP || w.ReadOnly != "0" || w.Lsyncd == 0 {
			t.Errorf("the new active host: %+v", w)
		}
		out, err := s.Reserve.Exec(within(t), "cat", "/run/fenced")
		if err != nil || strings.TrimSpace(out) != "1" {
			t.Errorf("read_only was %q when the fence ran (%v)", out, err)
		}
	})
}
