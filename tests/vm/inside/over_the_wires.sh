# SPDX-License-Identifier: Apache-2.0
#
# siw goes by TCP, and TCP between two addresses of one host over loopback, where no link can be cut: these rules lead what
# is sent from one end of a wire to the other over that wire. A link that was down has lost its routes, so this is done
# again before each test. Prints how many bytes the first wire has carried to its second end.
way() { # from, to, device, table
    ip rule del pref "$4" 2>/dev/null
    ip rule add pref "$4" iif lo from "$1" to "$2" lookup "$4"
    ip route replace "$2" dev "$3" table "$4"
}
n=0
while [ -e "/sys/class/net/n${n}a" ]; do
    way "10.99.$n.1" "10.99.$n.2" "n${n}a" $((100 + 2 * n))
    way "10.99.$n.2" "10.99.$n.1" "n${n}b" $((101 + 2 * n))
    n=$((n + 1))
done
if ip rule | grep -q '^0:'; then
    ip rule add pref 200 lookup local
    ip rule del pref 0
fi
echo "n0b has received $(cat /sys/class/net/n0b/statistics/rx_bytes)"
