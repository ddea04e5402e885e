"""What the kernel's log tells of sessions and paths, and whether a path has come back too lately."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator.host.kmsg import Log, News, Told, events, parse, read_kmsg, reinstated
from initiator.model import BlockNode, PathState, Severity, Snapshot
from initiator.settled import unsettled
from tests import wiring

BOOT = 1_000.0
LINES = {
    b"3,1201,5000000,-; connection2:0: ping timeout of 5 secs expired, recv timeout 5, last rx 1, last ping 2, now 3":
        None,
    b"6,1202,5100000,-; connection2:0: detected conn error (1022)\n SUBSYSTEM=iscsi_connection": Told(
        1005.1, "lost", "2", "1022"
    ),
    b"3,1203,125100000,-; session2: session recovery timed out after 120 secs": Told(1125.1, "given-up", "2", "120"),
    b"4,1204,5200000,-;device-mapper: multipath: 253:1: Failing path 8:16.": Told(1005.2, "failed", "8:16"),
    b"4,1205,9000000,-;device-mapper: multipath: Reinstating path 8:16.": Told(1009.0, "reinstated", "8:16"),
    b"4,1206,9000000,-;usb 1-1: new device": None,
    b"nonsense": None,
    b"": None,
}  # fmt: skip


@pytest.mark.parametrize("record", LINES)
def test_the_lines_that_matter(record: bytes) -> None:
    assert parse(record, BOOT) == LINES[record]


noise = st.binary(max_size=50)


@given(st.binary(max_size=200) | st.tuples(noise, st.sampled_from(list(LINES)), noise).map(b"".join))
def test_no_line_breaks_it(record: bytes) -> None:
    told = parse(record, BOOT)
    assert told is None or (told.at >= BOOT and told.what[0].isdigit() and b";" in record)


def test_a_path_is_back_until_it_fails_again() -> None:
    told = [Told(1.0, "failed", "8:16"), Told(5.0, "reinstated", "8:16"), Told(6.0, "reinstated", "8:32")]
    assert reinstated(told) == {"8:16": 5.0, "8:32": 6.0}
    assert reinstated([*told, Told(7.0, "failed", "8:32")]) == {"8:16": 5.0}


def test_the_kernels_words_as_events() -> None:
    told = [each for each in LINES.values() if each is not None]
    lost, given_up, failed, back = events(told)
    assert (lost.subject, lost.severity) == ("kernel:s:2", Severity.BAD)
    assert lost.text == "The kernel says: session 2 lost its connection, a ping was not answered in time."
    assert "was given up after 120 s" in given_up.text
    assert (failed.subject, back.severity) == ("8:16", Severity.NOTE)
    (odd,) = events([Told(1.0, "lost", "2", "1099")])
    assert "error 1099" in odd.text


@pytest.mark.root
@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="/dev/kmsg may not be read here")
def test_the_real_log_can_be_read_to_its_end() -> None:
    found = read_kmsg()
    assert all(line.kind in ("lost", "given-up", "failed", "reinstated") for line in found)


class Pages:
    """A log of which each page is told at once."""

    def __init__(self, *pages: tuple[Told, ...]) -> None:
        self._pages = list(pages)
        self.closed = False

    def fresh(self) -> tuple[Told, ...]:
        return self._pages.pop(0)

    def close(self) -> None:
        self.closed = True


def test_news_is_what_was_told_since_a_time_and_each_time_only_what_is_fresh() -> None:
    old, first, second = Told(5.0, "lost", "1", "1011"), Told(15.0, "lost", "2", "1022"), Told(16.0, "failed", "8:16")
    pages = Pages((old, first), (), (second,))
    news = News(10.0, lambda: pages)  # type: ignore[arg-type, return-value]
    assert [event.subject for event in news()] == ["kernel:s:2"]
    assert news() == ()
    assert [event.subject for event in news()] == ["8:16"]
    news.close()
    assert pages.closed

    def closed() -> Log:
        raise PermissionError(1, "Operation not permitted")

    silent = News(0.0, closed)
    assert silent() == ()
    silent.close()


def test_a_log_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        read_kmsg(str(tmp_path / "none"))


# --- settled ---


def seen(since: float | None = None, failures: int | None = 0, state: PathState = PathState.ACTIVE) -> Snapshot:
    snapshot, _ = wiring.two_links()
    first = dataclasses.replace(snapshot.paths[0], since=since, failures=failures, state=state)
    block = (BlockNode("sda", "8:0", "disk", 1 << 30, False), BlockNode("sdb", "8:16", "disk", 1 << 30, False))
    return dataclasses.replace(wiring.changed(snapshot, first), taken_at=1_000.0, block=block)


@pytest.mark.parametrize(
    ("snapshot", "told", "left"),
    [
        (seen(), {}, []),
        (seen(since=990.0, failures=1), {}, [("p0", 50.0)]),
        (seen(since=990.0, failures=0), {}, []),
        (seen(since=900.0, failures=1), {}, []),
        (seen(), {"8:0": 980.0}, [("p0", 40.0)]),
        (seen(), {"8:0": 980.0, "8:16": 999.0}, [("p0", 40.0), ("p1", 59.0)]),
        (seen(since=990.0, failures=2), {"8:0": 980.0}, [("p0", 50.0)]),
        (seen(), {"8:0": 900.0}, []),
        (seen(state=PathState.FAILED), {"8:0": 999.0}, []),
        (seen(), None, []),
        (seen(), {"8:0": 1_005.0}, [("p0", 60.0)]),
    ],
)
def test_paths_that_have_to_hold_for_a_while_yet(
    snapshot: Snapshot, told: dict[str, float] | None, left: list[tuple[str, float]]
) -> None:
    assert [(each.path.id, each.left_s) for each in unsettled(snapshot, "d1", told)] == left
    assert unsettled(snapshot, "d2", told) == ()


def test_the_time_can_be_set() -> None:
    assert unsettled(seen(), "d1", {"8:0": 980.0}, settle_s=10.0) == ()
