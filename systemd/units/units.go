// Package units holds the unit files that packages install.
package units

import _ "embed"

// Tanist is tanist.service: the daemon.
//
//go:embed tanist.service
var Tanist string

// Release is tanist-release.service: what lets go of the address when the daemon
// could not be kept running.
//
//go:embed tanist-release.service
var Release string
