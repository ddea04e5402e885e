"""An independent initiator as the judge: libiscsi's tools and its test suite for targets."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from initiator.practice.target import Target
from tests.practice.conftest import LOCKED, OPEN, SECRET

pytestmark = pytest.mark.skipif(
    shutil.which("iscsi-test-cu") is None, reason="needs libiscsi-bin (iscsi-ls, iscsi-inq, iscsi-test-cu)"
)

SUITES = [
    *("Inquiry", "Mandatory", "ModeSense6", "Read6", "Read10", "Read12", "ReadCapacity16", "TestUnitReady"),
    *("CompareAndWrite", "PrinReadKeys", "PrinReportCapabilities", "PrinServiceactionRange"),
    *("ProutClear", "ProutPreempt", "ProutRegister", "ProutReserve"),
    *("Unmap", "Verify16", "Write10", "Write16", "WriteSame10", "WriteSame16", "StartStopUnit"),
]
"""One run for each: this version keeps CDB bytes from one suite to the next when it runs several."""


async def run(*argv: str) -> str:
    """Run a tool and give everything it says."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(30):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace")


def url(target: Target, name: str = OPEN, lun: int = 0, portal: int = 0, login: str = "") -> str:
    return f"iscsi://{login}{target.config.portals[portal]}/{name}/{lun}"


async def test_discovery_lists_targets_and_units(target: Target) -> None:
    # libiscsi takes the last portal of a target, and cannot look into the one with CHAP.
    said = await run("iscsi-ls", f"iscsi://{target.config.portals[0]}")
    for name in (OPEN, LOCKED):
        assert f"Target:{name} Portal:{target.config.portals[1]},2" in said


@pytest.mark.parametrize("portal", [0, 1])
async def test_inquiry_and_capacity(target: Target, portal: int) -> None:
    said = await run("iscsi-inq", url(target, portal=portal))
    assert "Vendor:MOORING" in said
    said = await run("iscsi-inq", "-e", "1", "-c", "128", url(target))
    assert f"[{target.config.disks[0].serial}]" in said
    said = await run("iscsi-readcapacity16", url(target))
    assert f"Total size:{8 << 20}" in said


async def test_chap(target: Target) -> None:
    said = await run("iscsi-readcapacity16", url(target, LOCKED, login=f"keeper%{SECRET}@"))
    assert "Total size" in said
    said = await run("iscsi-readcapacity16", url(target, LOCKED, login="keeper%something else@"))
    assert "Authentication failure" in said


async def test_its_protocol_tests(target: Target) -> None:
    assert_passed(await run("iscsi-test-cu", "-d", "-V", "--test=iSCSI", url(target)))


async def test_header_digests(target: Target) -> None:
    for suite in ("TestUnitReady", "Read12"):
        said = await run("iscsi-test-cu", "-d", "-V", f"--test=SCSI.{suite}", url(target) + "?header_digest=crc32c")
        assert_passed(said)


@pytest.mark.parametrize("suite", SUITES)
async def test_its_scsi_tests(target: Target, suite: str) -> None:
    said = await run("iscsi-test-cu", "-d", "-V", f"--test=SCSI.{suite}", url(target))
    assert_passed(said)


async def test_its_tests_over_two_paths(target: Target) -> None:
    both = (url(target), url(target, portal=1))
    assert_passed(await run("iscsi-test-cu", "-d", "-V", "--test=SCSI.MultipathIO", *both))


async def test_its_scsi_tests_on_blocks_of_4096_bytes(target: Target) -> None:
    for suite in ("Read16", "Unmap"):
        assert_passed(await run("iscsi-test-cu", "-d", "-V", f"--test=SCSI.{suite}", url(target, lun=1)))


def assert_passed(said: str) -> None:
    """The summary's line `tests total ran passed failed` must show tests, all of them passed."""
    line = next((line.split() for line in said.splitlines() if line.strip().startswith("tests ")), None)
    assert line is not None, said[-2000:]
    total, failed = int(line[1]), int(line[4])
    assert total > 0
    assert failed == 0, [text for text in said.splitlines() if "[FAILED]" in text or text.startswith("FAILED")][:20]


async def test_it_reads_under_load(target: Target) -> None:
    said = await run("timeout", "5", "iscsi-perf", "-m", "32", "-b", "8", "-r", "-t", "1", url(target))
    assert "iops average" in said
    assert "failed" not in said.lower()
