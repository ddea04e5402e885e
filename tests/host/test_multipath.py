"""multipathd's and the device mapper's formats: real answers, broken ones, hostile ones."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.host import multipath
from initiator.host.multipath import FormatError, MapsParser, parse_dm_status, parse_maps, parse_paths, parse_raw_maps
from tests.host.fakemultipathd import MAP, PATH, maps_json

TWO = maps_json(
    [MAP, {**MAP, "name": "mpathb", "uuid": "360014050001000000000000000000000", "sysfs": "dm-1"}],
    [[[PATH], [{**PATH, "dev": "sda", "dev_t": "8:0"}]], [[{**PATH, "dev": "sdc", "dev_t": "8:32"}]]],
)
PATHS = (
    "3:0:0:0|sdb|8:16|active|running|ready|mpatha|0|ok|360014050000000000000000000000000\n"
    "4:0:0:0|sde|8:64|undef|unknown|undef|[orphan]|0|ok|360014050002000000000000000000000\n"
    "#:#:#:#|sdz|##:##|undef|unknown|undef|mpatha|2|failed|\n"
    "5:0:0:0|sdf|8:80|undef|unknown|undef|[unknown]|0|new|\n"
)
MAPS = "mpatha|360014050000000000000000000000000|dm-0|12 chk|2|active|0|0|0|0\n".replace("|2|active", "|active")


def test_the_fake_writes_json_as_multipathd_does() -> None:
    assert json.loads(TWO)["maps"][1]["path_groups"][0]["paths"][0]["dev"] == "sdc"


def test_maps_with_their_groups_and_paths() -> None:
    first, second = parse_maps(TWO)
    assert (first.name, first.wwid, first.sysfs) == ("mpatha", "360014050000000000000000000000000", "dm-0")
    assert (first.policy, first.queueing, first.suspended) == ("service-time 0", "12 chk", False)
    assert first.fields["features"] == "1 queue_if_no_path"
    assert [(path.dev, path.dev_t, path.group, path.in_use) for path in first.paths] == [
        ("sdb", "8:16", 1, True),
        ("sda", "8:0", 2, False),
    ]
    assert (first.paths[0].dm_st, first.paths[0].chk_st, first.paths[0].priority) == ("active", "ready", 50)
    assert second.paths[0].dev == "sdc"


@pytest.mark.parametrize("text", ['{\n   "major_version": 0,\n   "minor_version": 1,\n   "maps": []\n}\n'])
def test_no_maps(text: str) -> None:
    assert parse_maps(text) == ()


@pytest.mark.parametrize("product", ['FI"LE', "FI\\LE", 'F",', '"', "FILE\x07IO", "FILE\x1b[31m", 'dev" : "sdq'])
def test_what_a_target_calls_itself_spoils_nothing(product: str) -> None:
    broken = maps_json([{**MAP, "prod": product}, {**MAP, "name": "mpathb"}], [[[PATH, PATH]], [[PATH]]])
    first, second = parse_maps(broken)
    assert first.name == "mpatha"
    assert len(first.paths) == 2
    assert first.paths[0] == second.paths[0]
    assert first.queueing == "12 chk"
    assert "\x1b" not in first.fields["prod"]


def test_a_map_that_did_not_change_is_not_parsed_again() -> None:
    parser = MapsParser()
    first = parser.parse(TWO)
    second = parser.parse(TWO.replace('"sdc"', '"sdd"'))
    assert second[0] is first[0]
    assert second[1].paths[0].dev == "sdd"


def test_fields_that_are_not_known_yet() -> None:
    torn = {**PATH, "dev": "##", "dev_t": "##:##", "dm_st": "undef", "chk_st": "undef", "dev_st": "unknown"}
    (found,) = parse_maps(maps_json([MAP], [[[torn]]]))
    path = found.paths[0]
    assert (path.dev, path.dev_t, path.dm_st, path.chk_st, path.dev_st) == (None, None, None, None, None)


@pytest.mark.parametrize("cut", range(0, len(TWO) - 2, 97))
def test_an_answer_that_ends_early_is_refused_or_whole(cut: int) -> None:
    found: tuple[multipath.MapInfo, ...] = ()
    with contextlib.suppress(FormatError):
        found = parse_maps(TWO[:cut])
    assert {each.name for each in found} <= {"mpatha", "mpathb"}


@pytest.mark.parametrize("text", ["", "fail\n", "{}", "[]", '{"maps": 3}', '{"maps": [1]}', '{"maps": [{}]}', "\0" * 9])
def test_other_answers_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_maps(text)


@settings(max_examples=80)
@given(text=st.text(max_size=200))
def test_garbage_never_does_more_than_be_refused(text: str) -> None:
    for parse in (parse_maps, parse_paths, parse_dm_status):
        found: tuple[object, ...] = ()
        with contextlib.suppress(FormatError):
            found = parse(text)
        assert isinstance(found, tuple)


@settings(max_examples=60)
@given(
    vendor=st.text(st.characters(blacklist_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=16),
    number=st.integers(0, 2**40),
)
def test_any_one_line_of_text_in_a_map_leaves_its_paths_readable(vendor: str, number: int) -> None:
    text = maps_json([{**MAP, "vend": vendor, "q_timeouts": number}], [[[PATH]]])
    (found,) = parse_maps(text)
    assert found.paths[0].dev == "sdb"
    assert found.name == "mpatha"


def test_paths_with_orphans_and_unfinished_ones() -> None:
    found = parse_paths(PATHS)
    assert [(path.dev, path.map, path.ready) for path in found] == [
        ("sdb", "mpatha", True),
        ("sde", None, True),
        ("sdz", "mpatha", True),
        ("sdf", None, False),
    ]
    assert found[2].hctl is None
    assert found[2].path.dev_t is None
    assert found[1].wwid == "360014050002000000000000000000000"


def test_raw_maps_take_their_paths_from_the_list() -> None:
    (found,) = parse_raw_maps(MAPS, parse_paths(PATHS))
    assert (found.name, found.queueing, found.suspended) == ("mpatha", "12 chk", False)
    assert [path.dev for path in found.paths] == ["sdb", "sdz"]
    assert found.paths[0].group is None


@pytest.mark.parametrize(
    ("states", "used"),
    [(["enabled", "enabled"], "sdb"), (["disabled", "enabled"], "sda"), (["enabled", "active"], "sda")],
)
def test_before_the_first_io_the_first_group_is_the_one_that_will_be_used(states: list[str], used: str) -> None:
    groups: list[list[list[dict[str, Any]]]] = [[[dict(PATH)], [{**PATH, "dev": "sda"}]]]
    (found,) = parse_maps(maps_json([MAP], groups, states))
    assert [path.dev for path in found.paths if path.in_use] == [used]


def test_the_kernel_says_which_group_comes_next() -> None:
    (found,) = parse_dm_status("m: 0 9 multipath 2 0 0 0 2 2 E 0 1 2 8:16 A 0 0 1 E 0 1 2 8:32 A 0 0 1\n")
    assert [path.dev_t for path in found.paths if path.in_use] == ["8:32"]


@pytest.mark.parametrize("text", ["one|two\n", "a|b|c|d|e|f|g|h|i|j|k|l\n"])
def test_lines_with_other_fields_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match="fields"):
        parse_paths(text)


def test_what_the_kernel_does_with_each_path() -> None:
    status = (
        "mpatha: 0 524288 multipath 2 0 1 0 2 1 A 0 2 2 8:16 A 0 0 1 8:0 F 3 0 1 E 0 1 2 8:32 A 0 0 1 \n"
        "vg-root: 0 1024 linear \n"
    )
    (found,) = parse_dm_status(status)
    assert found.name == "mpatha"
    assert [(path.dev_t, path.dm_st, path.group, path.in_use, path.failures) for path in found.paths] == [
        ("8:16", "active", 1, True, 0),
        ("8:0", "failed", 1, True, 3),
        ("8:32", "active", 2, False, 0),
    ]


@pytest.mark.parametrize(
    "status", ["m: 0 1 multipath", "m: 0 1 multipath 2 0", "m: 0 1 multipath x 0 1 1 A 0 1 2 8:0 A"]
)
def test_a_torn_status_is_refused(status: str) -> None:
    with pytest.raises(FormatError, match="status"):
        parse_dm_status(status)


def test_commands_fit_into_what_multipathd_takes() -> None:
    commands: list[Any] = [multipath.MAPS_COMMAND, multipath.RAW_MAPS_COMMAND, multipath.PATHS_COMMAND]
    assert all(len(command) < 512 and "%c" not in command for command in commands)
