package heartbeat

import (
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

// instance is one virtual router that is there. Its name and VRID stay; another
// VRID makes another instance.
type instance struct {
	heartbeat *Heartbeat
	name      string
	vrid      uint8
	route     *Route // guarded by heartbeat.mu

	// mu guards the fields below. It is held while an advertisement is
	// delivered: after end nothing is.
	mu       sync.Mutex
	ended    bool
	cfg      Instance
	all      []netip.Addr // every virtual address; those of cfg.Router are the carried ones
	sealer   *auth.Sealer
	verifier *auth.Verifier
	sequence uint64 // of the last advertisement of this run
	form     vrrp.ChecksumForm

	heard    mono.Instant // 0: never
	last     impression
	drops    [vrrp.DropOverflow + 1]uint64
	refused  Doubts
	accepted Doubts // without proof, in mode Permissive
}

// impression is what the last advertisement of the peer was like.
type impression struct {
	proved, secondKey bool
	doubt             auth.Reason
	form              vrrp.ChecksumForm
	mismatch          vrrp.Mismatch
}

func newInstance(h *Heartbeat, cfg Instance, p past) (*instance, error) {
	in := &instance{heartbeat: h, name: cfg.Name, vrid: cfg.Router.VRID, sequence: p.sequence}
	var err error
	in.verifier, err = auth.NewVerifier(auth.VerifierConfig{Instance: in.id(), Seen: p.seen})
	if err == nil {
		err = in.change(cfg, h.keys)
	}
	return in, err
}

func (in *instance) id() auth.Instance { return auth.Instance{VRID: in.vrid, Name: in.name} }

// change takes another configuration of the same name, VRID and route.
func (in *instance) change(cfg Instance, keys []auth.Key) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err := in.changeAuth(cfg.Auth, keys); err != nil {
		return err
	}
	if cfg.FollowChecksum != in.cfg.FollowChecksum || cfg.Checksum != in.cfg.Checksum || in.heard == 0 {
		in.form = cfg.Checksum
	}
	in.all = slices.Clone(cfg.Router.Addresses)
	cfg.Router.Addresses = slices.Clone(cfg.Router.Carried())
	in.cfg = cfg
	return nil
}

func (in *instance) newSealer(mode auth.Mode, keys []auth.Key) (*auth.Sealer, error) {
	return auth.NewSealer(auth.SealerConfig{Mode: mode, Keys: keys, Instance: in.id(), Boot: in.heartbeat.boot})
}

func (in *instance) changeAuth(mode auth.Mode, keys []auth.Key) error {
	sealer, err := in.newSealer(mode, keys)
	if err != nil {
		return err
	}
	if err := in.verifier.Change(mode, keys); err != nil {
		return err
	}
	in.sealer = sealer
	return nil
}

// tryKeys says whether setKeys would fail.
func (in *instance) tryKeys(keys []auth.Key) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, err := in.newSealer(in.cfg.Auth, keys)
	return err
}

func (in *instance) setKeys(keys []auth.Key) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.changeAuth(in.cfg.Auth, keys)
}

// end makes this the last moment at which something was delivered.
func (in *instance) end() past {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended = true
	return past{seen: in.verifier.Seen(), sequence: in.sequence}
}

func (in *instance) addresses() []netip.Addr {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.all
}

func (in *instance) known() auth.Seen {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.verifier.Seen()
}

func (in *instance) confirm(boot, sequence uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.verifier.Confirm(boot, sequence)
}

func (in *instance) lastSequence() uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.sequence
}

// nextSequence numbers one advertisement, which goes over all paths with it.
func (in *instance) nextSequence() uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sequence++
	return in.sequence
}

// seal appends to b what goes from src to dst.
func (in *instance) seal(b []byte, src, dst netip.Addr, s failover.Send, sequence uint64) ([]byte, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return b, ErrNoInstance
	}
	b, err := s.Advertisement.AppendTo(b, src, dst, in.form)
	if err != nil {
		return b, err
	}
	return in.sealer.Seal(b, src, dst, sequence, uint64(s.Epoch))
}

// receive checks a packet that is for this instance by its VRID, and delivers
// the advertisement in it. The proof comes first: what is not the peer's is not
// worth a closer look.
func (in *instance) receive(p *path, c *wire.Conn, pkt wire.Packet) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		c.Count(vrrp.DropUnknownVRID)
		return
	}
	opened, err := in.verifier.Open(pkt.Payload, pkt.Source, pkt.Destination)
	var a vrrp.Advertisement
	var form vrrp.ChecksumForm
	if err == nil {
		a, form, err = vrrp.Parse(opened.Payload, pkt.Source, pkt.Destination)
	}
	if err == nil {
		if reason := in.cfg.Router.Check(a); reason != 0 {
			err = reason
		}
	}
	if err != nil {
		in.drop(p, c, pkt.Source, err)
		return
	}
	in.note(p, pkt.Source, opened, a, form)
	(*in.heartbeat.deliver.Load())(in.name, failover.Advertised{
		Advertisement: a, Source: p.route.sender(c.Local(), pkt.Source),
		Epoch: failover.Epoch(opened.Epoch), Proved: opened.Proved,
	})
}

// drop counts a packet and tells of it.
func (in *instance) drop(p *path, c *wire.Conn, source netip.Addr, err error) {
	if reason, ok := errors.AsType[vrrp.DropReason](err); ok {
		c.Count(reason)
		in.drops[reason]++
		in.heartbeat.tellDrop(in.name, source, reason)
	} else if doubt, ok := errors.AsType[auth.Reason](err); ok {
		p.proof[doubt].Add(1)
		if doubt <= auth.ReasonKey { // the later ones have a key id of ours
			p.foreign.Add(1)
		}
		in.refused[doubt]++
		in.heartbeat.tellDrop(in.name, source, doubt)
	}
}

// note keeps what status shows of an advertisement that is accepted.
func (in *instance) note(p *path, source netip.Addr, opened auth.Opened, a vrrp.Advertisement, form vrrp.ChecksumForm) {
	in.heard = in.heartbeat.cfg.Clock()
	p.noteHeard(in.heard)
	if opened.NewBoot {
		in.heartbeat.store.keepSoon()
	}
	if opened.Doubt != 0 {
		in.accepted[opened.Doubt]++
		in.heartbeat.told.tell(tale{in.name, "accept advertisements without proof, as auth: permissive says", opened.Doubt}, whence{source: source}, 1)
	}
	if in.cfg.FollowChecksum {
		in.form = form
	}
	in.last = impression{
		proved: opened.Proved, secondKey: opened.SecondKey, doubt: opened.Doubt, form: form, mismatch: in.mismatch(a),
	}
}

// mismatch leaves out what both nodes do alike: virtual addresses without a
// link-local one are allowed, and then the peer advertises none.
func (in *instance) mismatch(a vrrp.Advertisement) vrrp.Mismatch {
	m := in.cfg.Router.Compare(a)
	if first := in.cfg.Router.Addresses[0]; first.Is6() && !first.IsLinkLocalUnicast() {
		m &^= vrrp.MismatchLinkLocal
	}
	return m
}
