"""Settings: what is understood, what is not, and where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.config import Config, Dashboard, Mistake, load, read


def told(text: str, actions: frozenset[str] = frozenset()) -> tuple[Config, list[str]]:
    mistakes: list[Mistake] = []
    config = read(text, Path("config.toml"), Config(), mistakes, actions)
    return config, [str(each) for each in mistakes]


def test_every_kind_of_entry_is_taken() -> None:
    config, wrong = told(
        '[dashboard]\ntheme = "light"\nascii = true\ninterval_s = 2\n'
        '[host]\nlabel = "PRODUCTION"\ncolour = "red"\n[keys]\nremove = "x"\nquit = ["q", "f10"]\nhelp = []\n'
    )
    assert wrong == []
    assert config.dashboard == Dashboard(theme="light", ascii=True, interval_s=2.0)
    assert (config.host.label, config.host.colour) == ("PRODUCTION", "red")
    assert config.keys == {"remove": ("x",), "quit": ("q", "f10"), "help": ()}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[dashboard]\n\ntheem = 'dark'\n", "config.toml:3: theem is not known; did you mean theme?"),
        ("[dashbord]\n", "config.toml:1: [dashbord] is not known; did you mean dashboard?"),
        ("# one\n[dashboard]\ntheme = 'drak'\n", "config.toml:3: theme = 'drak' is not known; did you mean dark?"),
        ("[dashboard]\nascii = 1\n", "config.toml:2: ascii = 1: it is true or false"),
        ("[host]\nlabel = 1\n", "config.toml:2: label = 1: it is a text in quotation marks"),
        ("host = 1\n", "config.toml:1: host is a section: write [host]"),
        ("dashboard.theem = 'dark'\n", "config.toml:1: theem is not known; did you mean theme?"),
        ("[host]\nlabel='a'\n[keys]\nremvoe = 'x'\n", "config.toml:4: remvoe is not known; did you mean remove?"),
        ("[keys]\nremove = '  '\n", """config.toml:2: remove = '  ': it is a key, as "x", or a list of keys"""),
        ("[keys]\nremove = 7\n", 'config.toml:2: remove = 7: it is a key, as "x", or a list of keys'),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_is_near(text: str, mistake: str) -> None:
    config, wrong = told(text, frozenset({"remove", "quit"}))
    assert wrong == [mistake]
    assert config.dashboard == Dashboard()
    assert config.keys == {}


@pytest.mark.parametrize("value", ["0", "-1", "true", '"1"', "1e9", "nan", "inf"])
def test_a_time_is_a_reasonable_number_of_seconds(value: str) -> None:
    config, wrong = told(f"[dashboard]\ninterval_s = {value}\n")
    assert config.dashboard.interval_s == 1.0
    assert len(wrong) == 1
    assert "seconds above 0" in wrong[0]


def test_what_is_no_toml_is_told_with_its_line_and_changes_nothing() -> None:
    config, wrong = told("[dashboard]\ntheme = \n")
    assert config == Config()
    assert wrong[0].startswith("config.toml:2: this is not TOML")


def test_the_last_file_wins_and_one_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    system, mine = tmp_path / "system.toml", tmp_path / "mine.toml"
    system.write_text('[dashboard]\ntheme = "light"\n[host]\nlabel = "A"\n[keys]\nquit = "x"\n')
    mine.write_text('[dashboard]\ntheme = "terminal"\n[keys]\nhelp = "h"\n')
    config, wrong = load((system, tmp_path / "none.toml", mine))
    assert wrong == ()
    assert config.dashboard.theme == "terminal"
    assert config.host.label == "A"
    assert config.keys == {"quit": ("x",), "help": ("h",)}


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b"[host]\nlabel = '\xe9'\n")
    config, wrong = load((tmp_path / "folder.toml", tmp_path / "latin.toml"))
    assert config == Config()
    assert [each.text for each in wrong] == [
        "cannot be read: Is a directory",
        "cannot be read: it is not UTF-8 text",
    ]


@given(st.text(max_size=80))
def test_no_text_is_too_strange(text: str) -> None:
    config, _ = told(f"[dashboard]\n{text}\n[keys]\n{text}\n")
    assert isinstance(config, Config)
