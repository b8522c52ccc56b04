package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication"
)

// question is what a query asks.
type question struct {
	instance string        // empty: the only one
	maxLag   time.Duration // from 0
	limited  bool          // maxLag was given
}

// ask reads the query. What is misspelt must not pass as a question that was not asked.
func ask(r *http.Request, allowed ...string) (question, error) {
	var q question
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, errors.New("the query is not understood")
	}
	for _, name := range allowed {
		given := values[name]
		delete(values, name)
		switch {
		case len(given) == 0:
			continue
		case len(given) > 1 || given[0] == "":
			return q, fmt.Errorf("%s wants one value", name)
		case name == "instance":
			q.instance = given[0]
		case name == "max_lag":
			d, err := time.ParseDuration(given[0])
			if err != nil || d < 0 {
				return q, errors.New("max_lag wants a time from 0s: 5s, 500ms")
			}
			q.maxLag, q.limited = d, true
		}
	}
	if len(values) > 0 {
		return q, fmt.Errorf("the query may hold %s", listed(allowed))
	}
	return q, nil
}

func listed(allowed []string) string {
	if len(allowed) == 0 {
		return "nothing"
	}
	return strings.Join(allowed, " and ") + ", and nothing else"
}

// active answers as check-master does: 200 for its exit status 0, else 503.
func (s *Server) active(w http.ResponseWriter, r *http.Request) {
	if in, _, ok := s.about(w, r, "instance"); ok {
		v := control.Judge(in)
		say(w, v.Word == control.WordActive, v)
	}
}

// standby answers 200 on a standby, whose databases lag no more than is asked.
func (s *Server) standby(w http.ResponseWriter, r *http.Request) {
	in, q, ok := s.about(w, r, "instance", "max_lag")
	if !ok {
		return
	}
	v := control.Judge(in)
	fits := v.Word == control.WordStandby
	if fits && q.limited {
		if late := late(in, q.maxLag); late != "" {
			fits, v.Reason = false, late
		}
	}
	say(w, fits, v)
}

// late says which database lags more than that, or may; empty for none.
func late(in control.Instance, most time.Duration) string {
	for _, d := range in.Databases {
		for _, r := range in.Gate.Reasons {
			if r.Database == d.Name && hidesLag(r.Code) {
				return fmt.Sprintf("the lag of %s is unknown: %s: %s", d.Name, r.Code, r.Detail)
			}
		}
		switch {
		case d.LagSeconds == nil:
			return fmt.Sprintf("the lag of %s is unknown", d.Name)
		case *d.LagSeconds > most.Seconds():
			return fmt.Sprintf("%s lags %.3f s", d.Name, *d.LagSeconds)
		}
	}
	return ""
}

// hidesLag reports whether a lag says nothing beside what keeps the gate closed: one
// that was measured before grows unseen.
func hidesLag(c replication.Code) bool {
	switch c {
	case replication.IOStopped, replication.SQLStopped, replication.NotKnown, replication.Unreachable, replication.NotReplica:
		return true
	default:
		return false
	}
}

// about finds the instance that a question is about, or answers what is wrong.
func (s *Server) about(w http.ResponseWriter, r *http.Request, allowed ...string) (in control.Instance, q question, ok bool) {
	q, err := ask(r, allowed...)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return in, q, false
	}
	facts, err := s.facts.ask(r.Context())
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, fmt.Errorf("the daemon does not answer: %w", err))
		return in, q, false
	}
	switch in, err = control.Pick(facts.Document, q.instance); {
	case errors.Is(err, control.ErrUnnamed):
		refuse(w, http.StatusBadRequest, fmt.Errorf("%w with ?instance=NAME", err))
	case err != nil:
		refuse(w, http.StatusNotFound, err)
	default:
		return in, q, true
	}
	return in, q, false
}

// say answers with the word and its reason, on one line.
func say(w http.ResponseWriter, yes bool, v control.Verdict) {
	status := http.StatusOK
	if !yes {
		status = http.StatusServiceUnavailable
	}
	text(w, status, string(v.Word)+": "+v.Reason)
}

func refuse(w http.ResponseWriter, status int, err error) { text(w, status, err.Error()) }

func text(w http.ResponseWriter, status int, line string) {
	line = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, line))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line+"\n") //nolint:gosec // text/plain, not to be sniffed
}

// document is what anybody may read of the status.
func (s *Server) document(ctx context.Context) (control.Document, error) {
	facts, err := s.facts.ask(ctx)
	if err != nil {
		return control.Document{}, err
	}
	doc, err := facts.Whole()
	return doc.WithoutOutput(), err
}

// status answers with the document of `tanist status --json`.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if _, err := ask(r); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	doc, err := s.document(r.Context())
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, fmt.Errorf("the daemon does not answer: %w", err))
		return
	}
	s.answer(w, r, func(p *page) {
		body, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			refuse(p, http.StatusInternalServerError, err)
			return
		}
		p.Header().Set("Content-Type", "application/json")
		_, _ = p.Write(append(body, '\n'))
	})
}

// answer makes a page when it is its turn, and sends it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, f func(*page)) {
	p, err := s.pages.make(r.Context(), f)
	if err != nil {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, errors.New("too many ask"))
		return
	}
	p.sendTo(w)
}
