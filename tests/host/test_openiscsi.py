"""Whether open-iscsi can be used: the program, and the kernel under it."""

from __future__ import annotations

from pathlib import Path

import pytest

from initiator.host.openiscsi import why_not


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    program = tmp_path / "usr/sbin/iscsiadm"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    return tmp_path


def test_without_the_program(tmp_path: Path) -> None:
    assert "not installed" in why_not(tmp_path)
    (tmp_path / "sys/class/iscsi_transport").mkdir(parents=True)
    assert "not installed" in why_not(tmp_path)


def test_a_kernel_without_iscsi(installed: Path) -> None:
    assert why_not(installed, "6.12.0") == "this kernel has no iSCSI"


def test_a_kernel_that_has_it_loaded(installed: Path) -> None:
    (installed / "sys/class/iscsi_transport").mkdir(parents=True)
    assert why_not(installed, "6.12.0") == ""


@pytest.mark.parametrize("name", ["modules.dep", "modules.builtin"])
def test_a_kernel_that_can_load_it(installed: Path, name: str) -> None:
    folder = installed / "lib/modules/6.12.0"
    folder.mkdir(parents=True)
    (folder / name).write_text("kernel/drivers/scsi/sd_mod.ko.xz:\nkernel/drivers/scsi/scsi_transport_iscsi.ko.xz:\n")
    assert why_not(installed, "6.12.0") == ""
    assert why_not(installed, "6.13.0") == "this kernel has no iSCSI"
