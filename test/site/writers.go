package site

// The writers: clients of many databases behind the virtual address. Each row
// has a number of its own and is sent once. An acknowledgement carries the
// transaction's GTID, so it also tells which host gave it.

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Load says how the writers write.
type Load struct {
	Rate        int           // acknowledged rows a second that all writers together aim at
	Connections int           // for each database, 1 when 0
	Patience    time.Duration // for one statement; a connection gets at most dialPatience
	Only        []Database    // default all
}

const (
	// dialPatience bounds one attempt to connect: the kernel's own first repeat of
	// a lost SYN comes after a second.
	dialPatience = 150 * time.Millisecond
	// errReadOnly is the only answer after which a row is certainly not there and
	// the connection is as good as before.
	errReadOnly = 1290
)

// Ack is one acknowledged row.
type Ack struct {
	ID   int64
	GTID GTID
	At   time.Time // when the answer was there
}

// Writers are running.
type Writers struct {
	stop context.CancelFunc
	done sync.WaitGroup
	per  []*written // by the site's databases
}

// written is what came of the writes to one database.
type written struct {
	db Database

	mu      sync.Mutex // guards the fields below
	acks    []Ack
	unknown []int64 // sent, and no answer came that says what became of it
	refused int     // sent, and not there
	failed  int     // attempts to connect
}

// StartWriters starts the writers; the caller stops them. The numbers of their
// rows begin with first, so that those of a later call can differ.
func (s *Site) StartWriters(ctx context.Context, l Load, first int64) (*Writers, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &Writers{stop: cancel}
	only := l.Only
	if only == nil {
		only = s.Databases
	}
	connections := max(1, l.Connections)
	all := len(only) * connections
	interval := time.Duration(all) * time.Second / time.Duration(l.Rate)
	for _, d := range s.Databases {
		per := &written{db: d}
		w.per = append(w.per, per)
		if !slices.Contains(only, d) {
			continue
		}
		for c := range connections {
			db, err := s.openApp(d, l.Patience)
			if err != nil {
				w.Stop()
				return nil, err
			}
			writer := &writer{db: db, into: per, interval: interval, retry: retryPause(all, interval), patience: l.Patience}
			w.done.Go(func() {
				defer db.Close()
				writer.run(ctx, first+int64(c), int64(connections))
			})
		}
	}
	return w, nil
}

// retryPause is the time between two attempts of a writer that gets no answer, or
// a refusal: all of them together must not keep the machine busy.
func retryPause(writers int, interval time.Duration) time.Duration {
	return min(interval, max(2*time.Millisecond, time.Duration(writers)*500*time.Microsecond))
}

// openApp opens a database behind the virtual address, from the switch.
func (s *Site) openApp(d Database, patience time.Duration) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.DBName = appUser, appPass, "app"
	cfg.Net, cfg.Addr = "tcp", netip.AddrPortFrom(netip.MustParseAddr(VIP), d.Port()).String()
	cfg.DialFunc = s.Switch.DialContext
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = dialPatience, patience, patience
	cfg.MultiStatements = true
	cfg.Logger = &mysql.NopLogger{} // cut connections are to be expected
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	// One connection: the next row goes where the address is now.
	db.SetMaxOpenConns(1)
	return db, nil
}

// writer is one connection's.
type writer struct {
	db                        *sql.DB
	into                      *written
	interval, retry, patience time.Duration
}

