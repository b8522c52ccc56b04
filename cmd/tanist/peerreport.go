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
	// reportEvery is how often the status is told; reportShare is the least part of the
	// time that making one may not take, and reportRarest the rarest it is told for that.
	reportEvery  = time.Second
	reportShare  = 200
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
		cut, err := d.report(ctx, least)
		if err != nil && ctx.Err() == nil {
			d.log.Trouble("", "tell the peer this node's status", err)
		}
		least = max(least, cut)
		wait = min(max(reportEvery, reportShare*time.Since(began)), reportRarest)
	}
	return nil
}

// report makes one and leaves it to the link, and returns what had to be left out.
func (d *daemon) report(ctx context.Context, least control.Cut) (control.Cut, error) {
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	doc, err := d.document(ctx, (*survey).known)
	if err != nil {
		return least, err
	}
	body, cut, err := control.EncodeReport(&doc, least, peer.MaxReport)
	if err != nil {
		return least, err
	}
	return cut, d.link.Report(body)
}

// reported is the peer's newest report, taken apart once.
type reported struct {
	mu  sync.Mutex // guards the fields below
	at  mono.Instant
	doc *control.Document
}

// latest returns it and how old it is; nil when there is none, or none that can be
// read. An error is told once of each report.
func (r *reported) latest(link *peer.Link) (*control.Document, time.Duration, error) {
	body, at, ok := link.PeerReport()
	if !ok {
		return nil, 0, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if r.at != at {
		r.at = at
		r.doc, err = control.DecodeReport(body)
	}
	return r.doc, bootClock().Sub(at), err
}

// both completes a document of this node with what the peer says of itself.
func (d *daemon) both(doc *control.Document) {
	if s, known := d.clocks.best(); known {
		offset, doubt := msOf(s.offset), msOf(s.doubt)
		doc.Peer.ClockOffsetMS, doc.Peer.ClockUncertaintyMS = &offset, &doubt
		doc.Peer.ClocksDiffer = s.offset.Abs()-s.doubt > control.ClockTolerance
	}
	report, age, err := d.reported.latest(d.link)
	if err != nil {
		d.log.Trouble("", "show the peer's side", err)
	}
	if report == nil {
		return
	}
	ms := age.Milliseconds()
	doc.Peer.Report, doc.Peer.ReportAgeMS = report, &ms
	doc.Peer.Configuration = control.Compare(doc, report)
	if age <= reportGood {
		doc.TheirSide(d.addresses(), age)
	}
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
