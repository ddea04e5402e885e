"""What is not written because this host has it attached, may have it attached, or does not know."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from initiator import inventory, places
from initiator.errors import RefusedError
from initiator.host import attributes
from initiator.model import BlockNode, Disk, Map, MapState, Problem, Snapshot, Source
from tests.host.kerneltree import KernelTree, naa
from tests.safety import scenes
from tui.exits import Exit, exit_for
from tui.inuse import refuse_by_identity, refuse_by_place, refuse_unknown

OTHER = "naa.5000000000000002"
ENGINES = (places.OF_ROOT,)


def refused(error: pytest.ExceptionInfo[RefusedError]) -> str:
    """What it says, and that there is a way out and the exit code of a guard."""
    assert exit_for(error.value) is Exit.REFUSED
    assert error.value.fix
    return str(error.value)


@pytest.mark.parametrize("source", ["iscsi", "kernel", "block", "engine"])
def test_a_reader_that_failed_is_no_answer(source: str) -> None:
    seen = scenes.snapshot(problems=(Problem("sizes", "/mnt", "slow"), Problem(source, "somewhere", "may not be read")))
    with pytest.raises(RefusedError, match="not known: somewhere: may not be read") as error:
        refuse_unknown(seen, ENGINES)
    refused(error)
    refuse_unknown(scenes.snapshot(problems=seen.problems[:1]), ENGINES)


def test_a_device_of_an_engine_that_does_not_tell_us_may_be_anything() -> None:
    """That of root for another user, or one whose engine was killed while its workers serve on."""
    seen = scenes.snapshot()
    refuse_unknown(seen, ENGINES)
    silent = dataclasses.replace(seen, disks=(), engine="not running")
    with pytest.raises(RefusedError, match="attached as /dev/loop3 is not known") as error:
        refuse_unknown(silent, ENGINES)
    refused(error)
    refuse_unknown(silent, (Path("/run/elsewhere"),))
    mine = BlockNode("loop4", "7:4", "loop", scenes.SIZE, False, backing_file="/srv/disks/image")
    refuse_unknown(dataclasses.replace(silent, block=(mine,)), ENGINES)


def test_a_lun_is_known_by_the_name_of_its_target_however_it_is_written() -> None:
    seen = scenes.snapshot()
    for name in (scenes.TARGET, scenes.TARGET.upper()):
        with pytest.raises(RefusedError, match="LUN 0 is attached here as /dev/loop3") as error:
            refuse_by_place(seen, name, 0)
        refused(error)
    refuse_by_place(seen, scenes.TARGET, 1)
    refuse_by_place(seen, scenes.TARGET + "x", 0)
    shouting = tuple(dataclasses.replace(each, target="IQN.not-a_name") for each in seen.sessions)
    odd = dataclasses.replace(seen, sessions=shouting, disks=(scenes.disk(target="IQN.not-a_name"),))
    with pytest.raises(RefusedError):
        refuse_by_place(odd, "iqn.not-a_name", 0)


def test_a_disk_of_two_targets_is_known_by_either() -> None:
    """The kernel joins the paths of one unit; it has then neither one target nor one LUN."""
    second = scenes.session(2, target="iqn.2026-11.example:twin")
    paths = (scenes.path(1), scenes.path(2, lun=7))
    seen = scenes.snapshot(
        sessions=(scenes.session(1), second), paths=paths, disks=(scenes.disk(target=None, lun=None),)
    )
    for name, lun in ((scenes.TARGET, 0), (second.target, 7)):
        with pytest.raises(RefusedError):
            refuse_by_place(seen, name, lun)
    refuse_by_place(seen, scenes.TARGET, 7)


def test_luns_are_compared_as_people_count_them() -> None:
    """The kernel calls LUN 300 of a target with flat addressing 16684."""
    seen = scenes.snapshot(disks=(scenes.disk(lun=0x4000 | 300),), paths=())
    with pytest.raises(RefusedError):
        refuse_by_place(seen, scenes.TARGET, 300)


def test_what_has_no_device_here_is_free() -> None:
    free, used = scenes.snapshot(disks=(scenes.disk(device=None),)), scenes.snapshot()
    refuse_by_place(free, scenes.TARGET, 0)
    refuse_by_identity(free, (scenes.WWID,), scenes.SIZE)
    with pytest.raises(RefusedError):
        refuse_by_place(used, scenes.TARGET, 0)
    with pytest.raises(RefusedError):
        refuse_by_identity(used, (scenes.WWID,), scenes.SIZE)


def on_host(**changes: object) -> Snapshot:
    disk: Disk = dataclasses.replace(scenes.disk(), **changes)  # type: ignore[arg-type]
    return scenes.snapshot(disks=(disk,))


def test_a_unit_is_known_by_any_of_its_identities() -> None:
    for seen in (
        on_host(),
        on_host(wwid=OTHER, designators=(OTHER, scenes.WWID)),
        on_host(wwid=scenes.WWID, designators=()),
    ):
        with pytest.raises(RefusedError, match="attached here as /dev/loop3, by another way") as error:
            refuse_by_identity(seen, ("eui.1", scenes.WWID), scenes.SIZE)
        refused(error)
    refuse_by_identity(on_host(), (OTHER,), scenes.SIZE)


def test_a_map_whose_paths_are_gone_still_has_a_name() -> None:
    bare = on_host(wwid=None, designators=(), size_bytes=scenes.SIZE)
    wwid = "3" + scenes.WWID.removeprefix("naa.")
    left = Map("kernel:m:1", "mpatha", MapState.NO_PATH, Source.KERNEL, wwid, "/dev/mapper/mpatha", scenes.DISK)
    with pytest.raises(RefusedError, match="by another way"):
        refuse_by_identity(dataclasses.replace(bare, maps=(left,)), (scenes.WWID,), None)


def test_two_that_nothing_tells_apart_may_be_one() -> None:
    t10 = "t10.ATA     what the kernel wrote"
    for seen, names in (
        (on_host(), ()),
        (on_host(wwid=None, designators=()), (OTHER,)),
        (on_host(wwid=t10, designators=()), (OTHER,)),
        (on_host(wwid=None, designators=(), size_bytes=None), (OTHER,)),
    ):
        with pytest.raises(RefusedError, match="may be what is attached here") as error:
            refuse_by_identity(seen, names, scenes.SIZE)
        refused(error)
    refuse_by_identity(on_host(wwid=None, designators=()), (OTHER,), 2 * scenes.SIZE)


def test_sessions_of_the_kernel_that_may_not_be_listed_are_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = KernelTree(tmp_path / "host")
    tree.session(7, target=scenes.TARGET)
    tree.lun(7, 0, kname="sda", digits=naa(5))
    with pytest.raises(RefusedError, match="/dev/sda"):
        refuse_by_place(inventory.read(tree.root), scenes.TARGET, 0)
    refuse_unknown(inventory.read(tree.root), ENGINES)

    def closed(listed: Callable[[str], object]) -> Callable[[str], object]:
        def look(folder: str) -> object:
            if "iscsi_session" in folder:
                raise PermissionError(13, "Permission denied", folder)
            return listed(folder)

        return look

    monkeypatch.setattr(attributes, "entries", closed(attributes.entries))
    monkeypatch.setattr(os, "listdir", closed(os.listdir))
    with pytest.raises(RefusedError, match="may not be read"):
        refuse_unknown(inventory.read(tree.root), ENGINES)
