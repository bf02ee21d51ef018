# Starts the machine and waits for its end. Arguments: its folder, a kernel's release, that kernel's headers.
# This shell has a mount namespace of its own, so what it mounts ends with it.
set -eu
folder=$1
groups=$folder/groups
mkdir "$groups" "$folder/root" "$folder/layer"

# A control group of its own, which can be removed at the end whatever systemd has made below it.
if test -d /sys/fs/cgroup/systemd; then
    version=1
    mount -t cgroup -o none,name=systemd cgroup "$groups"
    here=$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup)
else
    version=2
    mount -t cgroup2 cgroup2 "$groups"
    here=$(sed -n 's/^0:://p' /proc/self/cgroup)
fi
group=$groups$here/cvsw-packages.$$
mkdir "$group"
clear_away() {
    echo $$ >"$groups$here/cgroup.procs"
    # The kernel takes a moment to let go of the last process.
    for _ in $(seq 50); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        if ! test -d "$group"; then return; fi
        sleep 0.1
    done
}
trap clear_away EXIT
echo $$ >"$group/cgroup.procs"

mount -t tmpfs -o mode=755 tmpfs "$folder/layer"
mkdir "$folder/layer/upper" "$folder/layer/work"
mount -t overlay -o "lowerdir=/,upperdir=$folder/layer/upper,workdir=$folder/layer/work" overlay "$folder/root"
mkdir "$folder/root/share"
mount --bind "$folder/share" "$folder/root/share"
unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child \
    sh "$folder/share/boot.sh" "$folder/root" "$version" "$2" "$3" &
machine=$!
# In version 2 no process may be in a group that hands controllers on to groups below it, as the machine's systemd wants of
# the root of its own. So who waits for it goes back, once the namespaces are made.
until test -e "$folder/share/booting" || ! kill -0 $machine; do sleep 0.05; done
for process in $$ $machine; do echo "$process" >"$groups$here/cgroup.procs" || true; done
wait $machine
