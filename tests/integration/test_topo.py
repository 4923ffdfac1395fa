# SPDX-License-Identifier: Apache-2.0
"""yolk topo: what it prints of a tree that looks like sysfs, as a table and as JSON, and how it fails."""
import json

import pytest

from harness import one_line, yolk


@pytest.fixture
def tree(tmp_path):
    """Two sockets of one network device each, and a GPU beside the second."""
    def write(path, text):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def pci(path, **files):
        for name, text in files.items():
            write(f"sys/devices/{path}/{name}", text)
        (tmp_path / "sys/bus/pci/devices").mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/bus/pci/devices" / path.split("/")[-1]).symlink_to(tmp_path / "sys/devices" / path)

    (tmp_path / "sys/class/net").mkdir(parents=True)
    for node in 0, 1:
        base = f"sys/devices/system/node/node{node}"
        write(f"{base}/cpulist", f"{node * 8}-{node * 8 + 7}")
        write(f"{base}/meminfo", f"Node {node} MemTotal:  {8 << 20} kB")
        write(f"{base}/distance", "10 21" if node == 0 else "21 10")
        path = f"pci0000:{node}0/0000:{node}0:01.0/0000:{node}1:00.0"
        pci(path, **{"class": "0x020000"}, vendor="0x15b3", device="0x1021", numa_node=str(node))
        net = f"{path}/net/eth{node}"
        for name, text in {"type": "1", "operstate": "up", "speed": "100000", "ifindex": "2"}.items():
            write(f"sys/devices/{net}/{name}", text)
        (tmp_path / f"sys/class/net/eth{node}").symlink_to(tmp_path / "sys/devices" / net)
    pci("pci0000:10/0000:10:02.0", **{"class": "0x030200"}, vendor="0x10de", device="0x2330", numa_node="1")
    return tmp_path


def test_table(tree):
    done = yolk("topo", "--root", str(tree))
    assert done.returncode == 0 and done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["0", "cpu:0", "8", "GiB", "0-7", "10", "21"] in lines
    assert ["eth1", "0000:11:00.0", "1", "100", "Gbit/s", "up", "-", "-"] in lines
    assert ["cuda:0", "0000:10:02.0", "1", "NVIDIA"] in lines
    assert ["cuda:0", "far", "root"] in lines
    assert ["cuda:0", "eth1", "|", "eth0"] in lines


def test_json_and_the_file_that_it_can_become(tree):
    found = json.loads(yolk("topo", "--json", "--root", str(tree)).stdout)
    assert found["locations"] == {"cpu:0": [["eth0"], ["eth1"]], "cpu:1": [["eth1"], ["eth0"]],
                                  "cuda:0": [["eth1"], ["eth0"]]}
    assert [nic["mbit"] for nic in found["nics"]] == [100000, 100000]
    assert found["distances"]["cuda:0"] == {"eth0": "far", "eth1": "root"}
    changed = dict(found["locations"], **{"cuda:0": [["eth0"], []]})
    (tree / "file").write_text(json.dumps(changed))
    again = json.loads(yolk("topo", "--json", "--root", str(tree), "--file", str(tree / "file")).stdout)
    assert again["locations"] == changed


def test_this_host():
    found = json.loads(yolk("topo", "--json").stdout)
    assert found["nodes"][0]["memory_bytes"] > 0 and "cpu:0" in found["locations"]
    assert yolk("topo").stdout.startswith("NODE")


def test_wrong_file(tree):
    (tree / "file").write_text('{"devices":\n {"eth7": {}}}')
    line = one_line(yolk("topo", "--root", str(tree), "--file", str(tree / "file")), 2)
    assert f"{tree}/file:2: found 'eth7', which is no device of this host" in line
    assert "cannot read '/nonexistent'" in one_line(yolk("topo", "--file", "/nonexistent"), 1)
    assert "is no directory" in one_line(yolk("topo", "--root", "/nonexistent"), 1)
