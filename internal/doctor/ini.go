package doctor

// Files of sections and keys, as systemd and NetworkManager have them.

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// setting is one line of such a file.
type setting struct {
	section, key, value string
	file                string
	line                int
}

// readSettings reads a file. A value ends with its line: none of what is looked for
// here is ever longer.
func readSettings(root fs.FS, name string) []setting {
	var all []setting
	section := ""
	for _, l := range readLines(root, name) {
		text := strings.TrimSpace(l.text)
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case text[0] == '[' && strings.HasSuffix(text, "]"):
			section = text[1 : len(text)-1]
		default:
			key, value, ok := strings.Cut(text, "=")
			if ok {
				all = append(all, setting{section, strings.TrimSpace(key), strings.TrimSpace(value), name, l.number})
			}
		}
	}
	return all
}

// last returns the setting of a key that counts.
func last(all []setting, section, key string) (setting, bool) {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].section == section && all[i].key == key {
			return all[i], true
		}
	}
	return setting{}, false
}

// overlaid lists the files of some directories by their names, in the order of the
// names. Of two with one name the one of the earlier directory counts.
func overlaid(root fs.FS, dirs []string, pattern string) []string {
	byName := map[string]string{}
	for _, d := range dirs {
		files, _ := fs.Glob(root, d+"/"+pattern)
		for _, f := range files {
			if _, taken := byName[path.Base(f)]; !taken {
				byName[path.Base(f)] = f
			}
		}
	}
	var names []string
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = byName[name]
	}
	return names
}

// isTrue reads a boolean as systemd and NetworkManager do.
func isTrue(value string) bool {
	return slices.Contains([]string{"1", "yes", "true", "on", "y", "t"}, strings.ToLower(value))
}
