package control

// Whatever is not a GET is taken for a change: its caller has to be one who may,
// and the daemon journals it before it acts. That is so for every route there is, also
// for one that says nothing about itself, so that none can be forgotten. What changes
// nothing, but has the daemons run checks and probes, is journaled by nobody and has to
// be asked for by one who may as well.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/failover"
)

const (
	// maxArguments bounds what is journaled of a command's arguments, in bytes.
	maxArguments = 1024
	// maxChanges bounds the changes under way at once of all users but root, and
	// userChanges those of one. Each endpoint has a bound of its own beside it.
	maxChanges  = 16
	userChanges = 8
)

// Command is a change that somebody wants, as it is journaled.
type Command struct {
	Instance  string // empty: none was named
	Verb      string // switchover, replication follow, block
	Arguments string // what else was asked for, as key=value
	Reason    string // the caller's words
	UID       uint32 // of the caller, from the kernel
	// Safer says that it may make the pair safer, and so is not kept from it by a
	// journal that cannot be written: what else it needs of the journal the core knows.
	Safer bool
}

// effect is what a request has the daemon do.
type effect uint8

const (
	looks   effect = iota // it tells what it knows
	tries                 // it changes nothing, and runs checks or probes, here or at the peer
	changes               // the rest
)

// Refusal is a change that was refused before it began.
type Refusal struct {
	Verb string
	UID  uint32
	Why  error
}

// Recorder is what the server tells of changes.
type Recorder interface {
	// Commanded journals a command before it is carried out. With an error it is not.
	Commanded(ctx context.Context, c Command) error
	// Refused is told of a command whose caller may not. It does not block.
	Refused(r Refusal)
}

// describer says what a request is about. With an error it counts as a change.
type describer func(body []byte) (c Command, e effect, err error)

// describers are of the routes of which there is more to say than describe does.
func describers() map[string]describer {
	return map[string]describer{
		"POST /v1/switchover":  describeSwitchover,
		"POST /v1/replication": describeReplication,
		"POST /v1/announce":    describeAnnounce,
		"POST /v1/block":       describeHold(failover.BlockHold),
		"POST /v1/maintenance": describeHold(failover.MaintenanceHold),
		"POST /v1/plan":        triesOnly("hooks plan"),
		"POST /v1/doctor":      triesOnly("doctor"),
	}
}

// triesOnly is of a route that runs checks.
func triesOnly(verb string) describer {
	return func([]byte) (Command, effect, error) { return Command{Verb: verb}, tries, nil }
}

// routes are the endpoints of the server.
type routes struct {
	server   *Server
	mux      *http.ServeMux
	patterns []string
}

// HandleFunc adds an endpoint, as http.ServeMux does.
func (rt *routes) HandleFunc(pattern string, h http.HandlerFunc) {
	rt.patterns = append(rt.patterns, pattern)
	say := describers()[pattern]
	if say == nil {
		say = func(body []byte) (Command, effect, error) { return describe(pattern, body) }
	}
	rt.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			h(w, r)
			return
		}
		rt.server.change(w, r, say, h)
	})
}

// change lets a change through that its caller may make, once it is journaled.
func (s *Server) change(w http.ResponseWriter, r *http.Request, say describer, h http.HandlerFunc) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, fmt.Sprintf("the request is not understood: %v", err), http.StatusBadRequest)
		return
	}
	// The request is here: from now on its caller may wait as long as the answer takes.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	r.Body = io.NopCloser(bytes.NewReader(body))
	cred, _ := r.Context().Value(callerKey{}).(*unix.Ucred)
	if cred == nil {
		http.Error(w, "the kernel does not say who is asking", http.StatusForbidden)
		return
	}
	c, e, err := say(body)
	groups, _ := r.Context().Value(groupsKey{}).([]uint32)
	if denied := s.authority.mayChange(cred, groups); denied != nil && (e != looks || err != nil) {
		s.daemon.Refused(Refusal{Verb: c.Verb, UID: cred.Uid, Why: denied})
		http.Error(w, denied.Error(), http.StatusForbidden)
		return
	}
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case e != changes:
		h(w, r)
		return
	}
	if !s.changes.take(cred.Uid) {
		http.Error(w, "too many changes are under way", http.StatusTooManyRequests)
		return
	}
	defer s.changes.giveBack(cred.Uid)
	c.UID = cred.Uid
	if err := s.daemon.Commanded(r.Context(), c); err != nil {
		http.Error(w, fmt.Sprintf("nothing was changed: %v", err), http.StatusServiceUnavailable)
		return
	}
	h(w, r)
}

// describe is for a route that says nothing more of itself: its name is the verb,
// the body's fields are the arguments.
func describe(pattern string, body []byte) (Command, effect, error) {
	c := Command{Verb: path.Base(pattern), Safer: safer(pattern)}
	fields := map[string]any{}
	if len(bytes.TrimSpace(body)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		if err := dec.Decode(&fields); err != nil {
			return c, changes, fmt.Errorf("the request is not understood: %w", err)
		}
	}
	for name, v := range fields {
		// A struct would take either for the field and leave what it had: what acts must not
		// read another request than what journals.
		if v == nil || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			return c, changes, fmt.Errorf("the request is not understood: field %q", name)
		}
	}
	c.Instance, _ = fields["instance"].(string)
	c.Reason, _ = fields["reason"].(string)
	if len(c.Reason) > maxReason {
		return c, changes, fmt.Errorf("a reason of more than %d bytes", maxReason)
	}
	var words []string
	for name, v := range fields {
		if name != "instance" && name != "reason" && v != "" && v != false {
			words = append(words, name+"="+argument(v))
		}
	}
	slices.Sort(words)
	c.Arguments = clip(strings.Join(words, " "))
	return c, changes, nil
}

// safer are the routes that may make the pair safer, and have nothing to lose by a
// journal that cannot be written.
func safer(pattern string) bool { return pattern == "POST /v1/announce" }

func argument(v any) string {
	if s, ok := v.(string); ok {
		return quoted(s)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(b)
}

func quoted(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func clip(s string) string {
	if len(s) <= maxArguments {
		return s
	}
	return strings.ToValidUTF8(s[:maxArguments], "") + "..."
}

// decode reads a body of one kind of request.
func decode(body []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("the request is not understood: %w", err)
	}
	return nil
}

// describeSwitchover leaves it to the core what a journal that cannot be written
// forbids: it refuses a handover that can wait and no other.
func describeSwitchover(body []byte) (Command, effect, error) {
	c := Command{Verb: "switchover", Safer: true}
	var r SwitchoverRequest
	if err := decode(body, &r); err != nil {
		return c, changes, err
	}
	var words []string
	if r.To != "" {
		words = append(words, "to="+quoted(r.To))
	}
	if r.Force {
		words = append(words, "force=true")
	}
	c.Instance, c.Reason = r.Instance, r.Reason
	c.Arguments = clip(strings.Join(append(words, "timeout="+(time.Duration(r.TimeoutMS)*time.Millisecond).String()), " "))
	if r.DryRun {
		return c, tries, r.check()
	}
	return c, changes, r.check()
}

func describeReplication(body []byte) (Command, effect, error) {
	c := Command{Verb: "replication"}
	var r ReplicationRequest
	if err := decode(body, &r); err != nil {
		return c, changes, err
	}
	return r.Command(), r.effect(), r.Check()
}
