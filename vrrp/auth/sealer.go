package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// SealerConfig says in whose name a Sealer seals.
type SealerConfig struct {
	Mode     Mode
	Keys     []Key // 1 or 2, the first one signs; none in mode None
	Instance Instance
	// Boot is this run of the daemon, from NextBoot.
	Boot uint64
}

// Sealer seals the advertisements of one instance. It is not safe for
// concurrent use.
type Sealer struct {
	boot uint64
	sign *signer // nil in mode None
}

// NewSealer derives the key. In mode None it needs nothing else.
func NewSealer(cfg SealerConfig) (*Sealer, error) {
	if cfg.Mode == None {
		return &Sealer{}, nil
	}
	if cfg.Mode > lastMode {
		return nil, fmt.Errorf("seal advertisements: unknown mode %v", cfg.Mode)
	}
	if cfg.Boot == 0 {
		return nil, errors.New("seal advertisements: no boot identity")
	}
	keys, err := derive(cfg.Keys, cfg.Instance)
	if err != nil {
		return nil, fmt.Errorf("seal advertisements: %w", err)
	}
	return &Sealer{boot: cfg.Boot, sign: newSigner(keys[0])}, nil
}

// Seal appends the trailer to b, an advertisement from src to dst, and returns
// it; in mode None it returns b. sequence starts at 1 and grows with each
// advertisement; what goes over several paths at once has the same one on all
// of them. epoch is the highest that this node has said or heard.
//
// The advertisement's own checksum stays as it is: it covers b alone.
func (s *Sealer) Seal(b []byte, src, dst netip.Addr, sequence, epoch uint64) ([]byte, error) {
	if s.sign == nil {
		return b, nil
	}
	p, ok := newPath(src, dst)
	if !ok {
		return b, fmt.Errorf("seal advertisement: %v to %v is not one address family", src, dst)
	}
	if sequence == 0 {
		return b, errors.New("seal advertisement: sequence number 0")
	}
	sealed := trailer{keyID: s.sign.id, boot: s.boot, sequence: sequence, epoch: epoch}.appendTo(b)
	return append(sealed, s.sign.tag(p, sealed)...), nil
}

// NextBoot returns the boot identity of a daemon that starts at the given wall
// clock time and whose last one, from what it keeps on disk, was last; 0 if
// nothing was kept. Identities have to grow from one start to the next, over
// clock steps as well, or the peer believes no advertisement before the two
// daemons have talked over their authenticated link (Verifier.Confirm).
//
// It is nanoseconds since 1970, so starts in one second differ.
func NextBoot(wall time.Time, last uint64) uint64 {
	next := last + 1
	if next == 0 {
		next = last // after 500 years
	}
	if now := wall.UnixNano(); now > 0 {
		next = max(next, uint64(now))
	}
	return next
}
