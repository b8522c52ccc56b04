package health

import _ "github.com/tanist-ha/tanist/replication" // want depguard
