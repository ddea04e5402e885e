"""Looking into a volume from the dashboard: when it can be done, what is asked first, and what is said of it."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest
from textual.widgets import Button

from initiator.errors import MooringError, OutcomeUnknownError, RefusedError
from initiator.host.run import Finished
from initiator.model import BlockNode, DiskState, Snapshot
from tests.tui import samples
from tests.tui.fakes import dashboard
from tests.until import until
from tui.actions import BY_ID, Context, around, why_not
from tui.looking import told
from tui.orders import look
from tui.policy import Policy
from tui.screens.order import OrderScreen
from tui.views.view import row
from tui.world import Item, Kind, World

LOOK = BY_ID["look"]
FOLDER = "/run/mooring/look/data"


class FakeLooker:
    """Mounts whatever it is told to, if nothing forbids it."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.failure: MooringError | None = None

    def look(self, name: str) -> str:
        self.given.append(name)
        if self.failure is not None:
            raise self.failure
        return f"It is mounted read-only at {FOLDER}."


def reason(item: Item, kind: Kind, seen: Snapshot | None = None, **changes: object) -> str:
    base = Context(row(kind, item), "", stale=False, paused=False, age_s=0.5)
    context = around(base, World(seen) if seen else None, probes=None)
    return why_not(LOOK, dataclasses.replace(context, **changes))  # type: ignore[arg-type]


def unmounted() -> Snapshot:
    """The practice range, with its disks attached and nothing mounted."""
    return dataclasses.replace(samples.practice(), volumes=())


def test_it_can_be_looked_into_where_a_disk_is_attached_and_not_mounted() -> None:
    seen = samples.practice()
    disk = next(each for each in seen.disks if each.dev is not None)
    here = next(each for each in seen.volumes if each.dev == disk.dev)
    assert reason(disk, Kind.DISK, unmounted()) == ""
    assert reason(disk, Kind.DISK, seen) == f"It is mounted already: look into {here.mountpoint}."
    assert reason(here, Kind.VOLUME) == f"It is mounted already: look into {here.mountpoint}."
    assert "Move the cursor to a disk" in reason(seen.paths[0], Kind.PATH)
    assert "not attached" in reason(dataclasses.replace(disk, state=DiskState.AVAILABLE), Kind.DISK)
    assert "being removed" in reason(dataclasses.replace(disk, state=DiskState.OFFLINE), Kind.DISK)
    assert "would hang" in reason(dataclasses.replace(disk, state=DiskState.NO_PATH), Kind.DISK)
    assert "but a tape" in reason(dataclasses.replace(disk, kind="tape"), Kind.DISK)
    forbidden = Policy({"mount": "Ask the storage team."})
    assert "storage team" in reason(disk, Kind.DISK, unmounted(), policy=forbidden)
    assert reason(disk, Kind.DISK, unmounted(), read_only="This is a replay.") == "This is a replay."


def test_each_device_that_can_carry_a_file_system_has_a_button() -> None:
    seen = unmounted()
    disk = next(each for each in seen.disks if each.dev is not None)
    assert disk.dev is not None
    names = [f"loop0p{number}" for number in range(1, 7)]
    whole = BlockNode("loop0", disk.dev, "loop", 1, False, partitions=tuple(names))
    parts = [BlockNode(name, f"259:{number}", "part", 1, False, parent="loop0") for number, name in enumerate(names)]
    looker = FakeLooker()
    (only,) = look(disk, dataclasses.replace(seen, block=(dataclasses.replace(whole, partitions=()),)), looker).choices
    order = look(disk, dataclasses.replace(seen, block=(whole, *parts)), looker)
    assert [each.label for each in order.choices] == names[:4]
    assert "Not on a button: /dev/loop0p5, /dev/loop0p6" in order.about[-1]
    assert FOLDER in only.run() + order.choices[1].run()
    assert (only.label, looker.given) == ("Look", ["/dev/loop0", "/dev/loop0p2"])


async def test_a_disk_is_looked_into_by_keyboard_and_the_folder_is_told(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, unmounted(), view="disks") as bench:
        looker = FakeLooker()
        bench.app.backends = dataclasses.replace(bench.app.backends, looker=looker)
        await until(lambda: bench.app.main.table.at_cursor is not None)
        disk = next(each for each in unmounted().disks if each.dev is not None)
        bench.app.main.table.cursor = disk.id
        await bench.pilot.press("v")
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        await bench.listen()
        await until(lambda: "Nothing is written to the disk" in bench.flow())
        assert bench.app.screen.query_one("#cancel", Button).has_focus
        assert looker.given == []
        await bench.pilot.press("right", "enter")
        await until(lambda: f"mounted read-only at {FOLDER}" in bench.flow())
        assert looker.given == [disk.id]


async def test_a_refusal_is_told_with_the_way_out(tmp_path: pathlib.Path) -> None:
    async with dashboard(tmp_path, unmounted(), view="disks") as bench:
        looker = FakeLooker()
        looker.failure = RefusedError("/dev/loop0 carries no file system but swap.", fix="swapoff")
        bench.app.backends = dataclasses.replace(bench.app.backends, looker=looker)
        await until(lambda: bench.app.main.table.at_cursor is not None)
        bench.app.main.table.cursor = next(each for each in unmounted().disks if each.dev is not None).id
        await bench.pilot.press("v")
        await until(lambda: isinstance(bench.app.screen, OrderScreen))
        await bench.listen()
        await bench.pilot.press("right", "enter")
        await until(lambda: "no file system but swap" in bench.flow() and "swapoff" in bench.flow())


def test_what_the_command_says_is_told() -> None:
    def end(code: int, out: object = None, err: str = "") -> Finished:
        return Finished(code, json.dumps(out) if out else "", err, 0.1)

    assert f"at {FOLDER}. " in told(end(0, {"folder": FOLDER}))
    findings = [{"text": "It is mounted already.", "fix": "look there"}, {"text": "Swap is on.", "fix": "swapoff"}]
    with pytest.raises(RefusedError, match=r"^It is mounted already. Swap is on.$") as refused:
        told(end(3, {"findings": findings}))
    assert refused.value.fix == "look there"
    with pytest.raises(OutcomeUnknownError, match=r"^look did not come back$") as unknown:
        told(end(6, err="mooring: look did not come back\n  -> look whether it is mounted\n"))
    assert unknown.value.fix == "look whether it is mounted"
    with pytest.raises(MooringError, match="ended with 1"):
        told(end(1))
