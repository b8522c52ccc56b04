package control

import (
	"errors"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
)

// Verdict is the answer to whether this node is active, for scripts and load balancers.
type Verdict struct {
	Word   Word
	Reason string // one line
}

// Word is a Verdict in short.
type Word string

// The words.
const (
	WordActive    Word = "active" // Active, every address in the kernel, the promotion finished
	WordStandby   Word = "standby"
	WordPromoting Word = "promoting"
	WordDemoting  Word = "demoting"
	WordUnknown   Word = "unknown" // nobody can tell, or the records disagree
)

// Judge holds the daemon's word against the kernel's. Its reason names reasons by their
// codes.
func Judge(in Instance) Verdict { return JudgeInWords(in, func(code string) string { return code }) }

// JudgeInWords is Judge with a reason for a person: words says what a code means.
func JudgeInWords(in Instance, words func(code string) string) Verdict {
	held := 0
	for _, v := range in.VIPs {
		if v.Error != "" {
			return Verdict{WordUnknown, v.Address + ": " + v.Error}
		}
		if v.Held {
			held++
		}
	}
	why := words(in.Reason)
	if in.Detail != "" {
		why += ": " + in.Detail
	}
	if in.Stale && !in.Certain {
		return Verdict{WordUnknown, "the control loop does not answer; " + lastTold(in, why)}
	}
	switch in.State {
	case "active":
		if held < len(in.VIPs) {
			return Verdict{WordUnknown, fmt.Sprintf("active, but the kernel has %d of %d addresses", held, len(in.VIPs))}
		}
		return Verdict{WordActive, why}
	case "promoting", "demoting":
		return Verdict{Word(in.State), why}
	case "conflict", "initialize":
		if in.Reason == failover.Diverged.String() {
			break // a standby whose databases differ
		}
		return Verdict{WordUnknown, in.State + ": " + why}
	}
	if held > 0 {
		return Verdict{WordUnknown, fmt.Sprintf("%s, but the kernel has %d of %d addresses", in.State, held, len(in.VIPs))}
	}
	return Verdict{WordStandby, in.State + ": " + why}
}

func lastTold(in Instance, why string) string {
	if in.AgeMS == nil {
		return "nothing is known"
	}
	age := time.Duration(*in.AgeMS) * time.Millisecond
	return fmt.Sprintf("%s before it was %s: %s", age.Round(100*time.Millisecond), in.State, why)
}

// Errors of Pick.
var (
	ErrUnnamed    = errors.New("name one")
	ErrNoInstance = errors.New("no instance is called so")
)

// Pick finds an instance by its name; the empty name is that of the only one. Its errors
// are ErrUnnamed and ErrNoInstance.
func Pick(doc Document, name string) (Instance, error) {
	if name == "" {
		if len(doc.Instances) == 1 {
			return doc.Instances[0], nil
		}
		return Instance{}, fmt.Errorf("there are %d instances: %w", len(doc.Instances), ErrUnnamed)
	}
	for _, in := range doc.Instances {
		if in.Name == name {
			return in, nil
		}
	}
	return Instance{}, fmt.Errorf("%q: %w", name, ErrNoInstance)
}
