package doctor

import (
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// KernelSettings looks at what of /proc/sys and of the interface breaks a virtual
// address.
func KernelSettings(root fs.FS, ours []Virtual) []Finding {
	var found []Finding
	seen := map[string]bool{}
	for _, v := range ours {
		if seen[v.Interface] {
			continue
		}
		seen[v.Interface] = true
		found = append(found, ofInterface(root, v)...)
	}
	return found
}

func ofInterface(root fs.FS, v Virtual) []Finding {
	var found []Finding
	// The larger of the two counts (Documentation/networking/ip-sysctl).
	ignore, which := 0, ""
	for _, scope := range []string{"all", v.Interface} {
		name := "net.ipv4.conf." + scope + ".arp_ignore"
		if n, ok := sysctl(root, name); ok && n > ignore {
			ignore, which = n, name
		}
	}
	set := func(name string, n int) []string {
		return []string{fmt.Sprintf("sysctl -w %s=%d", name, n), fmt.Sprintf("grep -rs %s /etc/sysctl.conf /etc/sysctl.d   # and correct it there", name)}
	}
	switch {
	case ignore == 8:
		found = append(found, wrong(KernelSetting, which, "%s=8: this host answers ARP for no address, and so for no virtual one", which).fix(set(which, 1)...))
	case ignore == 2:
		found = append(found, warn(KernelSetting, which, "%s=2: this host does not answer ARP probes", which).
			because("the peer asks by ARP probe who has the address before it takes over, and would take silence for an answer").fix(set(which, 1)...))
	}
	if flags, ok := number(root, "sys/class/net/"+v.Interface+"/flags"); ok && flags&iffNoARP != 0 {
		found = append(found, wrong(KernelSetting, v.Interface, "%s has NOARP: nobody learns where the virtual address is", v.Interface).
			fix("ip link set "+v.Interface+" arp on"))
	}
	if slices.ContainsFunc(v.Addresses, netip.Addr.Is6) {
		for _, scope := range []string{"all", v.Interface} {
			name := "net.ipv6.conf." + scope + ".disable_ipv6"
			if n, ok := sysctl(root, name); ok && n != 0 {
				found = append(found, wrong(KernelSetting, name, "%s=1, and instance %s has an IPv6 address", name, v.Instance).fix(set(name, 0)...))
			}
		}
	}
	if len(found) == 0 {
		found = append(found, fine(KernelSetting, v.Interface, "kernel settings of %s", v.Interface))
	}
	return found
}

const iffNoARP = 0x80 // from linux/if.h

// sysctl reads a setting; dots of an interface's name are not ones of the path.
func sysctl(root fs.FS, name string) (int, bool) {
	parts := strings.SplitN(name, ".", 4)
	last := strings.LastIndex(parts[3], ".")
	return number(root, "proc/sys/"+strings.Join(parts[:3], "/")+"/"+parts[3][:last]+"/"+parts[3][last+1:])
}

func number(root fs.FS, file string) (int, bool) {
	data, err := fs.ReadFile(root, file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 0, 64)
	return int(n), err == nil
}
