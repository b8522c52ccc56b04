package program

// What the configuration names, made into something that can be started.

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
	"time"
)

// SearchPath is the PATH of a program that is given none.
const SearchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

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

// Command is a program as the configuration names it.
type Command struct {
	Argv []string // no shell; a name without a slash is looked for in the PATH that it gets
	User string   // the account, of those that os/user can look up; empty: this process's
	// Env is added to PATH, LANG=C.UTF-8 and, with an account, HOME, USER and LOGNAME.
	Env map[string]string
	// Cgroup is a delegated control group (see DelegatedCgroup): each run has a group
	// of its own below it. Empty means none.
	Cgroup string
	// Grace is between SIGTERM and SIGKILL, 0: 2 s.
	Grace time.Duration
	// Whole says that also at an ordinary end all of its control group is killed.
	Whole bool
	// Alone refuses to run it, with a *StuckError, while an earlier run that was Alone,
	// of the same arguments and account, is there although it got SIGKILL.
	Alone bool
}

// Find resolves a command. The program runs in the directory / in a process group
// of its own, its standard input /dev/null. A file system that does not answer is not
// waited for longer than ctx, and asked for a program by one at a time: who asks
// beside that gets the same answer.
func Find(ctx context.Context, c Command) (Program, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return Program{}, errors.New("run a program: none is named")
	}
	env := map[string]string{"PATH": SearchPath, "LANG": "C.UTF-8"}
	maps.Copy(env, c.Env)
	f := lookUps.of(wanted{name: c.Argv[0], path: env["PATH"], user: c.User})
	select {
	case <-f.done:
	case <-ctx.Done():
		return Program{}, fmt.Errorf("look for %s: %w", c.Argv[0], context.Cause(ctx))
	}
	if f.err != nil {
		return Program{}, f.err
	}
	return c.program(f, env), nil
}

// program is the command with what was found of it. env is its environment without
// what is the account's.
func (c Command) program(f *found, env map[string]string) Program {
	p := Program{path: f.path, argv: c.Argv, cgroup: c.Cgroup, whole: c.Whole, grace: c.Grace}
	if c.Alone {
		p.alone = fmt.Sprintf("%q %q", c.User, c.Argv)
	}
	if p.grace <= 0 {
		p.grace = termGrace
	}
	if c.User != "" {
		p.credential = f.account.credential
		own := map[string]string{"HOME": f.account.home, "USER": f.account.name, "LOGNAME": f.account.name}
		maps.Copy(own, env)
		env = own
	}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		p.env = append(p.env, k+"="+env[k])
	}
	return p
}

// wanted is what is looked for: a program in a search path, and an account or none.
type wanted struct{ name, path, user string }

func (w wanted) lookUp() (path string, a account, err error) {
	if w.user != "" {
		if a, err = lookUp(w.user); err != nil {
			return "", a, fmt.Errorf("run %s as %s: %w", w.name, w.user, err)
		}
	}
	if path, err = findProgram(w.name, w.path); err != nil {
		return "", a, fmt.Errorf("run %s: %w", w.name, err)
	}
	return path, a, nil
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
