package control

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// diagnosing is a daemon that can diagnose.
type diagnosing struct {
	*daemon
	began, end chan struct{}
	err        error
}

func (d diagnosing) Doctor(ctx context.Context) ([]byte, error) {
	d.began <- struct{}{}
	select {
	case <-d.end:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return []byte(`{"verdict":"fine"}`), d.err
}

func TestOneDiagnosisAtATime(t *testing.T) {
	d := diagnosing{&daemon{}, make(chan struct{}), make(chan struct{}), nil}
	socket, stop := serve(t, d)
	defer stop()
	var report struct{ Verdict string }
	first := make(chan error, 1)
	go func() { first <- Dial(socket).Doctor(t.Context(), &report) }()
	wait(t, d.began, "the first one to begin")
	if status, text := post(t, socket, "/v1/doctor", "{}"); status != http.StatusTooManyRequests {
		t.Errorf("a second one: %d %s", status, text)
	}
	close(d.end)
	if err := wait(t, first, "the first one to end"); err != nil || report.Verdict != "fine" {
		t.Errorf("the first one: %v, %+v", err, report)
	}
}

func TestADiagnosisThatFails(t *testing.T) {
	d := diagnosing{&daemon{}, make(chan struct{}, 1), make(chan struct{}), errors.New("no time")}
	close(d.end)
	socket, stop := serve(t, d)
	defer stop()
	if err := Dial(socket).Doctor(t.Context(), &struct{}{}); err == nil || !strings.Contains(err.Error(), "no time") {
		t.Errorf("error %v", err)
	}
}
