package discover

// Reading what the rules name: bounded, and never anything but directories and
// regular files, which opening a device or a FIFO could not promise.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxDirectories = 1024    // that one rule's wildcards lead to
	maxEntries     = 1 << 16 // of one directory
	// rest is how long a YAML file must have rested: one that is half written
	// can be valid, and its port another database's.
	rest = 2 * time.Second
)

// listing is the files that match a rule's pattern.
type listing struct {
	files  []string // sorted
	device uint64   // of the directory before the first wildcard
	// problems keep the listing from being all: directories that cannot be read.
	problems []Problem
}

// list expands a pattern. A file that the pattern names without a wildcard is in
// the listing whether it is there or not.
func list(ctx context.Context, pattern string) listing {
	base, parts := split(pattern)
	if len(parts) == 0 {
		return listing{files: []string{base}}
	}
	var l listing
	var st unix.Stat_t
	if err := unix.Stat(base, &st); err != nil {
		l.problem(base, errnoText(err))
		return l
	}
	l.device = st.Dev
	directories := []string{base}
	for len(parts) > 1 && len(directories) > 0 {
		var next []string
		for _, d := range l.expand(ctx, directories, parts[0]) {
			if unix.Stat(d, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				next = append(next, d)
			}
		}
		if len(next) > maxDirectories {
			l.problem(base, fmt.Sprintf("leads to more than %d directories", maxDirectories))
			next = next[:maxDirectories]
		}
		directories, parts = next, parts[1:]
	}
	l.files = l.expand(ctx, directories, parts[0])
	if len(l.files) > MaxFiles {
		l.problem(base, fmt.Sprintf("has %d files that match, more than %d", len(l.files), MaxFiles))
		l.files = l.files[:MaxFiles]
	}
	slices.Sort(l.files)
	return l
}

func (l *listing) problem(file, message string) {
	l.problems = append(l.problems, Problem{File: file, Message: message})
}

// split cuts a pattern before its first part with a wildcard.
func split(pattern string) (base string, parts []string) {
	all := strings.Split(strings.TrimPrefix(path.Clean(pattern), "/"), "/")
	wild := slices.IndexFunc(all, func(s string) bool { return strings.ContainsAny(s, `*?[\`) })
	if wild < 0 {
		return path.Clean(pattern), nil
	}
	return "/" + strings.Join(all[:wild], "/"), all[wild:]
}

// expand lists what matches one part of a pattern in each of the directories.
func (l *listing) expand(ctx context.Context, directories []string, part string) []string {
	var found []string
	for _, d := range directories {
		if err := ctx.Err(); err != nil {
			l.problem(d, "was not listed: "+err.Error())
			return found
		}
		names, err := entries(d)
		if err != nil {
			l.problem(d, errnoText(err))
		}
		slices.Sort(names)
		for _, name := range names {
			// As in a shell a wildcard finds no hidden file: programs write their new
			// version beside the old one under such names.
			if strings.HasPrefix(name, ".") && !strings.HasPrefix(part, ".") {
				continue
			}
			if ok, err := path.Match(part, name); ok && err == nil {
				found = append(found, filepath.Join(d, name))
			}
		}
	}
	return found
}

func entries(directory string) ([]string, error) {
	fd, err := unix.Open(directory, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), directory)
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case len(names) > maxEntries:
		return nil, fmt.Errorf("has more than %d entries", maxEntries)
	}
	return names, err
}

var (
	errGone    = errors.New("does not exist")
	errWriting = errors.New("is being written")
)

// content reads a regular file, and errGone for one that is no longer there.
func content(file string) (b []byte, modified time.Time, err error) {
	fd, err := unix.Open(file, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		var st unix.Stat_t
		switch there := unix.Lstat(file, &st); {
		case errors.Is(err, unix.ENOENT) && errors.Is(there, unix.ENOENT):
			err = errGone
		case errors.Is(err, unix.ENOENT) && there == nil:
			err = errors.New("is a symbolic link to nothing")
		}
		return nil, modified, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, modified, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, modified, errors.New("is not a regular file")
	}
	if st.Size > MaxFileSize {
		return nil, modified, fmt.Errorf("has more than %d bytes", MaxFileSize)
	}
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, modified, err
	}
	defer f.Close()
	b, err = io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, modified, err
	}
	var after unix.Stat_t
	switch err := unix.Fstat(fd, &after); {
	case err != nil:
		return nil, modified, err
	case after.Mtim != st.Mtim || after.Size != st.Size || int64(len(b)) != st.Size:
		return nil, modified, errWriting
	}
	return b, time.Unix(after.Mtim.Unix()), nil
}

// errnoText is an error without the path, which is said already.
func errnoText(err error) string {
	var e unix.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "may not be read by this account"
	case errors.As(err, &e):
		return "cannot be read: " + e.Error()
	}
	return err.Error()
}
