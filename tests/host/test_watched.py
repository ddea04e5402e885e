"""Attributes that stay open between readings, on the kernel's own files."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from initiator.host.watched import MOST, Descriptors, Watch
from tests.descriptors import opened
from tests.host.conftest import need_root

IN_A_NAMESPACE = """
import subprocess, sys
from pathlib import Path
from initiator.host.attributes import read_raw
from initiator.host.watched import Watch

def ip(*words):
    subprocess.run(["ip", *words], check=True)

ip("link", "add", "one", "type", "veth", "peer", "name", "two")
place = "/sys/class/net/one"
names = ("mtu", "carrier", "ifalias")  # carrier is EINVAL while the interface is down, ifalias empty
watch = Watch()
watch.follow("one", place, names, read_raw(place, names))
print("same", sorted(watch.changed()), sorted(watch.changed()))
ip("link", "set", "one", "mtu", "1400")
print("mtu", sorted(watch.changed()), sorted(watch.changed()))
ip("link", "set", "one", "up")
print("carrier", sorted(watch.changed()), sorted(watch.changed()))
ip("link", "del", "one")
ip("link", "add", "one", "type", "veth", "peer", "name", "two")
ip("link", "set", "one", "mtu", "1300")
seen = [sorted(watch.changed()) for _ in range(3)]
print("recreated", seen)
ip("link", "set", "one", "mtu", "1200")
print("followed on", sorted(watch.changed()))
watch.close()
"""


@pytest.mark.root
def test_an_open_attribute_shows_changes_and_the_end_of_its_object() -> None:
    need_root("unshare", "ip")
    words = ["unshare", "--net", "--mount", "sh", "-c", 'mount -t sysfs none /sys && exec "$@"', "sh"]
    script = [sys.executable, "-c", IN_A_NAMESPACE]
    done = subprocess.run([*words, *script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "same [] []",
        "mtu ['one'] []",
        "carrier ['one'] []",
        "recreated [['one'], ['one'], []]",  # gone, and there again
        "followed on ['one']",
    ]


def test_an_attribute_that_comes_later_is_seen(tmp_path: Path) -> None:
    watch = Watch()
    watch.follow("it", str(tmp_path), ("state",), {})
    assert watch.changed() == set()
    (tmp_path / "state").write_text("running\n")
    assert (watch.changed(), watch.changed()) == ({"it"}, set())


def test_what_is_forgotten_is_closed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("x\n")
    descriptors = Descriptors(5)
    watch = Watch(descriptors)
    for name in ("one", "two"):
        watch.follow(name, str(tmp_path), (name,), {name: b"x\n"})
    assert watch.changed() == set()
    assert (descriptors.left, opened(tmp_path)) == (3, [f"{tmp_path}/one", f"{tmp_path}/two"])
    watch.forget({"one"})
    (tmp_path / "one").write_text("y\n")
    assert watch.changed() == set()
    assert descriptors.left == 4
    watch.close()
    assert (descriptors.left, opened(tmp_path)) == (5, [])


def test_the_limit_leaves_room_for_others() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = Descriptors().left
    assert 0 < left <= MOST
    assert soft == resource.RLIM_INFINITY or left < soft


def test_the_limit_is_raised_as_far_as_allowed() -> None:
    script = (
        "import resource\n"
        "from initiator.host.watched import Descriptors, raise_limit\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))\n"
        "few = Descriptors().left\n"
        "raise_limit(1000)\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(1000, hard), hard)\n"
        "print(few, Descriptors().left)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    few, many = map(int, done.stdout.split())
    assert few == 192
    assert many == 750
