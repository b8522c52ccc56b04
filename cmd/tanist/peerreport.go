package main

// Each node tells the other one its own status about once a second, so that either can
// show both. It is made beside the control loop, which is asked as for any status.

import (
	"context"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/internal/peer"
)

const (
	// reportEvery is how often the status is told. Less often where making it takes more
	// than one part in reportShare of the time, or telling it more than reportBytes in a
	// second, but not less than reportRarest.
	reportEvery  = time.Second
	reportShare  = 200
	reportBytes  = 64 << 10
	reportRarest = 3 * time.Second
	// reportPatience bounds the making of one.
	reportPatience = 2 * time.Second
	// reportGood is how old a report may be for what it says to count.
	reportGood = 5 * time.Second
	// retryCut is after how many reports one is tried again with more in it.
	retryCut = 60
)

// tellReport tells the peer this node's status, until ctx ends.
func (d *daemon) tellReport(ctx context.Context) error {
	least, since := control.CutNothing, 0
	for wait := reportEvery; sleep(ctx, wait); {
		wait = reportEvery
		if !d.link.ReportWanted() {
			continue
		}
		if since++; since >= retryCut {
			least, since = control.CutNothing, 0
		}
		began := time.Now()
		cut, size, err := d.report(ctx, least)
		if err != nil && ctx.Err() == nil {
			d.log.Trouble("", "tell the peer this node's status", err)
		}
		least = max(least, cut)
		wait = min(max(reportEvery, reportShare*time.Since(began), time.Duration(size)*time.Second/reportBytes), reportRarest)
	}
	return nil
}

// report makes one and leaves it to the link, and returns what had to be left out and
// how many bytes it has.
func (d *daemon) report(ctx context.Context, least control.Cut) (control.Cut, int, error) {
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	doc, err := d.document(ctx, extent{look: (*survey).known})
	if err != nil {
		return least, 0, err
	}
	body, cut, err := control.EncodeReport(&doc, least, peer.MaxReport)
	if err != nil {
		return least, 0, err
	}
	return cut, len(body), d.link.Report(body)
}

// reported is the peer's newest report, read once.
type reported struct {
	mu   sync.Mutex // guards the fields below
	at   mono.Instant
	read *control.Report
}

// latest returns it and how old it is; nil when there is none, or none that can be
// read. An error is told once of each report.
func (r *reported) latest(link *peer.Link) (*control.Report, time.Duration, error) {
	body, at, ok := link.PeerReport()
	if !ok {
		return nil, 0, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if r.at != at {
		r.at = at
		r.read, err = control.ReadReport(body)
	}
	return r.read, bootClock().Sub(at), err
}

// both completes a document of this node with what the peer says of itself, as far as
// that is asked for.
func (d *daemon) both(doc control.Document, q control.Question) (control.StatusAnswer, error) {
	answer := control.StatusAnswer{Document: doc}
	if s, known := d.clocks.best(); known {
		offset, doubt := msOf(s.offset), msOf(s.doubt)
		answer.Peer.ClockOffsetMS, answer.Peer.ClockUncertaintyMS = &offset, &doubt
		answer.Peer.ClocksDiffer = s.offset.Abs()-s.doubt > control.ClockTolerance
	}
	if q.Alone {
		return answer, nil
	}
	report, age, err := d.reported.latest(d.link)
	if err != nil {
		d.log.Trouble("", "show the peer's side", err)
	}
	if report == nil {
		return answer, nil
	}
	ms := age.Milliseconds()
	answer.Peer.ReportAgeMS = &ms
	answer.Peer.Configuration = control.Compare(&doc, &report.Head)
	if age <= reportGood {
		answer.TheirSide(&report.Head, d.addresses(), age)
	}
	if q.Instance == "" {
		answer.Report = report.JSON
		return answer, nil
	}
	answer.Peer.Report, err = report.Whole()
	return answer, err
}

// addresses are this node's, as text, in the order of the paths.
func (d *daemon) addresses() []string {
	var as []string
	for _, a := range d.nodes[d.self].Addresses {
		as = append(as, a.String())
	}
	return as
}

func msOf(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
