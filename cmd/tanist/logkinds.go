package main

// Each kind of line in the log has a name and a MESSAGE_ID, for good: scripts find
// lines by them, and journalctl -x explains them from packaging/journal/tanist.catalog.

import "fmt"

// messageKind is what a line of the log is about.
type messageKind uint8

// The kinds. Their names and IDs keep their meaning.
const (
	kindOther            messageKind = iota // without an ID
	kindState                               // an instance's state changed, or why it is in it
	kindRefused                             // a node should take over and may not
	kindFault                               // a node may not have the address
	kindConflict                            // two hosts claim the role or the address
	kindTransition                          // a promotion or demotion ended well
	kindTransitionFailed                    // one did not
	kindDrift                               // something is no longer as a step left it, or is again
	kindDataLost                            // a promotion may have left transactions behind
	kindTrouble                             // something that the daemon does fails; it tries on
	kindJournalFailed                       // the journal cannot be written
	kindJournalWell                         // and can be again
	kindCommand                             // an operator told this node to do something
	kindCommandRefused                      // somebody wanted to change something and may not
	kindReplication                         // what a replication command did to a database
	kindNotice                              // a notice was delivered
	kindNoticeFailed                        // a notice was not delivered
	kindReload                              // a reload was applied
	kindReloadRefused                       // a reload was refused, or cut short
	kindDatabase                            // a database was found, is gone, or ended
	kindStarting                            // the daemon starts
	kindLeaving                             // the daemon was told to leave
	kindLeft                                // the daemon has left in order
	kindDied                                // the daemon could not go on
	kindInsecure                            // something is accepted without proof
	kindLogDropped                          // lines of the log were dropped
)

// identity is how a kind is named in the log.
type identity struct {
	name string // in JSON, as event
	id   string // MESSAGE_ID
}

func (k messageKind) identity() identity {
	identities := [...]identity{
		kindOther:            {"", ""},
		kindState:            {"state", "47eaa0992cb6416d86dc283cf0480ff9"},
		kindRefused:          {"refused", "1509bb0a9bf143318a118783593942a4"},
		kindFault:            {"fault", "f5ec52ed0108447592e1bc7656670b14"},
		kindConflict:         {"conflict", "59ba1b0d5c904158a909406c2e416788"},
		kindTransition:       {"transition", "5d32fe61985f44e7aa095ee82bb29976"},
		kindTransitionFailed: {"transition_failed", "9a1e40b458154a9999e2d15364c7a500"},
		kindDrift:            {"drift", "68b4aef73eaa4e179d8a4eace693ae2d"},
		kindDataLost:         {"data_lost", "142c83647806457793e783e7eb04b39b"},
		kindTrouble:          {"trouble", "00a154d85ed84bccb5c719c2add9ca88"},
		kindJournalFailed:    {"journal_failed", "c0290103855d4f5599ec8712e8e3574f"},
		kindJournalWell:      {"journal_well", "6e704245a4ff41e3a7949b80dcb0b82e"},
		kindCommand:          {"command", "de1b1471320a48eab7a788d106762832"},
		kindCommandRefused:   {"command_refused", "4350cc1721e54f21acd552a09ddbef12"},
		kindReplication:      {"replication", "9ed89eddd6844325b600e6129ec04ece"},
		kindNotice:           {"notice", "627bf3225fac4cb6a34acb115ee347dd"},
		kindNoticeFailed:     {"notice_failed", "a930d55d954540f3ae889fe46f2c7a8c"},
		kindReload:           {"reload", "43f2f1936e854f08b5927b0fe339d309"},
		kindReloadRefused:    {"reload_refused", "990d3cd8381d422f850c86bd84e0164b"},
		kindDatabase:         {"database", "e07cb5793e7f497bbcc1c0c8b0cdf20a"},
		kindStarting:         {"starting", "1dcd327f761e47cbbb7e8913655c1d15"},
		kindLeaving:          {"leaving", "9672be1a7fed4bb9a92fa271dbc52933"},
		kindLeft:             {"left", "c44a66f4cf2543469cbe4f50bdbcda98"},
		kindDied:             {"died", "1e2ed6cb64704f1f934b8db4b18fbdb1"},
		kindInsecure:         {"insecure", "4f859933fdf0445f97e485b6761978dd"},
		kindLogDropped:       {"log_dropped", "2e460a9618944a2399855162fd0b00ea"},
	}
	if int(k) < len(identities) {
		return identities[k]
	}
	return identity{}
}

// String returns the name.
func (k messageKind) String() string {
	if i := k.identity(); i.name != "" {
		return i.name
	}
	return fmt.Sprintf("messageKind(%d)", uint8(k))
}
