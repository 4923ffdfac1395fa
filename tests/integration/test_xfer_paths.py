# SPDX-License-Identifier: Apache-2.0
"""Ways that are not what they seem: peers that vanished, addresses that lead nowhere or elsewhere, containers that look
like this host, and no port to come from. Every byte is checked.
"""
import json
import os
import shutil
import subprocess

import pytest

from harness import DEADLINE_S, clean_env, program, wait_for
from xfer_hosts import PORT, Host, rail, wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces needs root"),
    pytest.mark.skipif(any(shutil.which(p) is None for p in ("ip", "tc", "nsenter", "unshare", "mount")),
                       reason="ip, tc, nsenter, unshare or mount is not installed"),
]

ELIMIT, ETIMEDOUT, EGONE = -25, -5, -17
URGENT, DEMAND, BACKGROUND = 0, 1, 3
SILENT = "no answer to a connection", "connecting took too long"  # whoever looks first
LONG_S = 3 * DEADLINE_S


# ---- half-open connections ------------------------------------------------------------------------------------

def descriptors(driver):
    return len(os.listdir(f"/proc/{driver.process.pid}/fd"))


def test_half_open_connections(place):
    """Ends that vanish without a FIN or RST: over another rail everything goes on; without one, requests end at their
    deadline; a server lets go of the dead connections, idle or in the middle of an answer; and who was idle meanwhile,
    or failed, goes on when the way is back."""
    one, two = Host(place), Host(place)
    for number in 0, 1:
        rail(one, two, number)
    target = one.serve(seed=1)
    unused = descriptors(target)
    askers = flowing, idle, doomed = [two.ask() for _ in range(3)]
    for asker in askers:
        assert asker.open(f"10.78.0.1:{PORT}/m") == 0
        assert asker.read(0, seed=1, size=8 << 20) == "ok"
    assert one.connections() >= 6

    flowing.flow(0, seed=1, ms=5000)
    for host in one, two:
        host.silence("r1")
    assert flowing.is_flowing(), "the rail went silent too late to be missed"
    ended, failed, wrong, text = flowing.flowed()
    assert ended > 32 and (failed, wrong) == (0, 0), text

    doomed.flow(0, seed=1, ms=600000)
    for host in one, two:
        host.silence("r0")
    doomed.kill()
    said = flowing.read(0, seed=1, timeout_ms=1000).split(" ", 2)
    assert said[0] == "failed" and int(said[1]) == ETIMEDOUT, said
    wait_for(lambda: one.connections() == 0, "the server's end of the connections", LONG_S)
    wait_for(lambda: descriptors(target) <= unused, "the server's end of their sockets", LONG_S)

    for host in one, two:
        for device in "r0", "r1":
            host.speak(device)
    for asker in idle, flowing:
        assert asker.read(0, seed=1) == "ok"
        asker.end()
    target.end()


def test_a_peer_that_vanished_ends_what_waits_for_it(place):
    """Its only way is silent and it is gone: each request ends at its own deadline, and a new one says so at once when
    the host is back without it."""
    one, two = Host(place), Host(place)
    rail(one, two, 0)
    target = one.serve(seed=1)
    asker = two.ask()
    assert asker.open(f"10.78.0.1:{PORT}/m") == 0 and asker.read(0, seed=1) == "ok"
    # What is under way now fails no earlier than the flow would have ended: nothing is asked after it.
    asker.flow(0, seed=1, ms=5000, timeout_ms=5000)
    one.silence("r0")
    target.kill()
    assert asker.is_flowing(), "it vanished too late to be missed"
    ended, failed, wrong, text = asker.flowed()
    assert failed == 32 and wrong == 0 and text.startswith(f"{ETIMEDOUT} "), (ended, text)
    said = asker.say("open", f"10.78.0.1:{PORT}/m", 500).split(" ", 2)
    assert said[0] == "failed" and int(said[1]) == ETIMEDOUT and f"10.78.0.1:{PORT}" in said[2], said
    one.speak("r0")
    said = asker.say("open", f"10.78.0.1:{PORT}/m", 20000).split(" ", 2)
    assert said[0] == "failed" and int(said[1]) == EGONE and "refused" in said[2], said
    one.serve(seed=2)
    assert asker.read(0, seed=1).startswith(f"failed {EGONE} "), "it is another engine"
    assert asker.read(asker.open(f"10.78.0.1:{PORT}/m"), seed=2) == "ok"


