package mono

import (
	_ "sync/atomic" // want depguard

	_ "github.com/tanist-ha/tanist/replication" // want depguard
)
