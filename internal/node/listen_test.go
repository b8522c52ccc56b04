package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// What is in the sockets costs an Active no time, and a standby hears it before its
// silence counts.
func TestOnlyWhoListensReadsTheSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := active(t, "a", "b")
		w.until("b", failover.Active)
		b := w.hosts["b"]
		time.Sleep(time.Second)
		synctest.Wait()
		drained := func(h *host) (n int) {
			h.set(func() { n, h.drained = h.drained, 0 })
			return n
		}
		_, _ = drained(a), drained(b)
		sent := w.counters("a").Sent
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := drained(a); n != 0 || w.counters("a").Sent < sent+39 {
			t.Errorf("read %d times for %d advertisements", n, w.counters("a").Sent-sent)
		}

		// After the loop was away, whatever came in the meantime is heard first.
		a.set(func() {
			a.onSend = func() {
				a.set(func() { a.onSend = nil })
				time.Sleep(300 * time.Millisecond)
			}
		})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if drained(a) == 0 || w.status("a").State != failover.Active {
			t.Errorf("not read after the loop was away, and it is %s", w.status("a").State)
		}

		// The sockets of an instance that steps down are read in every turn.
		a.advertise(255)
		w.node.Deliver("a", failover.Advertised{Advertisement: a.advert(255), Source: remote})
		synctest.Wait()
		_, _ = drained(a), drained(b)
		time.Sleep(2 * advertInterval / 3)
		a.advertise(255)
		time.Sleep(2 * advertInterval)
		synctest.Wait()
		if w.status("a").State == failover.Active || drained(a) == 0 || drained(b) != 0 {
			t.Errorf("a is %s, read of b %d", w.status("a").State, drained(b))
		}
	})
}
