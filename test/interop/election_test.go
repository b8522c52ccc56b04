package interop

import (
	"strings"
	"testing"
	"time"
)

// TestKeepalivedIsWeaker preempts a keepalived that is Active, leaves it the role
// with a goodbye and by kill -9, and takes it back each time.
func TestKeepalivedIsWeaker(t *testing.T) {
	everyWay(t, ways(), func(t *attempt, w way) {
		p := newPair(t, w, tanistConf(w, 200, true, w.beside()), 100, "")
		p.keepalived.start()
		p.theirsHolds("keepalived alone to be Active")

		p.tanist.start()
		p.oursHolds("tanist to preempt")
		p.tanist.is("active", "preempting")
		eventually(t, "keepalived to say why", func() bool { return p.keepalived.said(outranked(w.a, 200)) > 0 })
		p.tanist.heardAll()

		p.tanist.leave()
		p.theirsHolds("keepalived to take over after the goodbye")
		p.goodbyes(1)

		p.tanist.start()
		p.oursHolds("tanist to preempt again")
		p.tanist.kill()
		p.theirsHolds("keepalived to take over from silence, the lease to end")
		p.goodbyes(1)

		p.tanist.start()
		p.oursHolds("tanist to preempt once more")
		p.keepalived.leave()
		backups := p.keepalived.said(enteringBackup)
		p.keepalived.start()
		eventually(t, "keepalived to be back", func() bool { return p.keepalived.said(enteringBackup) > backups })
		p.stays("tanist is Active beside a weaker Backup", p.a, p.b)
		p.tanist.leave()
		p.theirsHolds("keepalived to take over after the second goodbye")
		p.goodbyes(2)
		p.sent.check()
	})
}

// TestKeepalivedIsStronger is preempted by keepalived and takes over after its
// goodbye. A keepalived that is killed leaves its addresses in the kernel, which
// answers for them: Tanist says so and takes nothing, until they are gone or the
// host is.
func TestKeepalivedIsStronger(t *testing.T) {
	everyWay(t, ways(), func(t *attempt, w way) {
		p := newPair(t, w, tanistConf(w, 100, false, w.beside()), 200, "")
		p.tanist.start()
		p.oursHolds("tanist alone to be Active")

		p.keepalived.start()
		p.theirsHolds("keepalived to preempt")
		p.tanist.is("backup", "")
		p.tanist.heardAll()

		p.keepalived.leave()
		p.oursHolds("tanist to take over after its goodbye")

		p.keepalived.start()
		p.theirsHolds("keepalived to preempt again")
		p.keepalived.kill()
		p.tanist.is("conflict", "address_answers")
		stays(t, "conflict, and nothing taken", 2*time.Second, func() bool {
			_, in := p.tanist.status()
			return in.State == "conflict" && len(p.a.has(w.vips)) == 0 && len(p.b.has(w.vips)) == len(w.vips)
		})
		if w.multicast {
			p.b.remove(t, w.vips)
			p.oursHolds("tanist to take over once the addresses are gone")
		} else {
			p.unplug(t)
			eventually(t, "tanist to take over once the host is gone", func() bool { return len(p.a.has(w.vips)) == len(w.vips) })
			p.b.remove(t, w.vips)
			p.oursHolds("the client to find it there")
		}
		p.tanist.is("active", "peer_silent")
		p.tanist.leave()
		p.sent.check()
		if n := p.sent.advertised(w, 0); n != 1 {
			t.Errorf("%d goodbyes on the wire, want 1", n)
		}
	})
}

// TestWithoutPreemption leaves the role where it is, on either side.
func TestWithoutPreemption(t *testing.T) {
	t.Parallel()
	ws := ways()[2:4] // the election is the same in all
	t.Run("ours", func(t *testing.T) {
		everyWay(t, ws, func(t *attempt, w way) {
			p := newPair(t, w, tanistConf(w, 200, false, w.beside()), 100, "")
			p.keepalived.start()
			p.theirsHolds("keepalived alone to be Active")
			p.tanist.start()
			p.tanist.is("backup", "")
			eventually(t, "keepalived to be heard", func() bool {
				_, in := p.tanist.status()
				return in.Heartbeat != nil && in.Heartbeat.LastHeardMS != nil
			})
			p.stays("tanist is Backup beside a weaker Active", p.b, p.a)
			p.tanist.heardAll()
			p.tanist.leave()
			p.sent.end()
			if text := p.sent.read(""); strings.Contains(text, "VRRP") {
				t.Errorf("a Backup advertised, or said goodbye:\n%s", text)
			}
		})
	})
	t.Run("theirs", func(t *testing.T) {
		everyWay(t, ws, func(t *attempt, w way) {
			p := newPair(t, w, tanistConf(w, 100, false, w.beside()), 200, "  nopreempt\n")
			p.tanist.start()
			p.oursHolds("tanist alone to be Active")
			p.keepalived.start()
			eventually(t, "keepalived to be there", func() bool { return p.keepalived.said(enteringBackup) > 0 })
			p.stays("keepalived is Backup beside a weaker Active", p.a, p.b)
			p.tanist.leave()
			p.theirsHolds("keepalived to take over after the goodbye")
			p.goodbyes(1)
			p.sent.check()
		})
	})
}

// TestChecksumFollows starts with the RFC's checksum in version 3 over IPv4, which
// keepalived 2.2.7 takes for an error: it becomes Active beside a stronger one.
// Tanist then speaks as it does, and has the role alone.
func TestChecksumFollows(t *testing.T) {
	everyWay(t, ways()[2:4], func(t *attempt, w way) {
		p := newPair(t, w, tanistConf(w, 200, false, "auth: none, checksum: auto"), 100, "")
		p.tanist.start()
		p.oursHolds("tanist alone to be Active")
		p.keepalived.start()
		eventually(t, "keepalived to refuse the checksum", func() bool { return p.keepalived.said("Invalid VRRPv3 checksum") > 0 })
		eventually(t, "keepalived to give way", func() bool { return p.keepalived.said(outranked(w.a, 200)) > 0 })
		p.oursHolds("tanist to be Active alone")
		p.stays("tanist is Active alone", p.a, p.b)
		p.tanist.heardAll()
		p.tanist.leave()
		p.theirsHolds("keepalived to take over after the goodbye")
		p.goodbyes(1)
		p.sent.end()
		if !complaint.MatchString(p.sent.read("proto 112")) {
			t.Error("tcpdump finds nothing wrong with the RFC's checksum: it may become the default beside others")
		}
	})
}
