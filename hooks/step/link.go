package step

// The link step: symbolic links, each replaced in one rename.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/hooks"
)

// LinkLimit is how many links one step makes or removes at most.
const LinkLimit = 10000

// LinkError is why a link step leaves a name alone.
type LinkError struct {
	Path   string
	Reason LinkReason
	Detail string // empty, or what there is to say beside the reason
}

func (e *LinkError) Error() string {
	if e.Detail == "" {
		return e.Path + ": " + e.Reason.String()
	}
	return e.Path + ": " + e.Reason.String() + ": " + e.Detail
}

// LinkReason says what rules a link out.
type LinkReason uint8

// What rules a link out.
const (
	LinkNoMatch     LinkReason = iota // nothing matches the target's pattern
	LinkBadPattern                    // the target is no pattern
	LinkTooMany                       // more than LinkLimit names match
	LinkOccupied                      // what is there is no symbolic link, and is not replaced
	LinkNoDirectory                   // the links' directory does not exist
	LinkTwice                         // two matches have one base name
	LinkItself                        // it would lead to itself
)

func (r LinkReason) String() string {
	names := [...]string{
		"nothing matches", "this is not a pattern", "too many names match", "there is something that is no symbolic link",
		"the directory does not exist", "two matches have this name", "the link would lead to itself",
	}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("LinkReason(%d)", uint8(r))
}

type link struct{ action hooks.Link }

// NewLink returns the step that makes or removes symbolic links.
//
// Each link is made beside its place and renamed into it, so that whoever looks
// finds the old one or the new one; then its directory is synced. A link that
// says something else is replaced. What is no symbolic link is left alone, and
// then nothing is changed at all. Removed are only links that say what the target
// says, so that a link that somebody turned elsewhere stays.
//
// A target that is a pattern stands for every name that it matches, as a shell
// would see it (names that begin with a dot only where the pattern has one). With
// a pattern, and where the path ends in / or is a directory, there is one link for
// each target, called as the target's last element, in the directory path. A
// pattern without a match is refused when links are to be made; links that are to
// go may lead to what has gone: then those count whose target the pattern matches.
//
// A refusal is a *LinkError.
func NewLink(a hooks.Link) Step { return link{a} }

// place is one link as it should be.
type place struct{ path, target string }

func (l link) Check(ctx context.Context) (State, error) {
	changes, err := l.changes(ctx)
	switch {
	case err != nil:
		return cannot(l.explain(err))
	case len(changes) > 0:
		return WouldChange, nil
	}
	return Ok, nil
}

