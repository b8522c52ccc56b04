package main

// What Compass's check_current_master_server.py says, for scripts that read it.

import (
	"fmt"
	"io"

	"github.com/tanist-ha/tanist/internal/control"
)

// The sentences, to the letter.
const (
	legacyActive  = "Данный сервер является активным мастер сервером"
	legacyStandby = "Данный сервер НЕ является активным мастер сервером"
)

// sayLegacy prints the sentence. Whoever reads it looks for the words or for their
// lack, so that an unknown role has none.
func sayLegacy(stdout, stderr io.Writer, v verdict) error {
	sentence, colour := legacyStandby, yellow
	switch v.status {
	case masterActive:
		sentence, colour = legacyActive, green
	case masterStandby:
	default:
		fmt.Fprintf(stderr, "%s: %s\n", control.WordUnknown, clean(v.words))
		return exitError{exitProblem}
	}
	fmt.Fprintln(stdout, colour.on(colours(stdout), sentence))
	return nil
}
