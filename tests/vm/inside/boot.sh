# SPDX-License-Identifier: Apache-2.0
# Runs in the guest: says what it has, for tests/vm/test_short_boot.py.
echo "kernel $(uname -r)"
echo "user $(id -u)"
echo "folder $PWD"
echo "given $YOLK_GIVEN"
for device in /sys/class/infiniband/*; do
    echo "rdma ${device##*/} $(cat "$device/ports/1/state")"
done
echo "nodes $(cat /sys/devices/system/node/possible) processors $(cat /sys/devices/system/node/has_cpu)"
echo "slow $(grep -o 'MemTotal: *[0-9]*' /sys/devices/system/node/node1/meminfo | grep -o '[0-9]*$')"
echo "drive $(cat /sys/block/nvme0n1/size)"
echo "written here" >"$YOLK_FILE" && echo "file $(cat "$YOLK_FILE")"
wait=${0%/inside/*}/wait-for
ibv_rc_pingpong -d rxe0a -g 1 -n 50 >/tmp/server &
server=$!
sent() { cat /sys/class/infiniband/rxe0a/ports/1/hw_counters/sent_pkts; }
before=$(sent)
sh "$wait" 60 ibv_rc_pingpong -d rxe0b -g 1 -n 50 127.0.0.1 && wait "$server" && echo "pingpong packets $(($(sent) - before))"
sh "$wait" 1 false || echo "wait-for gives up"
echo "to standard error" >&2
exit 3
