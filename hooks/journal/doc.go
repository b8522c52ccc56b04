// Package journal stores hooks.Record durably: one append-only file with one
// owner. It survives being cut at any byte, a full disk and damage in the middle.
// Whatever it finds at a start, it opens; Recovery says what was wrong.
//
// Like every package below the module root it may be imported, but promises no
// stable API before version 1.
package journal
