"""Recordings: what goes in comes out, also of a file that was cut off."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initiator import recording
from initiator.errors import BadInputError
from initiator.fabric import EMPTY, Fabric, Neighbour, Route, TargetPort
from initiator.model import BlockNode, Event, LinkState, PathState, Problem, Severity, Snapshot
from initiator.recording import Recorder, Recording, RecordingError, difference, join
from tests import wiring
from tests.tui import samples
from tests.wiring import link

EVENT = Event(2.0, "state", "p0", "Path p0 has failed: näh \U0001f4be", Severity.BAD)


def written(path: Path, *frames: tuple[float, Snapshot, Fabric, tuple[Event, ...]]) -> Recording:
    with Recorder(path, "host", 1.0) as recorder:
        for frame in frames:
            recorder.add(*frame)
    return Recording(path)


def fabric() -> Fabric:
    _, known = wiring.two_links()
    return dataclasses.replace(
        known,
        routes={("10.9.1.1", "10.9.1.2"): Route("eth1", None, "10.9.1.1")},
        neighbours={"eth1": Neighbour("02:01", "left", "Gi0/1")},
        ports={"p0": TargetPort(1, 3)},
    )


@pytest.mark.parametrize(
    "snapshot", [samples.practice(), samples.kernel(), samples.hostile("\x1b[1m[/red]\u202e"), samples.empty()]
)
def test_everything_comes_back_as_it_was(tmp_path: Path, snapshot: Snapshot) -> None:
    found = written(tmp_path / "rec", (1.0, snapshot, fabric(), (EVENT,)))
    assert (found.head.host, found.head.began) == ("host", 1.0)
    (moment,) = found.moments()
    assert moment.snapshot == snapshot
    assert moment.fabric == fabric()
    assert (moment.at, moment.events, found.cut) == (1.0, (EVENT,), "")


letters = st.sampled_from("abcd")


@st.composite
def hosts(draw: st.DrawFn) -> Snapshot:
    """Hosts with some of four paths, links and block devices, in some state."""
    base, _ = wiring.two_links()
    paths = tuple(
        dataclasses.replace(base.paths[0], id=f"path:{key}", state=draw(st.sampled_from(PathState)))
        for key in sorted(draw(st.sets(letters)))
    )
    links = tuple(link(key, state=draw(st.sampled_from(LinkState))) for key in sorted(draw(st.sets(letters))))
    block = tuple(
        BlockNode(key, "8:0", "disk", draw(st.integers(0, 3)), False) for key in sorted(draw(st.sets(letters)))
    )
    problems = (Problem("block", "x", "y"),) if draw(st.booleans()) else ()
    return dataclasses.replace(
        base, taken_at=draw(st.floats(0, 9)), paths=paths, links=links, block=block, problems=problems
    )


@given(hosts(), hosts())
def test_a_difference_joined_to_what_was_is_what_is(before: Snapshot, now: Snapshot) -> None:
    part, gone = difference(before, now)
    assert join(before, part, gone) == now
    same, nothing = difference(now, now)
    assert (same.paths, same.links, same.sessions, same.block, nothing) == ((), (), (), (), ())


@given(st.lists(hosts(), min_size=1, max_size=8))
def test_every_frame_comes_back_in_order(snapshots: list[Snapshot]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = written(Path(folder) / "rec", *((float(at), each, EMPTY, ()) for at, each in enumerate(snapshots)))
        assert [moment.snapshot for moment in found.moments()] == snapshots
        late = [moment.at for moment in found.moments(since=2.0)]
        assert late == [float(at) for at in range(2, len(snapshots))]


def test_only_changes_are_written_and_now_and_then_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "EVERY", 3)
    large = samples.large()
    snapshot = dataclasses.replace(large, paths=tuple(sorted(large.paths, key=lambda path: path.id)), sessions=())
    snapshot = dataclasses.replace(snapshot, disks=(), maps=(), volumes=(), links=())
    with Recorder(tmp_path / "rec", "host", 1.0) as recorder:
        sizes = []
        for at in range(7):
            before = (tmp_path / "rec").stat().st_size
            recorder.add(float(at), snapshot, EMPTY, ())
            sizes.append((tmp_path / "rec").stat().st_size - before)
    assert all((size > 20 * sizes[1]) == (at % 3 == 0) for at, size in enumerate(sizes)), sizes
    assert [moment.snapshot for moment in Recording(tmp_path / "rec").moments()] == [snapshot] * 7


@given(st.integers(min_value=30))
def test_a_recording_that_was_cut_off_can_be_read_up_to_there(cut: int) -> None:
    snapshot, _ = wiring.two_links()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rec"
        written(path, *((float(at), snapshot, EMPTY, ()) for at in range(4)))
        whole = path.read_bytes()
        path.write_bytes(whole[: 120 + cut % (len(whole) - 120)])
        found = Recording(path)
        moments = list(found.moments())
        assert [moment.snapshot for moment in moments] == [snapshot] * len(moments)
        assert len(moments) < 4 or not found.cut or "cut off" in found.cut


def test_what_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        Recording(tmp_path / "none")
    for content in (b"", b"hello\n", b"{}\n"):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(RecordingError, match="no recording"):
            Recording(tmp_path / "other")
    import gzip

    (tmp_path / "new").write_bytes(gzip.compress(b'{"mooring":"recording","format":99,"host":"h","began":1}\n'))
    with pytest.raises(RecordingError, match="another version"):
        Recording(tmp_path / "new")


def test_a_broken_frame_ends_it_with_a_word(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "rec"
    snapshot, _ = wiring.two_links()
    written(path, (1.0, snapshot, EMPTY, ()))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b'{"at":"x"}\n'))
    found = Recording(path)
    assert len(list(found.moments())) == 1
    assert found.cut.startswith("a frame cannot be understood")


def test_the_file_is_new_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "rec"
    written(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(RecordingError, match="exists already"):
        Recorder(path, "host", 1.0)
    with pytest.raises(RecordingError, match="cannot make"):
        Recorder(tmp_path / "none" / "rec", "host", 1.0)


def test_a_name_that_is_no_text_does_not_end_a_recording(tmp_path: Path) -> None:
    snapshot, _ = wiring.two_links()
    odd = BlockNode("loop0", "7:0", "loop", 1, False, backing_file=os.fsdecode(b"/tmp/\xff\xfe"))
    found = written(tmp_path / "rec", (1.0, dataclasses.replace(snapshot, block=(odd,)), EMPTY, ()))
    (moment,) = found.moments()
    assert moment.snapshot.block[0].backing_file == "/tmp/??"
