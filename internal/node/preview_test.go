package node

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

const lookBound = 2 * time.Second

// previewed is a preview in short.
func previewed(p Preview) string {
	var list []string
	for _, s := range p.Steps {
		w := s.Name + " " + s.Outcome.String()
		if s.Detail != "" {
			w += " (" + s.Detail + ")"
		}
		list = append(list, w)
	}
	return strings.Join(list, ", ")
}

// hangs is a check that waits until it is ended.
func hangs(ctx context.Context) (hooks.Outcome, string) {
	<-ctx.Done()
	return hooks.Failed, "ended"
}

func TestPreview(t *testing.T) {
	saying := func(out hooks.Outcome, detail string) func(*world, *host) {
		return func(_ *world, a *host) {
			a.set(func() { a.check = func(context.Context) (hooks.Outcome, string) { return out, detail } })
		}
	}
	standby := func(w *world, _ *host) {
		go w.heed(time.Minute)
		w.until("a", failover.Backup)
	}
	for name, tc := range map[string]struct {
		to      hooks.Role
		prepare func(w *world, a *host)
		want    string
	}{
		"active/promote": {hooks.Active, nil, "vip unchanged, start changed"},
		"active/demote":  {hooks.Standby, nil, "vip changed, stop changed"},
		"already-so":     {hooks.Standby, saying(hooks.Unchanged, ""), "vip changed, stop unchanged"},
		"cannot":         {hooks.Standby, saying(hooks.Failed, "no such unit"), "vip changed, stop failed (no such unit)"},
		"check-hangs": {
			hooks.Standby, func(_ *world, a *host) { a.set(func() { a.check = hangs }) },
			"vip changed, stop timed_out (the check did not answer within 2s)",
		},
		"link-down": {hooks.Active, func(w *world, _ *host) {
			w.node.Deliver("a", failover.LinkChanged{Detail: "eth0 is down"})
			w.until("a", failover.Fault)
		}, "vip failed (eth0 is down), start changed"},
		"standby/promote": {hooks.Active, standby, "vip changed, start changed"},
		"standby/demote":  {hooks.Standby, standby, "vip unchanged, stop changed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, a := active(t, "a")
				time.Sleep(time.Second)
				if tc.prepare != nil {
					tc.prepare(w, a)
				}
				time.Sleep(time.Second)
				from := len(a.did())
				p, err := w.node.Preview(t.Context(), "a", tc.to, lookBound)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, previewed(p)); diff != "" {
					t.Error(diff)
				}
				active := map[hooks.Role]string{hooks.Active: "primary", hooks.Standby: "reserve"}[tc.to]
				if p.Vars.Active != active || p.Vars.Node != "primary" || p.Vars.Epoch <= uint64(w.status("a").Epoch) {
					t.Errorf("templates name %+v", p.Vars)
				}
				if did := since(a, from); did != "" {
					t.Errorf("it did %s", did)
				}
			})
		})
	}
}

// A look at a plan ends with everything it started when a transition begins, and
// none begins beside one.
func TestPreviewGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		time.Sleep(time.Second)
		looking, ended := make(chan struct{}, 1), make(chan struct{}, 1)
		a.set(func() {
			a.check = func(ctx context.Context) (hooks.Outcome, string) {
				looking <- struct{}{}
				<-ctx.Done()
				ended <- struct{}{}
				return hooks.Failed, "ended"
			}
			a.step = func(ctx context.Context, _ string) (hooks.Outcome, string) {
				<-ctx.Done()
				return hooks.Cancelled, ""
			}
		})
		answer := make(chan error, 1)
		go func() {
			_, err := w.node.Preview(context.Background(), "a", hooks.Standby, time.Hour)
			answer <- err
		}()
		<-looking
		var busy *BusyError
		if _, err := w.node.Preview(t.Context(), "a", hooks.Active, lookBound); !errors.As(err, &busy) || !strings.Contains(err.Error(), "somebody else") {
			t.Errorf("a second look: %v", err)
		}
		go w.heed(time.Minute) // the other one took over
		if err := <-answer; !errors.As(err, &busy) || !strings.Contains(err.Error(), "a transition began") {
			t.Errorf("the look: %v", err)
		}
		<-ended
		w.until("a", failover.Demoting)
		if _, err := w.node.Preview(t.Context(), "a", hooks.Active, lookBound); !errors.As(err, &busy) {
			t.Errorf("while a plan runs: %v", err)
		}
	})
}

// Nobody waits for a check whose asker is gone, and the next one is answered.
func TestPreviewEndsWithItsAsker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a")
		time.Sleep(time.Second)
		a.set(func() { a.check = hangs })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.node.Preview(ctx, "a", hooks.Standby, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		a.set(func() { a.check = nil })
		synctest.Wait()
		if p, err := w.node.Preview(t.Context(), "a", hooks.Standby, lookBound); err != nil || len(p.Steps) != 2 {
			t.Errorf("the next one: %+v, %v", p, err)
		}
		if _, err := w.node.Preview(t.Context(), "none", hooks.Standby, lookBound); err == nil {
			t.Error("an instance that is not there has a plan")
		}
	})
}
