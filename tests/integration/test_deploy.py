# SPDX-License-Identifier: Apache-2.0
"""deploy/: what can be said of it without running it. Units, compose file and manifests are what their readers take,
name options, variables, paths and packages that there are, and fit together. No container and no service is started.
"""
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from harness import BUILD, clean_env, program, yolkd

yaml = pytest.importorskip("yaml", reason="python3-yaml is missing")

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SMALL = "64M"  # in place of what the files give to a real host


# ---- what the files say -----------------------------------------------------------------------


def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def objects():
    return [o for path in MANIFESTS for o in yaml.safe_load_all(path.read_text())]


def pods():
    """Name, object, pod and container of each workload."""
    found = [(o["metadata"]["name"], o, o["spec"]["template"]["spec"]) for o in objects() if "template" in o["spec"]]
    return [(name, o, pod, container) for name, o, pod in found for container in pod["containers"]]


def commands():
    """Name, image, arguments and environment of all that the files start."""
    found = [(name, s["image"], s["command"], s.get("environment", {})) for name, s in services().items()]
    found += [(name, c["image"].split()[0], c["args"], {e["name"]: e for e in c.get("env", [])}) for name, _, _, c in pods()]
    return found


def of_image(image):
    return [pytest.param(args, env, id=name) for name, used, args, env in commands() if used == image]


def expand(args, env, values):
    """As Kubernetes does: $(NAME) of what the container's env names."""
    def value(match):
        assert match[1] in env, f"$({match[1]}) is no variable of the container"
        return values[match[1]]

    return [re.sub(r"\$\((\w+)\)", value, arg) for arg in args]


# ---- yolkd's and etcd's options ------------------------------------------------------------------


def here(args, place):
    """The same options for this machine: small, and in the test's folders."""
    moved = {"--dram": SMALL, "--state-dir": place.dir}
    args = [f"{option}={moved.get(option, value)}" for option, _, value in (arg.partition("=") for arg in args)]
    args = [arg.removesuffix("=") for arg in args]  # of an option without a value
    return [arg.replace("/run/yolk/", f"{place.dir}/") for arg in args] + ["--shm-dir", place.shm]


@pytest.mark.parametrize("args, env", of_image("yolk"))
def test_yolkd_takes_the_options_of_a_container(place, args, env):
    args = here(expand(args, env, {"HOST": "h1", "HOST_IP": "127.0.0.1"}), place)
    variables = {k: v for k, v in env.items() if isinstance(v, str)}
    done = yolkd("--check-config", *args, env=variables)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    for name, value in variables.items():  # an unknown one is not found out otherwise
        assert name.startswith("YOLK_") and f"{name[5:].lower().replace('_', '-')} = {value}" in said, name


@pytest.mark.parametrize("args, env", of_image("yolk-etcd"))
def test_etcd_has_the_options_of_a_container(args, env):
    if shutil.which("etcd") is None:
        pytest.skip("etcd is missing (etcd-server)")
    done = subprocess.run(["etcd", "--help"], capture_output=True, text=True)
    there = set(re.findall(r"^\s+(--[a-z0-9-]+)", done.stdout + done.stderr, re.M))
    expand(args, env, {"POD": "yolk-etcd-0"})
    assert {arg.partition("=")[0] for arg in args} <= there


def test_the_sample_configuration_names_options_that_there_are(place):
    sample, path = (DEPLOY / "yolkd.conf").read_text(), place.dir / "yolkd.conf"
    options = re.findall(r"^#([a-z-]+) = (.*)$", sample, re.M)
    assert len(options) > 15
    known = set(re.findall(r"^ [ -].{4}--([a-z-]+)", yolkd("--help").stdout, re.M))
    assert {name for name, _ in options} <= known
    path.write_text(sample)  # as it is, all of it is commented out
    done = yolkd("--check-config", "--config", path, "--dram", SMALL, "--http", "none", "--shm-dir", place.shm, "--listen",
                 f"unix:{place.dir}/s")
    assert done.returncode == 0, done.stderr


# ---- what the files are to each other -----------------------------------------------------------


def test_images_are_those_of_the_dockerfile():
    text = (DEPLOY / "Dockerfile").read_text()
    built = set(re.findall(r"docker build .*-t (\S+)", text))
    assert {image for _, image, _, _ in commands()} == built
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.M))
    for service in services().values():
        assert service["build"].get("target", "build") in stages
        assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    for source in re.findall(r"^COPY --from=(\S+)", text, re.M):
        assert source in stages


def test_the_compose_file_fits_together():
    text = yaml.safe_load(COMPOSE.read_text())
    names = set(text["services"])
    for name, service in text["services"].items():
        assert set(service.get("depends_on", {})) <= names
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(text["volumes"])
        for host in re.findall(r"--etcd=http://([^:]+):", " ".join(service["command"])):
            assert host in names
        advertised = service.get("environment", {}).get("YOLK_ADVERTISE")
        assert advertised in (None, name) and service.get("hostname", name) == name


