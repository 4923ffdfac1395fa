# SPDX-License-Identifier: Apache-2.0
#
# A node and its client over RDMA. Usage: sh rdma_node.sh BIN: where yolkd and yolk are.
#
# Prints the rails that the engine has to a segment of `yolk xfer serve`, and how many packets devices have received
# while a block went to the node and came back.
set -eu
bin=$1
wait_for="$(dirname "$0")/../wait-for"
export YOLK_URL=tcp:10.99.0.2:7700 YOLK_TIMEOUT=120s

packets() {
    cat /sys/class/infiniband/*/ports/1/hw_counters/rcvd_pkts | awk '{ n += $1 } END { print n }'
}

"$bin/yolk" xfer serve --listen 0.0.0.0:7711 --advertise 10.99.0.2:7711,10.99.1.2:7711 --insecure-network --size 16M \
    --no-shm --transports rdma,tcp >/tmp/serve 2>&1 &
serve=$!
sh "$wait_for" 60 grep -q 7711 /tmp/serve
"$bin/yolk" xfer links 10.99.0.2:7711/bench --no-shm --transports rdma,tcp --json >/tmp/links
python3 - <<'END'
import json
for shard in json.load(open("/tmp/links"))["shards"]:
    for peer in shard["peers"]:
        for rail in peer["rails"]:
            print("link", rail["transport"], rail["local"], rail["remote"])
END
kill "$serve"
wait "$serve" || true

"$bin/yolkd" --dram 64M --listen tcp:10.99.0.2:7700 --transfer 10.99.0.2:7702 --insecure-network --transports rdma,tcp \
    --http none --state-dir /tmp/node >/tmp/yolkd.log 2>&1 &
node=$!
sh "$wait_for" 60 "$bin/yolk" stat --node || { cat /tmp/yolkd.log; exit 1; }
head -c 8388608 /dev/urandom >/tmp/block
before=$(packets)
"$bin/yolk" --no-map --transports rdma,tcp put block /tmp/block
"$bin/yolk" --no-map --transports rdma,tcp get block >/tmp/again
cmp /tmp/block /tmp/again
echo "packets $(($(packets) - before))"
kill "$node"
wait "$node"
