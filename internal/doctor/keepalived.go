package doctor

// keepalived beside Tanist: two programs that elect for one VRID, or hold one address.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Virtual is an instance of ours, as far as others can get in its way.
type Virtual struct {
	Instance  string
	Interface string
	VRID      uint8
	Addresses []netip.Addr
}

const (
	keepalivedUnit = "keepalived.service"
	keepalivedFile = "etc/keepalived/keepalived.conf"
	// mostIncludes bounds the files that a configuration includes.
	mostIncludes = 64
)

// foreignInstance is a vrrp_instance of keepalived's.
type foreignInstance struct {
	name, iface string
	vrid        int
	addresses   []netip.Addr
	file        string
	line        int
}

// Keepalived wants no keepalived that runs, or starts at boot, with a VRID or an
// address of ours.
func Keepalived(ctx context.Context, units Units, root fs.FS, ours []Virtual) []Finding {
	u, err := units.Unit(ctx, keepalivedUnit)
	if err != nil && !errors.Is(err, ErrNoManager) {
		return failed(KeepalivedSameVRID, keepalivedUnit, err)
	}
	pids := processes(root, "keepalived")
	if !u.AtBoot && !u.Running && len(pids) == 0 {
		return []Finding{fine(KeepalivedSameVRID, keepalivedUnit, "keepalived does not run and does not start at boot")}
	}
	theirs, err := readKeepalived(root)
	if err != nil {
		f := failed(KeepalivedSameVRID, "/"+keepalivedFile, err)[0]
		return []Finding{f.because("keepalived %s", how(u, pids)).fix("systemctl disable --now " + keepalivedUnit)}
	}
	var found []Finding
	for _, v := range ours {
		for _, k := range theirs {
			what := clash(v, k)
			if what == "" {
				continue
			}
			f := wrong(KeepalivedSameVRID, v.Instance, "keepalived %s with %s of instance %s", how(u, pids), what, v.Instance).
				because("/%s:%d: vrrp_instance %s, interface %s, virtual_router_id %d", k.file, k.line, k.name, k.iface, k.vrid)
			if len(pids) > 0 {
				f = f.because("pid %s", strings.Join(pids, ", "))
			}
			found = append(found, f.fix("systemctl disable --now "+keepalivedUnit, "# or give one of the two another virtual_router_id and other addresses"))
		}
	}
	if len(found) == 0 {
		found = append(found, fine(KeepalivedSameVRID, keepalivedUnit, "keepalived %s with other VRIDs and addresses", how(u, pids)))
	}
	return found
}

func how(u Unit, pids []string) string {
	switch runs := u.Running || len(pids) > 0; {
	case runs && u.AtBoot:
		return "runs, and starts at boot,"
	case runs:
		return "runs"
	}
	return "starts at boot"
}

// clash says what two instances have in common. A VRID counts within one network,
// an address everywhere.
func clash(v Virtual, k foreignInstance) string {
	for _, a := range v.Addresses {
		if slices.Contains(k.addresses, a) {
			return fmt.Sprintf("the address %v", a)
		}
	}
	if k.vrid == int(v.VRID) && k.iface == v.Interface {
		return fmt.Sprintf("VRID %d on %s", k.vrid, k.iface)
	}
	return ""
}

// processes lists the pids of programs of a name.
func processes(root fs.FS, name string) []string {
	files, _ := fs.Glob(root, "proc/[0-9]*/comm")
	var pids []string
	for _, f := range files {
		if comm, err := fs.ReadFile(root, f); err == nil && strings.TrimSpace(string(comm)) == name {
			pids = append(pids, path.Base(path.Dir(f)))
		}
	}
	return pids
}

func readKeepalived(root fs.FS) ([]foreignInstance, error) {
	r := keepalivedReader{root: root}
	err := r.file(keepalivedFile)
	return r.found, err
}

type keepalivedReader struct {
	root  fs.FS
	files int
	found []foreignInstance
	// depth of braces; in which block of an instance the reader is.
	depth   int
	in      bool
	address bool
}

