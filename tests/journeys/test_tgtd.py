"""A disk of somebody else's target (Debian's tgt), from discovery to removal, byte for byte."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.journeys.host import disk_named, listing, mooring, must
from tests.tgtd import Tgtd

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

TARGET = "iqn.2026-11.io.mooring.test:store"
SECRET = "correct-horse-1"


def test_from_discovery_to_removal(tmp_path: Path) -> None:
    backing = tmp_path / "backing.img"
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    point = tmp_path / "mnt"
    point.mkdir()
    with Tgtd(tmp_path) as tgtd:
        target = tgtd.add_target(TARGET, HeaderDigest="CRC32C", DataDigest="CRC32C")
        tgtd.add_account(target, "harbourmaster", SECRET)
        tgtd.add_lun(target, 1, 64 << 20, backing)
        portal = str(tgtd.portal)
        chap = ("--chap-user", "harbourmaster", "--chap-secret-file", str(secret))

        found = must("discover", portal, "--via", "engine", "--json").json()
        assert [target["name"] for target in found["targets"]] == [TARGET]

        wrong = tmp_path / "wrong"
        wrong.write_text("not-the-secret-1\n")
        wrong.chmod(0o600)
        over = ("--portal", portal, "--via", "engine")
        denied = mooring("login", TARGET, *over, "--chap-user", "harbourmaster", "--chap-secret-file", str(wrong))
        assert denied.code == 1
        assert "not-the-secret" not in denied.err
        assert "does not accept our CHAP name or secret" in denied.err

        must("login", TARGET, *over, *chap)
        session = next(item for item in listing()["sessions"] if item["target"] == TARGET)
        assert session["connections"][0]["header_digest"] == "CRC32C"
        assert session["connections"][0]["data_digest"] == "CRC32C"

        must("attach", TARGET, "--lun", "1", "--as", "store")
        device = disk_named("store")["device"]
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        subprocess.run(["mount", device, str(point)], check=True)
        data = os.urandom(8 << 20)
        (point / "file").write_bytes(data)

        must("remove", "store", "--confirm", "store")
        assert not point.is_mount()
        assert [item for item in listing()["sessions"] if item["target"] == TARGET] == []
    must("engine", "stop")

    check = subprocess.run(["e2fsck", "-fn", str(backing)], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    subprocess.run(["mount", "-o", "loop,ro", str(backing), str(point)], check=True)
    try:
        assert hashlib.sha256((point / "file").read_bytes()).digest() == hashlib.sha256(data).digest()
    finally:
        subprocess.run(["umount", str(point)], check=True)


def test_bytes_without_a_block_device(tmp_path: Path) -> None:
    backing = tmp_path / "backing.img"
    with Tgtd(tmp_path) as tgtd:
        tgtd.add_lun(tgtd.add_target(TARGET), 1, 16 << 20, backing)
        where = (TARGET, "--portal", str(tgtd.portal), "--lun", "1")
        data = os.urandom(3 << 20)
        (tmp_path / "in").write_bytes(data)
        must("write", *where, "--offset", "1M", "--input", str(tmp_path / "in"), "--confirm", TARGET)
        must("read", *where, "--offset", str((1 << 20) + 5), "--length", "2M", "--output", str(tmp_path / "out"))
        assert (tmp_path / "out").read_bytes() == data[5 : 5 + (2 << 20)]
        must("image", *where, str(tmp_path / "image"))
    assert (tmp_path / "image").stat().st_size == 16 << 20
    assert (tmp_path / "image").read_bytes() == backing.read_bytes()
