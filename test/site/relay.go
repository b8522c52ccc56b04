package site

// A look at the standby's databases all the time: what they received and what
// they applied, up to the instant at which it becomes the active host and after.

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
)

// relayInterval is the time between two looks at one database.
const relayInterval = 20 * time.Millisecond

// RelayWatch watches one host's databases.
type RelayWatch struct {
	stop context.CancelFunc
	done sync.WaitGroup
	per  []*relayed
}

type relayed struct {
	mu       sync.Mutex // guards the fields below
	received Position   // highest ever seen
	applied  Position   // at the last look
	open     time.Time  // when the database was first seen to take writes
	atOpen   Position   // applied in that look
	looks    int
}

// WatchRelay starts watching; the caller stops it.
func (s *Site) WatchRelay(ctx context.Context, n *lab.Node) (*RelayWatch, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &RelayWatch{stop: cancel}
	for _, d := range s.Databases {
		db, err := n.DBAt(d.Socket())
		if err != nil {
			w.Stop()
			return nil, err
		}
		db.SetMaxOpenConns(1)
		r := &relayed{received: Position{}}
		w.per = append(w.per, r)
		w.done.Go(func() {
			defer db.Close()
			for pause(ctx, relayInterval) {
				r.look(ctx, db)
			}
		})
	}
	return w, nil
}

// Stop ends the watching.
func (w *RelayWatch) Stop() {
	w.stop()
	w.done.Wait()
}

func (r *relayed) look(ctx context.Context, db *sql.DB) {
	st, err := readReplica(ctx, db)
	if err != nil {
		return // the next look may do better; looks are counted
	}
	var closed bool
	if err := db.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&closed); err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	r.applied = st.applied
	for _, g := range st.received {
		r.received.note(g)
	}
	if !closed && r.open.IsZero() {
		r.open, r.atOpen = time.Now(), st.applied
	}
}

// Relayed is what was seen of one database.
type Relayed struct {
	Received Position // the highest that it ever said it had received
	AtOpen   Position // what it had applied when it was first seen open
	Opened   time.Time
	Looks    int
}

// Seen returns what was seen so far.
func (w *RelayWatch) Seen(d Database) Relayed {
	r := w.per[d-1]
	r.mu.Lock()
	defer r.mu.Unlock()
	return Relayed{r.received, r.atOpen, r.open, r.looks}
}

// readReplica asks a server for its channel and for its position. Received is
// asked first: what is applied meanwhile only makes the difference smaller.
func readReplica(ctx context.Context, db *sql.DB) (replicaState, error) {
	var st replicaState
	rows, err := db.QueryContext(ctx, "SHOW SLAVE STATUS")
	if err != nil {
		return st, fmt.Errorf("ask for the channel: %w", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return st, err
	}
	values := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return st, err
		}
	}
	if err := rows.Err(); err != nil {
		return st, err
	}
	field := map[string]string{}
	for i, c := range columns {
		field[c] = values[i].String
	}
	st.io, st.sql = field["Slave_IO_Running"], field["Slave_SQL_Running"]
	st.ioError, st.sqlError = field["Last_IO_Error"], field["Last_SQL_Error"]
	if st.received, err = ParsePosition(field["Gtid_IO_Pos"]); err != nil {
		return st, err
	}
	var applied string
	if err := db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_slave_pos").Scan(&applied); err != nil {
		return st, fmt.Errorf("ask for the position: %w", err)
	}
	st.applied, err = ParsePosition(applied)
	return st, err
}
