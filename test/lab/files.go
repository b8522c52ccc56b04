package lab

// Files of a node, read and written from outside. Paths are absolute inside the
// node and never lead out of it; one that passes a symbolic link with an absolute
// target (such as /var/run) is refused: name the target.

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// openRoot opens the node's root: with all that is mounted in it when the node is
// on, the bare disk when it is off.
func (n *Node) openRoot() (*os.Root, error) {
	if b, err := n.running(); err == nil {
		return os.OpenRoot("/proc/" + strconv.Itoa(b.Leader.PID) + "/root")
	}
	return os.OpenRoot(n.root())
}

// inside makes a path relative to the node's root.
func inside(name string) (string, error) {
	if !path.IsAbs(name) {
		return "", fmt.Errorf("path %q is not absolute", name)
	}
	return strings.TrimPrefix(path.Clean(name), "/"), nil
}

func (n *Node) withRoot(verb, name string, do func(root *os.Root, rel string) error) error {
	rel, err := inside(name)
	if err == nil {
		var root *os.Root
		if root, err = n.openRoot(); err == nil {
			defer root.Close()
			err = do(root, rel)
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s on %s: %w", verb, name, n.name, err)
	}
	return nil
}

// ReadFile reads a file of the node, on or off.
func (n *Node) ReadFile(name string) ([]byte, error) {
	var data []byte
	err := n.withRoot("read", name, func(root *os.Root, rel string) error {
		var err error
		data, err = root.ReadFile(rel)
		return err
	})
	return data, err
}

// WriteFile writes a file of the node, on or off, and the directories above it. It
// replaces what is there as a whole, a symbolic link or a running program too.
func (n *Node) WriteFile(name string, data []byte, mode fs.FileMode) error {
	return n.write(name, strings.NewReader(string(data)), mode)
}

// Remove removes a file of the node, or a directory with all in it. It need not exist.
func (n *Node) Remove(name string) error {
	return n.withRoot("remove", name, func(root *os.Root, rel string) error { return root.RemoveAll(rel) })
}

// Install copies a file of this machine into the node, as WriteFile does.
func (n *Node) Install(hostPath, nodePath string, mode fs.FileMode) error {
	f, err := os.Open(hostPath)
	if err != nil {
		return fmt.Errorf("install on %s: %w", n.name, err)
	}
	defer f.Close()
	return n.write(nodePath, f, mode)
}

// CopyIn copies a directory of this machine with all its directories and plain
// files into the node. Modes are kept, everything belongs to root.
func (n *Node) CopyIn(hostDir, nodeDir string) error {
	src, err := os.OpenRoot(hostDir)
	if err != nil {
		return fmt.Errorf("copy to %s: %w", n.name, err)
	}
	defer src.Close()
	return fs.WalkDir(src.FS(), ".", func(rel string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		to := path.Join(nodeDir, rel)
		switch {
		case d.IsDir():
			return n.withRoot("create", to, func(root *os.Root, rel string) error {
				return root.MkdirAll(rel, info.Mode().Perm())
			})
		case info.Mode().IsRegular():
			f, err := src.Open(rel)
			if err != nil {
				return err
			}
			defer f.Close()
			return n.write(to, f, info.Mode().Perm())
		}
		return fmt.Errorf("copy %s to %s: neither a file nor a directory", rel, n.name)
	})
}

func (n *Node) write(name string, from io.Reader, mode fs.FileMode) error {
	return n.withRoot("write", name, func(root *os.Root, rel string) error {
		if err := root.MkdirAll(path.Dir(rel), 0o755); err != nil {
			return err
		}
		tmp := path.Join(path.Dir(rel), ".lab-"+rand.Text())
		f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, from)
		err = errors.Join(err, f.Chmod(mode), f.Close())
		if err == nil {
			err = root.Rename(tmp, rel)
		}
		if err != nil {
			return errors.Join(err, root.Remove(tmp))
		}
		return nil
	})
}