func (r *keepalivedReader) file(name string) error {
	if r.files++; r.files > mostIncludes {
		return fmt.Errorf("more than %d files are included", mostIncludes)
	}
	data, err := fs.ReadFile(r.root, name)
	if errors.Is(err, fs.ErrNotExist) && r.files > 1 {
		return nil // keepalived goes on as well
	}
	if err != nil {
		return fmt.Errorf("read /%s: %w", name, err)
	}
	lines := bufio.NewScanner(strings.NewReader(string(data)))
	for n := 1; lines.Scan(); n++ {
		words := keepalivedWords(lines.Text())
		if len(words) >= 2 && strings.HasPrefix(words[0], "include") {
			if err := r.include(name, words[1]); err != nil {
				return err
			}
			continue
		}
		r.line(name, n, words)
	}
	return lines.Err()
}

func (r *keepalivedReader) include(from, pattern string) error {
	at := strings.TrimPrefix(pattern, "/")
	if !strings.HasPrefix(pattern, "/") {
		at = path.Join(path.Dir(from), pattern)
	}
	files, err := fs.Glob(r.root, at)
	if err != nil {
		return fmt.Errorf("include %s: %w", pattern, err)
	}
	for _, f := range files {
		if err := r.file(f); err != nil {
			return err
		}
	}
	return nil
}

// keepalivedWords splits a line, without its comment, with braces as words.
func keepalivedWords(line string) []string {
	if i := strings.IndexAny(line, "#!"); i >= 0 {
		line = line[:i]
	}
	line = strings.NewReplacer("{", " { ", "}", " } ", `"`, " ").Replace(line)
	return strings.Fields(line)
}

func (r *keepalivedReader) line(file string, n int, words []string) {
	if len(words) == 0 {
		return
	}
	if r.depth == 0 && words[0] == "vrrp_instance" && len(words) > 1 {
		r.in = true
		r.found = append(r.found, foreignInstance{name: words[1], file: file, line: n})
	}
	for i, w := range words {
		switch w {
		case "{":
			r.depth++
		case "}":
			r.depth = max(0, r.depth-1)
			r.in, r.address = r.in && r.depth > 0, false
		default:
			r.word(w, words[i+1:], n)
		}
	}
}

func (r *keepalivedReader) word(w string, rest []string, n int) {
	if !r.in || len(r.found) == 0 {
		return
	}
	k := &r.found[len(r.found)-1]
	switch {
	case r.address:
		if a, ok := addressOf(w); ok {
			k.addresses = append(k.addresses, a)
		}
	case w == "virtual_ipaddress" || w == "virtual_ipaddress_excluded":
		r.address = true
	case w == "interface" && len(rest) > 0 && r.depth == 1:
		k.iface = rest[0]
	case w == "virtual_router_id" && len(rest) > 0:
		k.vrid, _ = strconv.Atoi(rest[0])
		k.line = n
	}
}

func addressOf(text string) (netip.Addr, bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr(), true
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil
}

// Overheard is a VRRP sender that was heard on the group of an interface.
type Overheard struct {
	Interface string
	VRID      uint8
	Source    netip.Addr
	Count     int
}

// Foreigners judges what was heard on the groups of our interfaces within a time.
// Ours are the addresses from which the peer may send to a group: none when all
// instances are unicast.
func Foreigners(heard []Overheard, ours []Virtual, peers []netip.Addr, listened string) []Finding {
	var found []Finding
	for _, v := range ours {
		for _, h := range heard {
			if h.Interface != v.Interface || h.VRID != v.VRID || slices.Contains(peers, h.Source) {
				continue
			}
			found = append(found, wrong(ForeignVRRP, v.Instance, "%v advertises VRID %d on %s: another router has the VRID of instance %s", h.Source, h.VRID, h.Interface, v.Instance).
				because("%s to the VRRP group within %s", count(h.Count, "advertisement"), listened).
				fix("# stop it there, or give instance "+v.Instance+" another vrid on both nodes",
					fmt.Sprintf("tcpdump -ni %s '%s and host %v'", h.Interface, tcpdump112(h.Source), h.Source)))
		}
	}
	if len(found) == 0 {
		found = append(found, fine(ForeignVRRP, "", "nobody else advertises a VRID of ours"))
	}
	return found
}
