package doctor

// systemd-networkd removes every address that it did not configure when it configures
// an interface again: on `networkctl reconfigure`, on `networkctl reload` after its
// file changed, and when the host wakes. KeepConfiguration= says which stay. An
// address with a lifetime, as Tanist's are, counts as one of DHCP's whoever put it
// there: KeepConfiguration=static does not keep it, dhcp and yes do (seen with
// systemd 252).

import (
	"context"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

const (
	networkdUnit = "systemd-networkd.service"
	// keepWanted keeps the address.
	keepWanted = "KeepConfiguration=yes"
)

// networkDirs are in the order in which they count (systemd.network(5)).
var networkDirs = []string{"etc/systemd/network", "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network", "lib/systemd/network"}

func networkd(ctx context.Context, units Units, root fs.FS, iface string) []Finding {
	u, err := units.Unit(ctx, networkdUnit)
	if err != nil {
		return failed(NetworkTakesAddress, networkdUnit, err)
	}
	if !u.Running && !u.AtBoot {
		return []Finding{fine(NetworkTakesAddress, networkdUnit, "systemd-networkd does not run and does not start at boot")}
	}
	file, sure := networkFile(root, iface)
	if file == "" {
		return []Finding{fine(NetworkTakesAddress, networkdUnit, "systemd-networkd does not configure %s", iface)}
	}
	all := readSettings(root, file)
	for _, f := range overlaid(root, dropIns(file), "*.conf") {
		all = append(all, readSettings(root, f)...)
	}
	if s, ok := last(all, "Link", "Unmanaged"); ok && isTrue(s.value) {
		return []Finding{fine(NetworkTakesAddress, iface, "systemd-networkd leaves %s alone (/%s:%d)", iface, s.file, s.line)}
	}
	keep, ok := last(all, "Network", "KeepConfiguration")
	if ok && (isTrue(keep.value) || keep.value == "dhcp") {
		return []Finding{fine(NetworkTakesAddress, iface, "systemd-networkd keeps addresses of %s (/%s:%d)", iface, keep.file, keep.line)}
	}
	f := wrong(NetworkTakesAddress, iface, "systemd-networkd will remove the virtual address from %s when it configures it again", iface)
	if !sure {
		f.Severity = Warning
		f.What = "systemd-networkd may configure " + iface + ", and then will remove the virtual address when it does so again"
	}
	if ok {
		f = f.because("/%s:%d: KeepConfiguration=%s does not keep an address that has a lifetime", keep.file, keep.line, keep.value)
	} else {
		f = f.because("/%s configures %s and has no KeepConfiguration=", file, iface)
	}
	dropIn := "/etc/systemd/network/" + path.Base(file) + ".d"
	return []Finding{f.because("networkctl reconfigure, a reload with a changed file and a wake-up do it").fix(
		"mkdir -p "+dropIn,
		`printf '[Network]\n`+keepWanted+`\n' > `+dropIn+"/tanist.conf",
		"networkctl reload",
	)}
}

// dropIns are where the drop-ins of a network file are.
func dropIns(file string) []string {
	var dirs []string
	for _, d := range networkDirs {
		dirs = append(dirs, d+"/"+path.Base(file)+".d")
	}
	return dirs
}

// networkFile returns the file by which networkd configures an interface: the one
// that it says it uses, or else the first that matches. It is not sure where a match
// is by something that is not looked at.
func networkFile(root fs.FS, iface string) (file string, sure bool) {
	if index, ok := number(root, "sys/class/net/"+iface+"/ifindex"); ok {
		for _, line := range readLines(root, "run/systemd/netif/links/"+strconv.Itoa(index)) {
			if used, ok := strings.CutPrefix(line.text, "NETWORK_FILE="); ok {
				return strings.TrimPrefix(used, "/"), true
			}
		}
	}
	unsure := ""
	for _, f := range overlaid(root, networkDirs, "*.network") {
		switch matches(root, readSettings(root, f), iface) {
		case yes:
			if unsure != "" {
				return unsure, false
			}
			return f, true
		case maybe:
			if unsure == "" {
				unsure = f
			}
		case no:
		}
	}
	return unsure, false
}

// matches holds the [Match] section against an interface.
func matches(root fs.FS, all []setting, iface string) truth {
	held, any := yes, false
	for _, s := range all {
		if s.section != "Match" {
			continue
		}
		any = true
		switch s.key {
		case "Name":
			held = both(held, known(matchesGlobs(strings.Fields(s.value), iface)))
		case "MACAddress":
			mac, _ := fs.ReadFile(root, "sys/class/net/"+iface+"/address")
			held = both(held, known(strings.Contains(strings.ToLower(s.value), strings.TrimSpace(string(mac))) && len(mac) > 0))
		case "Type":
			held = both(held, known(matchesGlobs(strings.Fields(s.value), "ether")))
		default:
			held = both(held, maybe)
		}
	}
	if !any {
		return no // networkd refuses a file without [Match]
	}
	return held
}

// matchesGlobs reads a list of patterns; a leading exclamation mark inverts it.
func matchesGlobs(patterns []string, name string) bool {
	invert := len(patterns) > 0 && strings.HasPrefix(patterns[0], "!")
	for i, p := range patterns {
		if i == 0 {
			p = strings.TrimPrefix(p, "!")
		}
		if ok, err := path.Match(p, name); err == nil && ok {
			return !invert
		}
	}
	return invert
}
