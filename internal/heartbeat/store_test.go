package heartbeat

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/vrrp/auth"
)

// TestReplayAfterRestart records what the peer says, restarts this end, and
// plays it back to it while the peer is silent.
func TestReplayAfterRestart(t *testing.T) {
	if !inside(t) {
		return
	}
	file := filepath.Join(t.TempDir(), "heartbeat")
	keys := testKeys(t, "a")
	start := func() *end {
		b := startEnd(t, 1, Config{Local: addrs4[1:], Peer: addrs4[:1], Keys: keys, StateFile: file})
		b.add("compass", 51, inMode(auth.Enforce))
		return b
	}
	a, b := newEnd(t, 0), start()
	cfg := a.add("compass", 51, inMode(auth.Enforce))
	hears(t, a, b, cfg)
	for range 20 {
		if err := a.send(cfg, 0); err != nil {
			t.Fatal(err)
		}
	}
	b.routes["compass"].Drain()
	_, last := a.Said("compass")
	a.stop()
	first := b.Boot()
	b.stop()

	b = start()
	if b.Boot() <= first {
		t.Errorf("this run is %d, the one before %d", b.Boot(), first)
	}
	eventually(t, "the path", func() bool { return b.routes["compass"].paths[0].conn.Load() != nil })
	say := raw(t, 255)
	for sequence := range last + 1 {
		if sequence == 0 {
			continue
		}
		say(sealed(t, cfg, keys, a.Boot(), sequence))
		say(sealed(t, cfg, keys, a.Boot()-1, last+sequence))
	}
	if n := b.drain(b.routes["compass"]); n != 0 {
		t.Errorf("%d replays delivered", n)
	}
	eventually(t, "the path to hear", func() bool { // until then nothing was proved
		say(sealed(t, cfg, keys, a.Boot(), last+1))
		return b.drain(b.routes["compass"]) == 1
	})
	if got := nonzero(b.of("compass").Dropped.ByName()); got["auth_replay"] == 0 || got["auth_old_boot"] == 0 || len(got) != 2 {
		t.Errorf("dropped %v", got)
	}
}

func TestStateFile(t *testing.T) {
	all := map[auth.Instance]auth.Seen{
		{VRID: 51, Name: "compass"}: {Boot: 5, Highest: 9, Sequence: 1 << 60},
		{VRID: 52, Name: "compass"}: {Boot: 1<<64 - 1, Highest: 1<<64 - 1, Sequence: 1},
	}
	file := filepath.Join(t.TempDir(), "heartbeat")
	s := openStore(file, make(lines, 1))
	now := time.Unix(1000, 0)
	boot := s.nextBoot(now)
	s.save(boot, all)
	again := openStore(file, make(lines, 1))
	if diff := cmp.Diff(all, again.seen()); diff != "" || again.wrong != nil {
		t.Errorf("%v (-want +got):\n%s", again.wrong, diff)
	}
	if next := again.nextBoot(now.Add(-time.Hour)); next != boot+1 { // a clock that was set back
		t.Errorf("the next run is %d after %d", next, boot)
	}
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if rest, err := filepath.Glob(file + ".*"); err != nil || len(rest) > 0 {
		t.Errorf("left behind: %v, %v", rest, err)
	}
}

// TestDamagedStateFile changes every bit of the file and cuts it everywhere. It
// is never believed, and never keeps the heartbeat from starting.
func TestDamagedStateFile(t *testing.T) {
	good, err := encodeState(kept{Boot: 7, Peers: []keptRun{{"compass", 51, 5, 9, 100}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeState(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, err := decodeState(good[:i]); !errors.Is(err, errStateFile) {
			t.Errorf("%d bytes: %v", i, err)
		}
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := decodeState(bad); !errors.Is(err, errStateFile) {
				t.Errorf("byte %d bit %d: %v", i, bit, err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "heartbeat")
	if err := os.WriteFile(file, good[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	told := make(lines, 4)
	s := openStore(file, told)
	s.confess()
	if lines := told.all(); len(lines) != 1 || !strings.Contains(lines[0], "damaged") {
		t.Errorf("told %q", lines)
	}
	if now := time.Now(); s.nextBoot(now) != uint64(now.UnixNano()) {
		t.Error("no identity by the clock")
	}
	if _, err := readState(file); err != nil {
		t.Errorf("and it was not replaced: %v", err)
	}
}

func TestStateFileCannotBeWritten(t *testing.T) {
	told := make(lines, 4)
	h, err := New(Config{StateFile: filepath.Join(t.TempDir(), "missing", "heartbeat"), Clock: bootClock, Log: told})
	if err != nil || h.Boot() == 0 {
		t.Errorf("boot %d, %v", h.Boot(), err)
	}
	if lines := told.all(); len(lines) != 1 || !strings.Contains(lines[0], "keep what is known") {
		t.Errorf("told %q", lines)
	}
}

func FuzzStateFile(f *testing.F) {
	good, err := encodeState(kept{Boot: 7, Peers: []keptRun{{"compass", 51, 5, 9, 100}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		k, err := decodeState(content)
		if err != nil {
			return
		}
		again, err := encodeState(k)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeState(again); err != nil || cmp.Diff(k, got) != "" {
			t.Errorf("%+v, %v; want %+v", got, err, k)
		}
	})
}
