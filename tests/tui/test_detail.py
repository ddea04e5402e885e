from __future__ import annotations

import dataclasses

import pytest
from rich.cells import cell_len

from initiator.model import Snapshot
from tests.tui import samples
from tui import detail, rowtext
from tui.store import Store
from tui.words import ASCII, UNICODE, Glyphs


def page_of(key: str, snapshot: Snapshot | None = None, width: int = 60, glyphs: Glyphs = UNICODE) -> list[str]:
    store = Store()
    store.apply(snapshot or samples.practice(), (), 0.0)
    store.open_all(True)
    row = store.row(key)
    assert row is not None, key
    assert store.world is not None
    page = detail.Page(store.world, store.samples, glyphs, width, samples.NOW)
    return ["".join(piece.text for piece in line) for line in detail.lines(row, page)]


KEYS = (
    f"target:{samples.IQN}:harbour",
    f"sessions:{samples.IQN}:harbour",
    "engine:s:data-127.0.0.1",
    "engine:d:data",
    "engine:d:data/volume:0",
    "engine:p:data-127.0.0.2",
    "links",
    "link:eth0",
)


def test_a_disk_tells_who_it_is_its_paths_its_volume_and_its_map() -> None:
    text = "\n".join(page_of("engine:d:data"))
    for expected in (
        "naa.6d0011c0ffee00000000000000000000",
        "iqn.2026-11.io.mooring.practice:harbour",
        "256 MiB · 268,435,456 bytes · 512-byte blocks",
        "/dev/loop0 · 7:0",
        "write cache on · everything flushed",
        "Paths 2 of 2 work",
        "TCP round trip 62 µs",
        "/run/mooring/practice/data",
        "12% used of 240 MiB",
        "Map",
        "2 of 2 work",
    ):
        assert expected in text


def test_a_failed_path_tells_why_and_since_when() -> None:
    text = "\n".join(page_of("engine:p:data-127.0.0.2", samples.practice(pulled=samples.PORTALS[1])))
    assert "no answer for 1.2 s" in text
    assert "11:06:28, 12 s" in text
    assert "✗ failed" in text


def test_a_path_tells_of_its_session_tcp_and_link() -> None:
    text = "\n".join(page_of("engine:p:data-127.0.0.1"))
    for expected in ("now 184 µs", "1,284 (41 MiB)", "80aa5c10f23e", "CRC32C", "62 µs (varies by 18 µs)", "MTU"):
        assert expected in text


def test_a_session_tells_what_was_negotiated() -> None:
    text = "\n".join(page_of("engine:s:data-127.0.0.1"))
    assert "MaxBurstLength=1048576" in text
    assert "127.0.0.1:41000 → 127.0.0.1:3260" in text


def test_a_link_tells_its_speed_and_errors() -> None:
    assert "10 Gb/s" in "\n".join(page_of("link:eth0"))
    assert "0 received, 0 sent" in "\n".join(page_of("link:lo"))


def test_what_is_not_known_is_left_out_or_said_and_never_zero() -> None:
    base = samples.practice()
    bare = dataclasses.replace(
        base,
        disks=tuple(dataclasses.replace(d, wwid=None, size_bytes=None, device=None, dev=None) for d in base.disks),
    )
    text = "\n".join(page_of("engine:d:data", bare))
    assert "none: the target gives this disk no identity" in text
    assert "none: not attached" in text
    assert "0 B" not in text


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("width", [30, 47, 110])
def test_no_page_is_wider_than_its_pane_where_it_can_be_wrapped(key: str, width: int) -> None:
    name = "iqn.2026-11." + "a" * 211
    base = samples.practice()
    long = dataclasses.replace(
        base,
        sessions=tuple(dataclasses.replace(s, initiator=name, alias=name) for s in base.sessions),
        disks=tuple(dataclasses.replace(d, serial=name) for d in base.disks),
    )
    lines = page_of(key, long, width)
    labelled = [line for line in lines if line.startswith(("Initiator", "Alias", "Serial", "WWID", "Target"))]
    assert all(cell_len(line) <= width for line in labelled)
    assert len(lines) > 3


@pytest.mark.parametrize("key", KEYS)
def test_pages_are_ascii_where_the_terminal_is(key: str) -> None:
    assert "\n".join(page_of(key, glyphs=ASCII)).isascii()


def test_cells_of_each_kind_of_row() -> None:
    store = Store()
    store.apply(samples.practice(pulled=samples.PORTALS[1]), (), 0.0)
    store.open_all(True)
    assert store.world is not None
    world = store.world
    said = {
        row.key: [
            "".join(piece.text for piece in cell) for cell in rowtext.cells(row, world, store.samples, UNICODE, 30)
        ]
        for row in store.rows
    }
    assert said["engine:d:data"][:4] == ["├─▾ data", "▲ degraded", "256 MiB", "/dev/loop0"]
    assert said["engine:d:data/volume:0"][:4] == ["│ ├─ …un/mooring/practice/data", "✓ mounted", "12% used", "ext4"]
    assert said["engine:p:data-127.0.0.2"][1] == "✗ failed"
    assert said["engine:p:data-127.0.0.1"][:4] == ["│ ├─ via 127.0.0.1:3260", "✓ active", "184 µs", "lo optimized"]
    assert said["engine:s:data-127.0.0.1"][2:4] == ["62 µs", "data"]
    assert said[f"sessions:{samples.IQN}:harbour"][1] == "▲ 2 of 4 up"
    assert said["links"][1] == "✓ 1 up"
    assert said["link:eth0"][2:4] == ["10 Gb/s", "192.0.2.17/24"]
