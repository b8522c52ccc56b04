#!/usr/bin/env bash
# Unpacks packages of another Debian suite, with all they depend on, into a root of
# their own: server-root.sh SUITE PACKAGE... The tests run that suite's database
# server from there with its own loader; nothing is installed or configured, and
# no package's script runs. What is there already stays.
set -euo pipefail

cache=/var/cache/tanist-test
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
suite=$1
shift
root=$cache/$suite

mkdir -p "$cache"
exec 9>"$root.lock"
flock -w 300 9
[ ! -d "$root" ] || exit 0

# The archive and the proxies are those of this machine's own apt.
archive=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
	awk '$1 == "Debian" {print $2; exit}')
[ -n "$archive" ] || {
	echo "server-root: apt on this machine knows no archive labelled Debian (apt-get update?)" >&2
	exit 1
}

rm -rf "$root.tmp"
trap 'rm -rf "$root.tmp"' EXIT
apt=$root.tmp/apt
mkdir -p "$apt"/{etc/apt.conf.d,etc/preferences.d,etc/trusted.gpg.d,etc/sources.list.d,state/lists/partial,cache/archives/partial} "$root.tmp/root"
: >"$apt/status"
echo "deb [signed-by=$keyring] $archive $suite main" >"$apt/etc/sources.list"
{
	apt-config dump --no-empty --format '%f "%v";%n' Acquire::http::Proxy Acquire::https::Proxy
	cat <<CONFIG
APT::Architecture "$(dpkg --print-architecture)";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc "$apt/etc";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
CONFIG
} >"$apt/apt.conf"
export APT_CONFIG=$apt/apt.conf

apt-get -qq update
apt-get -qq install --download-only "$@"
for deb in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root.tmp/root"; done
mv "$root.tmp/root" "$root"
echo "server-root: $suite in $root"
