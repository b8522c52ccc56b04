package main

// What Tanist said about the loss of a takeover, held against what was lost.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// reports are Tanist's words about a takeover, by database.
type reports map[string]control.Loss

func (rs reports) String() string {
	if len(rs) == 0 {
		return "no loss reported"
	}
	count := func(n *uint64) string {
		if n == nil {
			return "?"
		}
		return strconv.FormatUint(*n, 10)
	}
	var parts []string
	for name, r := range rs {
		age := "before a restart"
		if r.HeardSeconds != nil {
			age = fmt.Sprintf("%.0f ms ago", *r.HeardSeconds*1e3)
		}
		parts = append(parts, fmt.Sprintf("%s %s to %s, heard %s", name, count(r.Proved), count(r.AtMost), age))
	}
	slices.Sort(parts)
	return "reported " + strings.Join(parts, "; ")
}

// lossReports is what status says of the promotion that just took place; the
// journal must say the same.
func (k *soak) lossReports(ctx context.Context, active *lab.Node) (reports, error) {
	doc, err := k.Status(ctx, active)
	if err != nil {
		return nil, err
	}
	last := doc.Instances[0].LastTransition
	if last == nil || last.Kind != "promote" || last.Planned {
		return nil, fmt.Errorf("%s says nothing of its promotion: %+v", active.Hostname, last)
	}
	said := reports{}
	for _, l := range last.Losses {
		if _, twice := said[l.Database]; twice {
			k.wrong("%s is in the report twice", l.Database)
		}
		said[l.Database] = l
	}
	journaled, err := missed(ctx, active, last.Epoch)
	if err != nil {
		return nil, err
	}
	if diff := cmp.Diff(said, journaled); diff != "" {
		k.wrong("status (-) and journal (+) differ about what epoch %d lost: %s", last.Epoch, diff)
	}
	return said, nil
}

const journalDir = "/var/lib/tanist/journal"

// missed reads the journal of a host, record by record, for what was missed in an
// epoch. A record is a JSON object that begins with its date.
func missed(ctx context.Context, n *lab.Node, epoch uint64) (reports, error) {
	list, err := n.Exec(ctx, "find", journalDir, "-type", "f")
	if err != nil {
		return nil, err
	}
	found := reports{}
	for _, name := range strings.Fields(list) {
		data, err := n.ReadFile(path.Clean(name))
		if err != nil {
			return nil, err
		}
		if err := missedIn(data, epoch, found); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", name, n.Hostname, err)
		}
	}
	return found, nil
}

func missedIn(data []byte, epoch uint64, found reports) error {
	begin := []byte(`{"at":"`)
	records := 0
	for {
		i := bytes.Index(data, begin)
		if i < 0 {
			if records == 0 {
				return errors.New("there is no record in it")
			}
			return nil
		}
		var r struct {
			Kind  string
			Epoch uint64
			Loss  *struct {
				Database     string
				Proved       *uint64
				AtMost       *uint64        `json:"at_most"`
				HeardAge     *time.Duration `json:"heard_age_ns"`
				Transactions string
			}
		}
		dec := json.NewDecoder(bytes.NewReader(data[i:]))
		if err := dec.Decode(&r); err != nil {
			return fmt.Errorf("a record at %d: %w", i, err)
		}
		data = data[i+int(dec.InputOffset()):]
		records++
		if r.Kind != "missed" || r.Epoch != epoch {
			continue
		}
		if r.Loss == nil {
			return errors.New("a record of a loss without one")
		}
		l := control.Loss{Database: r.Loss.Database, Proved: r.Loss.Proved, AtMost: r.Loss.AtMost, Transactions: r.Loss.Transactions}
		if r.Loss.HeardAge != nil {
			s := r.Loss.HeardAge.Seconds()
			l.HeardSeconds = &s
		}
		found[l.Database] = l
	}
}

// judge asks the returned host what it had, and holds the reports against that.
func (k *soak) judge(ctx context.Context, returned *lab.Node, lost []loss, said reports, t *losses) error {
	rows := 0
	for i := range lost {
		l := &lost[i]
		if err := k.count(ctx, returned, l); err != nil {
			return err
		}
		rows += len(l.rows)
		t.transactions += l.transactions
		for _, a := range l.rows {
			if a.GTID.Seq <= l.at[a.GTID.Domain].Seq || a.GTID.Seq > l.at[a.GTID.Domain].Seq+l.transactions {
				k.wrong("%s: row %d, transaction %s, is lost and not among the %d after %v", l.database.Name(), a.ID, a.GTID, l.transactions, l.at)
			}
		}
		r, is := said[l.database.Name()]
		if !is && l.transactions > 0 {
			k.wrong("%s lost %d transactions, %d of them acknowledged, and nothing was reported", l.database.Name(), l.transactions, len(l.rows))
		}
		if is {
			k.compareLoss(l, r, t)
		}
	}
	if rows > 0 {
		t.cuts++
	}
	t.rows += rows
	return nil
}

// count asks a returned host's database what it wrote after the position at which
// the other host opened. It was alone to write from there on.
func (k *soak) count(ctx context.Context, returned *lab.Node, l *loss) error {
	return site.Await(ctx, l.database.Name()+" of "+returned.Hostname+" says what it had", func(ctx context.Context) error {
		state, err := l.database.History(ctx, returned)
		if err != nil {
			return err
		}
		l.transactions = 0
		for of, seq := range state {
			if at := l.at[of[0]].Seq; of[1] == k.ServerID(returned) && seq > at {
				l.transactions += seq - at
			}
		}
		return nil
	})
}

// compareLoss holds one report against the truth.
func (k *soak) compareLoss(l *loss, r control.Loss, t *losses) {
	name := l.database.Name()
	if r.Proved != nil {
		t.proved += *r.Proved
		if *r.Proved > l.transactions {
			k.wrong("%s lost %d transactions, %d were reported as proved", name, l.transactions, *r.Proved)
		}
	}
	if r.AtMost == nil {
		t.unbounded++
	} else {
		t.atMost += *r.AtMost
		if l.transactions > *r.AtMost {
			k.wrong("%s lost %d transactions, %d of them acknowledged; reported were at most %d", name, l.transactions, len(l.rows), *r.AtMost)
		}
	}
	n, err := listed(r.Transactions, l.at, l.transactions)
	switch {
	case err != nil:
		k.wrong("%s: %v", name, err)
	case r.Proved == nil && n > 0, r.Proved != nil && *r.Proved != n && !strings.HasSuffix(r.Transactions, "..."):
		k.wrong("%s: %d transactions are listed as proved: %+v", name, n, r)
	}
}

// listed counts the transactions of a list like 0-1-205..207, all of which must
// be among those after a position.
func listed(text string, at site.Position, lost uint64) (uint64, error) {
	var n uint64
	for _, m := range regexp.MustCompile(`(\d+)-\d+-(\d+)(?:\.\.(\d+))?`).FindAllStringSubmatch(text, -1) {
		domain, err1 := strconv.ParseUint(m[1], 10, 32)
		first, err2 := strconv.ParseUint(m[2], 10, 64)
		last := first
		var err3 error
		if m[3] != "" {
			last, err3 = strconv.ParseUint(m[3], 10, 64)
		}
		if err := errors.Join(err1, err2, err3); err != nil {
			return n, err
		}
		after := at[uint32(domain)].Seq
		if first <= after || last < first || last > after+lost {
			return n, fmt.Errorf("%s is listed as lost; lost are the %d after %d", m[0], lost, after)
		}
		n += last - first + 1
	}
	return n, nil
}
