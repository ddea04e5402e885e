"""Snapshots as JSON and as text."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.errors import BadInputError
from initiator.model import (
    Disk,
    DiskState,
    Path,
    PathState,
    Portal,
    Session,
    SessionState,
    Snapshot,
    Source,
    Volume,
    VolumeState,
)
from tui.cli import KINDS
from tui.export import SHEETS, csv_list, dumps, human_list, human_size, snapshot_json, table
from tui.find import find_any, find_disk, find_sessions


def sample() -> Snapshot:
    session = Session(
        "s1",
        "harbour@127.0.0.1:3260",
        SessionState.LOGGED_IN,
        Source.ENGINE,
        "iqn.2026-11.x:harbour",
        Portal("127.0.0.1"),
    )
    disk = Disk(
        "d1",
        "data",
        DiskState.ATTACHED,
        Source.ENGINE,
        "naa.6000",
        1 << 28,
        "/dev/loop0",
        paths=("p1",),
        volumes=("v1",),
        target=session.target,
        lun=0,
    )
    path = Path("p1", "data@127.0.0.1", PathState.ACTIVE, "d1", "s1", link="l1", latency_us=230.0)
    volume = Volume("v1", "data", VolumeState.MOUNTED, "/mnt/data", "ext4", "/dev/loop0", "7:0", disks=("d1",))
    return Snapshot("box", 1.0, (session,), (disk,), (path,), (), (volume,))


def test_one_kind_alone_is_listed_and_made_a_sheet_of() -> None:
    text = human_list(sample(), ["paths"])
    assert text.startswith("Paths (1)")
    assert "Disks" not in text
    rows = list(csv.reader(io.StringIO(csv_list(sample(), "disks"))))
    assert rows[0][:3] == ["name", "state", "size"]
    assert rows[1][:3] == ["data", "attached", "256 MiB"]
    assert tuple(SHEETS) == KINDS


def test_a_name_from_outside_is_no_formula_in_a_spreadsheet() -> None:
    hostile = dataclasses.replace(sample().disks[0], name='=HYPERLINK("http://x")\x1b[2J,"')
    rows = list(csv.reader(io.StringIO(csv_list(dataclasses.replace(sample(), disks=(hostile,)), "disks"))))
    assert rows[1][0] == '\'=HYPERLINK("http://x")[2J,"'


def test_json_has_the_promised_keys_first_schema_then_host() -> None:
    found = json.loads(dumps(snapshot_json(sample())))
    assert list(found)[:3] == ["schema", "host", "taken_at"]
    assert {"sessions", "disks", "paths", "maps", "volumes", "links"} <= set(found)
    for group in ("sessions", "disks", "paths", "volumes"):
        for entry in found[group]:
            assert {"id", "name", "state"} <= set(entry)
    assert found["sessions"][0]["portal"] == "127.0.0.1:3260"
    assert found["disks"][0]["paths"] == ["p1"]


def test_text_names_the_disk_its_mount_and_its_paths() -> None:
    text = human_list(sample())
    row = next(line for line in text.splitlines() if line.lstrip().startswith("data "))
    assert "256 MiB" in row
    assert "1 of 1" in row
    assert "/mnt/data" in row
    assert "230 us" in text


def test_no_escape_code_gets_out_of_a_table() -> None:
    text = table("T", ("A",), [("\x1b[31mred\x07\u202e",)])
    assert not any(ord(char) < 32 and char != "\n" for char in text)
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1 << 28, "256 MiB"), (None, "?"), (1 << 62, "4096 PiB")],
)
def test_sizes_read_well(size: int | None, text: str) -> None:
    assert human_size(size) == text


@given(st.integers(min_value=0, max_value=1 << 63))
def test_every_size_has_a_unit(size: int) -> None:
    assert human_size(size).split(" ")[1] in ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@pytest.mark.parametrize("text", ["data", "d1", "naa.6000", "/dev/loop0", "/mnt/data"])
def test_a_disk_is_found_by_each_of_its_names(text: str) -> None:
    assert find_disk(sample(), text).id == "d1"


def test_a_wrong_name_gets_the_nearest_right_one() -> None:
    with pytest.raises(BadInputError, match="no disk is called 'dta'") as caught:
        find_disk(sample(), "dta")
    assert "did you mean 'data'" in caught.value.fix


def test_an_ambiguous_name_is_refused() -> None:
    with pytest.raises(BadInputError, match="more than one"):
        find_any(sample(), "data")


def test_a_target_stands_for_all_its_sessions() -> None:
    assert [session.id for session in find_sessions(sample(), "iqn.2026-11.x:harbour")] == ["s1"]
