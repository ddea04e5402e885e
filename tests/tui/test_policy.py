"""The policy of a host: what it forbids, and that a broken one forbids everything."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from initiator.errors import NotPermittedError
from tui import cli, policy
from tui.exits import Exit
from tui.policy import CHANGING, EVERYTHING, load


def written(tmp_path: Path, text: str) -> policy.Policy:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    return load(file)


def test_without_a_file_everything_is_allowed(tmp_path: Path) -> None:
    found = load(tmp_path / "none.toml")
    assert [found.why_not(action) for action in CHANGING] == [""] * len(CHANGING)


def test_a_forbidden_action_is_refused_with_its_reason_and_the_others_are_not(tmp_path: Path) -> None:
    found = written(tmp_path, '[forbid]\nremove = "Phone 4711."\nwrite = ""\n')
    with pytest.raises(NotPermittedError, match=r"“remove” is not allowed here: Phone 4711\. \(.*policy\.toml\)"):
        found.check("remove")
    assert "forbidden on this host" in found.why_not("write")
    found.check("login")


def test_everything_leaves_only_reading(tmp_path: Path) -> None:
    found = written(tmp_path, f'[forbid]\n{EVERYTHING} = "A museum."\n')
    assert all("A museum." in found.why_not(action) for action in CHANGING)
    assert found.why_not("list") == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[forbid\n", "is not TOML"),
        ("[forbid]\nremvoe = ''\n", "forbids remvoe, which is none of"),
        ("[forbid]\nremove = true\n", "has to give the reason for remove"),
        ("[allow]\nremove = ''\n", "may hold nothing but one section"),
        ("forbid = 'remove'\n", "may hold nothing but one section"),
    ],
)
def test_what_is_not_understood_forbids_all_that_changes(tmp_path: Path, text: str, why: str) -> None:
    found = written(tmp_path, text)
    assert all(why in found.why_not(action) for action in CHANGING)
    assert found.why_not("show") == ""


def test_a_policy_that_cannot_be_read_forbids_too(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").mkdir()
    assert "cannot be read" in load(tmp_path / "policy.toml").why_not("attach")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    assert "not UTF-8" in load(tmp_path / "latin.toml").why_not("attach")


CHANGES = (
    ("remove", "disk"),
    ("undo",),
    ("resume",),
    ("login", "iqn.2026-11.x:a"),
    ("logout", "s"),
    ("attach", "d"),
    ("mount", "d", "--read-only"),
    ("rescan", "s"),
    ("probe",),
    ("startup", "iqn.2026-11.x:a", "manual"),
    ("write", "iqn.2026-11.x:a", "--portal", "127.0.0.1:1", "--confirm", "x"),
    ("practice", "--headless"),
    ("engine", "stop"),
    ("engine", "cleanup", "d"),
)


def test_every_changing_command_asks_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, '[forbid]\neverything = "Not today."\n')
    monkeypatch.setattr(policy, "FILE", tmp_path / "policy.toml")
    for words in CHANGES:
        assert cli.main(words) == Exit.NOT_PERMITTED, words
        assert "Not today." in capsys.readouterr().err


def test_read_only_lets_no_command_change_anything(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (*CHANGES, ("practice", "stop"), ("practice", "disaster"), ("discover", "127.0.0.1:1")):
        assert cli.main(["--read-only", *words]) == Exit.NOT_PERMITTED, words
        said = capsys.readouterr()
        assert "changes something\n  -> leave --read-only out" in said.err
        assert said.out == ""


def test_read_only_shows_everything_and_tries_everything_dry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--read-only", "rescan", "nothing", "--dry-run"]) == Exit.USAGE  # there is no such session
    assert cli.main(["--read-only", "list"]) == Exit.DONE
    assert "changes something" not in capsys.readouterr().err
    shown: list[bool] = []

    def practice(arguments: argparse.Namespace) -> int:
        shown.append(arguments.read_only)
        return Exit.DONE

    monkeypatch.setattr("tui.commands.practice.practice", practice)
    for words in (("practice",), ("tour",)):
        assert cli.main(["--read-only", *words]) == Exit.DONE
    assert shown == [True, True]


def test_a_dry_run_and_reading_are_not_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, '[forbid]\neverything = "Not today."\n')
    monkeypatch.setattr(policy, "FILE", tmp_path / "policy.toml")
    assert cli.main(["rescan", "nothing", "--dry-run"]) == Exit.USAGE  # there is no such session, and that is said
    assert cli.main(["list"]) == Exit.DONE
    assert "Not today." not in capsys.readouterr().err


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from commands(each)


def test_every_name_that_a_policy_knows_is_that_of_a_command() -> None:
    found = {each.get_default("changes") for each in commands(cli.build_parser())} - {None}
    assert {policy.named(each) for each in found} == CHANGING
    assert found - CHANGING == {"probe"}, "these are a part of something else"


def names(parser: argparse.ArgumentParser) -> set[str]:
    return {
        name for action in parser._actions if isinstance(action, argparse._SubParsersAction) for name in action.choices
    }


def test_the_short_parser_has_the_commands_that_it_is_for_and_changes_nothing() -> None:
    short, whole = cli.build_parser(reading=True), cli.build_parser()
    assert set(cli.READING) <= names(short) < names(whole)
    assert {each.get_default("changes") for each in commands(short)} == {None}
