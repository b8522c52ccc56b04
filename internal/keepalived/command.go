package keepalived

import (
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

var (
	connects    = regexp.MustCompile(`^(?:exec\s+\d+)?<\s*/dev/tcp/([^/\s]+)/(\d+)$`)
	processName = regexp.MustCompile(`^[A-Za-z0-9_.@:+-]+$`)
	unitName    = regexp.MustCompile(`^[A-Za-z0-9:_.-]+(@[A-Za-z0-9:_.-]+)?$`)
)

// question is how a check asks in Tanist: a kind and its value in YAML.
func (c check) question() (kind, value string) {
	switch {
	case c.link != "":
		return "link", scalar(c.link)
	case c.process != "":
		return "process", scalar(c.process)
	}
	whole := strings.Join(c.command, " ")
	if m := connects.FindStringSubmatch(whole); m != nil {
		return "tcp", scalar(net.JoinHostPort(m[1], m[2]))
	}
	if len(c.command) == 0 {
		return "", ""
	}
	args := c.command[1:]
	switch filepath.Base(c.command[0]) {
	case "killall":
		if len(args) == 2 && (args[0] == "-0" || args[0] == "-s0") && processName.MatchString(args[1]) {
			return "process", scalar(args[1])
		}
	case "pidof", "pgrep":
		if len(args) > 0 && processName.MatchString(args[len(args)-1]) && (len(args) == 1 || len(args) == 2 && slices.Contains([]string{"-x", "-s"}, args[0])) {
			return "process", scalar(args[len(args)-1])
		}
	case "systemctl":
		rest := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--quiet" || a == "-q" })
		if len(rest) == 2 && rest[0] == "is-active" && unitName.MatchString(rest[1]) {
			name := rest[1]
			if !strings.HasSuffix(name, ".service") {
				name += ".service"
			}
			return "unit", scalar(name)
		}
	}
	command := list(runnable(c.command))
	if u := account(c.user); u != "" {
		return "exec", "{command: " + command + ", user: " + u + "}"
	}
	return "exec", command
}

// runnable makes a command one that needs no PATH, and no shell but a named one.
func runnable(args []string) []string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = strings.ReplaceAll(strings.ReplaceAll(a, "\x00", ""), "{{", `{{"{{"}}`)
	}
	switch first := words[0]; {
	case strings.ContainsAny(strings.Join(args, " "), "<>|;&") && !filepath.IsAbs(first):
		return []string{"/bin/sh", "-c", strings.Join(words, " ")}
	case !filepath.IsAbs(first):
		return append([]string{"/usr/bin/env"}, words...)
	}
	return words
}

var accountName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)

// account is the account as a step has it, empty where that is the daemon's.
func account(user string) string {
	if user == "root" || !accountName.MatchString(user) {
		return ""
	}
	return scalar(user)
}

// shellWords makes one line of a shell of a command.
func shellWords(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		if plainWord.MatchString(a) {
			words[i] = a
		}
	}
	return strings.Join(words, " ")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)
