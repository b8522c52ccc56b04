package control

// A diagnosis: the daemon looks at its host, asks the peer's daemon to look at its
// own, and both send probes to each other. It changes nothing.

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// DoctorTime bounds a diagnosis at the daemon.
const DoctorTime = 12 * time.Second

// Doctor is what the server needs to diagnose; the answer is the JSON document of
// package doctor.
type Doctor interface {
	Doctor(ctx context.Context) ([]byte, error)
}

// doctor serves POST /v1/doctor, one at a time.
func (s *Server) doctor(w http.ResponseWriter, r *http.Request) {
	d, ok := s.daemon.(Doctor)
	if !ok {
		http.NotFound(w, r)
		return
	}
	select {
	case s.diagnoses <- struct{}{}:
		defer func() { <-s.diagnoses }()
	default:
		http.Error(w, "another diagnosis is under way", http.StatusTooManyRequests)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), DoctorTime)
	defer cancel()
	body, err := d.Doctor(ctx)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writePatience))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// Doctor asks the daemon for a diagnosis and decodes it into report.
func (c *Client) Doctor(ctx context.Context, report any) error {
	body, err := c.do(ctx, http.MethodPost, "/v1/doctor", struct{}{})
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(report); err != nil {
		return fmt.Errorf("read the daemon's diagnosis: %w", err)
	}
	return nil
}
