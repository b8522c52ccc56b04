package control

// Commands that have one answer, unlike those that tell how far they are.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sys/unix"
)

// maxAsked bounds such commands under way, all kinds together.
const maxAsked = 4

// ask answers a request: check refuses it, do carries it out for the user that the
// kernel names, within a time.
func ask[Q, A any](
	s *Server, w http.ResponseWriter, r *http.Request, within time.Duration, check func(Q) error, do func(ctx context.Context, q Q, uid uint32) (A, error),
) {
	over, ok := s.asked.take(w, r, "too many commands are under way")
	if !ok {
		return
	}
	defer over()
	var q Q
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(&q)
	if err != nil {
		err = fmt.Errorf("the request is not understood: %w", err)
	} else {
		err = check(q)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	cred, _ := r.Context().Value(callerKey{}).(*unix.Ucred)
	if cred == nil {
		http.Error(w, "the kernel does not say who is asking", http.StatusForbidden)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), within)
	defer cancel()
	a, err := do(ctx, q, cred.Uid)
	var body []byte
	if err == nil {
		body, err = json.Marshal(a)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writePatience))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, "no answer within "+within.String()+": "+err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(body, '\n'))
	}
}

// asked puts a request whose answer is one.
func asked[A any](ctx context.Context, c *Client, path string, q any) (a A, err error) {
	body, err := c.do(ctx, http.MethodPost, path, q)
	if err != nil {
		return a, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&a); err != nil {
		return a, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return a, nil
}
