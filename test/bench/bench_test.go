package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/config"
)

func TestMain(m *testing.M) {
	spinIfTold()
	os.Exit(m.Run())
}

// need skips where no pair can be run, and returns both programs.
func need(t *testing.T) []program {
	t.Helper()
	if err := usable(); err != nil {
		t.Skip(err)
	}
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	o, err := parse(nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	programs, err := o.build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return programs
}

// shortDir is short enough for the path of a unix socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tb") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// noneLeft fails when a process runs that has dir on its command line.
func noneLeft(t *testing.T, dir string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range lines {
		if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte(dir)) {
			t.Errorf("%s still runs: %q", file, data)
		}
	}
}

// A killed daemon's service is taken over by either program; only keepalived
// leaves the address behind, which shows that two holders are seen.
func TestKill(t *testing.T) {
	programs := need(t)
	all, err := findScenarios([]string{"kill"})
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	c := campaign{scenarios: all, intervals: []time.Duration{100 * time.Millisecond}, programs: programs, n: 1, nLong: 1}
	trials, err := c.run(t.Context(), settings{Lease: 2 * time.Second, Instances: 1}, dir, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if len(trials) != 2 {
		t.Fatalf("%d trials", len(trials))
	}
	for _, trial := range trials {
		switch {
		case trial.Failed != "":
			t.Errorf("%s: %s", trial.Program, trial.Failed)
		case trial.Served < 0:
			t.Errorf("%s: the other router never served", trial.Program)
		case trial.Program == "tanist" && (trial.Both > 0 || trial.Holder != "b"):
			t.Errorf("tanist: two holders for %v, then %s", trial.Both, trial.Holder)
		case trial.Program == "keepalived" && (trial.Both == 0 || trial.Holder != "a+b"):
			t.Errorf("keepalived left no address behind, or it went unseen: two holders for %v, then %s", trial.Both, trial.Holder)
		}
	}
	noneLeft(t, dir)
	var table bytes.Buffer
	Report{Trials: trials, Lease: 2 * time.Second}.print(&table)
	if !strings.Contains(table.String(), "| kill -9 of all its processes | two holders, ms | 100ms | 1 | 0 / 0 | ") {
		t.Errorf("the table:\n%s", &table)
	}
}

// What was started ends when the run is interrupted, wherever it is.
func TestInterrupted(t *testing.T) {
	for _, p := range need(t) {
		t.Run(p.name(), func(t *testing.T) {
			dir := shortDir(t)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			sc := scenario{name: "wait", limit: time.Minute, run: func(ctx context.Context, tr *trial) error {
				tr.now()
				interrupt()
				return tr.over(ctx, time.Hour)
			}}
			set := settings{Interval: 100 * time.Millisecond, Lease: 2 * time.Second, Instances: 1}
			if _, err := attempt(ctx, sc, p, set, 0, 0.5, filepath.Join(dir, "t")); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			noneLeft(t, dir)
		})
	}
}

// A pair of each program costs something and loses nothing at rest.
func TestCost(t *testing.T) {
	for _, p := range need(t) {
		t.Run(p.name(), func(t *testing.T) {
			dir := shortDir(t)
			set := settings{Interval: 100 * time.Millisecond, Lease: 2 * time.Second, Instances: 3}
			c, err := measureCost(t.Context(), p, set, costPlan{Instances: []int{3}, Window: 2 * time.Second}, dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(c)
			for s, side := range c.Sides {
				if side.CPU <= 0 || side.RSS < 1e6 || side.PSS <= 0 || side.PSS > side.RSS {
					t.Errorf("router %d costs %+v", s, side)
				}
			}
			if c.Cannot != "" || c.Sides[first].Sent <= c.Sides[second].Sent {
				t.Errorf("%+v", c)
			}
			noneLeft(t, dir)
		})
	}
}

func TestTally(t *testing.T) {
	a, b, both, none := holding{true, false}, holding{false, true}, holding{true, true}, holding{}
	looks := []look{{0, a}, {10, both}, {14, a}, {20, none}, {25, b}, {30, both}}
	for _, tt := range []struct {
		name     string
		from, to time.Duration
		want     held
	}{
		{"whole", 1, 40, held{both: 14, none: 5, last: both}},
		{"the span cuts", 12, 23, held{both: 2, none: 3, last: none}},
		{"before a change", 1, 9, held{last: a}},
		{"ends in two", 26, 33, held{both: 3, last: both}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, tally(looks, tt.from, tt.to), cmp.AllowUnexported(held{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	inf := math.Inf(1)
	for _, tt := range []struct {
		name               string
		m                  measure
		tanist, keepalived figures
		kept, known        bool
	}{
		{"zero kept", measure{metricLost, boundZero}, figures{all: []float64{0, 0}}, figures{}, true, true},
		{"zero broken once", measure{metricLost, boundZero}, figures{all: []float64{0, 1}}, figures{}, false, true},
		{"zero of a failed trial", measure{metricLost, boundZero}, figures{all: []float64{0}, failed: 1}, figures{}, false, true},
		{"nothing measured", measure{metricLost, boundZero}, figures{}, figures{all: []float64{1}}, false, false},
		{"within the margin", measure{metricServed, boundKeepalived}, figures{all: []float64{314}}, figures{all: []float64{300}}, true, true},
		{"slower", measure{metricServed, boundKeepalived}, figures{all: []float64{316}}, figures{all: []float64{300}}, false, true},
		{"never served", measure{metricServed, boundKeepalived}, figures{all: []float64{inf}}, figures{all: []float64{300}}, false, true},
		{"nothing beside it", measure{metricServed, boundKeepalived}, figures{all: []float64{316}}, figures{}, false, false},
		{"within lease", measure{metricServed, boundLease}, figures{all: []float64{3500}}, figures{}, true, true},
		{"beyond lease", measure{metricServed, boundLease}, figures{all: []float64{100, 3501}}, figures{}, false, true},
		{"holder", measure{metricHolder, boundSecond}, figures{all: []float64{0}, holders: []string{"b", "a"}}, figures{}, false, true},
		{"heal", measure{metricOutage, boundHeal}, figures{all: []float64{200}}, figures{}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, kept, known := tt.m.verdict(tt.tanist, tt.keepalived, 2*time.Second)
			if kept != tt.kept || known != tt.known {
				t.Errorf("kept %t known %t", kept, known)
			}
		})
	}
}

func TestCells(t *testing.T) {
	for _, tt := range []struct {
		f    figures
		m    metric
		want string
	}{
		{figures{all: []float64{1, 2.5, 300}}, metricServed, "2.50 / 300"},
		{figures{all: []float64{1, 3}}, metricLost, "2 / 3"},
		{figures{all: []float64{1, math.Inf(1)}, failed: 2}, metricServed, "never / never (failed 2×)"},
		{figures{failed: 2}, metricServed, "failed 2×"},
		{figures{}, metricServed, ""},
		{figures{all: []float64{0, 0, 0}, holders: []string{"b", "a+b", "b"}}, metricHolder, "a+b 1×, b 2×"},
	} {
		if got := tt.f.cell(tt.m); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.f, got, tt.want)
		}
	}
}

// message is one message of a dump of addresses.
func message(kind, flags uint16, body ...byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, 64)
	binary.NativeEndian.PutUint32(b, uint32(len(b)+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	return append(b, body...)
}

func address(attribute uint16, a netip.Addr) []byte {
	body := make([]byte, unix.SizeofIfAddrmsg)
	body = binary.NativeEndian.AppendUint16(body, 8)
	body = binary.NativeEndian.AppendUint16(body, attribute)
	return append(body, a.AsSlice()...)
}

func TestAddressIn(t *testing.T) {
	want, other := vipOf(1), vipOf(2)
	done := message(unix.NLMSG_DONE, 0, 0, 0, 0, 0)
	for _, tt := range []struct {
		name               string
		b                  []byte
		found, whole, done bool
		bad                bool
	}{
		{"there", slices.Concat(message(unix.RTM_NEWADDR, 0, address(unix.IFA_LOCAL, other)...), message(unix.RTM_NEWADDR, 0, address(unix.IFA_LOCAL, want)...), done), true, true, true, false},
		{"not there", slices.Concat(message(unix.RTM_NEWADDR, 0, address(unix.IFA_LOCAL, other)...), done), false, true, true, false},
		{"a peer's is not ours", slices.Concat(message(unix.RTM_NEWADDR, 0, address(unix.IFA_ADDRESS, want)...), done), false, true, true, false},
		{"more to come", message(unix.RTM_NEWADDR, 0, address(unix.IFA_LOCAL, want)...), true, true, false, false},
		{"changed meanwhile", slices.Concat(message(unix.RTM_NEWADDR, unix.NLM_F_DUMP_INTR, address(unix.IFA_LOCAL, want)...), done), true, false, true, false},
		{"an error", message(unix.NLMSG_ERROR, 0, 1, 0, 0, 0), false, false, false, true},
		{"too long", []byte{200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, false, false, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, whole, done, err := addressIn(tt.b, want.As4())
			if (err != nil) != tt.bad || err == nil && (found != tt.found || whole != tt.whole || done != tt.done) {
				t.Errorf("found %t whole %t done %t: %v", found, whole, done, err)
			}
		})
	}
}

func TestParseMemory(t *testing.T) {
	rss, pss, err := parseMemory([]byte("00400000-7fff ---p 0 00:00 0 [rollup]\nRss:   12 kB\nPss:   7 kB\nPss_Dirty:  1 kB\n"))
	if err != nil || rss != 12<<10 || pss != 7<<10 {
		t.Errorf("%d %d %v", rss, pss, err)
	}
	if _, _, err := parseMemory([]byte("Rss:  12 kB\n")); err == nil {
		t.Error("half of it is no error")
	}
}

// Both programs get the same settings, and Tanist's file is one that it takes.
func TestConfigurations(t *testing.T) {
	set := settings{Interval: 10 * time.Millisecond, Lease: 3 * time.Second, Instances: 255}
	file, err := config.Parse("tanist.yaml", []byte(tanistConfig("/etc/tanist/cluster.key", set)))
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Instances) != 255 {
		t.Fatalf("%d instances", len(file.Instances))
	}
	in := file.Instances[254]
	if in.Heartbeat.AdvertInterval != set.Interval || in.Lease != set.Lease || in.Preempt || in.Priority != [2]uint8{254, 253} || in.VIPs[0].Addr() != vipOf(255) {
		t.Errorf("%+v", in)
	}
	text := keepalivedConfig(second, set)
	for _, want := range []string{"virtual_router_id 255\n", "priority 253\n", "advert_int 0.01\n", "nopreempt\n", "unicast_peer {\n    10.77.0.11\n", "10.77.100.255/16"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text[:400])
		}
	}
	set.Multicast, set.Preempt = true, true
	if text := keepalivedConfig(first, set); strings.Contains(text, "unicast") || strings.Contains(text, "nopreempt") {
		t.Errorf("%s", text[:400])
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // of the error, "" for none
	}{
		{"", ""},
		{"-scenario kill,stop -interval 100ms,1s -n 5 -program tanist,keepalived", ""},
		{"-full", ""},
		{"-cost -instances 1,255", ""},
		{"-scenario nosuch", "no scenario"},
		{"-interval 5ms", "interval"},
		{"-interval x", "invalid duration"},
		{"-instances 256 -cost", "instances"},
		{"-n -1", "trials"},
		{"-loss 1h", "loss"},
		{"-window 1ms", "window"},
		{"more", "unexpected"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			_, err := parse(strings.Fields(tt.args), &bytes.Buffer{})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
