// Package notify delivers the notices of notify steps: beside the plans, in their
// order within each instance, with a bounded number of attempts. Every notice ends
// in exactly one record, whether it was delivered or not.
//
// Like every package below the module root it may be imported, but promises no
// stable API before version 1.
package notify
