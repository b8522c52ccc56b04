package failover

import (
	_ "testing" // want depguard

	_ "github.com/tanist-ha/tanist/health"
	_ "github.com/tanist-ha/tanist/hooks"
	_ "github.com/tanist-ha/tanist/internal/mono"
	_ "github.com/tanist-ha/tanist/replication"
	_ "github.com/tanist-ha/tanist/vrrp"
	_ "github.com/tanist-ha/tanist/vrrp/vip" // want depguard
)
