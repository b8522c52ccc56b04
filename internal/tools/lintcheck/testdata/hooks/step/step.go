package step

import (
	_ "github.com/tanist-ha/tanist/hooks"
	_ "github.com/tanist-ha/tanist/replication/mysql" // want depguard
	_ "github.com/tanist-ha/tanist/systemd"
)
