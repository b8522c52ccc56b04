package systemd

// What the manager and the kernel know about a unit. ActiveState alone proves
// little: an LSB service whose daemon was killed stays active, one that exits
// with 143 on SIGTERM is failed after an ordinary stop, and KillMode=process
// leaves processes behind. So a status always carries the processes.

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// LoadState says whether the manager has a usable definition of a unit.
type LoadState uint8

// Load states (systemd.unit(5), org.freedesktop.systemd1(5)).
const (
	LoadOther LoadState = iota // bad-setting, error, stub, merged
	Loaded
	NotFound
	Masked
)

var loadStates = map[string]LoadState{"loaded": Loaded, "not-found": NotFound, "masked": Masked}

func (s LoadState) String() string { return wordOf(loadStates, s, "unusable") }

// ActiveState is the state of a unit in the words all unit types share.
type ActiveState uint8

// Active states (org.freedesktop.systemd1(5)).
const (
	ActiveOther ActiveState = iota // maintenance, and what later versions add
	Active
	Reloading
	Inactive
	Failed
	Activating
	Deactivating
)

var activeStates = map[string]ActiveState{
	"active": Active, "reloading": Reloading, "refreshing": Reloading, "inactive": Inactive,
	"failed": Failed, "activating": Activating, "deactivating": Deactivating,
}

func (s ActiveState) String() string {
	return wordOf(activeStates, s, "other")
}

// FileState says whether a unit starts at boot.
type FileState uint8

// Unit file states (systemctl(1), is-enabled).
const (
	FileOther FileState = iota // transient, bad, indirect, alias
	FileEnabled
	FileDisabled
	FileMasked
	FileStatic    // no [Install] section: nothing to enable
	FileGenerated // made from something else, such as a script in /etc/init.d
	FileMissing
)

var fileStates = map[string]FileState{
	"enabled": FileEnabled, "disabled": FileDisabled, "masked": FileMasked, "masked-runtime": FileMasked, "static": FileStatic,
	"generated": FileGenerated, "not-found": FileMissing,
}

func (s FileState) String() string { return wordOf(fileStates, s, "other") }

// JobResult is how the manager's attempt ended.
type JobResult uint8

// Job results (org.freedesktop.systemd1(5), JobRemoved).
const (
	JobOther JobResult = iota
	JobDone
	JobCanceled
	JobTimeout
	JobFailed
	JobDependency
	JobSkipped
)

var jobResults = map[string]JobResult{
	"done": JobDone, "canceled": JobCanceled, "timeout": JobTimeout, "failed": JobFailed,
	"dependency": JobDependency, "skipped": JobSkipped,
}

func (r JobResult) String() string { return wordOf(jobResults, r, "other") }

// wordOf returns the shortest of the manager's words for v.
func wordOf[T comparable](words map[string]T, v T, other string) string {
	word := other
	for w, s := range words {
		if s == v && (word == other || len(w) < len(word)) {
			word = w
		}
	}
	return word
}

// Status is one reading of a unit.
type Status struct {
	Unit         string
	LoadState    LoadState
	ActiveState  ActiveState
	SubState     string // in the words of the unit's type: running, exited, dead
	Type         string // of a service: simple, forking, oneshot; empty for other units
	Result       string // of a service: success, exit-code, signal, timeout, watchdog
	MainPID      int    // 0 when the manager knows none
	ControlGroup string // path below the root of the hierarchy
	Processes    []int  // alive in the control group and below
	InvocationID string // of the run, in hexadecimal; a restart changes it
	Job          uint32 // id of the pending job, 0 for none
	CanReload    bool
}

// Service reports whether the unit is one that has processes.
func (s Status) Service() bool { return strings.HasSuffix(s.Unit, ".service") }

// Stopped reports that the unit is at rest and no process of it is left. A
// failed unit is at rest too: a daemon that exits with a status of its own on
// SIGTERM leaves its unit so.
func (s Status) Stopped() bool {
	return (s.ActiveState == Inactive || s.ActiveState == Failed) && len(s.Processes) == 0
}

// exited is the sub-state of a service without its main process (RemainAfterExit=yes).
const exited = "exited"

// Running reports that the unit is active and, unless it is a oneshot service or
// no service at all, that a process of it lives. Where the manager knows the main
// process, others that outlived it do not count.
func (s Status) Running() bool {
	if s.ActiveState != Active && s.ActiveState != Reloading {
		return false
	}
	return !s.Service() || s.Type == "oneshot" || len(s.Processes) > 0 && s.SubState != exited
}

func (s Status) String() string {
	text := s.ActiveState.String()
	if s.SubState != "" {
		text += " (" + s.SubState + ")"
	}
	if s.LoadState != Loaded {
		text = s.LoadState.String() + ", " + text
	}
	if s.Result != "" && s.Result != "success" {
		text += ", result " + s.Result
	}
	return fmt.Sprintf("%s, %d processes", text, len(s.Processes))
}

// newStatus reads the properties; a property that is missing or has another type
// keeps its zero value.
func newStatus(unit string, p map[string]any) Status {
	s := Status{Unit: unit}
	load, _ := p["LoadState"].(string)
	active, _ := p["ActiveState"].(string)
	s.LoadState, s.ActiveState = loadStates[load], activeStates[active]
	s.SubState, _ = p["SubState"].(string)
	s.Type, _ = p["Type"].(string)
	s.Result, _ = p["Result"].(string)
	s.ControlGroup, _ = p["ControlGroup"].(string)
	s.CanReload, _ = p["CanReload"].(bool)
	if id, ok := p["InvocationID"].([]byte); ok {
		s.InvocationID = hex.EncodeToString(id)
	}
	if pid, ok := p["MainPID"].(uint32); ok {
		s.MainPID = int(pid)
	}
	if job, ok := p["Job"].([]any); ok && len(job) > 0 {
		s.Job, _ = job[0].(uint32)
	}
	if s.ControlGroup == "" {
		slice, _ := p["Slice"].(string)
		s.ControlGroup = expectedGroup(slice, unit)
	}
	return s
}
