package site

// The way back of a returned host's databases, by Tanist as far as it goes. What
// only that host has is given up as an operator would: with the rows repaired by
// hand, or by a copy of the other host's database.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/test/lab"
)

// Rejoined counts how a returned host's databases became replicas again.
type Rejoined struct {
	Attached  int // without more ado
	Discarded int // what only this host had
	Reseeded  int // copied from the other host
}

// Add adds up.
func (r *Rejoined) Add(o Rejoined) {
	r.Attached += o.Attached
	r.Discarded += o.Discarded
	r.Reseeded += o.Reseeded
}

func (r Rejoined) String() string {
	return fmt.Sprintf("%d attached, %d with transactions discarded, %d reseeded", r.Attached, r.Discarded, r.Reseeded)
}

// Rejoin makes every database of a returned host a replica of the other one's.
// Tanist must refuse exactly those that have transactions of their own; these are
// discarded, and their table emptied, or made anew. The other host's tables must
// be emptied before the two are compared.
func (s *Site) Rejoin(ctx context.Context, returned *lab.Node, discard bool) (Rejoined, error) {
	r, err := s.rejoin(ctx, returned, discard)
	if err != nil {
		return r, fmt.Errorf("rejoin %s: %w", returned.Hostname, err)
	}
	return r, s.AwaitEqual(ctx, s.Peer(returned))
}

func (s *Site) rejoin(ctx context.Context, returned *lab.Node, discard bool) (Rejoined, error) {
	own, err := s.errantOf(ctx, returned)
	if err != nil {
		return Rejoined{}, err
	}
	refused, err := s.attach(ctx, returned, "--all")
	if err != nil {
		return Rejoined{}, err
	}
	var names []string
	var again []Database
	for _, d := range s.Databases {
		switch errant, is := refused[d.Name()]; {
		case is && own[d] == "":
			return Rejoined{}, fmt.Errorf("%s has nothing of its own, and was refused for %v", d.Name(), errant)
		case is:
			names, again = append(names, d.Name()), append(again, d)
		case own[d] != "":
			return Rejoined{}, fmt.Errorf("%s was attached over %s", d.Name(), own[d])
		}
	}
	r := Rejoined{Attached: len(s.Databases) - len(again)}
	switch {
	case len(again) == 0:
		return r, nil
	case discard:
		r.Discarded = len(again)
		return r, s.discard(ctx, returned, again, names)
	}
	r.Reseeded = len(again)
	if err := s.each(ctx, again, func(ctx context.Context, d Database) error { return s.reseed(ctx, d, returned) }); err != nil {
		return r, err
	}
	if refused, err := s.attach(ctx, returned, names...); err != nil || len(refused) > 0 {
		return r, errors.Join(err, fmt.Errorf("refused after they were made anew: %v", refused))
	}
	return r, nil
}

// errantOf says of each database what only the returned host has; nothing of
// those that have nothing.
func (s *Site) errantOf(ctx context.Context, returned *lab.Node) (map[Database]string, error) {
	all := make([]string, len(s.Databases))
	err := s.eachDatabase(ctx, func(ctx context.Context, d Database) error {
		return Await(ctx, d.Name()+" of "+returned.Hostname+" says what it has", func(ctx context.Context) error {
			errant, err := s.Errant(ctx, d, returned)
			all[d-1] = strings.Join(errant, ", ")
			return err
		})
	})
	own := map[Database]string{}
	for i, text := range all {
		if text != "" {
			own[s.Databases[i]] = text
		}
	}
	return own, err
}

// attach rejoins until every database is a replica or refused for its own
// transactions, and returns these. A plan that comes in between is to be expected.
func (s *Site) attach(ctx context.Context, n *lab.Node, which ...string) (refused map[string][]string, err error) {
	err = Await(ctx, "the databases of "+n.Hostname+" are replicas", func(ctx context.Context) error {
		refused = map[string][]string{}
		lines, err := s.replication(ctx, n, append([]string{"rejoin"}, which...)...)
		if err != nil {
			return err
		}
		for _, l := range lines {
			switch {
			case l.Result.OK():
			case len(l.Errant) > 0:
				refused[l.Database] = l.Errant
			default:
				err = errors.Join(err, errors.New(l.Database+": "+l.Detail))
			}
		}
		return err
	})
	return refused, err
}

