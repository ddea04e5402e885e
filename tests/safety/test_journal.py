from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safety import journal as journal_
from safety.journal import (
    Journal,
    JournalError,
    Kind,
    Mark,
    Outcome,
    Reader,
    Record,
    boot_id,
    follow,
    process_start,
    read,
    runner_alive,
    unfinished,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def new(path: Path) -> Journal:
    ticks = iter(range(1000))
    return Journal.create(path, boot="boot-1", now=lambda: float(next(ticks)))


def fill(journal: Journal) -> None:
    journal.append(Kind.PLAN, "Remove data", data={"key": "k", "changing": ["unmount-1"], "plan": {}})
    journal.append(Kind.RUN, "run", data={"pid": 1, "started": 1})
    journal.append(Kind.STEP, step="unmount-1", mark=Mark.STARTED)
    journal.append(Kind.STEP, "gone: \x1b[31m [red]é", step="unmount-1", mark=Mark.VERIFIED)
    journal.append(Kind.END, "safe to pull", data={"outcome": "done", "exit": 0})


def test_it_is_private_and_holds_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with new(path) as journal:
        fill(journal)
        written = tuple(journal.records)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(path) == written
    assert written[-1].outcome is Outcome.DONE
    assert b"\x1b" not in path.read_bytes()


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    new(path).close()
    with pytest.raises(JournalError):
        new(path)


@given(text=st.text(), data=st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_every_record_survives_its_line(text: str, data: dict[str, object]) -> None:
    record = Record(3, 1.5, "b", Kind.STEP, text, "s", Mark.STARTED, data)
    line = record.to_line()
    assert line.count(b"\n") == 1
    assert Record.from_line(line) == record


def test_cut_at_each_byte_it_gives_the_records_that_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safety.journal.os.fsync", lambda fd: None)
    whole = tmp_path / "a.jsonl"
    with new(whole) as journal:
        fill(journal)
    data, records = whole.read_bytes(), read(whole)
    ends = [index + 1 for index, byte in enumerate(data) if byte == 10]
    cut = tmp_path / "cut.jsonl"
    for length in range(len(data) + 1):
        cut.write_bytes(data[:length])
        cut.chmod(0o600)
        count = sum(end <= length for end in ends)
        assert read(cut) == records[:count]
        with Journal.open(cut, boot="boot-2") as journal:
            journal.append(Kind.NOTE, "on")
        again = read(cut)
        assert again[:count] == records[:count]
        assert (again[-1].text, again[-1].boot, again[-1].number) == ("on", "boot-2", count)


@given(data=st.data())
def test_damage_before_the_end_is_never_passed_over(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("j") / "a.jsonl"
    with new(path) as journal:
        fill(journal)
    lines = path.read_bytes().splitlines(keepends=True)
    broken = data.draw(st.integers(0, len(lines) - 2))
    action = data.draw(st.sampled_from(["drop", "twice", "garbage", "half"]))
    replaced = {"drop": b"", "twice": lines[broken] * 2, "garbage": b"\x00{]\n", "half": lines[broken][:20] + b"\n"}
    path.write_bytes(b"".join([*lines[:broken], replaced[action], *lines[broken + 1 :]]))
    with pytest.raises(JournalError):
        read(path)


def test_a_full_disk_leaves_it_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    with new(path) as journal:
        fill(journal)
        before = path.read_bytes()
        real = os.write

        def short(fd: int, data: bytes) -> int:
            if len(data) > 10:
                return real(fd, bytes(data[:10]))
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("safety.journal.os.write", short)
        with pytest.raises(JournalError, match="No space left"):
            journal.append(Kind.NOTE, "x" * 5)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert journal.append(Kind.NOTE, "again").number == len(read(path)) - 1


def test_a_record_that_cannot_be_made_durable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with new(tmp_path / "a.jsonl") as journal:

        def failing(fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("safety.journal.os.fsync", failing)
        with pytest.raises(JournalError, match="durable"):
            journal.append(Kind.NOTE, "x")
        monkeypatch.undo()


def test_someone_elses_file_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    new(path).close()
    path.chmod(0o666)
    with pytest.raises(JournalError, match="private"):
        Journal.open(path, boot="b")
    link = tmp_path / "link.jsonl"
    path.chmod(0o600)
    link.symlink_to(path)
    with pytest.raises(JournalError):
        Journal.open(link, boot="b")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with new(path) as journal:
        fill(journal)
    path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":2'))
    with pytest.raises(JournalError, match="format 2"):
        read(path)


def test_following_gives_each_record_once_and_waits_for_more(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    journal = new(path)
    journal.append(Kind.PLAN)
    coming = iter(["run", "step", "end"])

    def wait(_seconds: float) -> None:
        what = next(coming)
        data = {"outcome": "done"} if what == "end" else {}
        journal.append(Kind(what), what, data=data)

    texts = [record.text for record in follow(path, wait=wait, alive=lambda run: True)]
    journal.close()
    assert texts == ["", "run", "step", "end"]


def test_following_ends_when_the_runner_died_after_its_last_word(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with new(path) as journal:
        journal.append(Kind.PLAN)
        journal.append(Kind.RUN)
        lives: Iterator[bool] = iter([True, False])

        def alive(_run: Record) -> bool:
            return next(lives, False)

        def wait(_seconds: float) -> None:
            journal.append(Kind.NOTE, "last word")

        assert [record.text for record in follow(path, wait=wait, alive=alive)] == ["", "", "last word"]


def test_a_reader_takes_half_lines_only_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with new(path) as journal:
        fill(journal)
    data = path.read_bytes()
    growing = tmp_path / "b.jsonl"
    growing.touch()
    reader, seen = Reader(growing), []
    for at in range(0, len(data), 7):
        with growing.open("ab") as file:
            file.write(data[at : at + 7])
        seen += reader.poll()
    assert tuple(seen) == read(path)


def test_unfinished_removals_are_found(tmp_path: Path) -> None:
    def write(name: str, *, begun: bool, outcome: str | None, run: bool = True) -> None:
        with new(tmp_path / f"{name}.jsonl") as journal:
            journal.append(Kind.PLAN, data={"keys": [name], "changing": ["unmount-1"], "plan": {"name": name}})
            if run:
                journal.append(Kind.RUN)
            if begun:
                journal.append(Kind.STEP, step="unmount-1", mark=Mark.STARTED)
            if outcome:
                journal.append(Kind.END, f"it is {outcome}", data={"outcome": outcome})

    write("died", begun=True, outcome=None)
    write("died-early", begun=False, outcome=None)
    write("never-ran", begun=False, outcome=None, run=False)
    for outcome in Outcome:
        write(outcome, begun=True, outcome=outcome)
    (tmp_path / "broken.jsonl").write_bytes(b"nonsense\nnonsense\n")
    (tmp_path / "empty.jsonl").touch()
    found = {entry.path.stem: entry for entry in unfinished(tmp_path, alive=lambda run: False)}
    assert set(found) == {"died", "stopped", "unknown", "broken"}
    assert (found["died"].disk, found["died"].keys, found["died"].running) == ("died", ("died",), False)
    assert found["stopped"].reason == "it is stopped"
    assert "cannot be read" in found["broken"].reason
    running = {entry.path.stem for entry in unfinished(tmp_path, alive=lambda run: True) if entry.running}
    assert running == {"died", "died-early"}


def test_a_runner_is_known_by_process_and_boot() -> None:
    me = {"pid": os.getpid(), "started": process_start(os.getpid())}
    assert runner_alive(Record(0, 0.0, boot_id(), Kind.RUN, data=me))
    assert not runner_alive(Record(0, 0.0, "another boot", Kind.RUN, data=me))
    assert not runner_alive(Record(0, 0.0, boot_id(), Kind.RUN, data={**me, "started": 1}))
    assert not runner_alive(Record(0, 0.0, boot_id(), Kind.RUN, data={}))


def test_a_file_larger_than_any_journal_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_, "_LIMIT", 100)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 101)
    with pytest.raises(JournalError, match="larger"):
        read(path)
