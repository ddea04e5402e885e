"""The guest is what the scenarios believe it is."""

from __future__ import annotations

from tests.lab.machine import Machine


def test_the_guest_has_the_kernel_parts_that_this_is_about(guest: Machine) -> None:
    guest.run("modprobe -a iscsi_tcp dm-multipath target_core_mod iscsi_target_mod target_core_file loop fuse")
    ran = guest.run(
        "ls -d /sys/module/{iscsi_tcp,dm_multipath,iscsi_target_mod}; systemctl is-active iscsid multipathd"
    )
    modules = ["/sys/module/dm_multipath", "/sys/module/iscsi_target_mod", "/sys/module/iscsi_tcp"]
    assert ran.out.split() == [*modules, "active", "active"]


def test_mooring_is_installed_from_the_checkout(guest: Machine) -> None:
    assert guest.mooring("--version").out.startswith("mooring ")
