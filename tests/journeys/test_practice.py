"""The practice range from the outside: what it makes, its faults, its end."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from initiator.practice import range as ranges
from tests.journeys.host import Harbour, attached_loops, disk_named, listing, mounts, must, practice, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


def sized() -> dict[str, Any] | None:
    """What is listed; nothing where a volume was too slow for this look."""
    found: dict[str, Any] = must("list", "--json").json()
    return None if any(volume["size_bytes"] is None for volume in found["volumes"] if volume["disks"]) else found


def test_the_range_is_what_it_promises_and_leaves_nothing(own_folders: Path) -> None:
    with practice() as info:
        found = until(sized, what="a look in which every volume says its size")
        assert len({session["target"] for session in found["sessions"]}) == 2
        assert sorted(disk["name"] for disk in found["disks"]) == ["data", "logs", "vault"]
        assert len(found["paths"]) == 6
        assert {path["state"] for path in found["paths"]} <= {"active", "standby"}
        volumes = [volume for volume in found["volumes"] if volume["disks"]]
        assert sorted(volume["fstype"] for volume in volumes) == ["ext4", "ext4"]
        for volume in volumes:
            size = os.statvfs(volume["mountpoint"])
            assert volume["size_bytes"] == size.f_blocks * size.f_frsize
        ids = {link["id"] for link in found["links"]}
        for path in found["paths"]:
            assert path["link"] in ids
            session = next(item for item in found["sessions"] if item["id"] == path["session"])
            assert session["source"] == "engine"
            assert session["connections"][0]["tcp"]["rtt_us"] > 0
        for disk in found["disks"]:
            assert disk["wwid"].startswith("naa.")
            assert Path(disk["device"]).is_block_device()
            assert disk["size_bytes"] == int(Path(f"/sys/block/{Path(disk['device']).name}/size").read_text()) * 512
    assert info["folder"] not in mounts()
    assert attached_loops(own_folders) == []
    assert len(list((own_folders / "state/journal").glob("*.jsonl"))) == 1, "its disks went in one removal"
    assert not Path(info["folder"]).exists()


def test_a_pulled_cable_is_seen_within_a_second_and_a_copy_goes_on(shore: Harbour) -> None:
    point = Path(shore.disk("data")["mountpoint"])
    portal = shore.portals[1]
    failures: list[OSError] = []
    stop = threading.Event()
    written: list[bytes] = []

    def copy() -> None:
        number = 0
        while not stop.is_set():
            data = os.urandom(256 * 1024)
            try:
                with open(point / f"copy-{number % 64}", "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                failures.append(error)
                return
            written.append(hashlib.sha256(data).digest())
            number += 1

    def failed_paths() -> list[dict[str, Any]]:
        return [path for path in listing()["paths"] if host in path["name"] and path["state"] == "failed"]

    host = portal.rpartition(":")[0]
    worker = threading.Thread(target=copy)
    worker.start()
    try:
        until(lambda: len(written) > 3, what="the copy")
        ranges.fault("cut", [portal])
        pulled = time.time()
        until(lambda: len(failed_paths()) == 3, what="the failed paths")
        took = max(path["since"] for path in failed_paths()) - pulled
        seen = len(written)
        until(lambda: len(written) > seen + 3, seconds=40, what="the copy going on")
        must("practice", "fault", "plug", portal)
        until(lambda: not failed_paths(), seconds=40, what="the recovery")
    finally:
        stop.set()
        worker.join(60)
    assert failures == []
    assert took < 2.0, f"seen by the engine after {took:.2f} s"
    assert disk_named("data")["state"] == "attached"


def test_a_second_range_is_refused_and_the_first_lives_on(shore: Harbour) -> None:
    refused = must("practice", "--headless", code=3)
    assert "already" in refused.err
    assert disk_named("data")["state"] == "attached"
