package site

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// sampleInterval is how often the two kernels are asked who has the address.
const sampleInterval = 2 * time.Millisecond

// Sampler asks both kernels all the time who has the address.
type Sampler struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	samples int
	both    time.Duration // longest time in which both had it
	none    time.Duration // longest time in which neither had it
	moves   []Move
}

// Move is one change of the holder as the sampler saw it.
type Move struct {
	At     time.Time
	Holder string // host names joined by +, empty for nobody
}

// Holders are what a Sampler saw.
type Holders struct {
	Samples    int
	Both, None time.Duration // longest
	Moves      []Move
}

// StartSampler starts sampling; the caller stops it. A host that is off or whose
// kernel cannot be asked counts as without the address.
func (s *Site) StartSampler(ctx context.Context) *Sampler {
	ctx, cancel := context.WithCancel(ctx)
	sm := &Sampler{stop: cancel}
	sm.done.Go(func() { sm.run(ctx, s) })
	return sm
}

// Stop ends the sampling and returns what was seen.
func (sm *Sampler) Stop() Holders {
	sm.stop()
	sm.done.Wait()
	sm.mu.Lock()
	defer sm.mu.Unlock()
	return Holders{sm.samples, sm.both, sm.none, sm.moves}
}

func (sm *Sampler) run(ctx context.Context, s *Site) {
	asked := make([]*asker, 0, 2)
	for _, n := range s.Nodes() {
		asked = append(asked, &asker{name: n.Hostname, open: n.Netlink, boots: n.Boots})
	}
	defer func() {
		for _, a := range asked {
			a.close()
		}
	}()
	var last string
	var bothSince, noneSince time.Time
	for pause(ctx, sampleInterval) {
		var holders []string
		for _, a := range asked {
			if a.holds() {
				holders = append(holders, a.name)
			}
		}
		// Between the two questions the address may have come to the first and then left
		// the second, as in every handover.
		if first := asked[0]; len(holders) == 0 && first.holds() {
			holders = []string{first.name}
		}
		now, who := time.Now(), strings.Join(holders, "+")
		sm.mu.Lock()
		sm.samples++
		if who != last || sm.samples == 1 {
			sm.moves = append(sm.moves, Move{now, who})
			last = who
		}
		sm.both = max(sm.both, since(&bothSince, len(holders) == 2, now))
		sm.none = max(sm.none, since(&noneSince, len(holders) == 0, now))
		sm.mu.Unlock()
	}
}

func since(start *time.Time, is bool, now time.Time) time.Duration {
	if !is {
		*start = time.Time{}
		return 0
	}
	if start.IsZero() {
		*start = now
	}
	// At least one sampling interval: the truth can lie before the first sample.
	return now.Sub(*start) + sampleInterval
}

// asker asks one kernel. A namespace belongs to one boot.
type asker struct {
	name   string
	open   func() (*netlink.Handle, error)
	boots  func() int
	boot   int
	handle *netlink.Handle
}

func (a *asker) holds() bool {
	if b := a.boots(); a.handle == nil || b != a.boot {
		a.close()
		h, err := a.open()
		if err != nil {
			return false
		}
		a.handle, a.boot = h, b
	}
	link, err := a.handle.LinkByName("eth0")
	if err != nil {
		return false
	}
	addrs, err := a.handle.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return false
	}
	for _, ad := range addrs {
		if ad.IP.String() == VIP {
			return true
		}
	}
	return false
}

func (a *asker) close() {
	if a.handle != nil {
		a.handle.Close()
		a.handle = nil
	}
}

func (h Holders) String() string {
	var b strings.Builder
	for i, m := range h.Moves {
		who := m.Holder
		if who == "" {
			who = "nobody"
		}
		if i > 0 {
			fmt.Fprintf(&b, ", after %s ", m.At.Sub(h.Moves[i-1].At).Round(time.Millisecond))
		}
		b.WriteString(who)
	}
	return b.String()
}
