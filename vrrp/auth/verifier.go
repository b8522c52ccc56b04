package auth

import (
	"crypto/hmac"
	"fmt"
	"net/netip"
)

const (
	// MaxLag is by how many advertisements one path may be behind another.
	// What is older was held back by somebody, and says nothing about now.
	MaxLag = 8
	// MaxPaths bounds the address pairs that one peer is heard on.
	MaxPaths = 16
)

// VerifierConfig says what a Verifier believes.
type VerifierConfig struct {
	Mode     Mode
	Keys     []Key // 1 or 2, either may have signed; none in mode None
	Instance Instance
	// Seen is what an earlier Verifier of this instance knew of the peer, zero
	// if nothing was kept.
	Seen Seen
}

// Seen is what is known of one peer's runs. Kept over a restart of this host it
// makes replays of everything up to it worthless from the first packet on.
type Seen struct {
	Boot     uint64 // the run that is believed
	Highest  uint64 // the highest run ever believed; at least Boot
	Sequence uint64 // the highest sequence number of Boot
}

// Verifier opens the advertisements that one peer sends for one instance. It is
// not safe for concurrent use.
type Verifier struct {
	instance Instance

	mode Mode
	keys []*signer
	seen Seen
	// kept is the sequence number up to which an earlier Verifier heard
	// seen.Boot: this one knows nothing of the paths that it came over.
	kept uint64
	last map[path]uint64 // sequence number last believed per path, of seen.Boot
	// ended is the run in whose place seen.Boot came; 0: none did.
	ended uint64
}

// NewVerifier derives the keys. In mode None it needs nothing else.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	v := &Verifier{instance: cfg.Instance, seen: cfg.Seen, kept: cfg.Seen.Sequence, last: map[path]uint64{}}
	v.seen.Highest = max(v.seen.Highest, v.seen.Boot)
	if err := v.Change(cfg.Mode, cfg.Keys); err != nil {
		return nil, err
	}
	return v, nil
}

// Change replaces mode and keys, and keeps what is known of the peer: what was
// believed under the old keys is not believed again under the new ones. After an
// error nothing has changed.
func (v *Verifier) Change(mode Mode, keys []Key) error {
	var signers []*signer
	switch {
	case mode > lastMode:
		return fmt.Errorf("verify advertisements: unknown mode %v", mode)
	case mode != None:
		all, err := derive(keys, v.instance)
		if err != nil {
			return fmt.Errorf("verify advertisements: %w", err)
		}
		for _, k := range all {
			signers = append(signers, newSigner(k))
		}
	}
	v.mode, v.keys = mode, signers
	return nil
}

// Opened is an advertisement that may be used.
type Opened struct {
	// Payload is the advertisement without its trailer, in the memory of the packet.
	Payload []byte
	// Proved says that the peer sent it, now. Only then the fields below Doubt mean anything.
	Proved bool
	// Doubt is why it is not proved; Enforce would not have accepted it. Zero
	// when it is, and in mode None.
	Doubt Reason
	// Epoch is the sender's.
	Epoch uint64
	// Boot and Sequence tell the sender's advertisements apart.
	Boot, Sequence uint64
	// SecondKey says that the sender does not sign with our first key (yet).
	SecondKey bool
	// NewBoot says that this is the first one of a run of the peer's daemon:
	// time to keep Seen.
	NewBoot bool
}

// Open takes the trailer off b, the payload of a packet from src to dst. The
// error is a Reason, and comes in mode Enforce only.
func (v *Verifier) Open(b []byte, src, dst netip.Addr) (Opened, error) {
	payload, tail, sealed := split(b)
	if v.mode == None {
		return Opened{Payload: payload}, nil
	}
	proof, doubt := Opened{}, ReasonMissing
	if sealed {
		proof, doubt = v.prove(b, tail, src, dst)
	}
	switch {
	case doubt == 0:
		proof.Proved, proof.Payload = true, payload
		return proof, nil
	case v.mode == Permissive:
		return Opened{Payload: payload, Doubt: doubt}, nil
	}
	return Opened{}, doubt
}

// prove checks the tag before anything that the trailer says has an effect.
func (v *Verifier) prove(b, tail []byte, src, dst netip.Addr) (Opened, Reason) {
	if tail[offVersion] != trailerVersion {
		return Opened{}, ReasonVersion
	}
	p, ok := newPath(src, dst)
	if !ok {
		return Opened{}, ReasonFamily
	}
	t := readTrailer(tail)
	key, reason := v.signedBy(t.keyID, p, b)
	if reason != 0 {
		return Opened{}, reason
	}
	fresh, reason := v.believe(p, t)
	if reason != 0 {
		return Opened{}, reason
	}
	return Opened{
		Epoch: t.epoch, Boot: t.boot, Sequence: t.sequence, SecondKey: key > 0, NewBoot: fresh,
	}, 0
}

// signedBy returns the place of the key whose tag fits. Two keys may have one id.
func (v *Verifier) signedBy(id uint16, p path, b []byte) (int, Reason) {
	end := len(b) - TrailerLen + offTag
	reason := ReasonKey
	for i, k := range v.keys {
		if k.id != id {
			continue
		}
		if hmac.Equal(k.tag(p, b[:end]), b[end:]) {
			return i, 0
		}
		reason = ReasonTag
	}
	return 0, reason
}

// believe holds the replay rule. It reports whether the peer's daemon is a new run.
func (v *Verifier) believe(p path, t trailer) (fresh bool, reason Reason) {
	fresh = t.boot != v.seen.Boot
	if fresh && t.boot <= v.seen.Highest {
		return false, ReasonOldBoot
	}
	if fresh {
		clear(v.last)
		v.ended = v.seen.Boot
		v.seen, v.kept = Seen{Boot: t.boot, Highest: t.boot}, 0
	}
	last, known := v.last[p]
	switch {
	case t.sequence <= max(last, v.kept):
		return false, ReasonReplay
	case v.seen.Sequence > MaxLag && t.sequence < v.seen.Sequence-MaxLag:
		return false, ReasonStale
	case !known && len(v.last) == MaxPaths:
		return false, ReasonPaths
	}
	v.last[p] = t.sequence
	v.seen.Sequence = max(v.seen.Sequence, t.sequence)
	return fresh, 0
}

// Confirm takes what the peer said about itself over a link whose handshake
// proved it present: its run, and the sequence number of its last advertisement.
// It believes that run even if its identity is lower than an earlier one's
// (after the peer lost its disk and its clock), and no other until one with a
// higher identity than ever is heard or the next Confirm. A run in whose place another
// came has ended: word of it was on its way for too long. It reports whether the run
// changed.
func (v *Verifier) Confirm(boot, sequence uint64) bool {
	changed := boot != v.seen.Boot
	if changed && boot == v.ended {
		return false
	}
	if changed {
		clear(v.last)
		v.ended = v.seen.Boot
		v.seen, v.kept = Seen{Boot: boot, Highest: max(v.seen.Highest, boot)}, 0
	}
	v.seen.Sequence = max(v.seen.Sequence, sequence)
	return changed
}

// Seen returns what is known of the peer, to be kept.
func (v *Verifier) Seen() Seen { return v.seen }
