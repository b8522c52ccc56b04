package screen

import (
	_ "github.com/charmbracelet/bubbletea"

	_ "github.com/tanist-ha/tanist/internal/control"
	_ "github.com/tanist-ha/tanist/internal/node" // want depguard
)
