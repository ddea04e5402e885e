"""Kernel events."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from initiator.host.udev import Watch
from tests.host.conftest import need_root


@pytest.mark.root
@pytest.mark.parametrize(
    ("trigger", "subsystem"), [("/sys/class/net/lo/uevent", "net"), ("/sys/block/loop0/uevent", "block")]
)
def test_a_change_in_the_kernel_calls_back(trigger: str, subsystem: str) -> None:
    need_root()
    if not Path(trigger).exists():
        pytest.skip(f"needs {trigger}")
    seen: set[str] = set()
    called = threading.Event()

    def changed(subsystems: frozenset[str]) -> None:
        seen.update(subsystems)
        if subsystem in subsystems:
            called.set()

    with Watch(changed):
        Path(trigger).write_text("change")
        assert called.wait(10), f"nothing came but {seen}"


def test_it_stops_cleanly_and_twice() -> None:
    before = threading.active_count()
    watch = Watch(lambda _: None)
    assert threading.active_count() == before + 1
    watch.close()
    watch.close()
    assert threading.active_count() == before


@pytest.mark.root
def test_the_callback_may_close_it() -> None:
    need_root()
    closed, started = threading.Event(), threading.Event()

    def changed(_: frozenset[str]) -> None:
        assert started.wait(10)
        watch.close()
        closed.set()

    watch = Watch(changed)
    started.set()
    Path("/sys/class/net/lo/uevent").write_text("change")
    assert closed.wait(10)
    watch.close()


@pytest.mark.root
def test_a_cable_that_is_pulled_calls_back() -> None:
    """A carrier that goes makes no device event. In a network namespace of its own, in a process of its own."""
    need_root()
    script = (
        "import subprocess, threading\n"
        "from initiator.host.udev import Watch\n"
        "def ip(*words): subprocess.run(['ip', *words], check=True)\n"
        "ip('link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far')\n"
        "ip('link', 'set', 'near', 'up')\n"
        "ip('link', 'set', 'far', 'up')\n"
        "called = threading.Event()\n"
        "with Watch(lambda seen: called.set() if seen == {'net'} else None):\n"
        "    ip('link', 'set', 'far', 'down')\n"
        "    assert called.wait(10)\n"
        "print('told')\n"
    )
    done = subprocess.run(["unshare", "--net", sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("told\n", "")
