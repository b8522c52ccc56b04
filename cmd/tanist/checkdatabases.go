package main

// What a check finds out about databases: their files, accounts and grants, and
// what the discovery rules find on this host.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"sync"
	"text/tabwriter"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/replication/discover"
)

// checkedAtOnce bounds how many databases a check asks at the same time.
const checkedAtOnce = 32

// ruleFound is what one discovery rule finds now.
type ruleFound struct {
	Instance  string          `json:"instance"`
	Files     string          `json:"files"`    // the rule's pattern
	Matching  int             `json:"matching"` // files
	Databases []databaseFound `json:"databases"`
}

type databaseFound struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	File    string `json:"file"`
}

func printRules(w io.Writer, rules []ruleFound) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rules {
		fmt.Fprintf(t, "%s: %s: files: %d, databases: %d\n", r.Instance, r.Files, r.Matching, len(r.Databases))
		for _, d := range r.Databases {
			fmt.Fprintf(t, "  %s\t%s\t%s\n", d.Name, d.Address, d.File)
		}
	}
	_ = t.Flush() // what w did not take is w's to say
}

// located is a database and the place in the file that it comes from.
type located struct {
	config.Database
	at, file string // file is empty for a database of the configuration
}

func (h *hostCheck) databases(ctx context.Context, at string, in config.Instance) {
	fixed, err := here(h.file, h.self, in)
	if err != nil {
		h.problem(at+".databases", "", "%v", err)
		return
	}
	var dbs []located
	for j, db := range fixed {
		place := fmt.Sprintf("%s.databases[%d]", at, j)
		h.databaseFiles(place, db)
		if db.ReplicateFrom == nil {
			h.noWayBack(place, "database "+db.Name+" has no replicate_from, so that its channel stays when it becomes the source")
		}
		dbs = append(dbs, located{db, place, ""})
	}
	h.accounts(ctx, dbs)
}

// discovered looks at the rules' files, and at the databases that they tell of.
func (h *hostCheck) discovered(ctx context.Context, at string, in config.Instance) {
	if len(in.Discover) == 0 {
		return
	}
	rules := make([]ruleFound, len(in.Discover))
	look, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	fixed, err := here(h.file, h.self, in)
	if err != nil {
		return // said already
	}
	result := finderOf(h.file, h.self, in, fixed).Look(look)
	for j, d := range in.Discover {
		rules[j] = ruleFound{Instance: in.Name, Files: d.Rule.Files, Matching: result.Files[j], Databases: []databaseFound{}}
		place := fmt.Sprintf("%s.discover[%d]", at, j)
		h.databaseFiles(place, d.Database(discover.Found{}))
		if d.ReplicateFrom == nil {
			h.noWayBack(place, "its databases have no replicate_from, so that their channels stay when they become sources")
		}
	}
	for _, p := range result.Problems {
		h.problem(fmt.Sprintf("%s.discover[%d].files", at, p.Rule), "correct the file, or the rule if the file is right", "%s", p.Error())
	}
	var dbs []located
	for _, f := range result.Found {
		db := in.Discover[f.Rule].Database(f)
		dbs = append(dbs, located{db, fmt.Sprintf("%s.discover[%d]", at, f.Rule), f.File})
		rules[f.Rule].Databases = append(rules[f.Rule].Databases, databaseFound{db.Name, db.Address.String(), f.File})
	}
	h.rules = append(h.rules, rules...)
	h.accounts(ctx, dbs)
}

func (h *hostCheck) noWayBack(at, what string) {
	h.notice(at, "put skip-slave-start into the server's configuration, or a restart brings the replica threads back", "%s", what)
}

// databaseFiles wants the files of a database, or of all that a rule finds.
func (h *hostCheck) databaseFiles(at string, c config.Database) {
	if c.PasswordFile != "" {
		h.secret(at+".password_file", c.PasswordFile, "write the password of "+c.User+" into it, mode 0600")
	}
	if from := c.ReplicateFrom; from != nil && from.PasswordFile != "" {
		h.secret(at+".replicate_from.password_file", from.PasswordFile, "write the password of "+from.User+" into it, mode 0600")
	}
	if c.TLS != nil {
		h.certificates(at, c.TLS)
	}
}

func (h *hostCheck) certificates(at string, t *config.TLS) {
	switch pem, err := os.ReadFile(t.CA); {
	case err != nil:
		h.problem(at+".tls.ca", "name the CA that signed the certificates of the database servers", "%v", err)
	case !x509.NewCertPool().AppendCertsFromPEM(pem):
		h.problem(at+".tls.ca", "name the CA that signed the certificates of the database servers", "%s has no certificate", t.CA)
	}
	if t.Cert == "" {
		return
	}
	h.secret(at+".tls.key", t.Key, "name the key of the client certificate")
	if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil && readable(t.Key) {
		h.problem(at+".tls.cert", "name a certificate and its key, both PEM", "%v", err)
	}
}

// accounts asks every database for its account's grants and for what could be
// better, and reports in their order.
func (h *hostCheck) accounts(ctx context.Context, dbs []located) {
	each := make([]hostCheck, len(dbs))
	places := make(chan struct{}, checkedAtOnce)
	var wg sync.WaitGroup
	for i, db := range dbs {
		each[i] = hostCheck{file: h.file, self: h.self, units: h.units}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			each[i].account(ctx, db)
		})
	}
	wg.Wait()
	for i := range each {
		h.problems = append(h.problems, each[i].problems...)
		h.notices = append(h.notices, each[i].notices...)
		h.lacking = append(h.lacking, each[i].lacking...)
	}
}

// onTheSource says where an account is changed: what a standby writes itself is a
// transaction that its source lacks.
const onTheSource = " (on the source, from where it replicates; on a standby only after SET SESSION sql_log_bin = 0)"

func (h *hostCheck) account(ctx context.Context, db located) {
	if db.PasswordFile != "" && !readable(db.PasswordFile) {
		return // said already
	}
	which := ""
	if db.file != "" {
		which = fmt.Sprintf("database %s (%s): ", db.Name, db.file)
	}
	d, err := openDatabase(db.Database, services{h.units}, elsewhereOf(h.file, h.self))
	if err != nil {
		h.problem(db.at, "", "%s%v", which, err)
		return
	}
	defer func() { _ = d.Close() }()
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	missing, err := d.Grants(ctx)
	if err != nil {
		h.problem(db.at+".address", "is the server running, and are account and password right?", "%s%v", which, err)
		return
	}
	if db.ReplicateFrom != nil {
		reset, err := d.ResetGrants(ctx)
		if err != nil {
			h.problem(db.at+".user", "", "%s%v", which, err)
		}
		missing = append(missing, reset...)
	}
	for _, m := range missing {
		h.problem(db.at+".user", m.Fix+onTheSource, "%saccount %s lacks the privilege %s", which, db.User, m.Privilege)
		h.lacking = append(h.lacking, h.problems[len(h.problems)-1])
	}
	switch a, err := d.HeartbeatAdvice(ctx); {
	case err != nil:
		h.problem(db.at+".heartbeat_table", "", "%s%v", which, err)
	case a != nil:
		h.problem(db.at+".heartbeat_table", a.Fix, "%s%s", which, a.What)
	}
	h.advise(ctx, db.at, which, d)
}

func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}
