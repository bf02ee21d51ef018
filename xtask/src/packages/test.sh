# Installs the packages, uses them, and removes them. Any failure ends it; then the services' log is the last word.
set -eu
trap 'code=$?; test $code = 0 || { echo "failed with $code"; journalctl --no-pager --lines 60; }' EXIT
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

until_works() {
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "in vain: $*"
    "$@"
}
step() { echo "-- $*"; }
# `!` does not end a shell with `set -e`.
fails() {
    if "$@"; then
        echo "this should have failed: $*"
        return 1
    fi
}

step "install"
dpkg --install /share/*.deb
cvsw --version
man=/usr/share/man/man1/cvsw-controller.1
test -s $man || test -s $man.gz
systemd-analyze verify cvsw-controller.service cvsw-port@vm1.service

step "the controller was started, as a user without rights"
until_works cvsw net list
test "$(systemctl is-enabled cvsw-controller)" = enabled
main() { systemctl show --property=MainPID --value cvsw-controller; }
test "$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' /proc/"$(main)"/status)" -ne 0
test "$(sed -n 's/^CapBnd:\t//p' /proc/"$(main)"/status)" = 0000000000000000

step "its state survives SIGKILL, and systemd starts it again"
cvsw net set blue --vni 42 --group 239.1.1.42
before=$(main)
systemctl kill --signal=KILL cvsw-controller
# The old process may still answer for a moment.
is_new() { test "$(main)" != 0 && test "$(main)" != "$before"; }
until_works is_new
until_works cvsw net list
test "$(systemctl show --property=NRestarts --value cvsw-controller)" = 1
cvsw net list | grep -q '^blue  *42'
test "$(stat --format=%a "$(realpath /var/lib/cvsw)")" = 700
fails setpriv --reuid=nobody --clear-groups cvsw net set red --vni 43 --group 239.1.1.43

step "reload"
before=$(main)
systemctl reload cvsw-controller
logged() { journalctl --no-pager --unit=cvsw-controller | grep -q "$1"; }
until_works logged "certificates and tokens were read again"
cvsw net list | grep -q '^blue  *42'
test "$(main)" = "$before"

step "a port"
ip link add vm1-net type veth peer name wire
ip link set vm1-net up
ip link set wire up
echo "OPTIONS=--host tap:vm1 --net af_packet:vm1-net --mac 02:00:00:00:01:01 --stats-socket /run/cvsw-port-vm1/stats.sock" \
    >/etc/cvsw/port-vm1.env
systemctl start cvsw-port@vm1
until_works cvsw stats /run/cvsw-port-vm1/stats.sock
ip link show vm1 >/dev/null

step "the kernel module"
dkms status
dkms status -m cvsw | grep -q ': installed'
module=$(find /lib/modules -name 'cvsw.ko*')
modinfo "$module" | grep -i '^\(filename\|license\|vermagic\)'

step "remove"
dpkg --remove cvsw-dkms cvsw-port cvsw-controller cvsw
fails systemctl is-active --quiet cvsw-controller
fails systemctl is-active --quiet cvsw-port@vm1
test ! -e /usr/bin/cvsw
test -z "$(find /lib/modules -name 'cvsw.ko*')"
test -e /etc/cvsw/controller.toml
dpkg --purge cvsw-controller
test ! -e /etc/cvsw/controller.toml
echo PACKAGES-WORK
