package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// askVariable has the test binary be a caller: socket, path and body, in lines.
const askVariable = "TANIST_TEST_ASK"

// members is a group of these tests.
const members = 54321

func TestMain(m *testing.M) {
	if ask := os.Getenv(askVariable); ask != "" {
		os.Exit(asCaller(strings.SplitN(ask, "\n", 3)))
	}
	os.Exit(m.Run())
}

// holds, in place of a path, has a caller keep as many connections busy as a user gets,
// until its standard input ends.
const holds = "holds"

func holdConnections(socket string) int {
	over := make(chan struct{})
	go func() { defer close(over); _, _ = io.Copy(io.Discard, os.Stdin) }()
	var held []net.Conn
	for {
		for len(held) < userConnections {
			c, err := net.Dial("unix", socket)
			if err != nil {
				fmt.Println(err)
				return 1
			}
			held = append(held, c)
		}
		for i, c := range held { // an idle connection would not be kept
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				fmt.Println(i, err)
				return 1
			}
			if _, err := c.Read(make([]byte, 1<<20)); err != nil {
				fmt.Println(i, err)
				return 1
			}
		}
		fmt.Println("holds")
		select {
		case <-over:
			return 0
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// asCaller asks and prints the status and the text.
func asCaller(ask []string) int {
	if ask[1] == holds {
		return holdConnections(ask[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	method := http.MethodPost
	if ask[2] == "" {
		method = http.MethodGet
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", ask[0])
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://tanist"+ask[1], strings.NewReader(ask[2]))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return 0
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(text))
	return 0
}

// asks lets another user ask, who has the kernel say who that is.
func asks(t *testing.T, who *syscall.Credential, socket, path, body string) string {
	t.Helper()
	out, err := callerCommand(t, who, socket, path, body).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func callerCommand(t *testing.T, who *syscall.Credential, socket, path, body string) *exec.Cmd {
	t.Helper()
	binary := filepath.Join(filepath.Dir(socket), "caller")
	if _, err := os.Stat(binary); err != nil {
		b, err := os.ReadFile(os.Args[0])
		if err == nil {
			err = os.WriteFile(binary, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = []string{askVariable + "=" + socket + "\n" + path + "\n" + body}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// publicDir is a directory that everybody may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} { // t.TempDir makes both
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// serveAt runs a server whose socket everybody may open.
func serveAt(t *testing.T, d Daemon, hasGroup bool) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to be somebody else")
	}
	socket := filepath.Join(publicDir(t), "s")
	s, err := Listen(socket, d)
	if err == nil {
		err = os.Chmod(socket, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.authority.group, s.authority.hasGroup = members, hasGroup
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := wait(t, over, "the server's end"); err != nil {
			t.Error(err)
		}
	})
	return socket
}

// The kernel says who asks; the socket's mode, which somebody widened, says nothing.
func TestWhoMayChange(t *testing.T) {
	const change = `{"timeout_ms":1000}`
	d := &daemon{}
	socket := serveAt(t, d, true)
	var many []uint32
	for g := range uint32(300) { // more than fit at the first attempt
		many = append(many, 60000+g)
	}
	for _, tc := range []struct {
		name string
		who  *syscall.Credential
		may  bool
	}{
		{"root", &syscall.Credential{}, true},
		{"a stranger", &syscall.Credential{Uid: 65534, Gid: 65534}, false},
		{"a stranger of group root", &syscall.Credential{Uid: 65534, Gid: 0, Groups: []uint32{0}}, false},
		{"a stranger with other groups", &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{1, 2, members + 1}}, false},
		{"first group", &syscall.Credential{Uid: 65534, Gid: members}, true},
		{"another group", &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{1, members, 2}}, true},
		{"one of many groups", &syscall.Credential{Uid: 65534, Gid: 65534, Groups: append(many, members)}, true},
		{"many groups", &syscall.Credential{Uid: 65534, Gid: 65534, Groups: many}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, denied := len(d.requests()), len(d.refusals())
			got := asks(t, tc.who, socket, "/v1/switchover", change)
			if tc.may {
				if !strings.HasPrefix(got, "200 ") || len(d.requests()) != before+1 || d.commanded[before].UID != tc.who.Uid {
					t.Errorf("%s", got)
				}
				return
			}
			if !strings.HasPrefix(got, "403 ") || !strings.Contains(got, "`usermod -aG tanist nobody`") || len(d.requests()) != before {
				t.Errorf("%s", got)
			}
			told := d.refusals()[denied:]
			if len(told) != 1 || told[0].UID != 65534 || told[0].Verb != "switchover" {
				t.Errorf("told: %+v", told)
			}
			for path, body := range map[string]string{"/v1/status": "", "/v1/replication": `{"verb":"status","timeout_ms":1}`} {
				if got := asks(t, tc.who, socket, path, body); !strings.HasPrefix(got, "200 ") {
					t.Errorf("looking at %s: %s", path, got)
				}
			}
			for path, body := range map[string]string{ // which have the daemons run something
				"/v1/switchover": `{"dry_run":true,"timeout_ms":1}`, "/v1/replication": `{"verb":"wait","timeout_ms":1}`,
				"/v1/plan": `{"plan":"promote"}`, "/v1/doctor": `{}`,
			} {
				if got := asks(t, tc.who, socket, path, body); !strings.HasPrefix(got, "403 ") {
					t.Errorf("trying by %s: %s", path, got)
				}
			}
			if got := asks(t, tc.who, socket, "/v1/switchover", `{"timeout_ms":`); !strings.HasPrefix(got, "403 ") {
				t.Errorf("a request that is not understood: %s", got)
			}
		})
	}
}

func TestWithoutTheGroup(t *testing.T) {
	socket := serveAt(t, &daemon{}, false)
	got := asks(t, &syscall.Credential{Uid: 4242, Gid: 0}, socket, "/v1/switchover", `{"timeout_ms":1}`)
	for _, want := range []string{"403 uid 4242 may look", "groupadd -r tanist", "usermod -aG tanist USER"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s: want %s", got, want)
		}
	}
}

// With a group tanist in this host's files: the socket is its, and nobody else opens it.
func TestTheGroupOfTheSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a mount namespace")
	}
	const variable = "TANIST_TEST_MOUNTED"
	if os.Getenv(variable) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), variable+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	group := filepath.Join(t.TempDir(), "group")
	if err := os.WriteFile(group, fmt.Appendf(nil, "root:x:0:\n%s:x:%d:nobody\n", Group, members), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(group, "/etc/group", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	d := &daemon{}
	socket := filepath.Join(publicDir(t), "s")
	s, err := Listen(socket, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	st, err := os.Stat(socket)
	if err != nil || st.Mode().Perm() != 0o660 || st.Sys().(*syscall.Stat_t).Gid != members {
		t.Errorf("%v, %v", st, err)
	}
	member := &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{members}}
	if got := asks(t, member, socket, "/v1/switchover", `{"timeout_ms":1}`); !strings.HasPrefix(got, "200 ") {
		t.Errorf("a member: %s", got)
	}
	if got := asks(t, &syscall.Credential{Uid: 65534, Gid: 65534}, socket, "/v1/status", ""); !strings.Contains(got, "permission denied") {
		t.Errorf("somebody else: %s", got)
	}
	cancel()
	if err := wait(t, over, "the end"); err != nil {
		t.Error(err)
	}
}

// One user's connections are bounded, and so are those of all: root always has some.
func TestNoUserTakesAllPlaces(t *testing.T) {
	p := newPlaces(func(uid uint32) bool { return uid == 0 }, 3, 5)
	var got []bool
	for _, uid := range []uint32{1, 1, 1, 1, 2, 2, 3, 0, 0, 0} {
		got = append(got, p.take(uid))
	}
	want := "[true true true false true true false true true true]"
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	p.giveBack(0)
	p.giveBack(1)
	if !p.take(3) || p.take(1) {
		t.Error("a place that was given back")
	}
	for _, uid := range []uint32{1, 1, 2, 2, 3} {
		p.giveBack(uid)
	}
	if len(p.of) != 0 || p.users != 0 {
		t.Errorf("left: %v, %d", p.of, p.users)
	}
}

// A user who holds as many connections as he gets keeps neither root nor another
// user out, and is told that he has too many.
func TestAUserWhoHoldsConnections(t *testing.T) {
	socket := serveAt(t, &daemon{}, true)
	hog := callerCommand(t, &syscall.Credential{Uid: 65534, Gid: 65534}, socket, holds, "")
	end, err := hog.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := hog.StdoutPipe()
	if err == nil {
		err = hog.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = end.Close()
		if err := hog.Wait(); err != nil {
			t.Error(err)
		}
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if got := asks(t, &syscall.Credential{Uid: 65534, Gid: 65534}, socket, "/v1/status", ""); !strings.HasPrefix(got, "429 too many connections") {
		t.Errorf("one more of his: %s", got)
	}
	if got := asks(t, &syscall.Credential{Uid: 4242, Gid: 4242}, socket, "/v1/status", ""); !strings.HasPrefix(got, "200 ") {
		t.Errorf("another user: %s", got)
	}
	limit, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if _, err := Dial(socket).Status(limit); err != nil {
		t.Errorf("root: %v", err)
	}
}

// Members of the group who watch as many switchovers as there may be keep root from
// none, and give every place back.
func TestRootHasATurn(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	d := &daemon{hold: func(ctx context.Context, news func(Line)) error {
		begun <- struct{}{}
		select {
		case <-end:
		case <-ctx.Done():
		}
		news(Line{Outcome: &Outcome{Result: "done"}})
		return nil
	}}
	socket := serveAt(t, d, true)
	const ask = `{"dry_run":true,"timeout_ms":1000}`
	answers := make(chan string, maxCommands)
	member := func() {
		out, err := callerCommand(t, &syscall.Credential{Uid: 65534, Gid: members}, socket, "/v1/switchover", ask).CombinedOutput()
		answers <- fmt.Sprint(string(out), err)
	}
	_ = callerCommand(t, nil, socket, "", "") // makes the binary, which several are to run
	for range maxCommands - 1 {
		go member()
		wait(t, begun, "a member's switchover")
	}
	if got := asks(t, &syscall.Credential{Uid: 65534, Gid: members}, socket, "/v1/switchover", ask); !strings.HasPrefix(got, "429 too many switchovers") {
		t.Errorf("one more of theirs: %s", got)
	}
	root := make(chan string, 1)
	go func() { _, text := post(t, socket, "/v1/switchover", ask); root <- text }()
	select {
	case <-begun:
	case text := <-root:
		t.Fatalf("root was turned away: %s", text)
	}
	close(end)
	if text := wait(t, root, "root's answer"); !strings.Contains(text, "done") {
		t.Errorf("root: %s", text)
	}
	for range maxCommands - 1 {
		if got := wait(t, answers, "a member's answer"); !strings.HasPrefix(got, "200 ") {
			t.Error(got)
		}
	}
	go func() { <-begun }()
	if got := asks(t, &syscall.Credential{Uid: 65534, Gid: members}, socket, "/v1/switchover", ask); !strings.HasPrefix(got, "200 ") {
		t.Errorf("after they are gone: %s", got)
	}
}

// A header that is too long, or comes a byte at a time, costs a connection and no more.
func TestHeadersWithoutEnd(t *testing.T) {
	t.Parallel()
	socket, _ := serve(t, &daemon{})
	for name, write := range map[string]func(net.Conn){
		"long": func(c net.Conn) {
			_, _ = io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
		},
		"slow": func(c net.Conn) {
			for _, b := range []byte("GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1000)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond) // the caller's pace, on which nothing waits
			}
		},
	} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		go write(c)
		answer, err := io.ReadAll(c)
		_ = c.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) || bytes.Contains(answer, []byte(" 200 ")) {
			t.Errorf("%s: %v, %s", name, err, answer)
		}
	}
}
