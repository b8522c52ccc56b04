package probe

import (
	_ "github.com/tanist-ha/tanist/health"
	_ "github.com/tanist-ha/tanist/internal/program"
	_ "github.com/tanist-ha/tanist/systemd" // want depguard
)
