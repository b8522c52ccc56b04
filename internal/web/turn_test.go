package web

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMakerRests: however many want a page, a fifth of the time goes into making.
func TestMakerRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes, all = 2 * time.Millisecond, 100
		m, began := newMaker(), time.Now()
		var making sync.WaitGroup
		for range all {
			making.Go(func() {
				p, err := m.make(t.Context(), func(p *page) { time.Sleep(takes); _, _ = p.Write([]byte("x")) })
				if err != nil || p.body.String() != "x" {
					t.Errorf("page %v, error %v", p, err)
				}
			})
		}
		making.Wait()
		if took, want := time.Since(began), takes+(all-1)*(1+restFactor)*takes; took != want {
			t.Errorf("%d pages of %v took %v, want %v", all, takes, took, want)
		}
		time.Sleep(time.Second) // the last rest
		synctest.Wait()
	})
}

// TestMakerGivesUp: who finds too many before it is told so in time, and a making that
// was held up makes the next wait for no longer than longestRest.
func TestMakerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMaker()
		go func() { _, _ = m.make(t.Context(), func(*page) { time.Sleep(answerPatience + time.Second) }) }()
		synctest.Wait()
		began := time.Now()
		if _, err := m.make(t.Context(), func(*page) { t.Error("made") }); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != answerPatience {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		began = time.Now()
		if _, err := m.make(t.Context(), func(*page) {}); err != nil || time.Since(began) != time.Second+longestRest {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
	})
}

func TestPage(t *testing.T) {
	p := &page{header: http.Header{}, status: http.StatusOK}
	p.Header().Set("Content-Type", "text/plain")
	p.WriteHeader(http.StatusTeapot)
	_, _ = p.Write([]byte("short and stout"))
	w := httptest.NewRecorder()
	w.Header().Set("Cache-Control", "no-store")
	p.sendTo(w)
	got := []any{w.Code, w.Body.String(), w.Header()}
	want := []any{http.StatusTeapot, "short and stout", http.Header{"Content-Type": {"text/plain"}, "Cache-Control": {"no-store"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
