"""Who would bring a disk back, read from the files of a host."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from initiator.host.agents import CryptEntry, Resource, read_cluster, read_crypttab

CIB = """<cib><configuration><resources>
  <group id="g"><primitive id="fs" class="ocf" provider="heartbeat" type="Filesystem"><instance_attributes id="a">
    <nvpair id="1" name="directory" value="/mnt/data"/><nvpair id="2" name="device" value="/dev/vg/data"/>
    <nvpair id="3" name="fstype" value="ext4"/></instance_attributes></primitive></group>
  <primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2"><instance_attributes id="b">
    <nvpair id="4" name="ip" value="10.0.0.1"/></instance_attributes></primitive>
</resources></configuration></cib>"""


def put(root: Path, name: str, text: str) -> None:
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")


def test_crypttab_names_mappings(tmp_path: Path) -> None:
    assert read_crypttab(tmp_path) == ()
    put(tmp_path, "etc/crypttab", "# comment\nvault UUID=1 none luks\n\nshort\n")
    assert read_crypttab(tmp_path) == (CryptEntry("vault", "UUID=1"),)


def test_pacemaker_names_storage(tmp_path: Path) -> None:
    assert read_cluster(tmp_path) == ()
    put(tmp_path, "var/lib/pacemaker/cib/cib.xml", CIB)
    agent = "ocf:heartbeat:Filesystem"
    assert read_cluster(tmp_path) == (
        Resource("fs", agent, "directory", "/mnt/data"),
        Resource("fs", agent, "device", "/dev/vg/data"),
    )


def test_a_configuration_that_cannot_be_understood_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "var/lib/pacemaker/cib/cib.xml", "<cib>")
    with pytest.raises(ElementTree.ParseError):
        read_cluster(tmp_path)
