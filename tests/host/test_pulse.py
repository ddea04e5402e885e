"""The quick look at the states of the kernel's sessions."""

from __future__ import annotations

from pathlib import Path

from initiator.host.pulse import SessionPulse


def session(root: Path, sid: int, state: str) -> None:
    folder = root / f"sys/class/iscsi_session/session{sid}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").write_text(f"{state}\n")


def test_a_state_that_changes_and_a_session_that_goes_show_at_once(tmp_path: Path) -> None:
    pulse = SessionPulse(tmp_path)
    assert pulse.look() == ()
    session(tmp_path, 1, "LOGGED_IN")
    assert pulse.look() == (("session1", b"LOGGED_IN\n"),)
    session(tmp_path, 1, "FAILED")
    assert pulse.look() == (("session1", b"FAILED\n"),)
    (tmp_path / "sys/class/iscsi_session/session1/state").unlink()
    assert pulse.look() == (("session1", None),)


def test_many_sessions_are_looked_at_in_turn_and_new_ones_at_once(tmp_path: Path) -> None:
    pulse = SessionPulse(tmp_path, turn=2)
    for sid in range(1, 6):
        session(tmp_path, sid, "LOGGED_IN")
    assert {state for _, state in pulse.look()} == {b"LOGGED_IN\n"}
    for sid in range(1, 6):
        session(tmp_path, sid, "FAILED")
    failed = [[name for name, state in pulse.look() if state == b"FAILED\n"] for _ in range(3)]
    assert failed == [
        ["session3", "session4"],
        ["session3", "session4", "session5"],
        ["session1", "session2", "session3", "session4", "session5"],
    ]
