package site

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
)

const (
	// writeInterval is the pace of the client's writes when nothing is in the way.
	writeInterval = 2 * time.Millisecond
	// uploadInterval is the pace of its uploads.
	uploadInterval = 500 * time.Millisecond
	// patience bounds one write or upload: longer is an error, and tried again.
	patience = time.Second
)

// Client writes rows and uploads files through the virtual address until it is
// stopped, and remembers what was acknowledged. It never sends the same row
// twice: a row whose acknowledgement is missing counts as unknown.
type Client struct {
	site *Site
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	acked    []int64
	unknown  []int64
	uploads  []string
	lastAck  time.Time
	gap      time.Duration
	failures int
}

// Report is what the client measured.
type Report struct {
	Acknowledged int
	Unknown      int // sent, and the answer was lost
	Uploads      int
	LongestGap   time.Duration // between two acknowledged rows
	Failures     int
}

// StartClient starts a client. The caller stops it.
func (s *Site) StartClient(ctx context.Context) (*Client, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &Client{site: s, stop: cancel, lastAck: time.Now()}
	db, err := s.Switch.OpenDB(netip.MustParseAddr(VIP), appUser, appPass, "app")
	if err != nil {
		cancel()
		return nil, err
	}
	// One connection: the next write goes where the address is now.
	db.SetMaxOpenConns(1)
	dir, err := os.MkdirTemp("", "tanist-uploads-")
	if err != nil {
		cancel()
		return nil, err
	}
	c.done.Go(func() {
		defer db.Close()
		c.write(ctx, db)
	})
	c.done.Go(func() {
		defer os.RemoveAll(dir)
		c.upload(ctx, dir)
	})
	return c, nil
}

// Stop ends the client and returns what it measured.
func (c *Client) Stop() Report {
	c.stop()
	c.done.Wait()
	return c.Report()
}

// Report returns what was measured so far.
func (c *Client) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Report{len(c.acked), len(c.unknown), len(c.uploads), c.gap, c.failures}
}

// ResetGap starts the measurement of the longest gap anew and returns it so far.
func (c *Client) ResetGap() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	gap := c.gap
	c.gap = 0
	return gap
}

// AwaitAck waits until a row is acknowledged that was sent after the call.
func (c *Client) AwaitAck(ctx context.Context) error {
	start := c.Report().Acknowledged
	return Await(ctx, "the client writes through "+VIP, func(context.Context) error {
		// One may have been under way, the next was not.
		if n := c.Report().Acknowledged; n < start+2 {
			return fmt.Errorf("%d rows acknowledged", n-start)
		}
		return nil
	})
}

func (c *Client) write(ctx context.Context, db *sql.DB) {
	for id := time.Now().UnixNano() / 1000; pause(ctx, writeInterval); id++ {
		ctx, cancel := context.WithTimeout(ctx, patience)
		conn, err := db.Conn(ctx)
		if err == nil {
			_, err = conn.ExecContext(ctx, "INSERT INTO writes (id, host) VALUES (?, @@hostname)", id)
			c.wrote(id, err)
			if err != nil {
				// Whatever is wrong with it, the next write makes a new one.
				_ = conn.Raw(func(any) error { return errBad })
			}
			_ = conn.Close()
		} else {
			c.failed()
		}
		cancel()
	}
}

var errBad = errors.New("not to be used again")

func (c *Client) failed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures++
}

func (c *Client) wrote(id int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failures++
		// A refusal is an answer: the row is not there. Anything else may be.
		if !strings.Contains(err.Error(), "--read-only") {
			c.unknown = append(c.unknown, id)
		}
		return
	}
	now := time.Now()
	if gap := now.Sub(c.lastAck); len(c.acked) > 0 && gap > c.gap {
		c.gap = gap
	}
	c.lastAck = now
	c.acked = append(c.acked, id)
}

func (c *Client) upload(ctx context.Context, dir string) {
	for i := 0; pause(ctx, uploadInterval); i++ {
		name := fmt.Sprintf("upload-%d-%d", os.Getpid(), i)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("uploaded as "+name+"\n"), 0o644); err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, 5*patience)
		_, err := c.site.Switch.Exec(ctx, "rsync", "--contimeout=1", "--timeout=2", path, "rsync://"+VIP+"/data/")
		cancel()
		_ = os.Remove(path)
		if err == nil {
			c.mu.Lock()
			c.uploads = append(c.uploads, name)
			c.mu.Unlock()
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Found counts the acknowledged rows that a host has, and names those it lacks.
func (c *Client) Found(ctx context.Context, n *lab.Node) (found int, missing []int64, err error) {
	rows, err := n.SQL(ctx, "SELECT id FROM app.writes")
	if err != nil {
		return 0, nil, err
	}
	have := make(map[string]bool, len(rows))
	for _, r := range rows {
		have[r[0]] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.acked {
		if have[fmt.Sprint(id)] {
			found++
		} else {
			missing = append(missing, id)
		}
	}
	return found, missing, nil
}

// UploadsOn counts the uploaded files that a host has.
func (c *Client) UploadsOn(ctx context.Context, n *lab.Node) (int, error) {
	out, err := n.Exec(ctx, "ls", "/srv/data")
	if err != nil {
		return 0, err
	}
	have := map[string]bool{}
	for _, f := range strings.Fields(out) {
		have[f] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	count := 0
	for _, u := range c.uploads {
		if have[u] {
			count++
		}
	}
	return count, nil
}
