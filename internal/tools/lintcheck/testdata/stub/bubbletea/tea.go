// Package tea stands in for the real one.
package tea
