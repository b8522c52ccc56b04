package program

import _ "github.com/tanist-ha/tanist/hooks" // want depguard