func (w *writer) run(ctx context.Context, id, step int64) {
	next := time.Now()
	for {
		began := time.Now()
		wait := w.retry
		if w.once(ctx, id) {
			// A pace that was lost is not made up for: no burst.
			next = maxTime(next.Add(w.interval), began)
			wait = time.Until(next)
		}
		id += step
		if wait <= 0 {
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// once sends a row and notes what came of it; it reports whether it was
// acknowledged.
func (w *writer) once(ctx context.Context, id int64) bool {
	dialCtx, cancel := context.WithTimeout(ctx, dialPatience)
	conn, err := w.db.Conn(dialCtx)
	cancel()
	if err != nil {
		w.into.note(func() { w.into.failed++ })
		return false
	}
	defer conn.Close()
	// Not with ctx: the last row gets its answer.
	sendCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.patience)
	defer cancel()
	gtid, err := insert(sendCtx, conn, id)
	at := time.Now()
	var answer *mysql.MySQLError
	switch {
	case err == nil:
		w.into.note(func() { w.into.acks = append(w.into.acks, Ack{id, gtid, at}) })
		return true
	case errors.As(err, &answer) && answer.Number == errReadOnly:
		w.into.note(func() { w.into.refused++ })
		return false
	}
	w.into.note(func() { w.into.unknown = append(w.into.unknown, id) })
	_ = conn.Raw(func(any) error { return errBad })
	return false
}

// insert adds a row and returns its transaction. Both statements go in one
// packet; without the second one's answer the row does not count as acknowledged.
func insert(ctx context.Context, conn *sql.Conn, id int64) (GTID, error) {
	var text string
	err := conn.QueryRowContext(ctx, fmt.Sprintf("INSERT INTO writes (id) VALUES (%d); SELECT @@last_gtid", id)).Scan(&text)
	if err != nil {
		return GTID{}, err
	}
	return ParseGTID(text)
}

func (p *written) note(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// Stop ends the writers and waits for the answers to their last rows.
func (w *Writers) Stop() {
	w.stop()
	w.done.Wait()
}

// Acks returns what was acknowledged of a database so far, in the order of the
// answers.
func (w *Writers) Acks(d Database) []Ack {
	p := w.per[d-1]
	p.mu.Lock()
	defer p.mu.Unlock()
	acks := slices.Clone(p.acks)
	slices.SortStableFunc(acks, func(a, b Ack) int { return a.At.Compare(b.At) })
	return acks
}

// Tally is what the writers did so far.
type Tally struct {
	Acknowledged, Unknown, Refused, Failed int
}

// Tally counts.
func (w *Writers) Tally() Tally {
	var t Tally
	for _, p := range w.per {
		p.note(func() {
			t.Acknowledged += len(p.acks)
			t.Unknown += len(p.unknown)
			t.Refused += p.refused
			t.Failed += p.failed
		})
	}
	return t
}

// AwaitFrom waits until each database that is written to has acknowledged a row
// on a host after an instant.
func (w *Writers) AwaitFrom(ctx context.Context, server uint32, after time.Time) error {
	return Await(ctx, fmt.Sprintf("server %d acknowledges rows of all databases", server), func(context.Context) error {
		for _, p := range w.per {
			if !p.ackedBy(server, after) {
				return fmt.Errorf("%s has none", p.db.Name())
			}
		}
		return nil
	})
}

func (p *written) ackedBy(server uint32, after time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range slices.Backward(p.acks) {
		switch {
		case a.At.Before(after):
			return false
		case a.GTID.Server == server:
			return true
		}
	}
	return false
}

// Gap is the time in which a database took no writes, as its clients saw it.
type Gap struct {
	Database    Database
	Last, First time.Time // last row of the old host, first of the new one
}

// Length is from the one to the other.
func (g Gap) Length() time.Duration { return g.First.Sub(g.Last) }

// Gaps returns for each database that was written to how long it took from its
// last row on the host from to its first after an instant on the other host. A
// database whose rows did not move is not in the answer.
func (w *Writers) Gaps(from uint32, after time.Time) []Gap {
	var gaps []Gap
	for _, p := range w.per {
		g := Gap{Database: p.db}
		for _, a := range w.Acks(p.db) {
			switch {
			case a.GTID.Server == from && (g.First.IsZero() || a.At.Before(g.First)):
				g.Last = a.At
			case a.GTID.Server != from && a.At.After(after) && g.First.IsZero():
				g.First = a.At
			}
		}
		if !g.Last.IsZero() && !g.First.IsZero() {
			gaps = append(gaps, g)
		}
	}
	return gaps
}
