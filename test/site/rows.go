package site

// What became of the rows that were acknowledged.

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/tanist-ha/tanist/test/lab"
)

// Rows is what a host's table has of the rows that the writers sent.
type Rows struct {
	Database   Database
	Found      int     // acknowledged rows that are there
	Missing    []Ack   // acknowledged rows that are not
	Duplicated []int64 // rows that are there more than once
	Unheard    int     // rows that are there without an acknowledgement
}

// Rows compares the table of each database on a host with what was acknowledged.
// The writers must be stopped, and all they sent since the table was empty be
// theirs.
func (s *Site) Rows(ctx context.Context, w *Writers, n *lab.Node) ([]Rows, error) {
	all := make([]Rows, len(s.Databases))
	err := s.eachDatabase(ctx, func(ctx context.Context, d Database) error {
		rows, err := d.SQL(ctx, n, "SELECT id FROM app.writes")
		if err != nil {
			return err
		}
		count := make(map[int64]int, len(rows))
		for _, r := range rows {
			id, err := strconv.ParseInt(r[0], 10, 64)
			if err != nil {
				return fmt.Errorf("read a row of %s: %w", d.Name(), err)
			}
			count[id]++
		}
		all[d-1] = compareRows(d, w.Acks(d), count)
		return nil
	})
	return all, err
}

func compareRows(d Database, acks []Ack, count map[int64]int) Rows {
	r := Rows{Database: d}
	for _, a := range acks {
		if count[a.ID] == 0 {
			r.Missing = append(r.Missing, a)
		} else {
			r.Found++
		}
	}
	for id, times := range count {
		if times > 1 {
			r.Duplicated = append(r.Duplicated, id)
		}
	}
	slices.Sort(r.Duplicated)
	r.Unheard = len(count) - r.Found
	return r
}

// Unequal compares the tables of both hosts, which must have caught up with
// nobody writing, and says which differ.
func (s *Site) Unequal(ctx context.Context) ([]string, error) {
	differ := make([]string, len(s.Databases))
	err := s.eachDatabase(ctx, func(ctx context.Context, d Database) error {
		var sums [2]string
		for i, n := range s.Nodes() {
			rows, err := d.SQL(ctx, n, "CHECKSUM TABLE app.writes EXTENDED")
			if err != nil {
				return err
			}
			sums[i] = rows[0][1]
		}
		if sums[0] != sums[1] || sums[0] == "NULL" {
			differ[d-1] = fmt.Sprintf("%s: checksum %s on %s, %s on %s", d.Name(), sums[0], s.Primary.Hostname, sums[1], s.Reserve.Hostname)
		}
		return nil
	})
	return slices.DeleteFunc(differ, func(s string) bool { return s == "" }), err
}
