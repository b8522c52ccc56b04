package control

// What an operator holds: a node back from the role, or the pair in its place.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/failover"
)

// Limits of POST /v1/block and POST /v1/maintenance.
const (
	maxHolds     = 4 // commands under way at once
	shortestHold = time.Second
	longestHold  = 90 * 24 * time.Hour
)

// HoldRequest is the body of POST /v1/block and POST /v1/maintenance.
type HoldRequest struct {
	Instance string `json:"instance"` // empty: all of them
	On       bool   `json:"on"`
	Reason   string `json:"reason"`
	ForMS    int64  `json:"for_ms"` // 0: until it is taken back
	// Force, of a maintenance, lengthens the lease though the peer does not know of it.
	Force bool   `json:"force"`
	UID   uint32 `json:"-"` // of the caller, from the kernel
}

// CheckHold refuses what makes no sense of a kind of hold.
func (r HoldRequest) CheckHold(kind failover.HoldKind) error {
	switch lasts := time.Duration(r.ForMS) * time.Millisecond; {
	case r.On && strings.TrimSpace(r.Reason) == "":
		return errors.New("a " + kind.String() + " needs a reason: who comes by at night has to know why")
	case len(r.Reason) > maxReason:
		return fmt.Errorf("a reason of more than %d bytes", maxReason)
	case r.ForMS < 0, r.ForMS > longestHold.Milliseconds(), r.ForMS > 0 && lasts < shortestHold:
		return fmt.Errorf("for_ms %d: from %d to %d, or 0: until it is taken back", r.ForMS, shortestHold.Milliseconds(), longestHold.Milliseconds())
	case !r.On && (r.ForMS > 0 || r.Force):
		return errors.New("for and force belong to switching it on")
	case r.Force && kind != failover.MaintenanceHold:
		return errors.New("force belongs to a maintenance")
	}
	return nil
}

// describeHold says of a request whether it switches something on or off.
func describeHold(kind failover.HoldKind) describer {
	on, off := "block", "unblock"
	if kind == failover.MaintenanceHold {
		on, off = "maintenance on", "maintenance off"
	}
	return func(body []byte) (Command, effect, error) {
		c := Command{Verb: on, Safer: kind == failover.BlockHold}
		var r HoldRequest
		if err := decode(body, &r); err != nil {
			return c, changes, err
		}
		if !r.On {
			c.Verb = off
		}
		var words []string
		if r.ForMS != 0 {
			words = append(words, "for="+(time.Duration(r.ForMS)*time.Millisecond).String())
		}
		if r.Force {
			words = append(words, "force=true")
		}
		c.Instance, c.Reason, c.Arguments = r.Instance, r.Reason, strings.Join(words, " ")
		return c, changes, r.CheckHold(kind)
	}
}

// HoldResult is how it went with one instance.
type HoldResult struct {
	Instance string `json:"instance"`
	Result   string `json:"result"` // done or refused
	Reason   string `json:"reason"`
	Detail   string `json:"detail,omitempty"`
	// Shared says that the peer has noted a maintenance, too.
	Shared bool `json:"shared"`
}

// OK reports whether it is so.
func (r HoldResult) OK() bool { return r.Result == failover.Done.String() }

// HoldAnswer answers both requests.
type HoldAnswer struct {
	Node      string       `json:"node"`
	Instances []HoldResult `json:"instances"`
}

// hold returns the handler of one kind.
func (s *Server) hold(kind failover.HoldKind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		over, ok := s.holds.take(w, r, "too many commands about blocks and maintenance are under way")
		if !ok {
			return
		}
		defer over()
		req, status, err := readHold(w, r, kind)
		if err != nil {
			http.Error(w, err.Error(), status)
			return
		}
		answer, err := s.daemon.Hold(r.Context(), kind, req)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writePatience))
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func readHold(w http.ResponseWriter, r *http.Request, kind failover.HoldKind) (req HoldRequest, status int, err error) {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return req, http.StatusBadRequest, fmt.Errorf("the request is not understood: %w", err)
	}
	if err := req.CheckHold(kind); err != nil {
		return req, http.StatusBadRequest, err
	}
	cred, _ := r.Context().Value(callerKey{}).(*unix.Ucred)
	if cred == nil {
		return req, http.StatusForbidden, errors.New("the kernel does not say who is asking")
	}
	req.UID = cred.Uid
	return req, 0, nil
}

// Hold asks for a block or a maintenance, or its end.
func (c *Client) Hold(ctx context.Context, kind failover.HoldKind, r HoldRequest) (HoldAnswer, error) {
	var answer HoldAnswer
	body, err := c.do(ctx, http.MethodPost, "/v1/"+kind.String(), r)
	if err != nil {
		return answer, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return answer, nil
}

// newHold makes the document of a hold at the date now.
func newHold(now time.Time, h *failover.HoldStatus) *Hold {
	if h == nil {
		return nil
	}
	d := &Hold{Reason: h.Reason, UID: h.UID, By: h.By, Shared: h.Shared, LeaseSeconds: h.Lease.Seconds()}
	if h.Left > 0 {
		d.Until = now.Add(h.Left).UTC().Truncate(time.Second)
	}
	return d
}
