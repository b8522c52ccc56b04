package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/tanist-ha/tanist/test/lab"
)

func fileMode(m uint32) fs.FileMode { return fs.FileMode(m) }

// World is what a host really is, asked of its kernel, database, systemd and
// files, not of Tanist.
type World struct {
	VIP                bool
	ReadOnly           string // 0 or 1
	IO, SQL            string // replica threads; empty without a channel
	Lsyncd             int    // processes
	Label              string // the whole label file
	LastWrite, Writers string
}

// Look asks a host.
func (s *Site) Look(ctx context.Context, n *lab.Node) (World, error) {
	var w World
	addrs, err := n.Exec(ctx, "ip", "-4", "-o", "addr", "show", "dev", "eth0")
	if err != nil {
		return w, err
	}
	w.VIP = strings.Contains(addrs, " "+VIP+"/")
	label, err := n.ReadFile(LabelFile)
	if err != nil {
		return w, err
	}
	w.Label = string(label)
	if w.Lsyncd, err = s.lsyncds(ctx, n); err != nil {
		return w, err
	}
	rows, err := n.SQL(ctx, "SELECT @@GLOBAL.read_only")
	if err != nil {
		return w, err
	}
	w.ReadOnly = rows[0][0]
	w.IO, w.SQL, err = s.threads(ctx, n)
	return w, err
}

// Files are what a host's files say, and what keeps them alike.
type Files struct {
	Label        string // the whole label file
	Relationship string // the whole relationship file, empty where there is none
	Lsyncd       int    // processes
}

// LookFiles asks a host, not Tanist.
func (s *Site) LookFiles(ctx context.Context, n *lab.Node) (Files, error) {
	var f Files
	label, err := n.ReadFile(LabelFile)
	if err != nil {
		return f, err
	}
	relationship, err := n.ReadFile(RelationshipFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f.Label, f.Relationship = string(label), string(relationship)
	f.Lsyncd, err = s.lsyncds(ctx, n)
	return f, err
}

func (s *Site) threads(ctx context.Context, n *lab.Node) (io, sql string, err error) {
	out, err := n.Exec(ctx, "mariadb", "-e", `SHOW ALL SLAVES STATUS\G`)
	if err != nil {
		return "", "", err
	}
	for _, line := range strings.Split(out, "\n") {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Slave_IO_Running":
			io = value
		case "Slave_SQL_Running":
			sql = value
		}
	}
	return io, sql, nil
}

// lsyncds counts the processes; pgrep leaves with 1 when there is none.
func (s *Site) lsyncds(ctx context.Context, n *lab.Node) (int, error) {
	out, err := n.Exec(ctx, "sh", "-c", "pgrep -cx lsyncd || true")
	if err != nil {
		return 0, err
	}
	var count int
	_, err = fmt.Sscan(out, &count)
	return count, err
}

// HoldsVIP asks the host's kernel, also when its systemd does not answer.
func (s *Site) HoldsVIP(n *lab.Node) (bool, error) {
	held := false
	err := n.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		as, err := i.Addrs()
		for _, a := range as {
			held = held || strings.HasPrefix(a.String(), VIP+"/")
		}
		return err
	})
	return held, err
}
