package hooks

// Actions that a plan takes on links, on whoever wants to know, and on time.

import (
	"strconv"
	"strings"
	"time"
)

// Link makes or removes symbolic links.
type Link struct {
	// Path is the link, or the directory of the links: it ends in / or there is a
	// directory, or Target holds a pattern.
	Path string
	// Target is what the link says, as it is written. A pattern (* ? [) makes one
	// link for each name that it matches, called as what it leads to.
	Target string
	Absent bool // remove those links, and only those that say so
}

// Notify tells somebody that the plan came to this step. The plan does not wait
// for it: what became of it is a Record of its own, Notified. Either Exec or
// Webhook is set.
type Notify struct {
	Exec    []string
	Webhook string // http or https
	Vars    Vars   // of the transition, filled in by Expand
}

// Wait lets time pass until something is so. One of the fields is set.
type Wait struct {
	Lsyncd string // path of the status file of an lsyncd that is to have nothing pending
	TCP    string // HOST:PORT that is to accept a connection
	File   string // path of a file that is to exist
}

func (Link) action()   {}
func (Notify) action() {}
func (Wait) action()   {}

// Kind returns "link".
func (Link) Kind() string { return "link" }

// Kind returns "notify".
func (Notify) Kind() string { return "notify" }

// Kind returns "wait".
func (Wait) Kind() string { return "wait" }

func (l Link) title() string {
	if l.Absent {
		return "link absent " + l.Path
	}
	return "link " + l.Path
}

// title names nothing of a webhook but its host: the rest of a URL is often the
// secret that allows its use.
func (n Notify) title() string {
	if len(n.Exec) > 0 {
		return "notify " + n.Exec[0]
	}
	scheme, rest, ok := strings.Cut(n.Webhook, "://")
	host, _, _ := strings.Cut(rest, "/")
	host, _, _ = strings.Cut(host, "?")
	host, _, _ = strings.Cut(host, "#")
	if _, after, found := strings.Cut(host, "@"); found {
		host = after[strings.LastIndexByte(after, '@')+1:]
	}
	if !ok || host == "" {
		return "notify webhook"
	}
	return "notify " + scheme + "://" + host
}

func (w Wait) title() string {
	switch {
	case w.Lsyncd != "":
		return "wait lsyncd " + w.Lsyncd
	case w.TCP != "":
		return "wait tcp " + w.TCP
	}
	return "wait file " + w.File
}

// keepalivedArguments are what keepalived 2 appends to the arguments of a notify
// program.
func keepalivedArguments(v Vars) []string {
	return []string{"INSTANCE", v.Instance, keepalivedState(v.Event), strconv.Itoa(int(v.Priority))}
}

// keepalivedState is keepalived's word for where a transition leads.
func keepalivedState(o Occasion) string {
	switch o {
	case OnPromote:
		return "MASTER"
	case OnDemote:
		return "BACKUP"
	case OnFault:
		return "FAULT"
	case OnStop:
		return "STOP"
	}
	return o.String()
}

// Unwaiting returns the plan without its wait steps: a demotion that was not
// planned has nobody to wait for, and what it takes away from this node does not
// come later for it.
func (p Plan) Unwaiting() Plan {
	var q Plan
	for _, s := range p {
		if _, ok := s.Action.(Wait); !ok {
			q = append(q, s)
		}
	}
	return q
}

// Within returns how long the plan takes at most: each of its steps its timeout, then
// what its end takes. The vip step takes no time.
func (p Plan) Within() time.Duration {
	var within time.Duration
	for _, s := range p {
		if _, ok := s.Action.(VIP); !ok {
			within += s.Timeout + Grace + CancelGrace
		}
	}
	return within
}

// StopsWithin returns how long the plan may take from its pivot until it has
// stopped a unit: 0 when it does not do so after its pivot.
func (p Plan) StopsWithin(name string) time.Duration {
	var within time.Duration
	for _, s := range p[p.Pivot()+1:] {
		within += s.Timeout + Grace
		if u, ok := s.Action.(Unit); ok && u.Verb == StopUnit && u.Name == name {
			return within
		}
	}
	return 0
}

// Silent returns the plan without its notify steps: one that is run again, with
// no change of the role, is no news.
func (p Plan) Silent() Plan {
	var q Plan
	for _, s := range p {
		if _, ok := s.Action.(Notify); !ok {
			q = append(q, s)
		}
	}
	return q
}

// told reports a notify step that did its part when the plan ran before.
func told(s Step, before Result) bool {
	_, ok := s.Action.(Notify)
	return ok && before.Outcome.OK()
}