def test_a_restart_of_which_one_address_says_nothing(place):
    """A peer of this host that also tells an address which leads nowhere from here is restarted: a request to what it was
    says so at once, not at its deadline."""
    one = Host(place)
    one.address("lo", "10.78.0.1/32")
    told = f"10.78.0.1:{PORT},203.0.113.9:{PORT}"
    target, asker = one.serve(seed=1, advertise=told), one.ask()
    assert asker.open(f"10.78.0.1:{PORT}/m") == 0 and asker.read(0, seed=1) == "ok"
    target.kill()
    target = one.serve(seed=2, advertise=told)
    said = asker.read(0, seed=1)
    assert said.startswith(f"failed {EGONE} "), said
    assert asker.read(asker.open(f"10.78.0.1:{PORT}/m"), seed=2) == "ok"
    for driver in asker, target:
        driver.end()


# ---- several networks -----------------------------------------------------------------------------------------

def several_networks(place):
    """A target of which one address in four can be reached, and it is told as the last one: over device `dark` what is
    sent is gone without a word, over `else` another host has the address, and to `nowhere` there is no route."""
    one, two, three = Host(place), Host(place), Host(place)
    for device, net in ("dark", 1), ("else", 2):
        wire(one, three, device, f"{device}1")
        wire(two, three, device, f"{device}2")
        for number, host in enumerate((one, two), 1):
            host.address(device, f"10.78.{net}.{number}/24")
        three.run("ip", "link", "set", f"{device}1", "up")
        three.run("ip", "link", "set", f"{device}2", "up")
    three.address("else2", "10.78.2.1/24")
    two.run("ip", "neigh", "add", "10.78.1.1", "lladdr", "02:00:00:00:00:01", "dev", "dark", "nud", "permanent")
    wire(one, three, "nowhere")
    one.address("nowhere", "10.99.0.1/24")
    three.run("ip", "link", "set", "nowhere", "up")
    rail(one, two, 0)
    return one, two, three


def test_addresses_that_cannot_be_reached(place):
    """A host in several networks, of which its peer shares one: nothing fails, what is small goes without waiting for
    the dead ones' time, the rails that lead nowhere carry nothing, and why is said."""
    one, two, three = several_networks(place)
    target = one.serve(seed=1)
    # A connection may take longer than a request here: who waits for the first rail fails.
    asker = two.ask(connect_ms=60000)
    assert asker.open(f"10.78.0.1:{PORT}/m") == 0
    for xclass in URGENT, DEMAND, BACKGROUND:
        assert asker.read(0, seed=1, size=4096, xclass=xclass, timeout_ms=30000) == "ok"
    asker.end()

    asker = two.ask()
    assert asker.open(",".join(f"10.78.{net}.1:{PORT}" for net in (1, 2, 0)) + "/m", 9000) == 0
    asker.flow(0, seed=1, ms=3000)
    ended, failed, wrong, text = asker.flowed()
    assert ended > 32 and (failed, wrong) == (0, 0), text
    rails = asker.rails()
    assert set(rails) == {("tcp", f"10.78.{net}.1") for net in (0, 1, 2)}, "none without a route"
    good, dark, other = (rails["tcp", f"10.78.{net}.1"] for net in (0, 1, 2))
    assert good["state"] == "ok" and good["last_failure"] is None and good["bytes"] == ended * (256 << 10)
    for bad, why in (dark, SILENT), (other, ("Connection refused",)):
        assert bad["state"] != "ok" and bad["bytes"] == 0 and any(text in bad["last_failure"] for text in why), bad

    # Another engine at one of the addresses is not taken for it.
    stranger = three.serve(seed=2)
    asker.flow(0, seed=1, ms=3000)
    ended, failed, wrong, text = asker.flowed()
    assert ended > 32 and (failed, wrong) == (0, 0), text
    other = asker.rails()["tcp", "10.78.2.1"]
    assert other["bytes"] == 0 and "another incarnation" in other["last_failure"]
    assert asker.write(0, seed=3) == "ok" and asker.read(0, seed=3) == "ok"
    assert asker.read(asker.open(f"10.78.2.1:{PORT}/m"), seed=2) == "ok"
    for driver in asker, stranger, target:
        driver.end()


