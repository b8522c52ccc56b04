package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ClockOffset asks the peer for its wall clock: it is ahead of this host's by
// offset, give or take uncertainty, which is half the round trip.
func (l *Link) ClockOffset(ctx context.Context) (offset, uncertainty time.Duration, err error) {
	asked := time.Now()
	body, err := l.Call(ctx, KindClock, nil)
	if err != nil {
		return 0, 0, err
	}
	half := time.Since(asked) / 2
	if len(body) != 8 {
		return 0, 0, fmt.Errorf("call %s of %s: %w", KindClock, l.cfg.Peer, errors.New("an answer that is no clock"))
	}
	at := time.Unix(0, int64(binary.BigEndian.Uint64(body)))
	// A clock that was set during the call makes this one wrong and not the next.
	return at.Sub(asked.Round(0).Add(half)), half, nil
}
