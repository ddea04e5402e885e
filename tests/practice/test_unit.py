"""The SCSI side of the target: every command on a backing file, without a network."""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initiator.model import Access
from initiator.practice.config import DiskConfig
from initiator.practice.device import Device
from initiator.practice.nexus import ACCESS_CHANGED, CAPACITY_CHANGED, MAX_NEXUSES, NEXUS_LOSS, POWER_ON, Nexus, Port
from initiator.practice.store import Store, StoreError
from initiator.practice.unit import Answer, Unit, Want
from initiator.scsi import alua, commands, designators, inquiry, parameters
from initiator.scsi.commands import Status
from initiator.scsi.sense import Key, parse_sense

SIZE = 1 << 20
LUN0 = bytes(8)


class Bench:
    """One device with one disk and two ports, and the short way to run a command on it."""

    def __init__(self, folder: Path, block_bytes: int = 512) -> None:
        self.config = DiskConfig("disk", str(uuid.uuid4()), str(folder / f"{uuid.uuid4()}.img"), SIZE, block_bytes)
        self.store = Store(Path(self.config.path), SIZE)
        self.unit = Unit(self.config, self.store)
        self.ports = [Port(1), Port(2)]
        self.device = Device({0: self.unit}, self.ports)
        self.nexus = self.enter()
        self.nexus.attentions.clear()

    def enter(self, name: str = "iqn.2026-11.io.mooring.test:a", group: int = 1) -> Nexus:
        return self.device.nexuses.enter(name, b"\x80\0\0\0\0\1", group)

    def run(self, cdb: bytes, data: bytes = b"", lun: bytes = LUN0, nexus: Nexus | None = None) -> Answer:
        found = self.device.start(nexus or self.nexus, lun, cdb.ljust(16, b"\0"))
        if isinstance(found, Want):
            found = found.finish(memoryview(data)[: found.length])
        return found.later() if found.later is not None else found

    def code(self, cdb: bytes, data: bytes = b"", lun: bytes = LUN0) -> tuple[Key, int] | None:
        """Sense key and code, None for GOOD."""
        answer = self.run(cdb, data, lun)
        if answer.status == Status.GOOD:
            return None
        sense = parse_sense(answer.sense)
        return sense.key, sense.code


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def illegal(code: int = 0x2400) -> tuple[Key, int]:
    return Key.ILLEGAL_REQUEST, code


# --- identity -------------------------------------------------------------------------------------------------------


def test_it_says_who_it_is(bench: Bench) -> None:
    standard = inquiry.parse_standard(bench.run(commands.inquiry()).data)
    assert (standard.vendor, standard.product, standard.usable, standard.tpgs) == ("MOORING", "PRACTICE DISK", True, 1)
    pages = inquiry.parse_supported_pages(bench.run(commands.inquiry(True, 0)).data)
    for page in pages:
        assert inquiry.parse_page(bench.run(commands.inquiry(True, page)).data, page) is not None
    found = designators.parse_designators(bench.run(commands.inquiry(True, 0x83)).data)
    assert designators.wwid(found) == bench.config.wwid
    assert bench.config.wwid.startswith("naa.3")
    assert designators.port_group(found) == 1
    assert inquiry.parse_serial(bench.run(commands.inquiry(True, 0x80)).data) == bench.config.serial
    assert bench.code(commands.inquiry(True, 0x99)) == illegal()
    assert bench.code(commands.inquiry(False, 0x80)) == illegal()


def test_identity_depends_on_the_uuid_alone() -> None:
    one = DiskConfig("a", "6d9a9a9e-9d0c-4b3a-9c07-2b7e0a4f8c11", "/x", SIZE)
    same = DiskConfig("b", one.uuid, "/y", 2 * SIZE, 4096)
    other = DiskConfig("a", "6d9a9a9e-9d0c-4b3a-9c07-2b7e0a4f8c12", "/x", SIZE)
    assert one.wwid == same.wwid != other.wwid


def test_a_missing_unit(bench: Bench) -> None:
    nowhere = commands.encode_lun(3)
    standard = inquiry.parse_standard(bench.run(commands.inquiry(), lun=nowhere).data)
    assert (standard.qualifier, standard.device_type) == (3, 0x1F)
    assert bench.code(commands.test_unit_ready(), lun=nowhere) == illegal(0x2500)
    assert bench.code(commands.inquiry(True, 0), lun=nowhere) == illegal(0x2500)
    sense = parse_sense(bench.run(commands.request_sense(), lun=nowhere).data)
    assert (sense.key, sense.code) == illegal(0x2500)
    luns = commands.parse_report_luns(bench.run(commands.report_luns(), lun=nowhere).data)
    assert luns == (LUN0,)
    assert bench.code(commands.test_unit_ready(), lun=b"\xff" * 8) == illegal(0x2500)


