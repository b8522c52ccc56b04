package control

// A status can be asked for in part. Hundreds of instances on both nodes are half a
// megabyte, and a script that asks about one of them, again and again, wants one.

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
)

// Question is what somebody wants of a status; empty: all there is.
type Question struct {
	// Instance is the only one that is wanted, on both nodes. Of one that there is not
	// there is no more than of none.
	Instance string
	// Alone leaves out what the peer says of itself.
	Alone bool
}

// Names of a question in a query.
const (
	askInstance = "instance"
	askReport   = "report" // yes or no
)

func (q Question) query() string {
	v := url.Values{}
	if q.Instance != "" {
		v.Set(askInstance, q.Instance)
	}
	if q.Alone {
		v.Set(askReport, "no")
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// readQuestion reads a query. What is misspelt is not taken for a question about all.
func readQuestion(query string) (q Question, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return q, errors.New("the query is not understood")
	}
	for name, given := range values {
		switch {
		case len(given) != 1 || given[0] == "":
			return q, fmt.Errorf("%s wants one value", name)
		case name == askInstance:
			q.Instance = given[0]
		case name == askReport && (given[0] == "yes" || given[0] == "no"):
			q.Alone = given[0] == "no"
		case name == askReport:
			return q, fmt.Errorf("%s wants yes or no", askReport)
		default:
			return q, fmt.Errorf("the query may hold %s and %s, and nothing else", askInstance, askReport)
		}
	}
	return q, nil
}

// StatusAnswer is a document with the peer's report as that came: to pass it on costs
// less than to take it apart.
type StatusAnswer struct {
	Document
	// Report takes the place of Peer.Report unless it is nil.
	Report json.RawMessage
}

// Encode returns the JSON of the answer.
func (a StatusAnswer) Encode() ([]byte, error) {
	if a.Report == nil {
		return json.Marshal(a.Document)
	}
	type peer struct {
		Peer
		Report json.RawMessage `json:"report"`
	}
	return json.Marshal(struct {
		Document
		Peer peer `json:"peer"`
	}{a.Document, peer{a.Peer, a.Report}})
}

// Whole returns the document with the report taken apart.
func (a StatusAnswer) Whole() (Document, error) {
	if a.Report == nil {
		return a.Document, nil
	}
	doc, report := a.Document, Document{}
	if err := json.Unmarshal(a.Report, &report); err != nil {
		return doc, fmt.Errorf("read the peer's status: %w", err)
	}
	doc.Peer.Report = &report
	return doc, nil
}

// Only leaves one instance of each node in the document.
func (doc *Document) Only(instance string) {
	doc.Instances = slices.DeleteFunc(doc.Instances, func(in Instance) bool { return in.Name != instance })
	doc.Peer.Instances = slices.DeleteFunc(doc.Peer.Instances, func(in PeerInstance) bool { return in.Name != instance })
	if h := doc.Host; h != nil {
		only := *h
		only.Configuration.Instances = []InstanceDigest{}
		for _, d := range h.Configuration.Instances {
			if d.Name == instance {
				only.Configuration.Instances = append(only.Configuration.Instances, d)
			}
		}
		doc.Host = &only
	}
	if doc.Peer.Report != nil {
		doc.Peer.Report.Only(instance)
	}
}
