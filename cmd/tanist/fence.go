package main

// What the daemon does about a server that is dead or hangs while its host lives.

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"syscall"

	"github.com/tanist-ha/tanist/replication/mysql"
	"github.com/tanist-ha/tanist/systemd"
)

// services are this host's units, as owners of processes.
type services struct{ *systemd.Units }

// Of returns the unit that a process belongs to.
func (s services) Of(ctx context.Context, pid int) (mysql.Unit, error) {
	name, err := s.UnitOf(ctx, pid)
	if err != nil || name == "" {
		return mysql.Unit{}, err
	}
	return s.Unit(ctx, name)
}

// Unit returns what runs in a unit.
func (s services) Unit(ctx context.Context, name string) (mysql.Unit, error) {
	st, err := s.Status(ctx, name)
	if err == nil && st.LoadState == systemd.NotFound {
		err = fmt.Errorf("%s: no such unit", name)
	}
	return mysql.Unit{Name: name, Main: st.MainPID, Processes: st.Processes}, err
}

// Kill sends SIGKILL to every process of a unit.
func (s services) Kill(ctx context.Context, unit string) error {
	return s.Units.Kill(ctx, unit, syscall.SIGKILL)
}

// Fence makes sure that the server of a database cannot write any more. It
// returns when its process is gone.
func (ds databases) Fence(ctx context.Context, name string) error {
	list, release := ds.use()
	defer release()
	for _, d := range list {
		if d.Name() == name {
			return d.Fence(ctx)
		}
	}
	return fmt.Errorf("fence database %s: no database is called that", name)
}

// Watch calls ended at once whenever a server's process has ended, until ctx does.
// It goes along with the list; one watch at a time may.
func (ds databases) Watch(ctx context.Context, ended func(name string)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	watches := map[*database]context.CancelFunc{}
	for {
		list, release := ds.use()
		release()
		gone := maps.Clone(watches)
		for _, d := range list {
			delete(gone, d)
			if watches[d] == nil {
				watching, end := context.WithCancel(ctx)
				watches[d] = end
				wg.Go(func() { d.Watch(watching, func() { ended(d.Name()) }) })
			}
		}
		for d, end := range gone {
			end()
			delete(watches, d)
		}
		select {
		case <-ctx.Done():
			return
		case <-ds.changed:
		}
	}
}

// advise says what works and could be better about a database that answers.
func (h *hostCheck) advise(ctx context.Context, at, which string, d *mysql.Database) {
	list, err := d.Advise(ctx)
	if err != nil {
		h.notice(at, "", "%s%v", which, err)
	}
	for _, a := range list {
		fix := a.Fix
		if strings.HasPrefix(fix, "GRANT ") {
			fix += onTheSource
		}
		h.notice(at, fix, "%s%s", which, a.What)
	}
	if _, _, err := d.FenceTarget(ctx); err != nil {
		h.notice(at, "name the service that runs the server: unit: mariadb.service", "%sa server that hangs could not be killed: %v", which, err)
	}
}