def test_answers_are_cut_at_the_allocation_length(bench: Bench) -> None:
    assert len(bench.run(commands.inquiry(length=5)).data) == 5
    assert len(bench.run(commands.read_capacity16(12)).data) == 12
    assert len(bench.run(commands.mode_sense6(0x3F, length=4)).data) == 4
    assert bench.code(commands.report_luns(8)) == illegal()


def test_capacity_and_mode_pages(bench: Bench) -> None:
    found = parameters.parse_capacity16(bench.run(commands.read_capacity16()).data)
    assert (found.blocks, found.block_bytes, found.thin, found.reads_zero) == (SIZE // 512, 512, True, True)
    ten = parameters.parse_capacity10(bench.run(commands.read_capacity10()).data)
    assert ten is not None
    assert ten.blocks == SIZE // 512
    for cdb, long in ((commands.mode_sense6(0x08), False), (commands.mode_sense10(0x3F), True)):
        mode = parameters.parse_mode(bench.run(cdb).data, long)
        assert (mode.write_cache, mode.write_protected, mode.fua) == (True, False, True)
    assert bench.code(commands.mode_sense6(0x1B)) == illegal()
    assert bench.code(bytes((0x1A, 8, 0xC8, 0, 255, 0))) == illegal(0x3900)
    changeable = parameters.parse_mode(bench.run(bytes((0x1A, 8, 0x48, 0, 255, 0))).data)
    assert changeable.write_cache is False


# --- blocks ---------------------------------------------------------------------------------------------------------


def cdb6(opcode: int, lba: int, blocks: int) -> bytes:
    return bytes((opcode, lba >> 16, lba >> 8 & 0xFF, lba & 0xFF, blocks, 0))


def cdb12(opcode: int, lba: int, blocks: int) -> bytes:
    return struct.pack(">BBIIBB", opcode, 0, lba, blocks, 0, 0)


def cdb16(opcode: int, lba: int, blocks: int) -> bytes:
    return struct.pack(">BBQIBB", opcode, 0, lba, blocks, 0, 0)


def test_reads_and_writes_of_every_length(bench: Bench) -> None:
    ways = [
        (cdb6(0x0A, 9, 3), cdb6(0x08, 9, 3)),
        (commands.write(9, 3), commands.read(9, 3)),
        (cdb12(0xAA, 9, 3), cdb12(0xA8, 9, 3)),
        (cdb16(0x8A, 9, 3), cdb16(0x88, 9, 3)),
        (commands.write(9, 3, fua=True), commands.read(9, 3, fua=True)),
    ]
    for write, read in ways:
        data = os.urandom(3 * 512)
        assert bench.code(write, data) is None
        assert bench.run(read).data == data
        assert bench.store.read(9 * 512, len(data)) == data


def test_the_six_byte_form_means_256_by_zero(bench: Bench) -> None:
    assert len(bench.run(cdb6(0x08, 0, 0)).data) == 256 * 512


def test_the_end_of_the_disk(bench: Bench) -> None:
    last = SIZE // 512 - 1
    assert bench.code(commands.read(last, 1)) is None
    for cdb in (commands.read(last, 2), commands.write(last, 2), commands.read(last + 2, 0), cdb16(0x88, 1 << 63, 1)):
        assert bench.code(cdb, bytes(1024)) == illegal(0x2100)
    assert bench.code(commands.synchronize_cache16(last + 2)) == illegal(0x2100)
    assert bench.code(commands.read(0, 0)) is None
    assert bench.code(commands.read(0, 8192)) == illegal(0x2100)


def test_protection_fields_have_to_be_zero(bench: Bench) -> None:
    cdb = bytearray(commands.read(0, 1))
    cdb[1] |= 0x20
    assert bench.code(bytes(cdb)) == illegal()


def test_verify(bench: Bench) -> None:
    bench.store.write(0, b"v" * 512)
    same, other = bytearray(cdb16(0x8F, 0, 1)), bytearray(cdb16(0x8F, 0, 1))
    same[1] = other[1] = 0x02
    assert bench.code(cdb16(0x8F, 0, 1)) is None
    assert bench.code(bytes(same), b"v" * 512) is None
    assert bench.code(bytes(other), b"w" * 512) == (Key.MISCOMPARE, 0x1D00)


def test_synchronize_cache_syncs_the_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    for cdb in (commands.synchronize_cache16(), commands.synchronize_cache10(), commands.write(0, 1, fua=True)):
        assert bench.code(cdb, bytes(512)) is None
    assert len(synced) == 3
    assert bench.code(commands.write(0, 1), bytes(512)) is None
    assert len(synced) == 3


def test_a_failing_file_is_a_medium_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    for name in ("fdatasync", "pwrite", "pread"):
        monkeypatch.setattr(os, name, fail)
    assert bench.code(commands.synchronize_cache16()) == (Key.MEDIUM_ERROR, 0x0C00)
    assert bench.code(commands.write(0, 1), bytes(512)) == (Key.MEDIUM_ERROR, 0x0C00)
    assert bench.code(commands.read(0, 1)) == (Key.MEDIUM_ERROR, 0x1100)


def test_a_full_file_system_is_no_space(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert bench.code(commands.write(0, 1), bytes(512)) == (Key.DATA_PROTECT, 0x2707)


def allocated(bench: Bench) -> int:
    return os.stat(bench.config.path).st_blocks * 512


def test_unmap_gives_space_back(bench: Bench) -> None:
    assert bench.code(commands.write(0, 2048), b"x" * SIZE) is None
    before = allocated(bench)
    cdb, data = commands.unmap([(8, 512), (1024, 1024)])
    assert bench.code(cdb, data) is None
    assert allocated(bench) <= before - 700 * 1024
    assert bench.store.read(8 * 512, 512 * 512) == bytes(512 * 512)
    assert bench.store.read(0, 4096) == b"x" * 4096
    assert bench.code(*commands.unmap([])) is None
    assert bench.code(*commands.unmap([(2047, 2)])) == illegal(0x2100)
    assert bench.code(*commands.unmap([(0, 1)] * 65)) == illegal(0x2600)
    assert bench.code(cdb, data[:-20]) == illegal(0x1A00)


def test_write_same(bench: Bench) -> None:
    bench.store.write(0, b"x" * 65536)
    for unmap in (False, True):
        bench.store.write(0, b"x" * 65536)
        assert bench.code(*commands.write_same16_zero(8, 16, 512, unmap)) is None
        assert bench.store.read(0, 13312) == b"x" * 4096 + bytes(8192) + b"x" * 1024
    assert bench.code(cdb16(0x93, 4, 3), b"ab" * 256) is None
    assert bench.store.read(4 * 512, 4 * 512) == b"ab" * 768 + bytes(512)[:0] + bench.store.read(7 * 512, 512)
    assert bench.code(cdb16(0x93, 0, 0), bytes(512)) == illegal()
    assert bench.code(cdb16(0x93, 2040, 16), bytes(512)) == illegal(0x2100)
    assert bench.code(cdb16(0x93, 0, 4), b"short") == illegal()


# --- switches -------------------------------------------------------------------------------------------------------


def test_read_only(bench: Bench) -> None:
    bench.unit.faults.read_only = True
    protected = (Key.DATA_PROTECT, 0x2700)
    assert bench.code(commands.write(0, 1), bytes(512)) == protected
    assert bench.code(*commands.unmap([(0, 1)])) == protected
    assert bench.code(*commands.write_same16_zero(0, 1, 512)) == protected
    assert bench.code(commands.read(0, 1)) is None
    assert bench.code(commands.synchronize_cache16()) is None
    assert parameters.parse_mode(bench.run(commands.mode_sense6(8)).data).write_protected


def test_out_of_space_spares_what_is_allocated(bench: Bench) -> None:
    assert bench.code(commands.write(0, 64), b"x" * 32768) is None
    bench.unit.faults.out_of_space = True
    assert bench.code(commands.write(0, 64), b"y" * 32768) is None
    assert bench.code(commands.write(1024, 8), bytes(4096)) == (Key.DATA_PROTECT, 0x2707)
    assert bench.code(*commands.unmap([(0, 8)])) is None


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (Access.STANDBY, 0x040B),
        (Access.UNAVAILABLE, 0x040C),
        (Access.TRANSITIONING, 0x040A),
        (Access.OFFLINE, 0x0412),
    ],
)
def test_port_groups_that_take_no_data(bench: Bench, state: Access, code: int) -> None:
    bench.ports[0].access = state
    for cdb in (commands.read(0, 1), commands.test_unit_ready(), commands.synchronize_cache16()):
        assert bench.code(cdb) == (Key.NOT_READY, code)
    assert bench.code(commands.inquiry()) is None
    found = alua.parse_port_groups(bench.run(commands.report_target_port_groups()).data)
    assert [(item.group, item.access) for item in found] == [(1, state), (2, Access.OPTIMIZED)]
    other = bench.enter("iqn.2026-11.io.mooring.test:b", 2)
    other.attentions.clear()
    assert bench.run(commands.read(0, 1), nexus=other).status == Status.GOOD
    extended = bytearray(commands.report_target_port_groups())
    extended[1] |= 0x20
    assert alua.parse_port_groups(bench.run(bytes(extended)).data) == found


