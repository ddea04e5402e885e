"""What a probe asks, without a target."""

from __future__ import annotations

from typing import cast

import pytest

from initiator.engine.prober import Probe, ProbeSession, Wanted
from initiator.engine.session_config import Completed
from initiator.scsi.commands import encode_lun


class Asked:
    """A session that notes where it is asked."""

    def __init__(self) -> None:
        self.fields: list[int | bytes] = []

    async def execute(self, lun: int | bytes, cdb: bytes, **_: float) -> Completed:
        self.fields.append(lun)
        return Completed(0, b"", bytearray(), 0)


@pytest.mark.parametrize(
    ("number", "field"),
    [(1, encode_lun(1)), (256, b"\x01" + bytes(7)), (16640, encode_lun(256)), (0xC101, b"\xc1\x01" + bytes(6))],
)
async def test_the_kernels_number_of_a_lun_leads_to_the_kernels_unit(number: int, field: bytes) -> None:
    """Linux writes its number into the LUN field as it is: only so the probe asks the unit that the kernel uses."""
    session = Asked()
    probe = Probe(Wanted("kernel:s:1", "iqn.2026-11.io.mooring.test:t", "192.0.2.1", "iqn.x:i", lun=number), print)
    assert await probe._ask(cast(ProbeSession, session), access=False) is None
    assert session.fields == [field]
