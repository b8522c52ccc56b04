package main

// What this node says of its host, and how far the peer's clock is from its own.

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/peer"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// describe notes what a document says of this host under a configuration.
func (d *daemon) describe(file *config.File) {
	h := control.Host{
		Started: d.started.UTC().Truncate(time.Millisecond), KeyIDs: []string{},
		Configuration: control.Configuration{Global: file.Digest(), Instances: []control.InstanceDigest{}},
		Protocols:     control.Protocols{Link: peer.NewestVersion, LinkItems: peer.Items, Heartbeat: auth.TrailerVersion},
	}
	h.Hostname, _ = os.Hostname() // load has read it before
	for _, k := range d.keys {
		if id, err := k.ID(); err == nil {
			h.KeyIDs = append(h.KeyIDs, id)
		}
	}
	for i := range file.Instances {
		in := &file.Instances[i]
		h.Configuration.Instances = append(h.Configuration.Instances, control.InstanceDigest{Name: in.Name, Digest: in.Digest()})
	}
	d.host.Store(&h)
}

// hostNow returns it as of now.
func (d *daemon) hostNow() *control.Host {
	h := *d.host.Load()
	h.Clock = time.Now().UTC().Truncate(time.Millisecond)
	return &h
}

const (
	// clockEvery is how often the peer's clock is asked for, clockPatience how long it may
	// take, and clockSamples of how many answers the one with the shortest way counts.
	clockEvery    = 5 * time.Second
	clockPatience = 2 * time.Second
	clockSamples  = 6
)

// clockSample is one answer: the peer's clock is ahead by offset, give or take doubt.
type clockSample struct{ offset, doubt time.Duration }

// clockOffset is what is known of the peer's clock.
type clockOffset struct {
	mu      sync.Mutex // guards samples
	samples []clockSample
}

// note adds an answer. One that the earlier ones do not allow says that a clock was set,
// and ends what they say.
func (c *clockOffset) note(s clockSample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.samples {
		if (o.offset - s.offset).Abs() > o.doubt+s.doubt+clockDrift {
			c.samples = c.samples[:0]
			break
		}
	}
	c.samples = append(c.samples, s)
	if len(c.samples) > clockSamples {
		c.samples = slices.Delete(c.samples, 0, 1)
	}
}

// clockDrift is what two clocks may drift apart between the samples that are kept: 500
// parts in a million each, the most that adjtimex allows.
const clockDrift = clockSamples * clockEvery / 1000

// forget is for a peer that does not answer any more.
func (c *clockOffset) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples = nil
}

func (c *clockOffset) best() (s clockSample, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.samples) == 0 {
		return s, false
	}
	return slices.MinFunc(c.samples, func(a, b clockSample) int { return int(a.doubt - b.doubt) }), true
}

// askClock keeps the offset of the peer's clock known, until ctx ends.
func (d *daemon) askClock(ctx context.Context) error {
	for wait := time.Second; sleep(ctx, wait); {
		wait = time.Second
		patience, cancel := context.WithTimeout(ctx, clockPatience)
		offset, doubt, err := d.link.ClockOffset(patience)
		cancel()
		switch {
		case err == nil:
			d.clocks.note(clockSample{offset, doubt})
			wait = clockEvery
		case !errors.Is(err, peer.ErrBusy):
			d.clocks.forget()
		}
	}
	return nil
}
