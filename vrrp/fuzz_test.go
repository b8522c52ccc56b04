package vrrp

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/mono"
)

// everyEvent has one value of every event, so that tables and fuzzing cannot
// forget one.
func everyEvent() []Event {
	return []Event{Startup{}, Shutdown{}, heardFrom(200, 100, highest), Tick{}, Claim{}, Yield{}}
}

// FuzzParse reads the same bytes as a packet of each family, in both forms of
// the checksum, and compares what goes round.
func FuzzParse(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(g.payload)
	}
	f.Add([]byte{0x31, 1, 100, 1, 0xf0, 100, 0, 0, 192, 0, 2, 1})
	f.Add([]byte{0x21, 1, 100, 1, 0, 1, 0, 0, 192, 0, 2, 1, 's', 'e', 'c', 'r', 'e', 't', 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, goldenSrc, goldenDst, ChecksumRFC)
		roundTrip(t, b, goldenSrc, goldenDst, ChecksumPseudoHeader)
		roundTrip(t, b, goldenSrc, groupIPv4, ChecksumPseudoHeader)
		roundTrip(t, b, goldenSrc6, goldenDst6, ChecksumRFC)
		roundTrip(t, b, goldenSrc6, groupIPv6, ChecksumRFC)
		if _, _, err := Parse(b, goldenSrc, goldenDst6); err == nil {
			t.Errorf("%x: accepted between two families", b)
		}
	})
}

func roundTrip(t *testing.T, b []byte, src, dst netip.Addr, form ChecksumForm) {
	t.Helper()
	// Random bytes never have the right checksum; give them one.
	if b = bytes.Clone(b); len(b) >= headerLen && len(b)%2 == 0 {
		b[6], b[7] = 0, 0
		sum := onesSum(0, b)
		if withPseudoHeader(Version(b[0]>>4), src, form) {
			sum = pseudoHeaderSum(sum, src, dst, len(b))
		}
		sum = uint32(^fold(sum))
		b[6], b[7] = byte(sum>>8), byte(sum)
	}
	adv, form, err := Parse(b, src, dst)
	if err != nil {
		return
	}
	again, err := adv.AppendTo(nil, src, dst, form)
	if err != nil {
		t.Fatalf("accepted %x, cannot encode it: %v", b, err)
	}
	if diff := cmp.Diff(maskIgnored(b), maskIgnored(again)); diff != "" {
		t.Errorf("bytes (-received +encoded):\n%s", diff)
	}
	second, secondForm, err := Parse(again, src, dst)
	if err != nil || secondForm != form {
		t.Fatalf("encoded %x: form %v, %v", again, secondForm, err)
	}
	if diff := cmp.Diff(adv, second, cmpAddr); diff != "" {
		t.Errorf("advertisement (-first +second):\n%s", diff)
	}
	if n, ok := Size(append(bytes.Clone(b), 0xff), src); !ok || n != len(b) {
		t.Errorf("%x: Size %d, %v", b, n, ok)
	}
}

// maskIgnored clears the reserved bits, the Authentication Data of version 2,
// and with them the checksum that covers them.
func maskIgnored(b []byte) []byte {
	b = bytes.Clone(b)
	if b[0]>>4 == byte(Version2) {
		clear(b[len(b)-authLen:])
	} else {
		b[4] &= 0x0f
	}
	b[6], b[7] = 0, 0
	return b
}

// FuzzRouter plays three bytes per event: which, how much later, what is in it.
func FuzzRouter(f *testing.F) {
	f.Add(uint8(100), true, uint8(3), []byte{0, 0, 0, 3, 255, 0, 4, 1, 0, 2, 1, 200, 3, 9, 9})
	f.Add(uint8(255), false, uint8(2), []byte{0, 0, 0, 4, 0, 0, 2, 0, 0, 1, 1, 1})
	f.Fuzz(func(t *testing.T, priority uint8, preempt bool, version uint8, script []byte) {
		cfg := testConfig()
		cfg.Version = Version2 + Version(version%2)
		cfg.Priority, cfg.Preempt = max(priority, 1), preempt
		r, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		now := startedAt
		for ; len(script) >= 3; script = script[3:] {
			ev := everyEvent()[int(script[0])%len(everyEvent())]
			if _, ok := ev.(Received); ok {
				source := []netip.Addr{lowest, local, highest}[int(script[1])%3]
				heard := heardFrom(script[2], Centiseconds(script[1])*20, source)
				heard.Advertisement.Version = cfg.Version
				ev = heard
			}
			now = now.Add(time.Duration(script[1]) * 20 * time.Millisecond)
			checkStep(t, r, now, ev)
		}
	})
}

// checkStep steps r and holds the step to what is true of every step.
func checkStep(t *testing.T, r *Router, now mono.Instant, ev Event) {
	t.Helper()
	from := r.State()
	timer, wasArmed := r.Deadline()
	state, moved := from, false
	for _, eff := range r.Step(now, ev, nil) {
		switch eff := eff.(type) {
		case Transition:
			if eff.From != state || eff.From == eff.To || moved {
				t.Fatalf("%v, %T: transition %+v from %v", from, ev, eff, state)
			}
			state, moved = eff.To, true
		case Send:
			goodbye := eff.Advertisement.Priority == 0
			if goodbye != (state == Initialize) {
				t.Fatalf("%T: priority %d sent when in %v", ev, eff.Advertisement.Priority, state)
			}
		case ActiveDown:
			if r.State() != Backup {
				t.Fatalf("%T: ActiveDown in %v", ev, r.State())
			}
		case Heard:
			if from != Backup {
				t.Fatalf("%T: Heard in %v", ev, from)
			}
		case WeakerHeard:
			if from != Active || state != Active {
				t.Fatalf("%T: WeakerHeard from %v to %v", ev, from, state)
			}
		}
	}
	if r.State() != state {
		t.Fatalf("%v, %T: in %v, effects say %v", from, ev, r.State(), state)
	}
	if state == Active && from != Active {
		if _, ok := ev.(Claim); !ok {
			t.Fatalf("%T made the router Active", ev)
		}
	}
	after, armed := r.Deadline()
	if _, tick := ev.(Tick); tick && wasArmed && now.Before(timer) && (after != timer || !armed) {
		t.Fatalf("early tick moved the timer from %d to %d", timer, after)
	}
	if (state == Active && !armed) || (state == Initialize && armed) {
		t.Fatalf("%v: armed %v", state, armed)
	}
	if _, tick := ev.(Tick); tick && armed && !after.After(now) {
		t.Fatalf("%v: timer at %d is due after a tick at %d", state, after, now)
	}
	if limit := max(r.ActiveDownInterval(), ActiveDownInterval(1, MaxIntervalV2.Duration())); armed && after.Sub(now) > limit {
		t.Fatalf("%v: timer %v ahead", state, after.Sub(now))
	}
}
