"""The commands that tell about Mooring itself: words, settings, completions."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tui import cli, glossary
from tui.exits import Exit


@pytest.fixture
def settings() -> Path:
    return Path(os.environ["MOORING_CONFIG_DIR"]) / "config.toml"


def test_a_word_is_explained_whatever_its_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["glossary", "Mutual", "chap"]) == Exit.DONE
    out = capsys.readouterr().out
    assert out.startswith("mutual CHAP\n  ")
    assert max(map(len, out.splitlines())) < 80


def test_all_words_come_without_a_name_and_those_that_speak_of_a_part_with_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["glossary", "--json"]) == Exit.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert {term["name"] for term in found["terms"]} == {term.name for term in glossary.TERMS}
    assert cli.main(["glossary", "stable storage", "--json"]) == Exit.DONE
    assert [term["name"] for term in json.loads(capsys.readouterr().out)["terms"]] == ["flush", "cache"]


def test_a_word_that_is_not_there_names_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["glossary", "initator"]) == Exit.USAGE
    assert "did you mean initiator?" in capsys.readouterr().err


def test_the_settings_are_checked_with_file_and_line(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "check"]) == Exit.DONE
    assert "the defaults hold" in capsys.readouterr().out
    settings.write_text("[keys]\nremvoe = 'x'\n")
    assert cli.main(["config", "check"]) == Exit.ERROR
    assert capsys.readouterr().out == f"{settings}:2: remvoe is not known; did you mean remove?\n"
    assert cli.main(["config", "check", "--json"]) == Exit.ERROR
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["mistakes"][0]["line"]) == (False, 2)


def test_what_config_show_prints_is_a_file_of_settings(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.write_text('[host]\nlabel = "a \\"b\\""\ncolour = "red"\n[keys]\nquit = ["q", "x"]\n')
    assert cli.main(["config", "show"]) == Exit.DONE
    shown = capsys.readouterr().out
    settings.write_text(shown)
    assert cli.main(["config", "show"]) == Exit.DONE
    assert capsys.readouterr().out == shown
    assert 'label = "a \\"b\\""' in shown


def test_bash_completes_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == Exit.DONE
    script = tmp_path / "mooring.bash"
    script.write_text(capsys.readouterr().out)
    typed = "COMP_WORDS=(mooring res); COMP_CWORD=1; _shtab_mooring; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "-c", f"source {script}; {typed}"], capture_output=True, text=True, check=True, timeout=20
    )
    assert "resume" in done.stdout.split()


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script_too(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == Exit.DONE
    assert "resume" in capsys.readouterr().out
