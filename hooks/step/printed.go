package step

import "github.com/tanist-ha/tanist/hooks"

// Printed returns what is kept in the journal of what the program of a step
// printed, empty for a step that runs none.
func Printed(s Step) string {
	if o, ok := s.(Outputter); ok {
		return hooks.Shorten(o.Output(), hooks.OutputLimit)
	}
	return ""
}
