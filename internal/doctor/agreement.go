package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Running is what a daemon runs, for comparison.
type Running struct {
	Version string `json:"version"`
	// File is where its configuration is.
	File string `json:"file"`
	// Sections are digests of the parts of its configuration, by their place in the file.
	Sections map[string]string `json:"sections"`
	// KeyFile and Keys: where the cluster keys are, and an id of each, from which no key
	// can be guessed. The first one signs.
	KeyFile string   `json:"key_file,omitempty"`
	Keys    []string `json:"keys,omitempty"`
}

// Agree holds what the two daemons run against each other.
func Agree(nodes [2]string, here, there Running) []Finding {
	found := []Finding{sameConfiguration(nodes, here, there), sameKeys(nodes, here, there)}
	if here.Version != there.Version {
		return append(found, warn(VersionDiffers, "", "%s runs tanist %s, %s runs %s", nodes[0], here.Version, nodes[1], there.Version).
			because("fine during an upgrade, and not for long").fix("tanist version   # on both").on(nodes[0]))
	}
	return append(found, fine(VersionDiffers, "", "both nodes run tanist %s", here.Version).on(nodes[0]))
}

func sameConfiguration(nodes [2]string, here, there Running) Finding {
	var differ []string
	for _, section := range slices.Sorted(maps.Keys(here.Sections)) {
		if other, ok := there.Sections[section]; !ok {
			differ = append(differ, section+" is only on "+nodes[0])
		} else if other != here.Sections[section] {
			differ = append(differ, section+" differs")
		}
	}
	for _, section := range slices.Sorted(maps.Keys(there.Sections)) {
		if _, ok := here.Sections[section]; !ok {
			differ = append(differ, section+" is only on "+nodes[1])
		}
	}
	if len(differ) == 0 {
		return fine(ConfigurationDiffers, "", "both nodes run the same configuration").on(nodes[0])
	}
	f := wrong(ConfigurationDiffers, strings.Join(differ, ", "), "the two nodes run different configurations").on(nodes[0])
	for _, d := range differ {
		f = f.because("%s", d)
	}
	return f.fix(
		fmt.Sprintf("ssh %s cat %s | diff %s -   # which of the two is right?", nodes[1], pasted(there.File), here.File),
		fmt.Sprintf("scp %s %s:%s && ssh %s 'tanist check && systemctl reload tanist'   # if it is this one", here.File, nodes[1], pasted(there.File), nodes[1]),
	)
}

// pasted is a path of the peer's for a command that is pasted here, where no more than
// a path of it may reach the shell.
func pasted(path string) string {
	odd := func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-", r)
	}
	if path == "" || !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, odd) {
		return "/etc/tanist/tanist.yaml"
	}
	return path
}

// sameKeys wants both nodes to sign with the same key. While keys are being changed
// the lists differ, but each node knows the key with which the other one signs.
func sameKeys(nodes [2]string, here, there Running) Finding {
	switch {
	case len(here.Keys) == 0 && len(there.Keys) == 0:
		return fine(WrongKey, "", "the pair has no cluster key").on(nodes[0])
	case slices.Equal(here.Keys, there.Keys):
		return fine(WrongKey, "", "both nodes have the cluster key %s", strings.Join(here.Keys, " and ")).on(nodes[0])
	}
	evidence := fmt.Sprintf("%s has %s, %s has %s", nodes[0], keyList(here.Keys), nodes[1], keyList(there.Keys))
	if len(here.Keys) > 0 && len(there.Keys) > 0 && slices.Contains(there.Keys, here.Keys[0]) && slices.Contains(here.Keys, there.Keys[0]) {
		return warn(WrongKey, here.KeyFile, "a change of the cluster key is not finished").because("%s", evidence).
			fix(copyKey(nodes[1], here.KeyFile)...).on(nodes[0])
	}
	return wrong(WrongKey, here.KeyFile, "the two nodes have different cluster keys").because("%s", evidence).
		fix(copyKey(nodes[1], here.KeyFile)...).on(nodes[0])
}

func keyList(ids []string) string {
	if len(ids) == 0 {
		return "no key"
	}
	return "key " + strings.Join(ids, " and ")
}

func copyKey(to, file string) []string {
	return []string{
		fmt.Sprintf("scp -p %s %s:%s && ssh %s systemctl reload tanist", file, to, file, to),
		"# or the other way round; the same file on both, mode 0600",
	}
}

// Unasked says why the peer's daemon could not be asked, from how its ports
// answered.
func Unasked(nodes [2]string, why string, here []Sight) Finding {
	peer := nodes[1]
	f := wrong(PeerUnreachable, peer, "the daemon of %s could not be asked: what follows is seen from %s alone", peer, nodes[0]).because("%s", why).on(nodes[0])
	var outcomes []Connection
	answers := false
	for _, s := range here {
		answers = answers || s.answers()
		if s.TCP != NotTried {
			outcomes = append(outcomes, s.TCP)
		}
	}
	all := func(c Connection) bool {
		return len(outcomes) > 0 && !slices.ContainsFunc(outcomes, func(o Connection) bool { return o != c })
	}
	switch {
	case all(Refused):
		return f.because("its host refuses TCP port %d on every path: no daemon listens there", here[0].Port).
			fix("ssh "+peer+" systemctl start "+ownUnit, "ssh "+peer+" tanist doctor").on(peer)
	case !answers && len(here) > 0:
		return f.because("nothing of its host answers on any path").fix("# is " + peer + " on, and are its cables in?")
	}
	return f.fix("ssh " + peer + " tanist doctor")
}

// FromProblems makes findings of what `tanist check` says of the configuration.
func FromProblems(code Code, severity Severity, place, message, hint string) Finding {
	f := Finding{Severity: severity, Code: code, About: place, What: message}
	if place != "" {
		f = f.because("%s", place)
	}
	if hint != "" {
		f = f.fix(hint)
	}
	return f
}

// Loaded holds the file as it is now against what the daemon runs.
func Loaded(file string, running, now map[string]string) Finding {
	var differ []string
	for _, section := range slices.Sorted(maps.Keys(now)) {
		if running[section] != now[section] {
			differ = append(differ, section)
		}
	}
	for _, section := range slices.Sorted(maps.Keys(running)) {
		if _, ok := now[section]; !ok {
			differ = append(differ, section)
		}
	}
	if len(differ) == 0 {
		return fine(ConfigurationUnread, file, "the daemon runs what is in %s", file)
	}
	return warn(ConfigurationUnread, file, "%s was changed, and the daemon does not run it yet", file).
		because("%s", strings.Join(differ, ", ")).fix("tanist check && systemctl reload tanist")
}
