package screen

import (
	_ "charm.land/bubbletea/v2"

	_ "github.com/tanist-ha/tanist/internal/control"
	_ "github.com/tanist-ha/tanist/internal/node" // want depguard
)
