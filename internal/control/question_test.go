package control

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a client wants of a status is what the daemon is asked for.
func TestQuestionArrives(t *testing.T) {
	d := &daemon{doc: Document{Node: "primary"}}
	socket, _ := serve(t, d)
	want := []Question{{}, {Instance: "compass"}, {Alone: true}, {Instance: "a b&report=yes?#%", Alone: true}}
	for _, q := range want {
		if doc, err := Dial(socket).Ask(t.Context(), q); err != nil || doc.Node != "primary" {
			t.Errorf("%+v: %+v, %v", q, doc, err)
		}
	}
	if diff := cmp.Diff(want, d.questions); diff != "" {
		t.Error(diff)
	}
}

func TestReadQuestion(t *testing.T) {
	for _, tc := range []struct {
		query string
		want  Question
		err   string
	}{
		{"", Question{}, ""},
		{"instance=compass", Question{Instance: "compass"}, ""},
		{"report=no&instance=a%20b", Question{Instance: "a b", Alone: true}, ""},
		{"report=yes", Question{}, ""},
		{"instnace=compass", Question{}, "may hold instance and report"},
		{"instance=", Question{}, "instance wants one value"},
		{"instance", Question{}, "instance wants one value"},
		{"instance=a&instance=b", Question{}, "instance wants one value"},
		{"report=none", Question{}, "yes or no"},
		{"report=%", Question{}, "not understood"},
	} {
		q, err := readQuestion(tc.query)
		if tc.err == "" && (err != nil || q != tc.want) || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%q: %+v, %v", tc.query, q, err)
		}
	}
}

// A report that is passed on as it came makes the same document as one that is part of
// it.
func TestStatusAnswer(t *testing.T) {
	doc, theirs := manyInstances(2), manyInstances(3)
	body, _, err := EncodeReport(theirs, CutNothing, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadReport(body)
	if err != nil {
		t.Fatal(err)
	}
	age := int64(120)
	doc.Peer.ReportAgeMS = &age
	if doc.Peer.Report, err = read.Whole(); err != nil {
		t.Fatal(err)
	}
	want, err := StatusAnswer{Document: *doc}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	doc.Peer.Report = nil
	got, err := StatusAnswer{Document: *doc, Report: read.JSON}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var one, other Document
	if err := json.Unmarshal(want, &one); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &other); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(one, other); diff != "" || other.Peer.Report == nil || len(other.Peer.Report.Instances) != 3 || len(want) != len(got) {
		t.Errorf("%d and %d bytes (-part +passed on):\n%s", len(want), len(got), diff)
	}
}

// Of several instances one is left on both nodes, and the rest is as it was.
func TestOnly(t *testing.T) {
	doc := manyInstances(3)
	doc.Host = &Host{Configuration: Configuration{Instances: []InstanceDigest{{"team0", "1"}, {"team1", "2"}}}}
	host := doc.Host
	doc.Peer.Report = manyInstances(4)
	doc.Only("team1")
	report := doc.Peer.Report
	if len(doc.Instances) != 1 || doc.Instances[0].Name != "team1" || len(report.Instances) != 1 || report.Instances[0].Name != "team1" ||
		len(doc.Peer.Instances) != 1 || doc.Peer.Instances[0].Name != "team1" || len(doc.Peer.Paths) != 1 {
		t.Errorf("%+v", doc)
	}
	if diff := cmp.Diff([]InstanceDigest{{"team1", "2"}}, doc.Host.Configuration.Instances); diff != "" || len(host.Configuration.Instances) != 2 {
		t.Errorf("digests %s; those of the host are %v", diff, host)
	}
	if doc.Only("team9"); len(doc.Instances)+len(doc.Peer.Instances)+len(report.Instances) != 0 {
		t.Errorf("one that there is not: %+v", doc)
	}
}
