package systemd

import (
	_ "github.com/tanist-ha/tanist/vrrp" // want depguard
	_ "go.uber.org/zap"
)
