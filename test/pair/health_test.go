package pair

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// checked asks for a service and a file that a test stops and removes.
const checked = `
    health:
      - {name: web, unit: rsync.service, interval: 200ms, timeout: 2s, rise: 1, fall: 2, effect: yield}
      - {name: allowed, file: /run/allowed, interval: 200ms, timeout: 2s, rise: 1, fall: 2, effect: fault}
`

// health waits until a host says of a check whether it is well.
func health(t *testing.T, s *site.Site, n *lab.Node, name string, ok bool) control.Instance {
	t.Helper()
	var in control.Instance
	err := site.Await(within(t), fmt.Sprintf("check %s of %s: %v", name, n.Hostname, ok), func(ctx context.Context) error {
		doc, err := s.Status(ctx, n)
		if err != nil {
			return err
		}
		in = doc.Instances[0]
		for _, h := range in.Health {
			if h.Name == name && h.OK != nil && *h.OK == ok {
				return nil
			}
		}
		return fmt.Errorf("%+v", in.Health)
	})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func do(t *testing.T, n *lab.Node, argv ...string) {
	t.Helper()
	if out, err := n.Exec(within(t), argv...); err != nil {
		t.Fatalf("%v on %s: %v %s", argv, n.Hostname, err, out)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{Config: site.Config(true) + checked}, false)
	for _, n := range s.Nodes() {
		do(t, n, "systemctl", "start", "rsync.service")
		do(t, n, "touch", "/run/allowed")
	}
	if err := s.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitSettled(within(t), s.Primary); err != nil {
		t.Fatal(err)
	}
	t.Run("the standby is unwell too: the service stays, and status says why", func(t *testing.T) {
		do(t, s.Reserve, "systemctl", "stop", "rsync.service")
		if in := health(t, s, s.Reserve, "web", false); in.Gate.Open {
			t.Error("the gate of a standby that is unwell is open")
		}
		do(t, s.Primary, "systemctl", "stop", "rsync.service")
		in := health(t, s, s.Primary, "web", false)
		if in.State != "active" {
			t.Errorf("it is %s", in.State)
		}
		r := tanist(t, s, s.Primary, "status")
		if !strings.Contains(r.Stdout, "check web") || !strings.Contains(r.Stdout, "rsync.service is inactive") || !strings.Contains(r.Stdout, "a health check fails") {
			t.Errorf("status:\n%s", r.Stdout)
		}
		if w := look(t, s, s.Primary); !w.VIP {
			t.Error("the address has gone")
		}
	})
	t.Run("yield: the service moves once the peer is well", func(t *testing.T) {
		sampler := s.StartSampler(t.Context())
		do(t, s.Reserve, "systemctl", "start", "rsync.service")
		if err := s.AwaitState(within(t), s.Reserve, "active"); err != nil {
			t.Fatal(err)
		}
		health(t, s, s.Primary, "web", false) // it would not take it back
		do(t, s.Primary, "systemctl", "start", "rsync.service")
		if err := s.AwaitSettled(within(t), s.Reserve); err != nil {
			t.Fatal(err)
		}
		holders := sampler.Stop()
		t.Logf("holders: %s", holders)
		if holders.None > 0 {
			t.Errorf("nobody had the address for %s", holders.None)
		}
		health(t, s, s.Primary, "web", true)
		wantRoles(t, s, s.Reserve)
	})
	t.Run("fault: the address goes and the peer takes over", func(t *testing.T) {
		if err := s.AwaitSettled(within(t), s.Reserve); err != nil {
			t.Fatal(err)
		}
		if err := s.Reserve.Remove("/run/allowed"); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitState(within(t), s.Primary, "active"); err != nil {
			t.Fatal(err)
		}
		err := site.Await(within(t), "the address is gone", func(context.Context) error { return gone(s, s.Reserve) })
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitState(within(t), s.Reserve, "fault"); err != nil {
			t.Fatal(err)
		}
		in := health(t, s, s.Reserve, "allowed", false)
		if in.Reason != "unhealthy" || !strings.Contains(in.Detail, "/run/allowed does not exist") {
			t.Errorf("%s: %s", in.Reason, in.Detail)
		}
	})
	t.Run("and ends when the check is well again", func(t *testing.T) {
		do(t, s.Reserve, "touch", "/run/allowed")
		if err := s.AwaitState(within(t), s.Reserve, "backup"); err != nil {
			t.Fatal(err)
		}
		err := site.Await(within(t), "the roles", func(ctx context.Context) error {
			doc, err := s.Status(ctx, s.Primary)
			if err == nil && doc.Instances[0].State != "active" {
				err = errors.New(doc.Instances[0].State)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
