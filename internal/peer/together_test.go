package peer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Everything at once, while the keys are changed all the time and calls are given up:
// each call is carried out once at most, each message is heard once and in order, and
// in the end nothing is left. It is for the race detector, too.
func TestEverythingWhileKeysChange(t *testing.T) {
	before := runtime.NumGoroutine()
	ap, bp := twoPaths()
	var mu sync.Mutex
	served := map[string]int{}
	serve := func(ctx context.Context, kind string, body []byte) ([]byte, error) {
		mu.Lock()
		served[string(body)]++
		n := len(served)
		mu.Unlock()
		if n%7 == 0 {
			select { // one that takes its time
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
		return body, nil
	}
	newEnd := func(node, peer string, paths []Path) *end {
		return startConfig(t, Config{
			Node: node, Peer: peer, Paths: paths, Serve: serve, Keys: []Key{keyOld, keyNew},
			Runs: func() []Run { return []Run{{"compass", 7, 1}} }, Confirm: func([]Run) {},
		})
	}
	ends := []*end{newEnd("primary", "reserve", ap), newEnd("reserve", "primary", bp)}
	for _, e := range ends {
		e.connected(t, 0, 1)
	}
	var work, keys sync.WaitGroup
	over := make(chan struct{})
	const calls = 150
	answered := 0
	ended := map[string]int{}
	for side, e := range ends {
		keys.Go(func() {
			for i := 0; ; i++ {
				if err := e.SetKeys([][]Key{{keyOld, keyNew}, {keyNew, keyOld}}[(i+side)%2]); err != nil {
					t.Error(err)
				}
				select {
				case <-over:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
		for caller := range 3 {
			work.Go(func() {
				for i := range calls {
					for end := time.Now().Add(limit); e.reachable() != nil && time.Now().Before(end); {
						time.Sleep(time.Millisecond) // between two keys there are some in which no call is taken
					}
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					if i%10 == 3 {
						time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
					}
					body := fmt.Sprint(side, caller, i)
					got, err := e.Call(ctx, "echo", []byte(body))
					cancel()
					mu.Lock()
					ended[fmt.Sprint(errors.Unwrap(err))]++
					mu.Unlock()
					switch {
					case err == nil && string(got) != body:
						t.Errorf("%s was answered with %s", body, got)
					case err == nil:
						mu.Lock()
						answered++
						mu.Unlock()
					case !errors.Is(err, context.Canceled) && !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrBusy):
						t.Errorf("call %s: %v", body, err)
					}
				}
			})
		}
		work.Go(func() {
			for seq := range uint64(500) {
				e.say("compass", state(7, seq+1))
				if err := e.Report([]byte(strings.Repeat("r", 20<<10))); err != nil {
					t.Error(err)
				}
				e.Paths()
				e.Refused()
				e.PeerReport()
				runtime.Gosched()
			}
		})
	}
	work.Wait()
	close(over)
	keys.Wait()
	for _, e := range ends {
		eventually(t, "the last message is heard", func() bool { return e.last("compass").Seq == 500 })
		last := uint64(0)
		for _, s := range e.all() {
			if s.Seq <= last {
				t.Fatalf("%d after %d", s.Seq, last)
			}
			last = s.Seq
		}
		if n := refused(e.path(0)) + refused(e.path(1)); n != 0 {
			t.Errorf("%s refused %+v", e.cfg.Node, e.Refused())
		}
	}
	for _, e := range ends {
		e.stop()
	}
	for body, n := range served {
		if n > 1 {
			t.Errorf("call %s was carried out %d times", body, n)
		}
	}
	if answered < 2*3*calls/4 {
		t.Errorf("%d calls of %d were answered, %v", answered, 2*3*calls, ended)
	}
	eventually(t, "every goroutine ended", func() bool { return runtime.NumGoroutine() <= before })
}
