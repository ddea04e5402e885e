"""The dashboard in a real terminal: how it begins, how it ends, and what it refuses."""

from __future__ import annotations

import gc
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from initiator.errors import MooringError
from tests.journeys.host import until
from tests.tui.terminal import Terminal
from tui.app import AppOptions, run
from tui.cli import build_parser
from tui.commands.dashboard import dashboard
from tui.terminal import check_terminal

PLAY = ["-m", "tests.tui.play"]
LEAVE_FULL_SCREEN = b"\x1b[?1049l"
SHOW_CURSOR = b"\x1b[?25h"


def assert_left_in_order(terminal: Terminal) -> None:
    """Primary screen, visible cursor, line discipline as before."""
    tail = terminal.output[-400:]
    assert LEAVE_FULL_SCREEN in tail
    assert SHOW_CURSOR in tail
    assert terminal.modes() == terminal.before
    assert b"Traceback" not in terminal.output


def test_q_leaves_and_the_terminal_is_as_it_was() -> None:
    with Terminal(PLAY) as terminal:
        terminal.wait_for("all 6 paths work")
        terminal.type("q")
        assert terminal.ended() == 0
        assert_left_in_order(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_in_order(number: signal.Signals) -> None:
    with Terminal(PLAY) as terminal:
        terminal.wait_for("all 6 paths work")
        os.kill(terminal.child.pid, number)
        assert terminal.ended() == 128 + number
        assert_left_in_order(terminal)


def test_a_terminal_that_goes_away_takes_it_along() -> None:
    with Terminal(PLAY) as terminal:
        terminal.wait_for("all 6 paths work")
        terminal.hang_up()
        assert terminal.ended() != 0


def test_a_flood_of_keys_and_a_large_paste_do_no_harm() -> None:
    with Terminal(PLAY) as terminal:
        terminal.wait_for("all 6 paths work")
        terminal.type("\x1b[B" * 200 + "\x1b[A" * 100)
        terminal.type("\x1b[200~" + "rdata\n" * 1700 + "\x1b[201~")
        terminal.wait_quiet()
        terminal.resize(20, 5)
        os.kill(terminal.child.pid, signal.SIGWINCH)
        terminal.wait_for("Mooring needs 60x16")
        here = len(terminal.output)
        terminal.resize(120, 40)
        os.kill(terminal.child.pid, signal.SIGWINCH)
        terminal.wait_for("lighthouse", after=here)
        terminal.type("q")
        assert terminal.ended() == 0


def test_ctrl_q_and_the_palette_work() -> None:
    with Terminal(PLAY) as terminal:
        terminal.wait_for("all 6 paths work")
        terminal.type("\x10")
        terminal.wait_for("Type a part of what you want to do")
        terminal.type("\x11")
        assert terminal.ended() == 0


REAL = ["-c", "import sys; from tui.app import AppOptions, run; sys.exit(run(AppOptions()))"]


def test_the_real_thing_on_a_host_without_iscsi() -> None:
    with Terminal(REAL) as terminal:
        terminal.wait_for("Welcome aboard")
        terminal.type("q")
        assert terminal.ended() == 0
        assert_left_in_order(terminal)


def test_a_terminal_that_is_not_utf8_gets_ascii() -> None:
    with Terminal(REAL, env={"PYTHONIOENCODING": "iso-8859-1", "PYTHONUTF8": "0", "LC_ALL": "C"}) as terminal:
        terminal.wait_for("Welcome aboard")
        terminal.wait_for("+ live")
        assert b"\\u2" not in terminal.output
        assert max(terminal.output) < 0x80
        terminal.type("q")
        assert terminal.ended() == 0


def test_it_writes_its_log_to_a_file_and_not_on_the_screen(own_folders: pathlib.Path) -> None:
    with Terminal(REAL) as terminal:
        terminal.wait_for("Welcome aboard")
        terminal.type("q")
        assert terminal.ended() == 0
    assert (own_folders / "state" / "dashboard.log").exists()


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdin", "stderr", "term", "word"),
    [
        (io.StringIO(), Tty(), "xterm", "needs a terminal"),
        (Tty(), io.StringIO(), "xterm", "needs a terminal"),
        (Tty(), None, "xterm", "needs a terminal"),
        (Tty(), Tty(), "dumb", "TERM=dumb"),
        (Tty(), Tty(), "", "TERM="),
    ],
)
def test_what_cannot_show_it_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO, stderr: io.StringIO | None, term: str, word: str
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "__stderr__", stderr)
    monkeypatch.setenv("TERM", term)
    with pytest.raises(MooringError, match=word) as told:
        run(AppOptions())
    assert "mooring list" in told.value.fix
    assert told.value.code == "no-terminal"


def test_where_it_is_refused_garbage_is_searched_for_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(MooringError, match="needs a terminal"):
        dashboard(build_parser().parse_args([]))
    assert gc.isenabled()


def test_a_terminal_that_can_show_it_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Tty())
    monkeypatch.setattr(sys, "__stderr__", Tty())
    monkeypatch.setenv("TERM", "xterm-256color")
    check_terminal()
    assert sys.stdin.isatty()


def test_a_picture_needs_no_terminal(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # put back what `run` replaces
    began = time.monotonic()
    assert run(AppOptions(screenshot=tmp_path / "x.svg", size=(100, 30))) == 0
    assert "Welcome" in (tmp_path / "x.svg").read_text()
    assert time.monotonic() - began < 30


def test_the_command_makes_a_picture_without_a_terminal(tmp_path: pathlib.Path) -> None:
    picture = tmp_path / "picture.svg"
    command = [str(pathlib.Path(sys.executable).with_name("mooring")), "--screenshot", str(picture)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert "Mooring" in picture.read_text(encoding="utf-8")


def stopped(terminal: Terminal) -> bool:
    return psutil.Process(terminal.child.pid).status() == psutil.STATUS_STOPPED


def test_ctrl_z_suspends_it_and_it_comes_back_as_it_was() -> None:
    with Terminal(PLAY) as terminal:
        terminal.wait_for("all 6 paths work")
        terminal.type("\x1a")
        until(lambda: stopped(terminal))
        terminal.catch_up()
        assert_left_in_order(terminal)
        here = len(terminal.output)
        os.kill(terminal.child.pid, signal.SIGCONT)
        terminal.wait_for("lighthouse", after=here)
        terminal.type("q")
        assert terminal.ended() == 0
        assert_left_in_order(terminal)


def test_a_terminal_that_stands_still_does_not_keep_it_from_going_on() -> None:
    """Nobody reads what it writes, for longer than the terminal's own buffer lasts; then somebody does again."""
    with Terminal([*PLAY, "--paths", "400", "--change", "1"]) as terminal:
        terminal.wait_for("pool000")
        with terminal.standing_still():
            terminal.type("*" + "\x1b[6~\x1b[5~" * 200)
            until(lambda: terminal.is_full)
        terminal.type("\x10")  # what was written before may have been read, and nothing else has to be painted anew
        terminal.wait_for("Type a part of what you want to do")
        terminal.type("\x11")
        assert terminal.ended() == 0
        assert_left_in_order(terminal)
