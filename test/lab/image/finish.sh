# Runs inside the new base image, once.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# A data directory without the package's large redo log and without test database.
rm -rf /var/lib/mysql/* /etc/mysql/mariadb.conf.d/99-node.cnf
mariadb-install-db --user=mysql --skip-test-db >/dev/null

# Both hosts share one user key and one host key, so each can log in at the other.
install -d -m700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -C lab -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -A
awk '{print "* " $1 " " $2}' /etc/ssh/ssh_host_ed25519_key.pub >/root/.ssh/known_hosts

mkdir -p /srv/data /etc/lsyncd /var/log/lsyncd /opt/lab
: >/etc/resolv.conf
rm -f /etc/machine-id /var/lib/dbus/machine-id

for unit in console-getty.service getty.target apt-daily.timer apt-daily-upgrade.timer \
	e2scrub_all.timer e2scrub_reap.service dpkg-db-backup.timer fstrim.timer \
	systemd-networkd.service systemd-networkd.socket systemd-firstboot.service remote-fs.target; do
	ln -sf /dev/null "/etc/systemd/system/$unit"
done
systemctl -q enable rsync.service ssh.service mariadb.service
systemctl -q disable nginx.service keepalived.service
# lsyncd is started by whoever holds the service, never by a boot.
rm -f /etc/systemd/system/multi-user.target.wants/lsyncd.service /etc/rc?.d/S*lsyncd
