package step

// Why somebody else's file is left as it is.

import (
	"fmt"
	"strings"
)

// Reason is why a file is not edited.
type Reason uint8

// Why a file is not edited.
const (
	ReasonSyntax     Reason = iota // it does not parse
	ReasonEncoding                 // it is not UTF-8, or no text
	ReasonDocuments                // it holds more than one document
	ReasonDirective                // it begins with a directive, %YAML or %TAG
	ReasonMissing                  // the key is not there
	ReasonNotMapping               // something on the way to the key is not a mapping
	ReasonDuplicate                // the key is there twice
	ReasonAlias                    // an alias provides the value
	ReasonMerge                    // a merge key provides the value
	ReasonShared                   // an alias elsewhere repeats the mapping that holds the value
	ReasonAnchor                   // the value carries an anchor
	ReasonTag                      // the value carries a tag
	ReasonNotScalar                // the value is a mapping or a sequence
	ReasonBlock                    // the value is a block scalar
	ReasonMultiline                // the value spans lines
	ReasonEmpty                    // the key has no value to replace
	ReasonValue                    // the new value cannot be written
	ReasonOverlap                  // two of the keys to set are one, or one leads through the other
	ReasonAmbiguous                // the line is there more than once
	ReasonUnverified               // more than the value would change
	ReasonNotRegular               // it is not a regular file
	ReasonTooLarge                 // it is larger than FileLimit
	ReasonHardLinked               // it has another name that would keep the old value
	ReasonImmutable                // it, or its directory, is immutable or append-only
	ReasonReadOnly                 // its file system is mounted read-only
	ReasonMount                    // it is mounted by itself, so nothing can take its place
	ReasonMoved                    // somebody else kept changing it
	ReasonWriting                  // somebody else keeps it open for writing
	ReasonLocked                   // somebody else holds its lock
)

var reasonText = [...]string{
	ReasonSyntax:     "does not parse",
	ReasonEncoding:   "is not UTF-8",
	ReasonDocuments:  "holds more than one document",
	ReasonDirective:  "has a directive",
	ReasonMissing:    "is missing",
	ReasonNotMapping: "not a mapping",
	ReasonDuplicate:  "the key is there twice",
	ReasonAlias:      "the value comes from an alias",
	ReasonMerge:      "the value comes from a merge key",
	ReasonShared:     "an alias repeats the mapping that holds the value",
	ReasonAnchor:     "the value has an anchor",
	ReasonTag:        "the value has a tag",
	ReasonNotScalar:  "the value is not a scalar",
	ReasonBlock:      "the value is a block scalar",
	ReasonMultiline:  "spans lines",
	ReasonEmpty:      "the key has no value to replace",
	ReasonValue:      "cannot be written",
	ReasonOverlap:    "two of the keys are one, or one leads through the other",
	ReasonAmbiguous:  "the line is there more than once",
	ReasonUnverified: "the edit would change more than the value",
	ReasonNotRegular: "not a regular file",
	ReasonTooLarge:   "too large",
	ReasonHardLinked: "has more than one hard link",
	ReasonImmutable:  "immutable or append-only",
	ReasonReadOnly:   "on a read-only file system",
	ReasonMount:      "mounted by itself, so that nothing can take its place",
	ReasonMoved:      "somebody else keeps changing it",
	ReasonWriting:    "somebody else keeps it open for writing",
	ReasonLocked:     "somebody else holds its lock",
}

func (r Reason) String() string {
	if int(r) < len(reasonText) {
		return reasonText[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Refusal is a file that stays as it is, and why.
type Refusal struct {
	Reason Reason
	What   string // what was wanted: `set a.b`
	File   string
	Line   int    // 1 is the first; 0 when the reason has no line
	Detail string // optional
}

func (e *Refusal) Error() string {
	var b strings.Builder
	b.WriteString(e.What + " in " + e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": " + e.Reason.String())
	if e.Detail != "" {
		b.WriteString(" (" + e.Detail + ")")
	}
	return b.String()
}

func refuse(r Reason, line int, format string, args ...any) *Refusal {
	return &Refusal{Reason: r, Line: line, Detail: fmt.Sprintf(format, args...)}
}
