package probe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/wire"
)

// OverhearFor is how long Overhear listens: somewhat longer than the second between
// two advertisements that most routers keep to.
const OverhearFor = 1500 * time.Millisecond

const mostOverheard = 64 // senders

// Overhear listens to the VRRP group of an interface and returns who advertises
// one of the VRIDs there. This host itself is not heard.
func Overhear(ctx context.Context, iface string, ipv6 bool, virtual []netip.Addr, vrids []uint8) ([]doctor.Overheard, error) {
	local, err := wire.PrimaryAddress(iface, ipv6, virtual)
	if err != nil {
		return nil, fmt.Errorf("listen to the VRRP group: %w", err)
	}
	c, err := wire.Listen(wire.Config{Interface: iface, Local: local, Peer: vrrp.Group(local), VRIDs: vrids})
	if err != nil {
		return nil, fmt.Errorf("listen to the VRRP group: %w", err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, OverhearFor)
	defer cancel()
	var heard []doctor.Overheard
	err = c.Run(ctx, func(p wire.Packet) { // one call at a time, and none after Run
		if len(p.Payload) < 2 {
			return
		}
		vrid := p.Payload[1]
		at := slices.IndexFunc(heard, func(h doctor.Overheard) bool { return h.VRID == vrid && h.Source == p.Source })
		switch {
		case at >= 0:
			heard[at].Count++
		case len(heard) < mostOverheard:
			heard = append(heard, doctor.Overheard{Interface: iface, VRID: vrid, Source: p.Source, Count: 1})
		}
	})
	return heard, err
}
