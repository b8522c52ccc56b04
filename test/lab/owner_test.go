package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/test/lab"
)

// rests lists what of a lab can be found on the machine.
func rests(t *testing.T, id string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{
		"/run/netns/tanist-" + id + "-*",
		"/var/lib/tanist-lab/" + id,
		"/sys/fs/cgroup/tanist-lab-" + id,
		"/sys/fs/cgroup/*/tanist-lab-" + id,
		"/run/systemd/nspawn/*/tanist-" + id + "-*",
	} {
		paths, err := filepath.Glob(pattern)
		must(t, err)
		found = append(found, paths...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/tanist-lab/"+id+"/") {
			found = append(found, line)
		}
	}
	return found
}

func TestTwoLabsAtOnce(t *testing.T) {
	one, ctx := sharedLab(t), withPatience(t)
	two, err := lab.Up(ctx, lab.Options{HostnameA: "left", HostnameB: "right", Lsyncd: lab.LsyncdLSB})
	must(t, err)
	defer func() {
		must(t, two.Down(context.WithoutCancel(ctx)))
		must(t, two.Down(context.WithoutCancel(ctx)))
		if left := rests(t, two.ID); len(left) > 0 {
			t.Errorf("Down left %q", left)
		}
	}()
	for l, want := range map[*lab.Lab]string{one: "primary", two: "left"} {
		p, err := l.A.Start(ctx, lab.Command{Argv: []string{"socat", "TCP-LISTEN:7000,reuseaddr", "SYSTEM:hostname"}})
		must(t, err)
		var got string
		eventually(t, ctx, "its own node answers", func() bool {
			conn, err := l.Switch.DialContext(ctx, "tcp", netip.AddrPortFrom(l.A.Addr(lab.Eth0), 7000).String())
			if err != nil {
				return false
			}
			defer conn.Close()
			got, _ = bufio.NewReader(conn).ReadString('\n')
			return true
		})
		if strings.TrimSpace(got) != want {
			t.Errorf("lab %s: node a says it is %q, want %q", l.ID, got, want)
		}
		must(t, p.Wait())
	}
	if _, err := two.Node("right"); err != nil {
		t.Error(err)
	}
	if got := sh(t, ctx, two.B, "getent hosts left left-hb | xargs; systemctl show --property=FragmentPath --value lsyncd"); got !=
		"10.77.0.11 left a 10.77.1.11 left-hb a-hb\n/run/systemd/generator.late/lsyncd.service" {
		t.Errorf("names and lsyncd unit: %s", got)
	}
	must(t, two.A.PowerOff(ctx))
	must(t, two.CutOneWay(ctx, two.Switch, two.B))
	if !pings(ctx, one, one.A.Addr(lab.Eth0)) || !pings(ctx, one, one.B.Addr(lab.Eth0)) {
		t.Error("one lab's faults are felt in the other")
	}
	if _, err := lab.Up(ctx, lab.Options{ID: two.ID}); err == nil {
		t.Error("a second lab took the id of one that lives")
	}
	if !two.B.On() {
		t.Error("a refused Up hurt the lab whose id it wanted")
	}
}

// ownLab is a process that dies without Down.
func ownLab(id string) {
	ctx := context.Background()
	l, err := lab.Up(ctx, lab.Options{ID: id})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var pids []string
	for _, start := range []func(context.Context, lab.Command) (*lab.Process, error){l.A.Start, l.Switch.Start} {
		p, err := start(ctx, lab.Command{Argv: []string{"sleep", "infinity"}})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		pids = append(pids, strconv.Itoa(p.PID))
	}
	fmt.Println("up", strings.Join(pids, " "))
	select {}
}

func TestStaleLabIsSwept(t *testing.T) {
	living, ctx := sharedLab(t), withPatience(t)
	id := "stale" + strconv.Itoa(os.Getpid())
	owner := exec.CommandContext(ctx, "/proc/self/exe", asOwner, id)
	out, err := owner.StdoutPipe()
	must(t, err)
	must(t, owner.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	if !strings.HasPrefix(line, "up ") {
		t.Fatalf("the owner says %q", line)
	}
	swept, err := lab.Sweep(ctx)
	must(t, err)
	if slices.Contains(swept, id) {
		t.Fatal("swept a lab whose owner lives")
	}
	must(t, owner.Process.Kill())
	if err := owner.Wait(); err == nil {
		t.Fatal("the owner ended by itself")
	}

	swept, err = lab.Sweep(ctx)
	must(t, err)
	if !slices.Contains(swept, id) {
		t.Errorf("swept %q, not %s", swept, id)
	}
	if left := rests(t, id); len(left) > 0 {
		t.Errorf("the sweep left %q", left)
	}
	for _, pid := range strings.Fields(line)[1:] {
		if cmd, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && strings.HasPrefix(string(cmd), "sleep") {
			t.Errorf("process %s of the dead owner's lab still sleeps", pid)
		}
	}
	if !living.A.On() || !living.B.On() {
		t.Error("the sweep hurt a lab that lives")
	}
}

func TestKeptLab(t *testing.T) {
	lab.Require(t)
	ctx := withPatience(t)
	exe, err := os.Executable()
	must(t, err)
	id := "kept" + strconv.Itoa(os.Getpid())
	made, err := lab.Up(ctx, lab.Options{ID: id, Keep: true, Supervisor: []string{exe, asSupervisor}})
	must(t, err)
	defer func() { must(t, made.Down(context.WithoutCancel(ctx))) }()

	swept, err := lab.Sweep(ctx)
	must(t, err)
	if slices.Contains(swept, id) {
		t.Fatal("swept a kept lab")
	}
	labs, err := lab.List()
	must(t, err)
	if !labs[id] {
		t.Errorf("List does not show %s as kept: %v", id, labs)
	}
	l, err := lab.Attach(id, exe, asSupervisor)
	must(t, err)
	must(t, l.A.Reboot(ctx))
	must(t, l.B.PowerOff(ctx))
	must(t, l.B.PowerOn(ctx))
	must(t, l.B.Shutdown(ctx))
	if !l.A.On() || l.B.On() {
		t.Errorf("a on %t, b on %t; want true, false", l.A.On(), l.B.On())
	}
	must(t, l.Down(ctx))
	if left := rests(t, id); len(left) > 0 {
		t.Errorf("Down left %q", left)
	}
	if _, err := lab.Attach(id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("attach to a lab that is down: %v", err)
	}
}
