package peer

import (
	_ "github.com/tanist-ha/tanist/internal/failover"
	_ "github.com/tanist-ha/tanist/systemd" // want depguard
)
