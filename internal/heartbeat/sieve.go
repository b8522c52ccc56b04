package heartbeat

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp/auth"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

// Who floods a path with packets in the peer's name has each of them read and refused,
// and fills the queue in which the peer's wait. So while a flood lasts the kernel keeps
// out what none of the keys can have sealed, but for a sample that shows when it is over.

const (
	// lookInterval is how often a path looks how much it refused.
	lookInterval = 100 * time.Millisecond
	// floodRate is more than a peer with the wrong key can send in a second: the 255
	// instances of a path that advertise every 10 ms send 25,500.
	floodRate = 30_000
	// queueful is more than a socket's queue holds: so many can come from before the
	// latest look, when the reader did not get to run.
	queueful = 4096
	// A flood is over when for calmTime no second had more than calmRate.
	calmRate = 5_000
	calmTime = 3 * time.Second
	// sampleTime is the least that a sample says something about.
	sampleTime = time.Second
)

// flood tells when one begins on a path, and when it is over.
type flood struct {
	on      bool
	above   bool         // the last look found more than floodRate
	refused uint64       // at the last look
	looked  mono.Instant // 0: never
	high    mono.Instant // when there was too much for its end
}

// look takes how many packets were refused until now, and for how many each stands that
// was refused since the last look. It reports whether a flood began or ended.
func (f *flood) look(now mono.Instant, refused uint64, each float64) (changed bool) {
	took, least := now.Sub(f.looked), lookInterval/2
	if f.on {
		least = sampleTime
	}
	if took < least {
		return false
	}
	count, above := float64(refused-f.refused)*each, f.above
	rate := count / took.Seconds()
	f.refused, f.looked, f.above = refused, now, rate > floodRate
	was := f.on
	switch {
	case f.above && above, count-queueful > floodRate*took.Seconds():
		f.on, f.high = true, now
	case f.on && rate > calmRate:
		f.high = now
	case f.on:
		f.on = now.Sub(f.high) < calmTime
	}
	return f.on != was
}

// look puts the sieve on or takes it off when a flood began or ended.
func (p *path) look(now mono.Instant) {
	p.route.changing.Lock()
	defer p.route.changing.Unlock()
	each := 1.0
	if p.sieved.Load() {
		each = wire.SampleOf
	}
	if p.flood.look(now, p.unknown(), each) {
		p.filter()
	}
}

// unknown returns how many packets were refused that a sieve can keep out. The peer's
// that are refused in spite of their seal, replays for one, it cannot: they are no sample.
func (p *path) unknown() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.foreign.Load()
	if c := p.conn.Load(); c != nil {
		n += c.Unknown()
	}
	return n
}

// sieve knows what may be the peer's. There is none when an instance of the route takes
// what is not sealed.
func (r *Route) sieve() wire.Sieve {
	s := wire.Sieve{Len: auth.TrailerLen, First: auth.TrailerMagic, Mask: auth.TrailerMask}
	for _, in := range r.table.Load() {
		if in == nil {
			continue
		}
		marks, enforced := in.marks()
		if !enforced {
			return wire.Sieve{}
		}
		s.Second = append(s.Second, marks...)
	}
	slices.Sort(s.Second)
	s.Second = slices.Compact(s.Second)
	return s
}

// marks are those of the keys that the instance accepts.
func (in *instance) marks() (marks []uint32, enforced bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.verifier.Marks(), in.cfg.Auth == auth.Enforce
}

// refilter makes the filters of the sockets follow keys and modes.
func (r *Route) refilter() {
	r.changing.Lock()
	defer r.changing.Unlock()
	for _, p := range r.paths {
		p.filter()
	}
}

// filter keeps what is for no instance out of a group's socket, and in a flood what is
// no peer's out of any. It is called with route.changing held.
func (p *path) filter() {
	c, vrids := p.conn.Load(), p.route.vrids()
	if c == nil || len(vrids) == 0 {
		return // the path is not open, or about to be closed
	}
	s := p.route.sieve()
	sieved := p.flood.on && len(s.Second) > 0
	s.On = sieved
	err := c.SetFilter(vrids, s)
	if errors.Is(err, os.ErrClosed) {
		return
	}
	h := p.route.heartbeat
	if err != nil {
		h.cfg.Log.Trouble("", "filter the heartbeat path "+p.name(), err)
		sieved = false
	}
	if p.sieved.Swap(sieved) != sieved {
		h.told.tell(tale{doing: "sift the heartbeat path", reason: sifting(sieved)}, whence{path: p}, 1)
	}
}

// sifting says whether it began, as a reason.
type sifting bool

func (on sifting) String() string {
	if on {
		return "flood"
	}
	return "over"
}

func explainSifting(on sifting) string {
	if on {
		return "far more is refused than a peer sends, so the kernel keeps out what the cluster key cannot have sealed, but for 1 packet of 256: counts are of those until this is over"
	}
	return "everything is read and counted again"
}
