package main

// keepalived with a notify script: how such pairs are run without Tanist. The
// script does what the one of an on-premise product does that many operators
// have: on MASTER sleep ten seconds, then stop replication and open writes, on
// BACKUP close writes, wait until the other side says that it is the master, and
// replicate from it, one database after another and whatever fails.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// keepalivedConfig is the same on both hosts; who runs alone first is the master.
func keepalivedConfig() string {
	return fmt.Sprintf(`global_defs {
  vrrp_version 3
  enable_script_security
  script_user root
}
vrrp_instance compass {
  interface eth0
  state BACKUP
  nopreempt
  virtual_router_id 51
  priority 100
  advert_int %g
  virtual_ipaddress {
    %s/24
  }
  notify_master "%[3]s MASTER"
  notify_backup "%[3]s BACKUP"
  notify_fault "%[3]s FAULT"
}
`, site.AdvertInterval.Seconds(), site.VIP, notifyFile)
}

const (
	notifyFile = "/usr/local/sbin/state-changed"
	labelFile  = "/srv/active" // the label of the host that is the master, on each host
	doneFile   = "/run/state-changed.done"
)

func notifyScript(databases []site.Database) string {
	var all strings.Builder
	for _, d := range databases {
		fmt.Fprintf(&all, " %s:%d", d.Socket(), d.Port())
	}
	return `#!/bin/sh
# state-changed STATE: what has to happen to the databases of this host.
databases="` + strings.TrimSpace(all.String()) + `"
state=$1
self=$(hostname)
case $self in primary) peer=reserve ;; *) peer=primary ;; esac
pids=/run/state-changed
say() { echo "$state: $*"; }
sql() { mariadb --socket="${1%:*}" -e "$2"; }
# retry DATABASE SQL: seven times, seven seconds apart.
retry() {
  for _ in 1 2 3 4 5 6 7; do sql "$1" "$2" && return 0; sleep 7; done
  return 1
}
rm -f ` + doneFile + `
echo $$ >$pids.$state
case $state in
MASTER)
  for other in BACKUP FAULT; do
    [ -e $pids.$other ] && kill "$(cat $pids.$other)" 2>/dev/null
    rm -f $pids.$other
  done
  echo "$self" >` + labelFile + `
  sed -i "s/^master_service_label: .*/master_service_label: \"$self\"/" ` + site.LabelFile + `
  # The files of this host reach the other one from now and then.
  (while [ "$(cat ` + labelFile + `)" = "$self" ]; do
    rsync --timeout=2 ` + labelFile + ` "$peer:` + labelFile + `" 2>/dev/null && break
    sleep 1
  done) &
  sleep 10
  for d in $databases; do retry "$d" "STOP SLAVE" || say "STOP SLAVE on $d: gave up"; done
  for d in $databases; do sql "$d" "SET GLOBAL read_only = OFF; UNLOCK TABLES"; done
  ;;
BACKUP | FAULT)
  up=$(ps -o etimes= -p "$(cat /run/keepalived.pid)" 2>/dev/null || echo 0)
  [ "$state" = FAULT ] || [ "$up" -ge 15 ] || sleep 10
  for d in $databases; do retry "$d" "SET GLOBAL read_only = ON; FLUSH TABLES WITH READ LOCK"; done
  waited=0
  until [ "$(cat ` + labelFile + `)" = "$peer" ]; do
    [ $waited -lt 300 ] || { say "nobody else is the master"; exit 0; }
    sleep 2
    waited=$((waited + 2))
  done
  sed -i "s/^master_service_label: .*/master_service_label: \"$peer\"/" ` + site.LabelFile + `
  [ "$state" = BACKUP ] || exit 0
  for d in $databases; do sql "$d" "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = OFF"; done
  for d in $databases; do
    sql "$d" "STOP SLAVE; CHANGE MASTER TO MASTER_HOST='$(getent hosts $peer | cut -d' ' -f1)', MASTER_PORT=${d#*:},
      MASTER_USER='` + lab.ReplUser + `', MASTER_PASSWORD='` + lab.ReplPassword + `', MASTER_CONNECT_RETRY=1,
      MASTER_USE_GTID=slave_pos, MASTER_DEMOTE_TO_SLAVE=1; SET GLOBAL read_only = ON; START SLAVE"
  done
  ;;
esac
rm -f $pids.$state
echo "$state" >` + doneFile + `
`
}

// startCompass starts keepalived on the primary, then on the reserve.
func (b *bed) startCompass(ctx context.Context) error {
	for _, n := range b.Nodes() {
		for _, f := range []struct {
			name, data string
			mode       uint32
		}{
			{"/etc/keepalived/keepalived.conf", keepalivedConfig(), 0o644},
			{notifyFile, notifyScript(b.Databases), 0o755},
			{labelFile, b.Primary.Hostname + "\n", 0o644},
		} {
			if err := n.WriteFile(f.name, []byte(f.data), fs.FileMode(f.mode)); err != nil {
				return err
			}
		}
	}
	for _, n := range b.Nodes() {
		if _, err := n.Exec(ctx, "systemctl", "start", "keepalived.service"); err != nil {
			return err
		}
		if err := b.scriptDone(ctx, n); err != nil {
			return err
		}
	}
	return b.AwaitEqual(ctx, b.active)
}

// scriptDone waits until the last notify script of a host has ended.
func (b *bed) scriptDone(ctx context.Context, n *lab.Node) error {
	want := "BACKUP"
	if n == b.active {
		want = "MASTER"
	}
	return site.Await(ctx, "the script of "+n.Hostname+" has ended for "+want, func(context.Context) error {
		done, err := n.ReadFile(doneFile)
		switch {
		case err != nil:
			return errors.New("it has not")
		case strings.TrimSpace(string(done)) != want:
			return fmt.Errorf("it has for %s", done)
		}
		return nil
	})
}

// restartKeepalived is the planned switchover of such a pair.
func restartKeepalived(ctx context.Context, t *trial) error {
	for _, n := range t.Nodes() {
		if err := n.Remove(doneFile); err != nil {
			return err
		}
	}
	t.at = time.Now()
	_, err := t.from.Exec(ctx, "systemctl", "restart", "keepalived.service")
	return err
}

// settleCompass waits until both scripts have ended and mends what they left.
func (t *trial) settleCompass(ctx context.Context) error {
	for _, n := range t.Nodes() {
		if err := t.scriptDone(ctx, n); err != nil {
			return err
		}
	}
	_, err := t.Rejoin(ctx, t.from, false)
	return err
}
