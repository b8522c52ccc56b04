package main

// The way back of a returned node's databases: the steps that follow the peer,
// and that keep an active node's channels from coming back.

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/step"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/replication/mysql"
)

// source returns the peer's counterpart of a database, nil for one that the
// configuration does not say how to follow.
func (o opener) source(c config.Database) (*mysql.Source, error) {
	from := c.ReplicateFrom
	if from == nil {
		return nil, nil
	}
	me, peer := o.file.Nodes[o.self], o.file.Nodes[1-o.self]
	src := &mysql.Source{Host: peer.Addresses[0].String(), Port: from.Port, User: from.User, Password: filedPassword(from.PasswordFile)}
	if from.Host != "" {
		vars := hooks.Vars{Node: me.Label, Peer: peer.Label, Active: peer.Label, Standby: me.Label, Instance: o.in.Name}
		expanded, err := hooks.Expand(hooks.YAML{Value: from.Host}, vars)
		if err != nil {
			return nil, fmt.Errorf("replicate_from of database %s: %w", c.Name, err)
		}
		src.Host = expanded.(hooks.YAML).Value
	}
	if t := from.TLS; t != nil {
		src.TLS = &mysql.SourceTLS{CA: t.CA, Cert: t.Cert, Key: t.Key}
	}
	return src, nil
}

// filedPassword reads a password each time it is wanted; without a file there is none.
func filedPassword(path string) func() (string, error) {
	if path == "" {
		return nil
	}
	return func() (string, error) {
		b, err := os.ReadFile(path)
		return strings.TrimRight(string(b), "\r\n"), err
	}
}

// from returns the peer's counterpart.
func (d *database) from() (mysql.Source, error) {
	if d.source == nil {
		return mysql.Source{}, fmt.Errorf("database %s has no replicate_from: nobody says which account to follow with", d.Name())
	}
	return *d.source, nil
}

// followStep makes every database a replica of the peer's.
type followStep struct{ databases }

func (f followStep) Check(ctx context.Context) (step.State, error) {
	return f.compare(ctx, func(d *database) (bool, error) {
		src, err := d.from()
		if err != nil {
			return false, err
		}
		return d.Following(ctx, src)
	})
}

func (f followStep) Apply(ctx context.Context) error {
	return f.each(ctx, func(d *database) error {
		src, err := d.from()
		if err != nil {
			return err
		}
		return d.Follow(ctx, src)
	})
}

// resetStep removes the channels of every database that knows the way back. What
// they were set to is the step's report.
type resetStep struct {
	databases

	mu       sync.Mutex // guards settings
	settings []string
}

func (r *resetStep) Check(ctx context.Context) (step.State, error) {
	return r.compare(ctx, func(d *database) (bool, error) {
		if d.source == nil {
			return true, nil
		}
		has, err := d.HasChannels(ctx)
		return !has, err
	})
}

func (r *resetStep) Apply(ctx context.Context) error {
	return r.each(ctx, func(d *database) error {
		if d.source == nil {
			return nil
		}
		was, err := d.ResetReplication(ctx)
		if was != "" {
			r.mu.Lock()
			r.settings = append(r.settings, d.Name()+": "+was)
			r.mu.Unlock()
		}
		return err
	})
}

// Report returns what the channels were set to.
func (r *resetStep) Report() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.settings)
	return strings.Join(r.settings, "; ")
}
