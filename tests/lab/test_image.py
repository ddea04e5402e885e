"""What goes wrong while the guest's image is built is said soon, and with its reason."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.lab import image


def test_a_part_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    own = tmp_path / "own.log"
    own.write_text("the package has gone\n")
    with pytest.raises(image.ImageError, match=r"failed with 3; its last words:\ntold\nthe package has gone"):
        image._run(["sh", "-c", "echo told; exit 3"], time.monotonic() + 60, more=own)


@pytest.mark.parametrize(("silence", "seconds", "why"), [(0.5, 60.0, "said nothing for"), (60.0, 0.5, "took too long")])
def test_a_part_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, silence: float, seconds: float, why: str) -> None:
    monkeypatch.setattr(image, "SILENCE", silence)
    with pytest.raises(image.ImageError, match=why):
        image._run(["sleep", "1000"], time.monotonic() + seconds)


def test_a_mirror_that_does_not_answer_is_named() -> None:
    with pytest.raises(image.ImageError, match=r"http://127\.0\.0\.1:1/debian.*refused"):
        image._ask("http://127.0.0.1:1/debian")


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "debootstrap" else found(name))
    with pytest.raises(image.ImageError, match="it needs debootstrap"):
        image.image()
    assert list(tmp_path.iterdir()) == []


def test_old_images_make_room_and_builds_that_were_cut_off_go_first(tmp_path: Path) -> None:
    for number in range(image.KEPT + 2):
        (tmp_path / f"image{number}").mkdir()
        (tmp_path / f"image{number}" / "complete").touch()
        os.utime(tmp_path / f"image{number}" / "complete", (number, number))
    (tmp_path / "cut").mkdir()
    image._make_room(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"image{number}" for number in range(2, image.KEPT + 2)]