def test_links_says_why_a_rail_is_left_out(place):
    one, two, _ = several_networks(place)
    target = one.serve(seed=1)
    lines = two.run(program("yolk"), "xfer", "links", f"10.78.0.1:{PORT}/m").splitlines()

    def behind(net):
        row = next(i for i, line in enumerate(lines) if f" 10.78.{net}.1:{PORT} " in line)
        return lines[row], lines[row + 1].strip()

    row, _ = behind(0)
    assert " ok " in row and "iB" in row
    for net, why in (1, SILENT), (2, ("Connection refused",)):
        row, reason = behind(net)
        assert " 0 B " in row and reason.startswith("last failure: "), (row, reason)
        assert any(text in reason for text in why), reason
    assert not any("10.99.0.1" in line for line in lines)
    target.end()


# ---- containers -----------------------------------------------------------------------------------------------

def test_containers_are_not_one_host(place):
    """Two containers of one kernel, whose engines say the same of their host, have the same process number, the same
    descriptor and the same port, and an address that both have; where the other's socket should be, there is one's own.
    Each gets the other's bytes, over the network, and its own container's out of shared memory."""
    hosts = one, two = Host(place, isolated=True), Host(place, isolated=True)
    rail(one, two, 0)
    for host in hosts:
        host.run("ip", "addr", "add", "172.30.0.1/32", "dev", "lo")
    targets = [host.serve(seed=seed, shm_dir=place.shm) for seed, host in enumerate(hosts)]
    sockets = [next(name for name in os.listdir(host.file(place.shm)) if name.startswith("yolk-xfer-")) for host in hosts]
    for mine, other, host in (0, 1, one), (1, 0, two):
        os.symlink(sockets[mine], host.file(place.shm / sockets[other]))
        asker = host.ask(shm_dir=place.shm)
        far = asker.open(f"10.78.0.{other + 1}:{PORT}/m")
        near = asker.open(f"10.78.0.{mine + 1}:{PORT}/m")
        for xclass in URGENT, DEMAND:
            for size in 4096, 8 << 20:
                assert asker.read(far, seed=other, size=size, xclass=xclass) == "ok"
                assert asker.read(near, seed=mine, size=size, xclass=xclass) == "ok"
        rails = asker.rails(f"10.78.0.{other + 1}")
        assert ("shm", "shm") not in rails and rails["tcp", f"10.78.0.{other + 1}"]["bytes"] >= 16 << 20
        for stranger in ("tcp", "172.30.0.1"), ("unix", "unix"):
            assert "another incarnation" in rails[stranger]["last_failure"] and rails[stranger]["bytes"] == 0
        own = json.loads(asker.say("links"))
        own = [rail for shard in own["shards"] for peer in shard["peers"] for rail in peer["rails"]]
        assert sum(rail["bytes"] for rail in own if rail["transport"] == "shm") >= 16 << 20, "of the own container"
        assert asker.write(far, seed=7 + mine, offset=8 << 20) == "ok"
        assert asker.read(far, seed=7 + mine, offset=8 << 20) == "ok"
        asker.end()
    for mine, other, host in (0, 1, one), (1, 0, two):
        asker = host.ask()
        segment = asker.open(f"10.78.0.{mine + 1}:{PORT}/m")
        assert asker.read(segment, seed=7 + other, offset=8 << 20) == "ok", "what the other has written is here"
        assert asker.read(segment, seed=mine, size=8 << 20) == "ok", "and only that"
        asker.end()
    for target in targets:
        target.end()


def test_network_namespaces_alone_share_memory(place):
    """Processes that see each other copy by themselves, whatever networks they are in."""
    one, two = Host(place), Host(place)
    rail(one, two, 0)
    target = one.serve(seed=1, shm_dir=place.dir)
    asker = two.ask(shm_dir=place.dir)
    assert asker.open(f"10.78.0.1:{PORT}/m") == 0 and asker.read(0, seed=1, size=8 << 20) == "ok"
    rails = asker.rails()
    assert rails["shm", "shm"]["bytes"] == 8 << 20 and rails["tcp", "10.78.0.1"]["bytes"] == 0
    for driver in asker, target:
        driver.end()


# ---- local ports ----------------------------------------------------------------------------------------------

