package site

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tanist-ha/tanist/test/lab"
)

// Fault does something to the site and returns how to take it back.
type Fault func(context.Context) (undo func(), err error)

// StopSQLThread stops what applies the replicated rows on a host.
func (s *Site) StopSQLThread(n *lab.Node) Fault {
	return func(ctx context.Context) (func(), error) {
		_, err := n.SQL(ctx, "STOP SLAVE SQL_THREAD")
		return func() { _, _ = n.SQL(context.WithoutCancel(ctx), "START SLAVE SQL_THREAD") }, err
	}
}

// HoldSQLThread lets a host's replica fall behind: its threads run, and wait for
// a lock.
func (s *Site) HoldSQLThread(n *lab.Node) Fault {
	return func(ctx context.Context) (func(), error) {
		db, err := n.DB()
		if err != nil {
			return nil, err
		}
		conn, err := db.Conn(ctx)
		if err == nil {
			_, err = conn.ExecContext(ctx, "LOCK TABLES app.writes READ")
		}
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		return func() {
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), "UNLOCK TABLES")
			_ = conn.Close()
			_ = db.Close()
		}, nil
	}
}

// GateSays returns nil when the gate of a host is closed for that reason.
func (s *Site) GateSays(ctx context.Context, n *lab.Node, code string) error {
	doc, err := s.Status(ctx, n)
	if err != nil {
		return err
	}
	for _, r := range doc.Instances[0].Gate.Reasons {
		if r.Code.String() == code {
			return nil
		}
	}
	return fmt.Errorf("it says %v", doc.Instances[0].Gate.Reasons)
}

// StandbySettled returns nil when a standby's label names the active host and
// what it must not do is stopped.
func (s *Site) StandbySettled(ctx context.Context, standby, active *lab.Node) error {
	w, err := s.Look(ctx, standby)
	if err != nil {
		return err
	}
	switch {
	case w.Label != LabelText(standby.Hostname, active.Hostname):
		return fmt.Errorf("its label file is\n%s", w.Label)
	case w.VIP, w.ReadOnly != "1", w.Lsyncd != 0:
		return fmt.Errorf("it is %+v", w)
	}
	return nil
}

// BackAndActive returns nil when the daemon of a host is another process than
// before and has the role.
func (s *Site) BackAndActive(ctx context.Context, n *lab.Node, before int) error {
	pid, err := n.MainPID(ctx, "tanist.service")
	if err != nil {
		return err
	}
	if pid == before || pid == 0 {
		return fmt.Errorf("its process is %d", pid)
	}
	doc, err := s.Status(ctx, n)
	if err != nil {
		return err
	}
	if st := doc.Instances[0].State; st != "active" {
		return fmt.Errorf("it is %s", st)
	}
	return nil
}

// Reshape gives lsyncd.service another shape on both hosts, running where it ran.
func (s *Site) Reshape(ctx context.Context, shape lab.Lsyncd) error {
	for _, n := range s.Nodes() {
		state, _ := n.Exec(ctx, "sh", "-c", "pgrep -x lsyncd >/dev/null && echo running || true")
		if _, err := n.Exec(ctx, "systemctl", "stop", "lsyncd.service"); err != nil {
			return err
		}
		if err := n.SetLsyncd(ctx, shape); err != nil {
			return err
		}
		if strings.TrimSpace(state) == "running" {
			if _, err := n.Exec(ctx, "systemctl", "start", "lsyncd.service"); err != nil {
				return err
			}
		}
	}
	return nil
}
