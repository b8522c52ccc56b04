package step

// The exec step: a program of the operator's, whose exit status decides.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/tanist-ha/tanist/hooks"
)

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ExitError is a program that ended otherwise than with exit status 0.
type ExitError struct {
	Program  string
	Status   int            // -1 when a signal ended it
	Signal   syscall.Signal // 0 when it exited by itself
	LastLine string         // of its output, at most 200 characters, control characters taken out
}

func (e *ExitError) Error() string {
	how := "exit status " + strconv.Itoa(e.Status)
	if e.Signal != 0 {
		how = "ended by signal: " + e.Signal.String()
	}
	if e.LastLine != "" {
		how += ": " + e.LastLine
	}
	return e.Program + ": " + how
}

type execution struct {
	action hooks.Exec
	cgroup string
	output *capture
	done   bool // the last Apply succeeded
}

// NewExec returns the step that runs a program: argument vector, no shell,
// process group of its own, standard input /dev/null, working directory /, umask 022,
// no other open file, no signal blocked or ignored, none of the daemon's precedence, and
// an environment of PATH, LANG=C.UTF-8, with an account HOME, USER and LOGNAME,
// and what the action adds. The account must be one that os/user can look up.
//
// When the program ends, what is left in its process group is killed, so a
// service that is to stay belongs in a unit. When ctx ends first, the group gets
// SIGTERM and 2 s later SIGKILL. A process that left the group (setsid) is out
// of reach unless cgroup names a delegated control group (see DelegatedCgroup):
// then each run has a group of its own below it, and all of that is killed.
// Empty means none.
//
// With a verify program Check is Ok when that exits with 0. Without one there is
// nothing to look at: Check is Ok once Apply succeeded, WouldChange before.
//
// The step is an Outputter.
func NewExec(a hooks.Exec, cgroup string) Step {
	return &execution{action: a, cgroup: cgroup, output: new(capture)}
}

func (e *execution) Output() []byte { return e.output.Bytes() }

func (e *execution) Check(ctx context.Context) (State, error) {
	if _, err := e.program(ctx, e.action.Command); err != nil {
		return cannot(err)
	}
	if len(e.action.Verify) == 0 {
		if e.done {
			return Ok, nil
		}
		return WouldChange, nil
	}
	p, err := e.program(ctx, e.action.Verify)
	if err != nil {
		return cannot(fmt.Errorf("verify: %w", err))
	}
	err = p.run(ctx, new(capture))
	if exit := (*ExitError)(nil); errors.As(err, &exit) {
		return WouldChange, nil
	}
	if err != nil {
		return cannot(fmt.Errorf("verify: %w", err))
	}
	return Ok, nil
}

func (e *execution) Apply(ctx context.Context) error {
	e.output, e.done = new(capture), false
	p, err := e.program(ctx, e.action.Command)
	if err != nil {
		return err
	}
	if err := p.run(ctx, e.output); err != nil {
		return err
	}
	e.done = true
	return nil
}

// program resolves an argument vector to something that can be started. A file
// system that does not answer is not waited for longer than ctx.
func (e *execution) program(ctx context.Context, argv []string) (program, error) {
	if len(argv) == 0 || argv[0] == "" {
		return program{}, errors.New("run a program: none is named")
	}
	var p program
	var err error
	found := make(chan struct{})
	go func() { // ends when the file system answers
		defer close(found)
		p, err = e.resolve(argv)
	}()
	select {
	case <-found:
		return p, err
	case <-ctx.Done():
		return program{}, fmt.Errorf("look for %s: %w", argv[0], context.Cause(ctx))
	}
}

func (e *execution) resolve(argv []string) (program, error) {
	p := program{argv: argv, cgroup: e.cgroup}
	env := map[string]string{"PATH": searchPath, "LANG": "C.UTF-8"}
	if e.action.User != "" {
		account, err := lookUp(e.action.User)
		if err != nil {
			return p, fmt.Errorf("run %s as %s: %w", argv[0], e.action.User, err)
		}
		p.credential = account.credential
		env["HOME"], env["USER"], env["LOGNAME"] = account.home, account.name, account.name
	}
	maps.Copy(env, e.action.Env)
	for _, k := range slices.Sorted(maps.Keys(env)) {
		p.env = append(p.env, k+"="+env[k])
	}
	path, err := findProgram(argv[0], env["PATH"])
	if err != nil {
		return p, fmt.Errorf("run %s: %w", argv[0], err)
	}
	p.path = path
	return p, nil
}

// findProgram resolves a name without a slash in the search path that the
// program itself will have, not in that of this process.
func findProgram(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		name = filepath.Join("/", name)
		return name, executable(name)
	}
	for _, dir := range filepath.SplitList(path) {
		if full := filepath.Join("/", dir, name); executable(full) == nil {
			return full, nil
		}
	}
	return "", fmt.Errorf("not found in %s", path)
}

func executable(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return errors.New("not a regular file")
	case st.Mode().Perm()&0o111 == 0:
		return errors.New("not executable")
	}
	return nil
}

type account struct {
	name, home string
	credential *syscall.Credential // nil when this process is that account already
}

func lookUp(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, err
	}
	a := account{name: u.Username, home: u.HomeDir}
	ids, err := u.GroupIds()
	if err != nil {
		return a, fmt.Errorf("groups: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return a, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return a, err
	}
	if os.Geteuid() != 0 && uid == uint64(os.Geteuid()) {
		return a, nil
	}
	a.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, id := range ids {
		g, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return a, err
		}
		a.credential.Groups = append(a.credential.Groups, uint32(g))
	}
	return a, nil
}
