# SPDX-License-Identifier: Apache-2.0
"""What programs that are built already count on: sizes of public structs, and symbols of libyolk (tests/abi).

A struct may grow where both sides say its size; one that never changes is told apart by name. Whoever changes the
lists says with that how: a new line is a new struct or function, a larger number a struct that may grow.
"""
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("YOLK_BUILD", ROOT / "build/gcc"))
HEADERS = ["yolk.h", "transfer.h", "route.h"]
HOW = {"passed", "filled", "fixed"}  # begins with its size; is told its size where it is filled; never changes


def rows(name):
    lines = (ROOT / "tests/abi" / name).read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def text_of(header):
    return re.sub(r"/\*.*?\*/", "", (ROOT / "include/yolk" / header).read_text(), flags=re.S)


def public_structs():
    return [name for header in HEADERS for name in re.findall(r"^\} (yk_\w+);", text_of(header), flags=re.M)]


def sizes(structs, folder):
    program = "".join(f"#include <yolk/{header}>\n" for header in HEADERS) + "#include <stdio.h>\nint main(void) {\n"
    program += "".join(f'    printf("{name} %zu\\n", sizeof({name}));\n' for name in structs) + "    return 0;\n}\n"
    (folder / "sizes.c").write_text(program)
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, "-I", ROOT / "include", "-o", folder / "sizes", folder / "sizes.c"], check=True, timeout=120)
    lines = subprocess.run([folder / "sizes"], stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    return {name: int(size) for name, size in (line.split() for line in lines.splitlines())}


def test_every_public_struct_is_listed_with_how_it_may_change():
    listed = {name: how for name, how, _ in rows("structs.txt")}
    assert set(listed.values()) <= HOW
    assert sorted(listed) == sorted(public_structs()), "tests/abi/structs.txt lists the structs of include/yolk, all of them"
    for name, how in listed.items():
        body = next(m for header in HEADERS
                    for m in re.findall(r"typedef struct " + name + r" \{(.*?)^\}", text_of(header), flags=re.S | re.M))
        first = body.split(";")[0].strip()
        assert how != "passed" or first == "uint32_t size", f"{name} is passed, and does not begin with its size"


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="sizes are those of 64-bit machines")
def test_structs_have_the_sizes_that_programs_were_built_with(tmp_path):
    wrong = []
    listed = rows("structs.txt")
    now = sizes([name for name, _, _ in listed], tmp_path)
    for name, how, size in listed:
        if now[name] == int(size):
            continue
        what = f"{name} has {now[name]} bytes, programs were built with {size}"
        if how == "fixed":
            what += ": it never changes, as nothing says its size; give what is new another name"
        elif now[name] < int(size):
            what += ": nothing may be taken away"
        else:
            what += (": if what is new stands at its end, write the new size into tests/abi/structs.txt, and see that "
                     "tests/unit/client (client_sized) has it")
        wrong.append(what)
    assert not wrong, "\n".join(wrong)


def test_no_symbol_has_gone():
    library = next((p for p in (BUILD / "src/client/libyolk.so", BUILD / "lib/libyolk.so") if p.exists()), None)
    if library is None:
        pytest.skip(f"libyolk.so is not built in {BUILD}")
    text = subprocess.run(["nm", "-D", "--defined-only", library], stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    there = {line.split()[-1].split("@")[0] for line in text.splitlines() if " T " in line}
    soname = subprocess.run(["readelf", "-d", library], stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    wanted = {row[0] for row in rows("symbols.txt")}
    assert "[libyolk.so.1]" in soname, "another SONAME: begin tests/abi/symbols.txt anew"
    assert not wanted - there, "programs call these: take them back, or raise the SONAME"
    assert not there - wanted, "new functions: write them into tests/abi/symbols.txt"
