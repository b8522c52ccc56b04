package doctor

// The daemons that configure the network of a host take addresses away that they did
// not put there. Which they will take is in their files.

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
)

// Network looks at everything that configures the interfaces of our instances.
func Network(ctx context.Context, units Units, root fs.FS, ours []Virtual) []Finding {
	var found []Finding
	seen := map[string]bool{}
	for _, v := range ours {
		found = append(found, configured(root, v)...)
		if seen[v.Interface] {
			continue
		}
		seen[v.Interface] = true
		found = append(found, networkd(ctx, units, root, v.Interface)...)
		found = append(found, networkManager(ctx, units, root, v.Interface)...)
		found = append(found, dhcpClient(root, v.Interface)...)
	}
	return found
}

// staticFiles are where a host's own addresses are written down.
var staticFiles = []string{
	"etc/network/interfaces", "etc/network/interfaces.d/*", "etc/netplan/*.yaml", "etc/systemd/network/*.network", "etc/systemd/network/*.network.d/*.conf",
	"etc/NetworkManager/system-connections/*", "etc/sysconfig/network-scripts/ifcfg-*",
}

// configured wants a virtual address in no file that puts it on an interface for
// good: then it is there whoever is Active, and stays.
func configured(root fs.FS, v Virtual) []Finding {
	var found []Finding
	for _, pattern := range staticFiles {
		files, _ := fs.Glob(root, pattern)
		for _, f := range files {
			for _, line := range readLines(root, f) {
				if a, ok := namesOne(line.text, v.Addresses); ok {
					found = append(found, wrong(AddressConfigured, a.String(), "the virtual address %v is in a network configuration of this host", a).
						because("/%s:%d: %s", f, line.number, strings.TrimSpace(line.text)).
						because("it would be on this host at every boot, whoever is Active").
						fix(fmt.Sprintf("sed -i '%ds/^/#/' /%s   # then: ip addr show %s", line.number, f, v.Interface)))
				}
			}
		}
	}
	if len(found) == 0 {
		found = append(found, fine(AddressConfigured, v.Instance, "no network configuration has a virtual address of %s", v.Instance))
	}
	return found
}

// namesOne finds an address among the words of a line that is no comment.
func namesOne(line string, addresses []netip.Addr) (netip.Addr, bool) {
	line, _, _ = strings.Cut(line, "#")
	words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t=,;[]\"'", r) })
	for _, w := range words {
		if a, ok := addressOf(strings.TrimPrefix(w, "-")); ok {
			for _, ours := range addresses {
				if a == ours {
					return a, true
				}
			}
		}
	}
	return netip.Addr{}, false
}

type numbered struct {
	number int
	text   string
}

func readLines(root fs.FS, name string) []numbered {
	data, err := fs.ReadFile(root, name)
	if err != nil || len(data) > 1<<20 {
		return nil
	}
	var all []numbered
	for i, line := range strings.Split(string(data), "\n") {
		all = append(all, numbered{i + 1, line})
	}
	return all
}

// dhcpClient looks for an interface whose own address is leased by ifupdown's client:
// Debian's dhclient-script empties the interface when a lease ends.
func dhcpClient(root fs.FS, iface string) []Finding {
	files := []string{"etc/network/interfaces"}
	more, _ := fs.Glob(root, "etc/network/interfaces.d/*")
	for _, f := range append(files, more...) {
		for _, line := range readLines(root, f) {
			words := strings.Fields(line.text)
			if len(words) == 4 && words[0] == "iface" && words[1] == iface && words[2] == "inet" && words[3] == "dhcp" {
				return []Finding{warn(NetworkTakesAddress, iface, "the address of %s is leased: dhclient empties the interface when a lease ends", iface).
					because("/%s:%d: %s", f, line.number, strings.TrimSpace(line.text)).
					fix("# write the host's own address: iface " + iface + " inet static, with address and gateway below")}
			}
		}
	}
	return nil
}
