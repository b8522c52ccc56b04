// Package hooks is the pure part of a transition: what the steps are, in which
// order they run, what ends a plan early and what its journal records say. It
// starts nothing and touches nothing; package hooks/step does.
//
// Like every package below the module root it may be imported, but promises no
// stable API before version 1.
package hooks
