package doctor

// Advertisements that come and are not taken: the heartbeat counts them by reason. Where
// the peer is not heard they may be its.

import (
	"fmt"
	"net/netip"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// Dropped are packets of protocol 112 that the heartbeat did not take for one reason: of
// an instance, or, where that is empty, of a socket.
type Dropped struct {
	Instance string
	Path     string     // of a socket: between which ends
	Peer     netip.Addr // of a socket
	Packet   vrrp.DropReason
	Proof    auth.Reason // one of the two is 0
	Lately   uint64      // while the diagnosis lasted
	Heard    bool        // the instance hears the peer nevertheless, or the socket does, if only its probes
}

func (d Dropped) reason() string {
	if d.Packet != 0 {
		return d.Packet.String()
	}
	return d.Proof.String()
}

// Unheard judges what was dropped lately. asked says that the peer's daemon could be:
// then the heartbeat is not what the pair depends on.
func Unheard(nodes [2]string, dropped []Dropped, asked bool) []Finding {
	var found []Finding
	for _, d := range dropped {
		if d.Lately == 0 {
			continue
		}
		f, some := Finding{}, false
		switch {
		case d.Instance == "":
			f, some = d.ofSocket(nodes[1])
		case !d.Heard:
			f, some = d.ofInstance(asked)
		} // what is dropped beside what is taken is a stranger's, or a copy
		if some {
			found = append(found, f.because("%d of them as %s in the last moments", d.Lately, d.reason()).on(nodes[0]))
		}
	}
	return found
}

// ofSocket is what the socket of a path finds before any instance is asked.
func (d Dropped) ofSocket(peer string) (Finding, bool) {
	watch := "tcpdump -vveni any -c 20 'proto 112 or ip6 proto 112'"
	switch d.Packet { //nolint:exhaustive // the others are of instances, or below
	case vrrp.DropTTL:
		if d.Heard {
			return Finding{}, false // they are a stranger's: the peer's come as they should
		}
		if d.Peer.IsMulticast() {
			return wrong(HeartbeatRefused, d.Path, "advertisements to a group come with another TTL than 255, and nobody may take them (%s)", d.Path).
				fix(watch+"   # ttl, hlim, and from whom?", "# the peer's: something passes them on between two networks, which have to be one; another's: it has a VRID of ours"), true
		}
		return wrong(HeartbeatRefused, d.Path, "what %s advertises crosses a router: it comes with another TTL than 255, and nobody may take it (%s)", peer, d.Path).
			fix(fmt.Sprintf("ip route get %v   # has to say no via: the nodes need a network in common", d.Peer), watch+"   # ttl, hlim"), true
	case vrrp.DropOwn:
		return warn(HeartbeatRefused, d.Path, "advertisements from this node's own address come back (%s)", d.Path).
			fix(watch+"   # from whose hardware address?", "# another host has the address, or the network has a loop"), true
	case vrrp.DropOverflow:
		return warn(HeartbeatRefused, d.Path, "more packets of protocol 112 come than the daemon has time to read (%s)", d.Path).
			fix(watch+"   # who sends them?", "# or this host is short of time: tanist status, top"), true
	}
	return Finding{}, false // of other routers' packets; or DropLength, which its instance counts as well
}

// ofInstance is what has the VRID of an instance that hears nobody.
func (d Dropped) ofInstance(asked bool) (Finding, bool) {
	why, todo := unheardPacket(d.Packet)
	if d.Packet == 0 {
		why, todo = unheardProof(d.Proof)
	}
	if why == "" {
		return Finding{}, false
	}
	f := wrong(HeartbeatRefused, d.Instance, "instance %s hears nobody, and advertisements of its VRID are not taken: %s", d.Instance, why)
	if asked {
		f.Severity = Warning
	}
	return f.fix(todo...), true
}

const watchInstance = "tcpdump -vveni any -c 20 'proto 112 or ip6 proto 112'   # who sends them, and what?"

func unheardPacket(r vrrp.DropReason) (why string, todo []string) {
	switch r {
	case vrrp.DropVersion:
		return "they are of another version of VRRP", []string{watchInstance, "# heartbeat: version has to be the same on both nodes"}
	case vrrp.DropChecksum:
		return "their checksum does not fit: damaged, or their addresses are translated", []string{watchInstance, "# beside a keepalived: heartbeat: {checksum: keepalived}"}
	case vrrp.DropAuth:
		return "they have an authentication type of RFC 2338", []string{watchInstance, "# switch it off there: it proves nothing"}
	case vrrp.DropFamily:
		return "their addresses are of another family than the first of the instance", []string{watchInstance, "# the first of vips says the family, on both nodes"}
	case vrrp.DropShort, vrrp.DropLength, vrrp.DropType, vrrp.DropCount, vrrp.DropInterval:
		return "they are not in the form of RFC 9568", []string{watchInstance}
	case vrrp.DropVRID, vrrp.DropUnknownVRID, vrrp.DropSource: // of other routers
	case vrrp.DropTTL, vrrp.DropOwn, vrrp.DropOverflow: // of the socket
	}
	return "", nil
}

func unheardProof(r auth.Reason) (why string, todo []string) {
	switch r {
	case auth.ReasonVersion:
		return "they are sealed by a release that this one does not know", []string{"tanist version   # on both: upgrade the older one"}
	case auth.ReasonOldBoot:
		return "they are of a run of the peer's daemon that has ended", []string{
			"# repeated by somebody, or the peer lost its state directory and its clock: set its clock, then there: systemctl restart tanist", watchInstance,
		}
	case auth.ReasonReplay, auth.ReasonStale:
		return "they were heard before, or are late: repeated or held back", []string{watchInstance}
	case auth.ReasonPaths:
		return "they come from more addresses than the peer has: translated, or repeated by somebody", []string{watchInstance}
	case auth.ReasonKey, auth.ReasonTag, auth.ReasonMissing: // Proofs and the digests of the keys say it
	case auth.ReasonFamily: // one socket has one family
	}
	return "", nil
}
