package interop

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// tanist is the daemon, on host a.
type tanist struct {
	t    *attempt
	host *space
	dir  string
	log  lockedBuffer
	cmd  *exec.Cmd // nil: it does not run
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tanistConf speaks in the given way. more are keys of the heartbeat, checksum
// among them.
func tanistConf(w way, priority int, preempt bool, more string) string {
	mode := "unicast"
	if w.multicast {
		mode = "multicast"
	}
	var vips []string
	for _, p := range w.vips {
		vips = append(vips, fmt.Sprintf("%q", p))
	}
	return fmt.Sprintf(`
nodes:
  primary: {addresses: ["%v"]}
  reserve: {addresses: ["%v"]}
log: {level: info, format: console}
instances:
  - name: compass
    interface: %s
    vrid: 51
    vips: [%s]
    priority: {primary: %d, reserve: 150}
    preempt: %t
    heartbeat: {version: %d, mode: %s, advert_interval: %s, %s}
`, w.nodeA(), w.nodeB(), nic, strings.Join(vips, ", "), priority, preempt, w.version, mode, w.interval, more)
}

// newTanist neither configures nor starts it.
func newTanist(t *attempt, host *space) *tanist {
	d := &tanist{t: t, host: host, dir: t.TempDir()}
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("tanist's log:\n%s", d.log.String())
		}
	})
	return d
}

func (d *tanist) file(name string) string { return filepath.Join(d.dir, name) }

func (d *tanist) configure(conf string) {
	if err := os.WriteFile(d.file("tanist.yaml"), []byte(conf), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *tanist) start() {
	d.cmd = exec.Command(binary(d.t), "run", "--config", d.file("tanist.yaml"), "--node", "primary",
		"--socket", d.file("socket"), "--state-dir", d.dir)
	d.cmd.Stderr = &d.log
	d.host.start(d.t, d.cmd)
}

// leave ends it in order.
func (d *tanist) leave() {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	timer := time.AfterFunc(patient, func() { _ = d.cmd.Process.Kill() })
	defer timer.Stop()
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("leave: %v", err)
	}
	d.cmd = nil
}

// kill is kill -9.
func (d *tanist) kill() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
	d.cmd = nil
}

// status asks the daemon. A daemon that does not answer is in no state.
func (d *tanist) status() (control.Document, control.Instance) {
	doc, err := control.Dial(d.file("socket")).Status(d.t.Context())
	if err != nil || len(doc.Instances) == 0 {
		return control.Document{}, control.Instance{}
	}
	return doc, doc.Instances[0]
}

// is waits for a state and a reason; an empty reason is any.
func (d *tanist) is(state, reason string) {
	var in control.Instance
	eventually(d.t, fmt.Sprintf("tanist to be %s %s", state, reason), func() bool {
		_, in = d.status()
		return in.State == state && (reason == "" || in.Reason == reason)
	})
}

// heardAll requires that it took all that keepalived sent, and had nothing to
// find in it.
func (d *tanist) heardAll() {
	doc, in := d.status()
	h := in.Heartbeat
	if h == nil || h.LastHeardMS == nil {
		d.t.Errorf("nothing heard: %+v", h)
		return
	}
	if len(h.Mismatch)+len(h.Dropped) > 0 || h.Checksum != h.PeerChecksum {
		d.t.Errorf("heartbeat: %+v", h)
	}
	for _, p := range doc.Heartbeat {
		if !p.Up || p.Error != "" || len(p.Dropped) > 0 {
			d.t.Errorf("path: %+v", p)
		}
	}
}
