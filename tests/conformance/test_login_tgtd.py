"""Discovery and login at a real target with quirks of its own: Debian's tgtd."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from initiator.engine.connect import connect
from initiator.engine.discovery import discover
from initiator.model import Portal
from initiator.protocol.chap import ENTROPY_BYTES, Chap
from initiator.protocol.errors import AuthError, ConnectionLost, LoginError, NegotiationError
from initiator.protocol.keys import Offer
from initiator.protocol.login import LoginConfig, LoginResult, random_isid
from tests.tgtd import Tgtd, needs_tgtd

pytestmark = [pytest.mark.root, needs_tgtd]

ME = "iqn.2026-11.io.mooring:tests"
OPEN = "iqn.2026-11.example:open"
LOCKED = "iqn.2026-11.example:locked"
INSISTING = "iqn.2026-11.example:insisting"
SECRET = "a secret of 24 characters"
TARGET_SECRET = "quite another secret 123"
BOTH = Offer(header_digest=("CRC32C", "None"), data_digest=("CRC32C", "None"))


@pytest.fixture(scope="module")
def tgtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tgtd]:
    with Tgtd(tmp_path_factory.mktemp("tgtd"), ("127.0.0.1", "127.0.0.2")) as running:
        running.add_target(OPEN)
        locked = running.add_target(LOCKED)
        running.add_account(locked, "me", SECRET)
        running.add_account(locked, "box", TARGET_SECRET, outgoing=True)
        running.add_target(INSISTING, HeaderDigest="CRC32C", DataDigest="CRC32C", MaxRecvDataSegmentLength="65536")
        yield running


async def log_in(
    portal: Portal, target: str, chap: Chap | None = None, offer: Offer = BOTH, algorithms: tuple[int, ...] = (8, 5, 7)
) -> LoginResult:
    def config() -> LoginConfig:
        return LoginConfig(
            ME,
            target,
            random_isid(os.urandom(3)),
            chap=chap,
            chap_algorithms=algorithms,
            offer=offer,
            entropy=os.urandom(ENTROPY_BYTES),
        )

    connected = await connect(portal, config, 10.0)
    connected.sock.close()
    return connected.result


async def test_discovery_on_each_portal(tgtd: Tgtd) -> None:
    for portal in tgtd.portals:
        found = await discover(portal, ME)
        assert [target.name for target in found] == [OPEN, LOCKED, INSISTING]
        assert all(target.portals == (portal,) for target in found)


async def test_default_offer(tgtd: Tgtd) -> None:
    result = await log_in(tgtd.portal, OPEN)
    assert result.tsih
    assert result.target_portal_group_tag == 1
    assert not result.params.header_digest
    assert result.params.max_recv_data_segment_length == 262144
    assert result.notes == ()


@pytest.mark.check(66, 67)
async def test_newer_keys_are_unknown_to_it(tgtd: Tgtd) -> None:
    offer = Offer(task_reporting=("ResponseFence", "RFC3720"), protocol_level=1)
    result = await log_in(tgtd.portal, OPEN, offer=offer)
    assert result.params.task_reporting == "RFC3720"
    assert len(result.notes) == 2


@pytest.mark.check(53)
async def test_unproposed_none_is_no_silent_downgrade(tgtd: Tgtd) -> None:
    """It answers None to a list without None."""
    with pytest.raises(NegotiationError):
        await log_in(tgtd.portal, OPEN, offer=Offer(header_digest=("CRC32C",)))


@pytest.mark.check(52)
async def test_digests_that_it_insists_on(tgtd: Tgtd) -> None:
    result = await log_in(tgtd.portal, INSISTING)
    assert (result.params.header_digest, result.params.data_digest) == (True, True)
    assert result.params.max_xmit_data_segment_length == 65536


@pytest.mark.check(23, 27)
async def test_stage_that_it_holds_open(tgtd: Tgtd) -> None:
    """It declares its segment length with T=0 and rubbish in NSG, and does not skip the operational stage."""
    config = LoginConfig(ME, INSISTING, random_isid(b"abc"), offer=BOTH, operational=False)
    connected = await connect(tgtd.portal, lambda: config, 10.0)
    connected.sock.close()
    assert connected.result.exp_stat_sn == 3
    assert connected.result.params.max_xmit_data_segment_length == 65536


@pytest.mark.check(72)
@pytest.mark.parametrize("algorithms", [(5,), (8, 5, 7), (8, 6, 5), (5, 7)])
async def test_chap(tgtd: Tgtd, algorithms: tuple[int, ...]) -> None:
    result = await log_in(tgtd.portal, LOCKED, Chap("me", SECRET), algorithms=algorithms)
    assert result.chap_algorithm == 5


@pytest.mark.check(80, 81)
async def test_mutual_chap(tgtd: Tgtd) -> None:
    result = await log_in(tgtd.portal, LOCKED, Chap("me", SECRET, "box", TARGET_SECRET))
    assert result.chap_algorithm == 5
    with pytest.raises(AuthError) as caught:
        await log_in(tgtd.portal, LOCKED, Chap("me", SECRET, "box", "not what the target has"))
    assert caught.value.code == "target-authentication"


async def test_its_own_idea_of_algorithm_7(tgtd: Tgtd) -> None:
    """It takes 7 for SHA-1; the error names the way out."""
    with pytest.raises(AuthError) as caught:
        await log_in(tgtd.portal, LOCKED, Chap("me", SECRET), algorithms=(7, 5))
    assert "offer 5 before 7" in caught.value.fix


@pytest.mark.parametrize(
    ("chap", "code"),
    [
        (Chap("me", SECRET + "!"), "authentication"),
        (Chap("somebody", SECRET), "authentication"),
        (None, "authentication-required"),
    ],
)
async def test_wrong_or_missing_secret(tgtd: Tgtd, chap: Chap | None, code: str) -> None:
    with pytest.raises(AuthError) as caught:
        await log_in(tgtd.portal, LOCKED, chap)
    assert caught.value.code == code
    assert not caught.value.retry
    assert SECRET not in str(caught.value)


async def test_unknown_target(tgtd: Tgtd) -> None:
    with pytest.raises(LoginError) as caught:
        await log_in(tgtd.portal, "iqn.2026-11.example:nowhere")
    assert caught.value.code == "target-not-found"


async def test_sessions_are_seen_and_end_with_the_process(tgtd: Tgtd) -> None:
    config = LoginConfig(ME, OPEN, random_isid(b"abc"))
    connected = await connect(tgtd.portal, lambda: config, 10.0)
    with connected.sock:
        assert tgtd.sessions(1) >= 1
    with Tgtd(tgtd.folder) as other:
        name = "iqn.2026-11.example:short-lived"
        tid = other.add_target(name)
        backing = other.add_lun(tid, size=1 << 20)
        assert backing.stat().st_size == 1 << 20
        assert (await log_in(other.portal, name)).tsih
        portal = other.portal
    with pytest.raises(ConnectionLost):
        await log_in(portal, name)
