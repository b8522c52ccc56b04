package doctor

// NetworkManager makes an interface what its profile says when it activates the
// profile again: on `nmcli connection up`, on `nmcli device reapply`, and when a cable
// that was out for some seconds is back. What the profile does not have goes.

import (
	"context"
	"io/fs"
	"slices"
	"strings"
)

const networkManagerUnit = "NetworkManager.service"

func networkManager(ctx context.Context, units Units, root fs.FS, iface string) []Finding {
	u, err := units.Unit(ctx, networkManagerUnit)
	if err != nil {
		return failed(NetworkTakesAddress, networkManagerUnit, err)
	}
	if !u.Running && !u.AtBoot {
		return []Finding{fine(NetworkTakesAddress, networkManagerUnit, "NetworkManager does not run and does not start at boot")}
	}
	all := managerSettings(root)
	if s, ok := unmanaged(root, all, iface); ok {
		return []Finding{fine(NetworkTakesAddress, iface, "NetworkManager leaves %s alone (/%s:%d)", iface, s.file, s.line)}
	}
	f := wrong(NetworkTakesAddress, iface, "NetworkManager will remove the virtual address from %s when it activates its profile again", iface)
	if profile, ok := profileOf(root, iface); ok {
		f = f.because("/%s:%d: the profile for %s", profile.file, profile.line, iface)
	} else {
		f.Severity = Warning
		f = f.because("no profile names %s, and no unmanaged-devices does either", iface)
	}
	return []Finding{f.because("nmcli connection up, nmcli device reapply and a cable that comes back do it").fix(
		"# the host's own address of "+iface+" then has to be configured elsewhere, for example in /etc/network/interfaces",
		`printf '[keyfile]\nunmanaged-devices+=interface-name:`+iface+`\n' > /etc/NetworkManager/conf.d/90-tanist.conf`,
		"systemctl reload NetworkManager",
	)}
}

// managerSettings reads the configuration in the order in which it counts
// (NetworkManager.conf(5)).
func managerSettings(root fs.FS) []setting {
	var all []setting
	for _, f := range overlaid(root, []string{"usr/lib/NetworkManager/conf.d", "lib/NetworkManager/conf.d"}, "*.conf") {
		all = append(all, readSettings(root, f)...)
	}
	for _, f := range overlaid(root, []string{"run/NetworkManager/conf.d"}, "*.conf") {
		all = append(all, readSettings(root, f)...)
	}
	all = append(all, readSettings(root, "etc/NetworkManager/NetworkManager.conf")...)
	for _, f := range overlaid(root, []string{"etc/NetworkManager/conf.d"}, "*.conf") {
		all = append(all, readSettings(root, f)...)
	}
	return all
}

// unmanaged finds what keeps NetworkManager away from an interface: a list, a
// [device] section, or Debian's rule for what /etc/network/interfaces has.
func unmanaged(root fs.FS, all []setting, iface string) (setting, bool) {
	var lists []setting
	for _, s := range all {
		switch {
		case s.section != "keyfile":
		case s.key == "unmanaged-devices":
			lists = []setting{s}
		case s.key == "unmanaged-devices+":
			lists = append(lists, s)
		}
	}
	for _, s := range lists {
		if deviceList(root, s.value, iface) {
			return s, true
		}
	}
	for _, s := range all {
		if strings.HasPrefix(s.section, "device") && s.key == "managed" && !isTrue(s.value) {
			if m, ok := last(all, s.section, "match-device"); !ok || deviceList(root, m.value, iface) {
				return s, true
			}
		}
	}
	if s, ok := last(all, "ifupdown", "managed"); ok && !isTrue(s.value) {
		for _, l := range readLines(root, "etc/network/interfaces") {
			words := strings.Fields(l.text)
			if len(words) > 1 && words[0] == "iface" && words[1] == iface {
				return setting{file: "etc/network/interfaces", line: l.number}, true
			}
		}
	}
	return setting{}, false
}

// deviceList matches a list of device specifications.
func deviceList(root fs.FS, list, iface string) bool {
	held := false
	for _, spec := range strings.FieldsFunc(list, func(r rune) bool { return r == ';' || r == ',' }) {
		spec = strings.TrimSpace(spec)
		except := strings.HasPrefix(spec, "except:")
		spec = strings.TrimPrefix(spec, "except:")
		hit := spec == "*" || spec == "type:ethernet"
		if name, ok := strings.CutPrefix(spec, "interface-name:"); ok {
			name = strings.TrimPrefix(name, "=")
			hit = matchesGlobs([]string{strings.TrimPrefix(name, "~")}, iface)
		}
		if mac, ok := strings.CutPrefix(spec, "mac:"); ok {
			own, _ := fs.ReadFile(root, "sys/class/net/"+iface+"/address")
			hit = strings.EqualFold(mac, strings.TrimSpace(string(own)))
		}
		if hit && except {
			return false
		}
		held = held || hit
	}
	return held
}

// profileOf finds the profile of an interface.
func profileOf(root fs.FS, iface string) (setting, bool) {
	for _, pattern := range []string{"etc/NetworkManager/system-connections/*", "run/NetworkManager/system-connections/*"} {
		files, _ := fs.Glob(root, pattern)
		slices.Sort(files)
		for _, f := range files {
			if s, ok := last(readSettings(root, f), "connection", "interface-name"); ok && s.value == iface {
				return s, true
			}
		}
	}
	files, _ := fs.Glob(root, "etc/sysconfig/network-scripts/ifcfg-*")
	for _, f := range files {
		if s, ok := last(readSettings(root, f), "", "DEVICE"); ok && strings.Trim(s.value, `"`) == iface {
			return s, true
		}
	}
	return setting{}, false
}