# --- unit attentions ------------------------------------------------------------------------------------------------


def test_attentions_are_told_once_each_and_not_by_inquiry(bench: Bench) -> None:
    nexus = bench.enter("iqn.2026-11.io.mooring.test:new")
    bench.device.nexuses.attend("disk", ACCESS_CHANGED)
    bench.device.nexuses.attend("disk", CAPACITY_CHANGED)
    bench.device.nexuses.attend("disk", CAPACITY_CHANGED)
    assert bench.run(commands.inquiry(), nexus=nexus).status == Status.GOOD
    assert bench.run(commands.report_luns(), nexus=nexus).status == Status.GOOD
    codes = []
    for _ in range(4):
        answer = bench.run(commands.test_unit_ready(), nexus=nexus)
        codes.append(parse_sense(answer.sense).code if answer.status else 0)
    assert codes == [POWER_ON, ACCESS_CHANGED, CAPACITY_CHANGED, 0]


def test_request_sense_takes_an_attention(bench: Bench) -> None:
    nexus = bench.enter()
    for code in (NEXUS_LOSS, 0):
        answer = bench.run(commands.request_sense(), nexus=nexus)
        assert (answer.status, parse_sense(answer.data).code) == (0, code)


def test_power_on_is_not_hidden_by_a_second_login(bench: Bench) -> None:
    bench.enter("iqn.2026-11.io.mooring.test:new")
    again = bench.enter("iqn.2026-11.io.mooring.test:new")
    assert again.attentions["disk"] == [POWER_ON]


