"""A real terminal (tmux on a private socket) that a test types into and reads from."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import psutil

from tui.screens.dialog import DEAF_S

_numbers = itertools.count()
FIRST_OFFER = "Pull the cable of 127.0.0.1"
"""What the palette offers first on a practice range: once it is gone, what was typed was looked for."""


def inside(screen: str, title: str) -> str:
    """The words of the dialog with this title, as if they stood on one line."""
    lines = screen.splitlines()
    top, left = next((row, line.index(f"╭─ {title} ─")) for row, line in enumerate(lines) if f"╭─ {title} ─" in line)
    right = lines[top].index("╮", left)
    return " ".join(" ".join(line[left + 1 : right] for line in lines[top + 1 :]).split())


class Terminal:
    """One tmux session of a size; everything is waited for by what is on the screen, never by time."""

    def __init__(
        self, argv: Sequence[str], *, width: int = 120, height: int = 40, env: Mapping[str, str] | None = None
    ) -> None:
        self._socket = f"mooring-test-{os.getpid()}-{next(_numbers)}"
        words = {"LC_ALL": "C.UTF-8", "TERM": "tmux-256color", "COLORTERM": "truecolor", **(env or {})}
        keep = {name: value for name, value in os.environ.items() if name.startswith("MOORING_")}
        # COLUMNS and LINES, where a test runner sets them, would hide the terminal's real size.
        command = shlex.join(
            [
                "env",
                "-u",
                "COLUMNS",
                "-u",
                "LINES",
                *(f"{name}={value}" for name, value in {**keep, **words}.items()),
                *argv,
            ]
        )
        # The shell keeps the pane alive after the program ended, so that its exit code can be read.
        script = f"{command}; printf '\\nexit code %s\\n' $?; exec sleep 600"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-s", "a", "-x", str(width), "-y", str(height), script)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"the screen was:\n{self.text()}")
        self.kill()

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self._socket, *words], capture_output=True, text=True, timeout=20)
        return done.stdout

    def text(self) -> str:
        """What is on the screen now, without colours."""
        return self._tmux("capture-pane", "-p", "-t", "a")

    def type(self, *keys: str) -> None:
        """Press keys, by their tmux names: `Down`, `Enter`, `C-p`, `Escape`."""
        self._tmux("send-keys", "-t", "a", *keys)

    def write(self, text: str) -> None:
        """Type text, character by character as it is."""
        self._tmux("send-keys", "-t", "a", "-l", "--", text)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-t", "a", "-x", str(width), "-y", str(height))

    def pid(self) -> int:
        """The process in the pane: the shell that runs the program."""
        return int(self._tmux("list-panes", "-t", "a", "-F", "#{pane_pid}").strip())

    def wait(self, wanted: str | Callable[[str], bool], seconds: float = 20.0) -> str:
        """Wait until the text is on the screen; returns the whole screen.

        Raises:
            AssertionError: it did not come; the message holds the last screen.
        """
        end = time.monotonic() + seconds
        while True:
            screen = self.text()
            if wanted in screen if isinstance(wanted, str) else wanted(screen):
                return screen
            assert time.monotonic() < end, f"{wanted!r} did not appear in {seconds} s; the screen:\n{screen}"
            time.sleep(0.05)

    def hear(self) -> None:
        """Let the moment pass for which a dialog that has just come up, or has changed, hears no key."""
        shown = time.monotonic()
        while time.monotonic() < shown + DEAF_S:
            time.sleep(0.02)

    def leave(self, words: str) -> None:
        """Close the dialog with these words, if it is there."""
        if words in self.text():
            self.hear()
            self.type("Escape")
            self.wait(lambda screen: words not in screen)

    def confirm(self, name: str) -> None:
        """From a plan that is on the screen to the running removal."""
        self.wait("Go on")
        self.hear()
        self.type("Tab", "Enter")
        self.wait("type its name")
        self.hear()
        self.write(name)
        self.type("Enter")

    def find(self, words: str) -> None:
        """Filter the list of the view, whatever filter was there."""
        self.type("/", "C-u")
        self.write(words)
        self.type("Enter")

    def order(self, words: str) -> None:
        """Have the command palette do the one thing that is called so, on a practice range."""
        self.type("C-p")
        self.wait(FIRST_OFFER)
        self.write(words.lower())
        self.wait(lambda screen: words in screen and FIRST_OFFER not in screen)
        self.type("Enter")

    def children(self) -> list[psutil.Process]:
        """What runs below the shell of the pane."""
        return psutil.Process(self.pid()).children(recursive=True)

    def program(self) -> psutil.Process:
        """The dashboard."""
        return next(child for child in self.children() if "mooring" in " ".join(child.cmdline()))

    def kill(self) -> None:
        """End the terminal as closing its window would."""
        self._tmux("kill-server")
