"""The picture of how a disk is wired, as text."""

from __future__ import annotations

import dataclasses

import pytest

from initiator.model import BlockNode, Snapshot, Swap
from tests.tui import samples
from tui.layout import width_of
from tui.wiring import wiring
from tui.words import ASCII, UNICODE, Glyphs
from tui.world import World


def picture(snapshot: Snapshot, name: str = "data", width: int = 100, glyphs: Glyphs = UNICODE) -> list[str]:
    world = World(snapshot)
    disk = next(disk for disk in snapshot.disks if disk.name.startswith(name))
    lines = wiring(disk, world, width, glyphs)
    assert all(width_of(line) <= width for line in lines)
    return ["".join(piece.text for piece in line) for line in lines]


def node(kname: str, kind: str, *, on: tuple[str, ...] = (), under: tuple[str, ...] = (), name: str = "") -> BlockNode:
    number = sum(map(ord, kname))
    return BlockNode(kname, f"253:{number}", kind, 64 << 20, False, holders=under, slaves=on, dm_name=name or None)


def stacked() -> Snapshot:
    """`data` carries a swap and a volume group, in it a LUKS container with a file system, and half of an md array."""
    base = samples.practice(pulled=samples.PORTALS[1])
    loop = dataclasses.replace(node("loop0", "loop", under=("dm-0", "md0")), dev="7:0")
    volume = node("dm-0", "lvm", on=("loop0",), under=("dm-1",), name="vg-ledger")
    secret = node("dm-1", "crypt", on=("dm-0",), name="ledger")
    array = node("md0", "md", on=("loop0", "sdz"))
    mounted = dataclasses.replace(base.volumes[0], dev=secret.dev, device="/dev/mapper/ledger")
    swap = Swap("/dev/loop0", "partition", 0, "7:0")
    return dataclasses.replace(
        base, block=(loop, volume, secret, array), volumes=(mounted, base.volumes[1]), swaps=(swap,)
    )


def test_a_plain_disk_with_a_dead_path() -> None:
    lines = picture(samples.practice(pulled=samples.PORTALS[1]))
    assert "volume  ✓ /run/mooring/practice/data  ext4 · 12% used" in lines[1]
    assert "disk  ▲ degraded  data  256 MiB · /dev/loop0 · 1 of 2 paths work" in lines[4]
    assert lines[2].index("┬") == lines[3].index("┴"), "the boxes are joined"
    assert lines[5].index("┬") == lines[6].index("│") == lines[7].index("├") == lines[8].index("└")
    assert "✓ 184 µs" in lines[7]
    assert "✗ failed path" in lines[8]
    assert "127.0.0.2:3260" in lines[8]


def test_the_layers_stand_on_each_other() -> None:
    text = "\n".join(picture(stacked(), width=120))
    order = [text.index(word) for word in ("volume  ✓", "LUKS  ledger", "LV  vg-ledger", "disk  ▲", "path ")]
    assert order == sorted(order)
    assert "swap  /dev/loop0" in text
    assert "md array  md0" in text
    assert "also on sdz" in text, "an array that reaches another disk says so"


def test_a_map_of_the_kernel_is_called_so() -> None:
    base = samples.practice()
    maps = (dataclasses.replace(base.maps[0], name="mpatha"), *base.maps[1:])
    assert any("map mpatha" in line for line in picture(dataclasses.replace(base, maps=maps)))


def test_a_disk_without_paths_says_so() -> None:
    base = samples.practice()
    assert picture(dataclasses.replace(base, paths=()))[-1] == "no path leads to it"


def test_more_than_fits_is_counted() -> None:
    base = samples.practice()
    volumes = tuple(dataclasses.replace(base.volumes[0], id=f"v{n}", mountpoint=f"/srv/{n}") for n in range(20))
    disk = dataclasses.replace(base.disks[0], volumes=tuple(volume.id for volume in volumes))
    many = dataclasses.replace(base, volumes=volumes, disks=(disk,))
    text = "\n".join(picture(many, width=80))
    assert "17 more" in text


@pytest.mark.parametrize("width", [30, 58, 78, 118, 200])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_it_fits_any_width(width: int, glyphs: Glyphs) -> None:
    for snapshot in (stacked(), samples.practice(), samples.kernel()):
        lines = picture(snapshot, width=width, glyphs=glyphs)
        if glyphs is ASCII:
            assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("evil", samples.EVIL)
def test_hostile_names_stay_inside(evil: str) -> None:
    base = samples.hostile(evil)
    loop = dataclasses.replace(node("loop0", "loop", under=("dm-0",)), dev=base.disks[0].dev or "")
    upper = dataclasses.replace(node("dm-0", "lvm", on=("loop0", evil)), dm_name=evil, kind=evil)
    name = base.disks[0].name
    for line in picture(dataclasses.replace(base, block=(loop, upper)), name, width=78):
        assert line.isprintable(), line


def test_a_loop_of_holders_ends() -> None:
    base = samples.practice()
    one = dataclasses.replace(node("loop0", "loop", under=("dm-0",)), dev="7:0")
    two = node("dm-0", "dm", on=("loop0",), under=("loop0",))
    assert picture(dataclasses.replace(base, block=(one, two)))
