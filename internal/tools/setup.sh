#!/usr/bin/env bash
# Installs what the tests and the demo use and Go does not bring: network tools,
# a database, keepalived, promtool (in prometheus), the parts of the two-host lab. Nothing is started.
# Without root or outside Debian it says so and leaves; those tests then skip.
set -euo pipefail

packages=(
	acl dbus keepalived lsyncd mariadb-server procps prometheus
	debian-archive-keyring ethtool iproute2 iptables iputils-arping iputils-ping
	mmdebstrap nftables rsync strace systemd systemd-container tcpdump util-linux
)
services=(keepalived lsyncd mariadb prometheus)

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	echo "setup: not a Debian system; tests that need Debian packages skip"
	exit 0
fi

# A second MariaDB to test with, unpacked beside the installed one.
server_root() {
	[ "$(id -u)" = 0 ] || return 0
	timeout -k 10 300 "$(dirname "$0")/server-root.sh" trixie mariadb-server-core ||
		echo "setup: no MariaDB of trixie, tests of it skip" >&2
}

missing=()
for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done
if [ ${#missing[@]} = 0 ]; then
	server_root
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "setup: not root; tests that need ${missing[*]} skip"
	exit 0
fi

echo "setup: installing ${missing[*]}"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
log=$(mktemp)
apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >>"$log" 2>&1; }
if ! { apt update && apt install -y --no-install-recommends "${missing[@]}"; }; then
	tail -n 20 "$log" >&2
	echo "setup: apt-get failed, whole output in $log; make test SETUP=no goes on without" >&2
	exit 1
fi
rm -f "$log"
# Not at the next boot either, where systemd runs this machine.
if [ -d /run/systemd/system ]; then
	for s in "${services[@]}"; do
		case " ${missing[*]} " in *" $s"*) systemctl disable --quiet "$s" ;; esac
	done
fi
server_root