// replication runs a command of `tanist replication`; what it refuses is no error.
func (s *Site) replication(ctx context.Context, n *lab.Node, args ...string) ([]control.ReplicationLine, error) {
	r, err := s.Tanist(ctx, n, append([]string{"replication"}, append(args, "--json")...)...)
	if err != nil {
		return nil, err
	}
	var lines []control.ReplicationLine
	dec := json.NewDecoder(strings.NewReader(r.Stdout))
	for {
		var l control.ReplicationLine
		switch err := dec.Decode(&l); {
		case errors.Is(err, io.EOF) && len(lines) == 0:
			return nil, fmt.Errorf("replication %s: exit status %d: %s", strings.Join(args, " "), r.Code, strings.TrimSpace(r.Stderr))
		case errors.Is(err, io.EOF):
			return lines, nil
		case err != nil:
			return nil, fmt.Errorf("read what replication %s says: %w", strings.Join(args, " "), err)
		}
		lines = append(lines, l)
	}
}

// discard lets Tanist give up what only the returned host has. Its rows are
// repaired by hand before: what is common to both hosts goes with an empty table
// as well, for nothing but rows is added to it until it is emptied.
func (s *Site) discard(ctx context.Context, n *lab.Node, again []Database, names []string) error {
	if err := s.each(ctx, again, func(ctx context.Context, d Database) error { return d.unlogged(ctx, n, "TRUNCATE TABLE app.writes") }); err != nil {
		return err
	}
	return Await(ctx, "the databases of "+n.Hostname+" are replicas without their own transactions", func(ctx context.Context) error {
		lines, err := s.replication(ctx, n, append([]string{"rejoin", "--discard", "--reason", "the test counted them"}, names...)...)
		for _, l := range lines {
			if !l.Result.OK() {
				err = errors.Join(err, errors.New(l.Database+": "+l.Detail))
			}
		}
		return err
	})
}

// unlogged runs a statement that the binary log does not get.
func (d Database) unlogged(ctx context.Context, n *lab.Node, statement string) error {
	db, err := n.DBAt(d.Socket())
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, st := range []string{"SET SESSION sql_log_bin = 0", statement} {
		if _, err := conn.ExecContext(ctx, st); err != nil {
			return fmt.Errorf("%s on %s: %w", d.Name(), n.Hostname, err)
		}
	}
	return nil
}

// reseed makes a database of a host a copy of the other host's, whatever it had
// before. Should a plan attach it in the middle, it begins anew.
func (s *Site) reseed(ctx context.Context, d Database, n *lab.Node) error {
	return Await(ctx, d.Name()+" of "+n.Hostname+" is made anew", func(ctx context.Context) error {
		for _, statement := range []string{"STOP SLAVE", "RESET SLAVE ALL", "DROP DATABASE IF EXISTS app", "RESET MASTER"} {
			if _, err := d.SQL(ctx, n, statement); err != nil {
				return err
			}
		}
		return s.copyDatabase(ctx, d, n)
	})
}

// copyDatabase pipes a dump of the other host into the database; the dump sets
// gtid_slave_pos, and nothing of it goes to the binary log.
func (s *Site) copyDatabase(ctx context.Context, d Database, n *lab.Node) error {
	r, w := io.Pipe()
	dumped := make(chan error, 1)
	go func() {
		var said strings.Builder
		_, err := s.Peer(n).Run(ctx, lab.Command{
			Argv: []string{
				"mariadb-dump", "--socket=" + d.Socket(), "--single-transaction", "--gtid", "--master-data=1",
				"--databases", "app",
			},
			Stdout: w, Stderr: &said,
		})
		if err != nil {
			err = fmt.Errorf("%w: %s", err, said.String())
		}
		dumped <- errors.Join(err, w.CloseWithError(err))
	}()
	_, err := n.Run(ctx, lab.Command{
		Argv:  []string{"mariadb", "--socket=" + d.Socket(), "--init-command=SET SESSION sql_log_bin=0"},
		Stdin: r,
	})
	_ = r.Close()
	return errors.Join(err, <-dumped)
}
