#!/bin/busybox sh
# What the guest does; the judge is outside. Lines that begin with "@" are for it: "@ CASE NAME VALUE".
#
#   namespace linux: eth0 192.0.2.1, ip xfrm, vxlan0 10.0.0.1      |      namespace cvsw: eth0, cvsw port, vm0 10.0.0.2
set -eu
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null || true
mount -t tmpfs -o size=128m tmpfs /tmp
mkdir -p /dev/net /var/run/netns
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
# busybox runs its own applet first.
ip() { /sbin/ip "$@"; }
# Nothing here takes long.
in_linux() { timeout 150 /sbin/ip netns exec linux "$@"; }
in_cvsw() { timeout 150 /sbin/ip netns exec cvsw "$@"; }
# Waits until a command succeeds.
await() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { echo "@ $case timeout $*"; cat /tmp/port.log; exit 1; }
        sleep 0.1
    done
}
stats() { cvsw stats /tmp/port.sock --json; }
# Frames from the network that the engine has judged; control frames are not among them.
judged() {
    stats | tr -d ' \n' | sed 's/.*"rx":{"bytes":[0-9]*,"consumed":\([0-9]*\),"drops":{[^}]*},"forwarded":[0-9]*,"forwarded_bytes":[0-9]*,"frames":\([0-9]*\).*/\2 - \1/' | {
        read -r difference
        echo $((difference))
    }
}
judged_at_least() { [ "$(judged)" -ge "$1" ]; }

case=setup
for module in $(cat /modules); do /sbin/modprobe $module; done
ip link set lo up
ip netns add linux
ip netns add cvsw
ip link add eth0 netns linux address 02:00:00:01:00:01 mtu 9000 type veth \
    peer name eth0 netns cvsw address 02:00:00:01:00:02 mtu 9000
for ns in linux cvsw; do
    ip -n $ns link set lo up
    in_$ns sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true
    ip -n $ns link set eth0 up
done
in_linux ethtool -K eth0 tso off gso off tx off >/dev/null
ip -n linux addr add 192.0.2.1/24 dev eth0
ip -n linux neigh add 192.0.2.2 lladdr 02:00:00:01:00:02 dev eth0
ip -n linux link add vxlan0 address 02:00:00:00:01:01 mtu 8900 type vxlan id 42 remote 192.0.2.2 dstport 4789 dev eth0
ip -n linux addr add 10.0.0.1/24 dev vxlan0
dd if=/dev/urandom of=/tmp/data bs=1M count=10 2>/dev/null

# Gives Linux the keys of case $1.
xfrm_on() {
    ip -n linux xfrm state flush
    ip -n linux xfrm policy flush
    flags=$(cat /cases/$1/flags)
    for way in "192.0.2.1 192.0.2.2 0x1001 out" "192.0.2.2 192.0.2.1 0x1002 in"; do
        set -- "$1" $way
        eval "ip -n linux xfrm state add src $2 dst $3 proto esp spi $4 reqid 1 mode transport $flags \
            $(cat /cases/$1/algorithm.$5)"
        ip -n linux xfrm policy add dir $5 src $2 dst $3 proto udp dport 4789 \
            tmpl src $2 dst $3 proto esp reqid 1 mode transport
    done
}
# Starts the port with the keys in file $1, and the VM behind it with an MTU of $2.
port_on() {
    chmod 600 $1
    rm -f $1.state
    # Or the line of the one before would be found.
    : > /tmp/port.log
    cvsw port --host tap:vm0,netns=cvsw --net af_packet:eth0,netns=cvsw --mac 02:00:00:00:01:02 \
        --flows /flows --sa $1 --stats-socket /tmp/port.sock > /tmp/port.log 2>&1 &
    port=$!
    await grep -q ready /tmp/port.log
    ip -n cvsw link set vm0 address 02:00:00:00:01:02 mtu $2 up
}
port_off() {
    echo "@ $case stats $(stats | tr -d '\n')"
    kill $port
    wait $port || { echo "@ $case port_failed $?"; cat /tmp/port.log; exit 1; }
}
capture_on() {
    : > /tmp/tcpdump.log
    # Not by `in_cvsw`: the process to be ended would be a shell, and tcpdump would go on.
    timeout 150 /sbin/ip netns exec cvsw tcpdump -Z root --immediate-mode -U -w "$1" -i eth0 2>/tmp/tcpdump.log &
    tcpdump=$!
    await grep -q listening /tmp/tcpdump.log
}
capture_off() {
    kill $tcpdump
    wait $tcpdump || true
}
count() { tcpdump -Z root -nr "$@" 2>/dev/null | wc -l; }
# Moves the file from namespace $1, whose address is $3, into namespace $2.
mkfifo /tmp/never
transfer() {
    rm -f /tmp/received
    in_$1 nc -l -p 5000 -e cat /tmp/data &
    server=$!
    await in_$1 sh -c 'netstat -ltn | grep -q :5000'
    # An input that ends would end the connection.
    in_$2 nc $3 5000 <> /tmp/never > /tmp/received || {
        echo "@ $case transfer_failed with $? after $(stat -c %s /tmp/received) bytes"
        for ns in linux cvsw; do
            in_$ns cat /proc/net/xfrm_stat /proc/net/snmp /proc/net/netstat
            in_$ns netstat -tn
            ip -n $ns -s link
        done
        cvsw stats /tmp/port.sock
        df /tmp
        ls -l /tmp
        free
        poweroff -f
    }
    wait $server || true
    cmp /tmp/data /tmp/received && echo "@ $case tcp_to_$2 identical"
}