HOLD = """
import socket, sys
held = []
for port in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
    held.append(socket.socket())
    try:
        held[-1].bind(("0.0.0.0", port))
    except OSError:
        pass
print("held", flush=True)
sys.stdin.read()
"""


def test_no_local_port_is_free(place):
    """An initiator whose ports are all taken: what has lanes goes on over those, what has none says what is lacking, and
    works when there are ports again."""
    one, two = Host(place), Host(place)
    rail(one, two, 0)
    targets = [one.serve(seed=seed, listen=f"0.0.0.0:{PORT + seed}") for seed in range(2)]
    first, last = 40000, 40015
    two.run("sh", "-c", f"echo {first} {last} > /proc/sys/net/ipv4/ip_local_port_range")
    asker, late = two.ask(), two.ask()
    for driver in asker, late:
        assert driver.open(f"10.78.0.1:{PORT}/m") == 0
    assert asker.read(0, seed=0, xclass=URGENT) == "ok"  # one lane of two

    holder = place.spawn([*two.enter, "/usr/bin/env", "python3", "-c", HOLD, first, last], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, env=clean_env())
    assert holder.stdout.readline() == "held\n"
    for xclass in URGENT, DEMAND, BACKGROUND:
        assert asker.read(0, seed=0, xclass=xclass) == "ok"
    asker.flow(0, seed=0, ms=500)
    ended, failed, wrong, text = asker.flowed()
    assert ended > 0 and (failed, wrong) == (0, 0), text
    for said, wanted in ((asker.say("open", f"10.78.0.1:{PORT}/m", 20000), ELIMIT),
                         (asker.say("open", f"10.78.0.1:{PORT + 1}/m", 20000), ELIMIT),
                         (late.say("probe", f"10.78.0.1:{PORT}", 20000), ELIMIT),
                         (late.read(0, seed=0, timeout_ms=1000), ETIMEDOUT)):
        word, code, text = said.split(" ", 2)
        assert word == "failed" and int(code) == wanted, said
        assert "no local port is free (net.ipv4.ip_local_port_range)" in text
    assert "no local port is free" in asker.rails()["tcp", "10.78.0.1"]["last_failure"], "of its second lane"
    assert asker.read(0, seed=0) == "ok"

    holder.communicate("", DEADLINE_S)
    for driver in asker, late:
        assert driver.read(0, seed=0) == "ok"
        for seed in range(2):
            assert driver.read(driver.open(f"10.78.0.1:{PORT + seed}/m"), seed=seed) == "ok"
    for driver in asker, late, *targets:
        driver.end()


def test_opening_keeps_no_ports(place):
    """Many more questions than there are ports, one after the other: none is kept by a connection that has ended."""
    one, two = Host(place), Host(place)
    rail(one, two, 0)
    targets = [one.serve(seed=seed, listen=f"0.0.0.0:{PORT + seed}") for seed in range(6)]
    two.run("sh", "-c", "echo 40000 40015 > /proc/sys/net/ipv4/ip_local_port_range")
    asker = two.ask()
    for _ in range(100):
        assert asker.say("probe", f"10.78.0.1:{PORT}", 20000) == "ok"
    for seed in range(6):
        segment = asker.open(f"10.78.0.1:{PORT + seed}/m")
        assert asker.read(segment, seed=seed) == "ok" and asker.read(segment, seed=seed, xclass=URGENT) == "ok"
    for driver in asker, *targets:
        driver.end()


def test_a_name_one_of_whose_addresses_is_of_no_use_here(place):
    """That nobody listens at one of a name's addresses is what is said, not that this host has no address to come from to
    the other, which is tried last."""
    one = Host(place, isolated=True)
    with open(one.file("/tmp/hosts"), "w", encoding="ascii") as hosts:
        hosts.write("127.0.0.1 twofold\n::1 twofold\n")
    subprocess.run([*one.enter, "mount", "--bind", "/tmp/hosts", "/etc/hosts"], check=True, timeout=DEADLINE_S)
    one.run("sh", "-c", "[ ! -d /proc/sys/net/ipv6 ] || echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
    asker = one.ask()
    for said in asker.say("open", f"twofold:{PORT}/m", 20000), asker.say("probe", f"twofold:{PORT}", 20000):
        word, code, text = said.split(" ", 2)
        assert word == "failed" and int(code) == EGONE and "refused" in text, said
    asker.end()
