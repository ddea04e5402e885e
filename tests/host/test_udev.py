"""Kernel events."""

from __future__ import annotations

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