def test_strangers_do_not_fill_the_memory(bench: Bench) -> None:
    for number in range(MAX_NEXUSES + 50):
        bench.enter(f"iqn.2026-11.io.mooring.test:{number}")
    assert len(bench.device.nexuses._known) == MAX_NEXUSES


# --- the backing file -----------------------------------------------------------------------------------------------


def test_two_targets_cannot_serve_one_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.img", 4096)
    with pytest.raises(StoreError, match="another target serves it"):
        Store(tmp_path / "a.img", 4096)
    store.close()
    Store(tmp_path / "a.img", 4096).close()


def test_a_store_never_shrinks_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"x" * 8192)
    store = Store(tmp_path / "a.img", 4096)
    assert (store.size, store.read(8000, 192)) == (8192, b"x" * 192)
    store.close()
    (tmp_path / "link").symlink_to(tmp_path / "a.img")
    with pytest.raises(StoreError):
        Store(tmp_path / "link", 4096)


# --- anything at all ------------------------------------------------------------------------------------------------

_opcodes = st.sampled_from(bytes.fromhex("0003080a121a1b25282a2f3541425a888a8f91939ea0a3a8aa"))
_cdbs = st.one_of(
    st.binary(min_size=16, max_size=32),
    st.builds(lambda op, rest: bytes([op]) + rest, _opcodes, st.binary(min_size=15, max_size=15)),
    st.builds(
        lambda op, flags, lba, blocks: struct.pack(">BBQIBB", op, flags, lba, blocks, 0, 0),
        _opcodes,
        st.integers(0, 255),
        st.integers(0, 3000),
        st.integers(0, 300),
    ),
)


@settings(max_examples=300)
@given(cdb=_cdbs, data=st.binary(max_size=600), lun=st.sampled_from([LUN0, b"\0\1" + bytes(6), b"\xc1" * 8]))
def test_no_command_breaks_the_dispatcher(
    tmp_path_factory: pytest.TempPathFactory, cdb: bytes, data: bytes, lun: bytes
) -> None:
    bench = Bench(tmp_path_factory.mktemp("unit"))
    try:
        answer = bench.run(cdb, data, lun)
        assert (answer.status == Status.CHECK_CONDITION) is bool(answer.sense)
        assert len(answer.data) <= 2 << 20
        assert bench.store.size == os.stat(bench.config.path).st_size == SIZE
        if answer.sense:
            assert parse_sense(answer.sense).key in (Key.ILLEGAL_REQUEST, Key.UNIT_ATTENTION, Key.MISCOMPARE)
    finally:
        bench.store.close()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("wzu"), st.integers(0, 2000), st.integers(1, 48)), max_size=12))
def test_a_disk_behaves_like_memory(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("unit"))
    model = bytearray(SIZE)
    try:
        for number, (kind, lba, blocks) in enumerate(steps, 1):
            span = slice(lba * 512, (lba + blocks) * 512)
            data = bytes([number]) * (blocks * 512) if kind == "w" else bytes(blocks * 512)
            if kind == "w":
                assert bench.code(commands.write(lba, blocks), data) is None
            elif kind == "z":
                assert bench.code(*commands.write_same16_zero(lba, blocks, 512)) is None
            else:
                assert bench.code(*commands.unmap([(lba, blocks)])) is None
            model[span] = data
        assert bench.store.read(0, SIZE) == model
    finally:
        bench.store.close()
