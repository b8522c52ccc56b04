// Package prometheus stands in for the real one.
package prometheus
