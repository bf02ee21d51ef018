# Makes the file systems of the machine and becomes its systemd. Arguments: root, version of control groups, a kernel's
# release, that kernel's headers.
set -eu
root=$1 version=$2 release=$3 headers=$4
touch "${root%/*}/share/booting"

# The machine begins with nothing but systemd: no service of the Debian below it, none of its disks, no kernel of it.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/lib/systemd/system/*.wants "$root"/lib/modules/*
rm -f "$root/etc/fstab" "$root/usr/sbin/policy-rc.d"
mkdir -p "$root/lib/modules/$release"
ln -s "$headers" "$root/lib/modules/$release/build"

mount -t proc proc "$root/proc"
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
if test "$version" = 1; then
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
for device in null zero full random urandom tty net/tun; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
touch "$root/dev/console"
mount --bind /dev/null "$root/dev/console"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
# Behind /tmp, under which they may be.
mkdir -p "$root$headers"
mount --rbind "${headers%/usr/src/*}/usr" "$root${headers%/usr/src/*}/usr"

# The test as a service; its end is the end of the machine.
cat >"$root/etc/systemd/system/cvsw-test.service" <<'END'
[Unit]
Wants=systemd-journald.service
After=systemd-journald.service
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
TimeoutStartSec=240
ExecStart=/bin/sh /share/test.sh
StandardOutput=truncate:/share/result
StandardError=inherit
END

ip link set lo up
cd "$root"
# Without the means to change anything beyond the namespaces.
exec env -i container=cvsw-packages PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set -sys_module,-sys_time,-sys_boot,-sys_rawio,-syslog \
    chroot . /lib/systemd/systemd --unit=cvsw-test.service