func (l link) Apply(ctx context.Context) error {
	changes, err := l.changes(ctx)
	if err != nil {
		return l.explain(err)
	}
	for _, c := range changes {
		if err := ctx.Err(); err != nil {
			return l.explain(err)
		}
		if l.action.Absent {
			err = remove(c)
		} else {
			err = point(c)
		}
		if err != nil {
			return l.explain(err)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return l.explain(syncDir(filepath.Dir(changes[0].path))) // all are in one directory
}

func (l link) explain(err error) error {
	if err == nil {
		return nil
	}
	if l.action.Absent {
		return fmt.Errorf("remove links to %s: %w", l.action.Target, err)
	}
	return fmt.Errorf("link to %s: %w", l.action.Target, err)
}

// changes returns the links that are not as they should be, and refuses where one
// of them cannot become so.
func (l link) changes(ctx context.Context) ([]place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.action.Absent {
		return l.present()
	}
	places, err := l.places()
	if err != nil {
		return nil, err
	}
	var changes []place
	for _, p := range places {
		says, err := os.Readlink(p.path)
		switch {
		case err == nil && says == p.target:
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			if _, statErr := os.Lstat(p.path); statErr != nil {
				return nil, statErr
			}
			return nil, &LinkError{Path: p.path, Reason: LinkOccupied}
		case errors.Is(err, fs.ErrNotExist):
			if st, err := os.Stat(filepath.Dir(p.path)); err != nil || !st.IsDir() {
				return nil, &LinkError{Path: filepath.Dir(p.path), Reason: LinkNoDirectory}
			}
		}
		changes = append(changes, p)
	}
	return changes, nil
}

// places returns the links that there should be.
func (l link) places() ([]place, error) {
	into, isDir := l.directory()
	targets, pattern := []string{l.action.Target}, hasPattern(l.action.Target)
	if pattern {
		var err error
		if targets, err = l.matches(into); err != nil {
			return nil, err
		}
		if len(targets) == 0 {
			return nil, &LinkError{Path: l.action.Target, Reason: LinkNoMatch}
		}
	}
	places := make([]place, len(targets))
	seen := make(map[string]bool, len(targets))
	for i, target := range targets {
		p := place{path: l.action.Path, target: target}
		if pattern || isDir {
			p.path = filepath.Join(into, filepath.Base(target))
		}
		switch {
		case seen[p.path]:
			return nil, &LinkError{Path: p.path, Reason: LinkTwice}
		case filepath.Join(filepath.Dir(p.path), target) == p.path, filepath.Clean(target) == p.path:
			return nil, &LinkError{Path: p.path, Reason: LinkItself}
		}
		seen[p.path] = true
		places[i] = p
	}
	return places, nil
}

// directory returns the directory of the links, if the path means one. A link
// that leads to a directory is that link, unless the path ends in /.
func (l link) directory() (string, bool) {
	if strings.HasSuffix(l.action.Path, "/") {
		return filepath.Clean(l.action.Path), true
	}
	st, err := os.Lstat(l.action.Path)
	return l.action.Path, err == nil && st.IsDir()
}

// matches returns what the pattern matches, as the links are to say it: a
// relative pattern is relative to the links.
func (l link) matches(into string) ([]string, error) {
	pattern, relative := l.action.Target, !filepath.IsAbs(l.action.Target)
	if relative {
		pattern = literal.Replace(into) + "/" + pattern
	}
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil, &LinkError{Path: l.action.Target, Reason: LinkBadPattern, Detail: err.Error()}
	}
	if !strings.HasPrefix(filepath.Base(pattern), ".") {
		found = slices.DeleteFunc(found, func(name string) bool { return strings.HasPrefix(filepath.Base(name), ".") })
	}
	if len(found) > LinkLimit {
		return nil, &LinkError{Path: l.action.Target, Reason: LinkTooMany, Detail: fmt.Sprintf("%d, at most %d", len(found), LinkLimit)}
	}
	for i := range found {
		if !relative {
			break
		}
		if found[i], err = filepath.Rel(into, found[i]); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// present returns the links that say what the target says.
func (l link) present() ([]place, error) {
	into, isDir := l.directory()
	if !hasPattern(l.action.Target) {
		p := place{l.action.Path, l.action.Target}
		if isDir {
			p.path = filepath.Join(into, filepath.Base(p.target))
		}
		if says, err := os.Readlink(p.path); err != nil || says != p.target {
			return nil, gone(err)
		}
		return []place{p}, nil
	}
	if _, err := filepath.Match(l.action.Target, ""); err != nil {
		return nil, &LinkError{Path: l.action.Target, Reason: LinkBadPattern, Detail: err.Error()}
	}
	entries, err := os.ReadDir(into)
	if err != nil {
		return nil, gone(err)
	}
	var places []place
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		p := place{path: filepath.Join(into, e.Name())}
		if p.target, err = os.Readlink(p.path); err != nil {
			continue // gone meanwhile
		}
		ours, _ := filepath.Match(l.action.Target, p.target)
		hidden := strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(filepath.Base(l.action.Target), ".")
		if ours && !hidden && filepath.Base(p.target) == e.Name() {
			places = append(places, p)
		}
	}
	if len(places) > LinkLimit {
		return nil, &LinkError{Path: l.action.Target, Reason: LinkTooMany, Detail: fmt.Sprintf("%d, at most %d", len(places), LinkLimit)}
	}
	return places, nil
}

// gone takes it for no error that a link is not there: missing, or something else.
func gone(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || isNoLink(err) {
		return nil
	}
	return err
}

// isNoLink reports the answer to reading a link that is none.
func isNoLink(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTDIR) }

//nolint:gochecknoglobals // a table
var literal = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func hasPattern(s string) bool { return strings.ContainsAny(s, `*?[`) }

// linkTries is how often a link is made again that came and went.
const linkTries = 25

// point makes a link, or makes the one that is there say what it should, in one
// rename.
func point(p place) error {
	for range linkTries {
		if err := os.Symlink(p.target, p.path); !errors.Is(err, fs.ErrExist) {
			return err
		}
		if st, err := os.Lstat(p.path); err == nil && st.Mode()&fs.ModeSymlink == 0 {
			return &LinkError{Path: p.path, Reason: LinkOccupied}
		}
		temp := beside(p.path)
		if err := os.Symlink(p.target, temp); err != nil {
			return err
		}
		if err := swapLink(temp, p); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("%s comes and goes", p.path)
}

// beside is a name that nobody else uses.
func beside(path string) string { return filepath.Join(filepath.Dir(path), ".tanist-"+rand.Text()) }

// swapLink puts the link temp in the place of another. Both change places, so that what
// came out can be looked at: what is no link goes back. fs.ErrNotExist is a place that
// is empty.
func swapLink(temp string, p place) error {
	err := exchange(temp, p.path)
	if cannotRenameSo(err) {
		err = os.Rename(temp, p.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	_, err = os.Readlink(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was a mere rename
	}
	if err == nil {
		return os.Remove(temp)
	}
	if err := exchange(temp, p.path); err != nil {
		return strandedAs(temp, p, err)
	}
	if says, err := os.Readlink(temp); err != nil || says != p.target {
		return strandedAs(temp, p, err) // somebody has replaced the new link already
	}
	return errors.Join(&LinkError{Path: p.path, Reason: LinkOccupied}, os.Remove(temp))
}

// cannotRenameSo reports the answer of a file system that only knows mere renames.
func cannotRenameSo(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}

// strandedAs is what somebody put in a link's place, and has not got it back.
func strandedAs(temp string, p place, err error) error {
	return errors.Join(&LinkError{Path: p.path, Reason: LinkOccupied, Detail: "it is now " + temp}, err)
}

// remove removes a link that still says what it said.
func remove(p place) error {
	if says, err := os.Readlink(p.path); err != nil || says != p.target {
		return gone(err)
	}
	return takeAway(p)
}

// takeAway gives the link a name that nobody else uses and looks at it there: what is
// not that link goes back.
func takeAway(p place) error {
	temp := beside(p.path)
	if err := os.Rename(p.path, temp); err != nil {
		return gone(err)
	}
	if says, err := os.Readlink(temp); err == nil && says == p.target {
		return os.Remove(temp)
	}
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, p.path, unix.RENAME_NOREPLACE)
	if cannotRenameSo(err) {
		if _, err = os.Lstat(p.path); errors.Is(err, fs.ErrNotExist) {
			err = os.Rename(temp, p.path)
		} else if err == nil {
			err = fs.ErrExist
		}
	}
	if err != nil {
		return strandedAs(temp, p, err)
	}
	return nil
}
