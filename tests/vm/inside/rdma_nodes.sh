# SPDX-License-Identifier: Apache-2.0
#
# The programs over RDMA. Usage: sh rdma_nodes.sh BIN: where yolkd and yolk are.
#
# Prints the rails that the engine has to a segment of `yolk xfer serve` with the bytes that they moved, the same with
# settings (--rdma) and the traffic class that its packets have then, and how many packets devices have received while a
# block went from one node of a cluster to another.
set -eu
bin=$1
wait_for="$(dirname "$0")/../wait-for"
export YOLK_TIMEOUT=60s

packets() {
    cat /sys/class/infiniband/*/ports/1/hw_counters/rcvd_pkts | awk '{ n += $1 } END { print n }'
}

"$bin/yolk" xfer serve --listen 0.0.0.0:7711 --advertise 10.99.0.2:7711,10.99.1.2:7711 --insecure-network --size 16M \
    --no-shm --transports rdma,tcp >/tmp/serve 2>&1 &
serve=$!
sh "$wait_for" 60 grep -q 7711 /tmp/serve
links() { # what to call them, further arguments
    name=$1 tries=0
    shift
    # An emulated guest may take longer to answer than it has.
    until "$bin/yolk" xfer links 10.99.0.2:7711/bench --no-shm --transports rdma,tcp --json "$@" >/tmp/links; do
        tries=$((tries + 1))
        [ "$tries" -lt 20 ]
    done
    python3 - "$name" <<'END'
import json, sys
for shard in json.load(open("/tmp/links"))["shards"]:
    for peer in shard["peers"]:
        for rail in peer["rails"]:
            print(sys.argv[1], rail["transport"], rail["local"] or "-", rail["remote"], rail["bytes"])
END
}
links link

# A device by its name, and the class that its packets have on the wire. It may take several tries until the device moves
# what links moves: see below.
python3 - <<'END' &
import socket
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
wire.bind(("n1b", 0x0800))
wire.settimeout(200)
while True:
    packet = wire.recv(9000)
    ports = packet[(packet[0] & 15) * 4:][:4]
    if packet[9] == socket.IPPROTO_UDP and packet[12:16] == bytes([10, 99, 1, 1]) and ports[2:] == (4791).to_bytes(2, "big"):
        print("traffic class", packet[1], flush=True)
        break
END
wire=$!
n=0
while kill -0 "$wire" 2>/dev/null && [ "$n" -lt 10 ]; do
    n=$((n + 1))
    links "try-$n" --rdma device=rxe1a:1,traffic-class=96,service-level=3,depth=16
done
wait "$wire"
links chosen --rdma device=rxe1a:1,traffic-class=96,service-level=3,depth=16 | grep '^chosen rdma'
if "$bin/yolk" xfer links 10.99.0.2:7711/bench --no-shm --transports rdma,tcp --rdma device=rxe9; then exit 1; fi
kill "$serve"
wait "$serve" || true

# Two nodes of a cluster, with their engines at the two ends of wire 0.
etcd --data-dir /tmp/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 >/tmp/etcd.log 2>&1 &
node() { # number, address of its engine
    exec "$bin/yolkd" --etcd http://127.0.0.1:2379 --node-name "n$1" --name "n$1" --dram 64M --http none \
        --listen "unix:/tmp/n$1.sock" --peer-listen "127.0.0.1:770$1" --transfer "$2:771$1" --insecure-network \
        --transports rdma,tcp --state-dir "/tmp/n$1" >"/tmp/n$1.log" 2>&1
}
node 1 10.99.0.1 &
one=$!
node 2 10.99.0.2 &
two=$!
trap 'tail -n 20 /tmp/n1.log /tmp/n2.log' EXIT
sh "$wait_for" 200 sh -c "'$bin/yolk' --url unix:/tmp/n1.sock nodes | grep -c member | grep -q 2"
# An emulated guest may take longer to set a device up than a connection has: then that block comes over TCP, and the
# next is tried.
n=0 moved=0
while [ "$moved" -lt 2048 ] && [ "$n" -lt 20 ]; do
    n=$((n + 1))
    head -c 8388608 /dev/urandom >/tmp/block
    "$bin/yolk" --url unix:/tmp/n1.sock put "block-$n" /tmp/block
    before=$(packets)
    "$bin/yolk" --url unix:/tmp/n2.sock get "block-$n" >/tmp/again
    cmp /tmp/block /tmp/again
    moved=$(($(packets) - before))
    echo "block $n: packets $moved"
done
trap - EXIT
kill "$one" "$two"
wait "$one" "$two"