# Packets that must be dropped: Linux seals one while nobody opens it; it is then changed and sent again.

# The byte at $2 of file $1, and its replacement by $3.
byte() { od -A n -t u1 -j $2 -N 1 $1; }
put() { printf "\\$(printf %o $3)" | dd of=$1 bs=1 seek=$2 conv=notrunc 2>/dev/null; }
# A copy $1 of the packet with another bit at $2.
flip() {
    cp /tmp/good.pcap $1
    put $1 $2 $(($(byte $1 $2) ^ 1))
}
# A packet sealed with the keys of case $1, and changed ones, as captures.
packets() {
    xfrm_on $1
    capture_on /tmp/wire.pcap
    ip -n linux link set vxlan0 up
    in_linux ping -c 1 -W 1 10.0.0.2 >/dev/null || true
    # Linux asks again and again who that is; from now on the wire is quiet.
    ip -n linux link set vxlan0 down
    capture_off
    tcpdump -Z root -r /tmp/wire.pcap -w /tmp/good.pcap -c 1 'ip proto 50' 2>/dev/null
    frame=$((24 + 16))
    size=$(stat -c %s /tmp/good.pcap)
    flip /tmp/flip-text.pcap $((frame + 14 + 20 + 16 + 11))
    flip /tmp/flip-icv.pcap $((size - 1))
    flip /tmp/flip-sequence.pcap $((frame + 14 + 20 + 4))
    flip /tmp/flip-spi.pcap $((frame + 14 + 20))
    # The last 20 bytes are missing, and the capture says so.
    length=$((size - frame - 20))
    head -c $((size - 20)) /tmp/good.pcap > /tmp/short.pcap
    for at in 32 36; do
        put /tmp/short.pcap $at $((length & 255))
        put /tmp/short.pcap $((at + 1)) $((length >> 8))
    done
    # The IPv4 header says so, too: a length less by 20 is a checksum more by 20, in ones' complement.
    cp /tmp/short.pcap /tmp/cut.pcap
    ip_header=$((frame + 14))
    length=$((length - 14))
    put /tmp/cut.pcap $((ip_header + 2)) $((length >> 8))
    put /tmp/cut.pcap $((ip_header + 3)) $((length & 255))
    sum=$(($(byte /tmp/cut.pcap $((ip_header + 10))) * 256 + $(byte /tmp/cut.pcap $((ip_header + 11))) + 20))
    sum=$(((sum & 65535) + (sum >> 16)))
    put /tmp/cut.pcap $((ip_header + 10)) $((sum >> 8))
    put /tmp/cut.pcap $((ip_header + 11)) $((sum & 255))
}
# Sends a capture from the other end of the wire, as if Linux had.
inject() {
    case=$hostile.$1
    before=$(judged)
    cvsw port --host pcap:read=$2 --net af_packet:eth0,netns=linux --mac 02:00:00:00:09:09 > /tmp/inject.log 2>&1 &
    injector=$!
    await judged_at_least $((before + 1))
    kill $injector
    wait $injector
    echo "@ $case stats $(stats | tr -d '\n')"
}
# The VM has no address yet: it answers nobody, whose answer would come as one frame more.
for hostile in $(cat /hostile); do
    case=$hostile.packets
    packets $hostile
    port_on /cases/$hostile/wrong-keys.toml 1400
    inject wrong_key /tmp/good.pcap
    case=$hostile.wrong_key_end; port_off
    port_on /cases/$hostile/keys.toml 1400
    inject flip_text /tmp/flip-text.pcap
    inject flip_icv /tmp/flip-icv.pcap
    inject flip_sequence /tmp/flip-sequence.pcap
    inject flip_spi /tmp/flip-spi.pcap
    inject short /tmp/short.pcap
    inject cut /tmp/cut.pcap
    inject good /tmp/good.pcap
    inject replayed /tmp/good.pcap
    case=$hostile.end; port_off
done
for case in $(cat /order); do
    in_linux sh -c 'grep -v " 0\$\|\t0\$" /proc/net/xfrm_stat' > /tmp/before || true
    xfrm_on $case
    mtu=$(cat /cases/$case/mtu)
    ip -n linux link set vxlan0 mtu $mtu up
    port_on /cases/$case/keys.toml $mtu
    ip -n cvsw addr add 10.0.0.2/24 dev vm0
    capture_on /tmp/wire.pcap
    echo "@ $case ping_from_linux $(in_linux ping -c 5 -i 0.2 -W 5 10.0.0.2 | grep received)"
    echo "@ $case ping_from_cvsw $(in_cvsw ping -c 5 -i 0.2 -W 5 10.0.0.1 | grep received)"
    capture_off
    echo "@ $case esp_out $(count /tmp/wire.pcap 'src 192.0.2.1 and ip proto 50 and ip[20:4] = 0x1001')"
    echo "@ $case esp_in $(count /tmp/wire.pcap 'src 192.0.2.2 and ip proto 50 and ip[20:4] = 0x1002')"
    echo "@ $case in_clear $(count /tmp/wire.pcap 'udp or icmp')"
    transfer linux cvsw 10.0.0.1
    transfer cvsw linux 10.0.0.2
    in_linux sh -c 'grep -v " 0\$\|\t0\$" /proc/net/xfrm_stat' > /tmp/after || true
    echo "@ $case xfrm_errors $(cmp /tmp/before /tmp/after && echo none || tr -s '\n\t ' ' ' < /tmp/after)"
    port_off
done

case=end
echo "@ end done yes"
poweroff -f
