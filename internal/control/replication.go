package control

// What an operator wants of the replication of single databases. The answer comes
// line by line, one for each database, because some take their time.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/replication"
)

// Limits of POST /v1/replication.
const (
	maxReplications = 4 // commands under way at once
	maxNames        = 1024
)

// ReplicationVerb is what is wanted.
type ReplicationVerb string

// The verbs.
const (
	ReplicationStatus ReplicationVerb = "status"
	ReplicationStop   ReplicationVerb = "stop"
	ReplicationStart  ReplicationVerb = "start"
	ReplicationFollow ReplicationVerb = "follow"
	ReplicationRejoin ReplicationVerb = "rejoin"
	ReplicationWait   ReplicationVerb = "wait"
)

// ReplicationVerbs lists them.
func ReplicationVerbs() []ReplicationVerb {
	return []ReplicationVerb{
		ReplicationStatus, ReplicationStop, ReplicationStart, ReplicationFollow, ReplicationRejoin, ReplicationWait,
	}
}

// ReplicationRequest is the body of POST /v1/replication.
type ReplicationRequest struct {
	Instance  string          `json:"instance"` // empty: the only one
	Verb      ReplicationVerb `json:"verb"`
	Databases []string        `json:"databases"` // empty: all
	Discard   bool            `json:"discard"`   // rejoin: give up what only this node has
	Reason    string          `json:"reason"`    // why, with Discard
	TimeoutMS int64           `json:"timeout_ms"`
	UID       uint32          `json:"-"` // of the caller, from the kernel
}

// Check refuses what makes no sense.
func (r ReplicationRequest) Check() error {
	switch {
	case !slices.Contains(ReplicationVerbs(), r.Verb):
		return fmt.Errorf("verb %q does not exist", r.Verb)
	case r.Discard && r.Verb != ReplicationRejoin:
		return errors.New("discard belongs to rejoin")
	case r.Discard && strings.TrimSpace(r.Reason) == "":
		return errors.New("discard gives transactions up: it needs a reason")
	case len(r.Reason) > maxReason:
		return fmt.Errorf("a reason of more than %d bytes", maxReason)
	case len(r.Databases) > maxNames:
		return fmt.Errorf("more than %d databases", maxNames)
	case r.TimeoutMS <= 0 || r.TimeoutMS > longestTimeout.Milliseconds():
		return fmt.Errorf("timeout_ms %d: from 1 to %d", r.TimeoutMS, longestTimeout.Milliseconds())
	}
	return nil
}

// Command returns it as it is journaled.
func (r ReplicationRequest) Command() Command {
	words := []string{"databases=" + quoted(strings.Join(r.Databases, ","))}
	if len(r.Databases) == 0 {
		words[0] = "databases=all"
	}
	if r.Discard {
		words = append(words, "discard=true")
	}
	return Command{
		Instance: r.Instance, Verb: "replication " + string(r.Verb), Arguments: clip(strings.Join(words, " ")), Reason: r.Reason, UID: r.UID,
	}
}

// Changes reports whether it would change a database.
func (r ReplicationRequest) Changes() bool { return r.effect() == changes }

func (r ReplicationRequest) effect() effect {
	switch r.Verb {
	case ReplicationStatus:
		return looks
	case ReplicationWait: // it asks the source
		return tries
	default:
		return changes
	}
}

// ReplicationResult is how it went with one database, or with all of them.
type ReplicationResult string

// The results.
const (
	ReplicationDone      ReplicationResult = "done"
	ReplicationUnchanged ReplicationResult = "unchanged" // it was so already
	ReplicationWaiting   ReplicationResult = "waiting"   // and goes on; another line follows
	ReplicationRefused   ReplicationResult = "refused"   // or failed; Detail says why
)

// OK reports whether all is well.
func (r ReplicationResult) OK() bool { return r == ReplicationDone || r == ReplicationUnchanged }

// ReplicationLine is one line of the answer. The last one names no database.
type ReplicationLine struct {
	Database string            `json:"database,omitempty"`
	Result   ReplicationResult `json:"result"`
	Detail   string            `json:"detail,omitempty"`
	Missing  *uint64           `json:"missing_transactions,omitempty"` // while waiting
	Errant   []string          `json:"errant,omitempty"`               // what only this node has, in GTID form
	Status   *Database         `json:"status,omitempty"`
}

// NewDatabase makes the document of a database from what was measured.
func NewDatabase(f replication.Facts, now mono.Instant) Database {
	return newDatabase(replication.Database{Name: f.Name, Facts: f}, replication.DatabaseVerdict{Name: f.Name}, now)
}

func (s *Server) replication(w http.ResponseWriter, r *http.Request) {
	over, ok := s.replications.take(w, r, "too many replication commands are under way")
	if !ok {
		return
	}
	defer over()
	req, status, err := readReplication(w, r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	say := lines[ReplicationLine](w)
	last := ReplicationLine{Result: ReplicationDone}
	err = s.daemon.Replication(r.Context(), req, func(l ReplicationLine) {
		if !l.Result.OK() && l.Result != ReplicationWaiting {
			last.Result = ReplicationRefused
		}
		say(l)
	})
	if err != nil {
		last = ReplicationLine{Result: ReplicationRefused, Detail: err.Error()}
	}
	say(last)
}

func readReplication(w http.ResponseWriter, r *http.Request) (req ReplicationRequest, status int, err error) {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return req, http.StatusBadRequest, fmt.Errorf("the request is not understood: %w", err)
	}
	if err := req.Check(); err != nil {
		return req, http.StatusBadRequest, err
	}
	cred, _ := r.Context().Value(callerKey{}).(*unix.Ucred)
	if cred == nil {
		return req, http.StatusForbidden, errors.New("the kernel does not say who is asking")
	}
	req.UID = cred.Uid
	return req, 0, nil
}

// Replication asks for something and passes on every line but the last, which it
// returns.
func (c *Client) Replication(ctx context.Context, r ReplicationRequest, line func(ReplicationLine)) (ReplicationLine, error) {
	body, err := c.do(ctx, http.MethodPost, "/v1/replication", r)
	if err != nil {
		return ReplicationLine{}, err
	}
	defer body.Close()
	return readLines(body, line)
}

func readLines(body io.Reader, line func(ReplicationLine)) (ReplicationLine, error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l ReplicationLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return ReplicationLine{}, fmt.Errorf("read the daemon's answer: %w", err)
		}
		if l.Database == "" {
			return l, nil
		}
		line(l)
	}
	if err := lines.Err(); err != nil {
		return ReplicationLine{}, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return ReplicationLine{}, errors.New("the daemon ended before it answered: see `tanist replication status`")
}
