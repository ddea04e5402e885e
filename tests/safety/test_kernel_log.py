"""What the kernel's log says against an unmount, and what only sounds as if it did."""

from __future__ import annotations

from pathlib import Path

import pytest

from safety.effects import KernelLog


def told(tmp_path: Path, text: str, kname: str = "loop2") -> tuple[str, ...]:
    file = tmp_path / "kmsg"
    file.write_text("6,1,1,-;I/O error, dev loop2, sector 8, from before\n")
    log = KernelLog(str(file))
    try:
        with file.open("a") as kernel:
            kernel.write(f"3,1201,733110921,-;{text}\n SUBSYSTEM=block\n")
        return log.errors(kname)
    finally:
        log.close()


@pytest.mark.parametrize(
    "text",
    [
        "I/O error, dev loop2, sector 556 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2",
        "critical space allocation error, dev loop2, sector 556 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2",
        "I/O error, dev loop2, sector 556 op 0x9:(WRITE_ZEROES) flags 0x800 phys_seg 0 prio class 2",
        "operation not supported error, dev loop2, sector 0 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2",
        "critical target error, dev loop2, sector 0 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2",
        "Buffer I/O error on dev loop2, logical block 1, lost sync page write",
        "EXT4-fs (loop2): I/O error while writing superblock",
        "EXT4-fs error (device loop2p1): ext4_journal_check_start:84: Detected aborted journal",
    ],
)
def test_an_error_of_the_device_counts(tmp_path: Path, text: str) -> None:
    assert told(tmp_path, text) == (text,)


@pytest.mark.parametrize("why", ["operation not supported", "critical target"])
@pytest.mark.parametrize("op", ["0x9:(WRITE_ZEROES)", "0x3:(DISCARD)", "0x5:(SECURE_ERASE)"])
def test_a_shortcut_that_the_device_does_not_know_is_no_error(tmp_path: Path, op: str, why: str) -> None:
    text = f"{why} error, dev loop2, sector 556 op {op} flags 0x8000800 phys_seg 0 prio class 2"
    assert told(tmp_path, text) == ()


@pytest.mark.parametrize("kname", ["loop", "loop22", "oop2", ""])
def test_another_device_does_not_count(tmp_path: Path, kname: str) -> None:
    assert told(tmp_path, "I/O error, dev loop2, sector 1 op 0x1:(WRITE)", kname) == ()


def test_a_log_that_may_not_be_read_says_nothing(tmp_path: Path) -> None:
    log = KernelLog(str(tmp_path / "none"))
    assert log.errors("loop2") == ()
    log.close()
