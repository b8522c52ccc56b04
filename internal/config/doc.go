// Package config reads the configuration file: bytes become typed, validated
// values, or a list of every mistake with its line, its column and a remedy.
// It looks at no host; what needs one (interfaces, units, keys) is checked by
// the caller, who reports through File.Problem with the same positions.
package config
