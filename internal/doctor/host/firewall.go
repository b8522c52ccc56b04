package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/internal/program"
)

const (
	// mostRules bounds what is read of one ruleset, in bytes. Longer ones are those of
	// container hosts with thousands of services.
	mostRules = 8 << 20
	// programTime bounds one program.
	programTime = 3 * time.Second
)

// errMissing says that a program is not installed.
var errMissing = errors.New("not installed")

// output runs a program of the host's and returns all that it printed.
func output(ctx context.Context, argv ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	p, err := program.Find(ctx, program.Command{Argv: argv, Alone: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", argv[0], errMissing, err)
	}
	out := &program.Output{Head: mostRules}
	if err := p.Run(ctx, out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Firewall reads the packet filters of this host.
func Firewall(ctx context.Context, units doctor.Units, root fs.FS) doctor.Firewall {
	var f doctor.Firewall
	f.Firewalld = runs(ctx, units, "firewalld.service")
	if conf, err := fs.ReadFile(root, "etc/ufw/ufw.conf"); err == nil {
		f.UFW = bytes.Contains(bytes.ToLower(conf), []byte("\nenabled=yes")) && runs(ctx, units, "ufw.service")
	}
	old := readIPTables(ctx, root, &f)
	ruleset, err := output(ctx, "nft", "-n", "-j", "-a", "list", "ruleset")
	if err == nil {
		var text []byte
		if text, err = output(ctx, "nft", "-n", "-a", "list", "ruleset"); err == nil {
			var set doctor.Ruleset
			set, err = doctor.ParseNFT(ruleset, text, !old)
			f.Rulesets = append(f.Rulesets, set)
		}
	}
	if err != nil && !errors.Is(err, errMissing) {
		f.Err = errors.Join(f.Err, err)
	}
	return f
}

// readIPTables reports whether iptables is there. It says better than nft what it
// made of nftables itself.
func readIPTables(ctx context.Context, root fs.FS, f *doctor.Firewall) bool {
	some := false
	for _, tool := range []struct{ save, family, tables string }{
		{"iptables-save", "ip", "proc/net/ip_tables_names"}, {"ip6tables-save", "ip6", "proc/net/ip6_tables_names"},
	} {
		saved, err := output(ctx, tool.save)
		// The old form loads kernel modules when it looks; a host without them has no rules.
		if err != nil {
			if names, _ := fs.ReadFile(root, tool.tables); strings.TrimSpace(string(names)) != "" {
				f.Err = errors.Join(f.Err, err)
			}
			continue
		}
		some = true
		f.Rulesets = append(f.Rulesets, doctor.ParseIPTables(tool.family, saved))
	}
	return some
}

func runs(ctx context.Context, units doctor.Units, name string) bool {
	u, err := units.Unit(ctx, name)
	return err == nil && u.Running
}