def test_the_manifests_fit_together():
    headless = {o["metadata"]["name"] for o in objects() if o["kind"] == "Service" and o["spec"]["clusterIP"] == "None"}
    for name, o, pod, container in pods():
        spec = o["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        volumes = {v["name"] for v in pod.get("volumes", [])}
        volumes |= {v["metadata"]["name"] for v in spec.get("volumeClaimTemplates", [])}
        assert {m["name"] for m in container["volumeMounts"]} == volumes, name
        if o["kind"] == "StatefulSet":
            assert spec["serviceName"] in headless
    members = {f"{name}-{i}.{o['spec']['serviceName']}" for name, o, _, _ in pods() if o["kind"] == "StatefulSet"
               for i in range(o["spec"]["replicas"])}
    said = " ".join(arg for _, _, args, _ in commands() for arg in args if arg.startswith(("--etcd=", "--initial-cluster=")))
    assert {m for m in re.findall(r"http://([^:,]+):", said) if "." in m} == members
    for o in objects():
        if o["kind"] == "Service":
            assert any(o["spec"]["selector"].items() <= w["spec"]["template"]["metadata"]["labels"].items() for _, w, _, _ in pods())


def test_probes_are_answered(make_node):
    """Those of the DaemonSet, by a node; and its scrape port is that of --http."""
    (_, o, _, container), = [p for p in pods() if p[0] == "yolk"]
    probes = [container[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    port, = re.findall(r"--http=\S+:(\d+)$", "\n".join(container["args"]), re.M)
    annotations = o["spec"]["template"]["metadata"]["annotations"]
    assert {str(p["port"]) for p in probes} == {annotations["prometheus.io/port"]} == {port}
    node = make_node("--http", "127.0.0.1:0").start()
    address = re.search(r"http (127\.0\.0\.1:\d+)", node.log()).group(1)
    for path in {p["path"] for p in probes} | {"/metrics"}:
        assert urllib.request.urlopen(f"http://{address}{path}", timeout=10).status == 200


def test_the_image_has_the_libraries_that_the_programs_need():
    debian = Path("/etc/debian_version")
    if not debian.exists() or not debian.read_text().startswith("12.") or not all(map(shutil.which, ("dpkg-query", "readelf"))):
        pytest.skip("the image is Debian 12's, and this is another system")
    last = (DEPLOY / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    installed = set(re.search(r"apt-get install -y --no-install-recommends ([^&\\]+)", last)[1].split())
    needed = set()
    libraries = [path for path in (*BUILD.glob("lib/*.so"), *BUILD.glob("src/*/*.so")) if path.exists()]
    for path in [program("yolkd"), program("yolk"), *libraries]:
        linked = subprocess.run(["readelf", "--dynamic", path], capture_output=True, text=True, check=True).stdout
        direct = re.findall(r"\(NEEDED\).*\[(.*)\]", linked)
        resolved = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        needed |= {m[2] for m in re.finditer(r"(\S+) => (/\S+)", resolved) if m[1] in direct and not m[1].startswith("libyolk")}
    owners = set()
    for path in needed:
        for form in (path, "/usr" + path, str(Path(path).resolve())):  # /lib is a link to /usr/lib
            done = subprocess.run(["dpkg-query", "--search", form], capture_output=True, text=True)
            if done.returncode == 0:
                owners.add(done.stdout.split(":")[0])
                break
        else:
            pytest.skip(f"{path} is of no package")
    owners = {owner for owner in owners if not re.fullmatch(r"libc6|libgcc-s1|lib(a|t|ub)san\d", owner)}  # there already; of tests
    assert owners and owners <= installed


# ---- systemd ----------------------------------------------------------------------------------------


@pytest.fixture
def units(place):
    """The units, with the program that is tested; and the line that it starts with."""
    service = (DEPLOY / "yolkd.service.in").read_text().replace("@bindir@/yolkd", program("yolkd"))
    paths = [place.dir / "yolkd.service", place.dir / "yolkd.socket"]
    paths[0].write_text(service)
    shutil.copy(DEPLOY / "yolkd.socket", paths[1])
    return paths


def verify(paths):
    """What systemd has to say of these units, not of those of this machine."""
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *map(str, paths)], capture_output=True, text=True,
                          env=clean_env())
    return [line for line in done.stderr.splitlines() if "yolkd" in line], done.returncode


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is missing")


@needs_systemd
def test_systemd_takes_the_units(units):
    said, code = verify(units)
    assert not said and code == 0, said
    for path in units:  # that it would be said
        path.write_text(path.read_text().replace("\n[Install]", "\nNoSuchSetting=1\n[Install]"))
    said, _ = verify(units)
    assert len([line for line in said if "NoSuchSetting" in line]) == 2, said


def test_the_service_starts_yolkd_with_options_that_it_has(units, place):
    line, = re.findall(r"^ExecStart=(.*)$", units[0].read_text(), re.M)
    path, *args = line.split()
    assert path == program("yolkd")
    if Path("/etc/yolk/yolkd.conf").exists():
        pytest.skip("this machine has a configuration of its own")
    done = yolkd("--check-config", *args, "--dram", SMALL, "--shm-dir", place.shm)
    assert done.returncode == 0, done.stderr


def test_the_user_of_the_units_is_made():
    users = set(re.findall(r"^u (\S+)", (DEPLOY / "yolkd.sysusers").read_text(), re.M))
    text = (DEPLOY / "yolkd.service.in").read_text() + (DEPLOY / "yolkd.socket").read_text()
    assert set(re.findall(r"^(?:User|Group|SocketUser|SocketGroup)=(.*)$", text, re.M)) == users
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd is missing")
    done = subprocess.run(["systemd-sysusers", "--dry-run", str(DEPLOY / "yolkd.sysusers")], capture_output=True, text=True)
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd is older than --dry-run")
    assert done.returncode == 0, done.stderr
