package control

// A report is a node's document as the other node gets it. The link carries so much of
// it and no more, so what a person asks the node itself for is left out first.

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Cut is what was left out of a report, each with all before it.
type Cut uint8

// What is left out, in this order.
const (
	CutNothing   Cut = iota
	CutSteps         // steps of transitions and the losses of promotions
	CutPositions     // positions of databases
	CutDetails       // health checks that are well, units, labels, drift, and counters of drops
	CutInstances     // whole instances, the last of the document first
)

// String names it as the document does.
func (c Cut) String() string {
	switch c {
	case CutNothing:
		return "nothing"
	case CutSteps:
		return "steps"
	case CutPositions:
		return "positions"
	case CutDetails:
		return "details"
	case CutInstances:
		return "instances"
	}
	return fmt.Sprintf("Cut(%d)", uint8(c))
}

// EncodeReport returns the JSON of a document for the other node, of at most limit bytes,
// with everything left out up to least and then as much more as it takes. What it leaves
// out it takes from doc. What this node knows of the other one's instances is not told.
func EncodeReport(doc *Document, least Cut, limit int) ([]byte, Cut, error) {
	doc.Peer.Report, doc.Peer.ReportAgeMS, doc.Peer.Instances = nil, nil, []PeerInstance{}
	for cut := CutNothing; ; cut++ {
		doc.leaveOut(cut)
		if cut < least {
			continue
		}
		if cut == CutInstances {
			b, err := doc.fewer(limit)
			return b, cut, err
		}
		b, err := json.Marshal(doc)
		if err != nil || len(b) <= limit {
			return b, cut, err
		}
	}
}

// leaveOut takes one kind of things out.
func (doc *Document) leaveOut(cut Cut) {
	if cut == CutNothing {
		return
	}
	doc.Cut = append(doc.Cut, cut.String())
	for i := range doc.Instances {
		in := &doc.Instances[i]
		switch cut {
		case CutSteps:
			if in.LastTransition != nil {
				in.LastTransition.Steps, in.LastTransition.Losses = []Step{}, nil
			}
		case CutPositions:
			for j := range in.Databases {
				in.Databases[j].Position = nil
			}
		case CutDetails:
			in.Units, in.Labels, in.Drift = []Unit{}, []Label{}, []Drift{}
			in.Health = slices.DeleteFunc(in.Health, func(h Health) bool { return h.OK != nil && *h.OK })
			if in.Heartbeat != nil {
				in.Heartbeat.Dropped, in.Heartbeat.Unproved = map[string]uint64{}, map[string]uint64{}
			}
		case CutNothing, CutInstances:
		}
	}
}

// fewer leaves as many instances as there is room for.
func (doc *Document) fewer(limit int) ([]byte, error) {
	for {
		b, err := json.Marshal(doc)
		if err != nil || len(b) <= limit {
			return b, err
		}
		n := len(doc.Instances)
		if n == 0 {
			return nil, fmt.Errorf("report the status: %d bytes without an instance, more than %d", len(b), limit)
		}
		doc.Instances = doc.Instances[:min(n-1, n*limit/len(b))]
	}
}

// maxReported bounds the lists of instances in a report, which take far more room
// than their JSON.
const maxReported = 1024

// Report is the other node's document as that came, and what of it is no instance.
// Taking the instances apart is left to who wants them.
type Report struct {
	Head Document
	// JSON is the whole report, without what it says of this node's instances. It is valid
	// and bounded as by Whole; what this release does not know may still be in it.
	JSON json.RawMessage
}

// ReadReport reads a report of the other node.
func ReadReport(b []byte) (*Report, error) {
	type peer struct {
		Peer
		Report    *struct{}  `json:"report"`
		Instances []struct{} `json:"instances"`
	}
	var head struct {
		Document
		Instances []struct{} `json:"instances"`
		Peer      peer       `json:"peer"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("read the peer's status: %w", err)
	}
	if n := max(len(head.Instances), len(head.Peer.Instances)); n > maxReported {
		return nil, fmt.Errorf("read the peer's status: %d instances, more than %d", n, maxReported)
	}
	r := &Report{Head: head.Document, JSON: b}
	r.Head.Peer = head.Peer.Peer
	if head.Peer.Report == nil && len(head.Peer.Instances) == 0 && utf8.Valid(b) {
		return r, nil
	}
	doc, err := r.Whole()
	if err == nil {
		r.JSON, err = json.Marshal(doc)
	}
	return r, err
}

// Whole takes a report apart. What this release does not know is passed over.
func (r *Report) Whole() (*Document, error) {
	var doc Document
	if err := json.Unmarshal(r.JSON, &doc); err != nil {
		return nil, fmt.Errorf("read the peer's status: %w", err)
	}
	doc.Peer.Report, doc.Peer.ReportAgeMS, doc.Peer.Instances = nil, nil, []PeerInstance{}
	return &doc, nil
}

// TheirSide fills in what the peer hears of this node, by its report of that age. own are
// this node's addresses in the order of the paths.
func (doc *Document) TheirSide(report *Document, own []string, age time.Duration) {
	for i := range doc.Peer.Paths {
		p := &doc.Peer.Paths[i]
		for _, theirs := range report.Peer.Paths {
			if i < len(own) && theirs.Address == own[i] {
				p.PeerHeard, p.PeerHeardMSAgo = heardThere(theirs.LastHeardMS, age)
				if hears := theirs.Heard; p.HearsUs == nil {
					p.HearsUs = &hears
				}
			}
		}
	}
	for i := range doc.Heartbeat {
		p := &doc.Heartbeat[i]
		for _, theirs := range report.Heartbeat {
			if p.Interface == "" && theirs.Interface == "" && theirs.Local == p.Peer && theirs.Peer == p.Local ||
				p.Interface != "" && theirs.Interface == p.Interface && theirs.Peer == p.Peer {
				p.PeerHeard, p.PeerHeardMSAgo = heardThere(theirs.LastHeardMS, age)
			}
		}
	}
}

func heardThere(ms *int64, age time.Duration) (*bool, *int64) {
	heard := ms != nil
	if !heard {
		return &heard, nil
	}
	ago := *ms + age.Milliseconds()
	return &heard, &ago
}
