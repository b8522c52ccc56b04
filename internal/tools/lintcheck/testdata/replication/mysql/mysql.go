package mysql

import (
	_ "github.com/tanist-ha/tanist/internal/failover" // want depguard
	_ "github.com/tanist-ha/tanist/replication"
)
