package config

// Steps that make links, tell somebody and wait.

import (
	"fmt"
	"net"
	"strconv"

	"github.com/tanist-ha/tanist/hooks"
)

func (v value) linkStep(purpose) hooks.Action {
	var l hooks.Link
	var ensure uint8
	ok := v.object("a link step",
		need("path", func(v value) { l.Path = v.templateFile() }),
		need("target", func(v value) { l.Target, _, _ = v.template() }),
		allow("ensure", func(v value) { oneOf(v, []string{"present", "absent"}, &ensure) }),
	)
	if !ok || l.Path == "" || l.Target == "" {
		return nil
	}
	l.Absent = ensure == 1
	return l
}

func (v value) notifyStep(purpose) hooks.Action {
	var n hooks.Notify
	given := 0
	ok := v.object("a notify step",
		allow("exec", func(v value) { given++; n.Exec = v.command() }),
		allow("webhook", func(v value) { given++; n.Webhook = v.webURL() }),
	)
	switch {
	case !ok:
		return nil
	case given > 1 || v.empty():
		v.problem("a notify step has one of exec and webhook", "write notify: {exec: [/path/to/program]}")
		return nil
	case len(n.Exec) == 0 && n.Webhook == "":
		return nil
	}
	return n
}

func (v value) waitStep(purpose) hooks.Action {
	var w hooks.Wait
	given := 0
	ok := v.object("a wait step",
		allow("lsyncd", func(v value) { given++; w.Lsyncd = v.templateFile() }),
		allow("tcp", func(v value) { given++; w.TCP = v.hostPort() }),
		allow("file", func(v value) { given++; w.File = v.templateFile() }),
	)
	switch {
	case !ok:
		return nil
	case given > 1 || v.empty():
		v.problem("a wait step waits for one of lsyncd, tcp and file", "write wait: {lsyncd: /var/log/lsyncd/lsyncd.status}")
		return nil
	case w == hooks.Wait{}:
		return nil
	}
	return w
}

// hostPort returns HOST:PORT. It may be a template.
func (v value) hostPort() string {
	s, filled, ok := v.template()
	if !ok {
		return ""
	}
	host, port, err := net.SplitHostPort(filled)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host == "" || n == 0 {
		v.problem(fmt.Sprintf("%s is not HOST:PORT", quote(s)), "write 127.0.0.1:8080, or [::1]:8080")
		return ""
	}
	return s
}
