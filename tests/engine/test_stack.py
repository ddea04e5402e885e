"""The sessions of one worker against the practice target: refusals after a takeover, LUNs that come late."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from initiator.engine import options, stack
from initiator.engine.attached import Route, WorkerConfig
from initiator.engine.stack import TargetStack
from initiator.model import PathState, Portal, Severity
from initiator.practice.config import RangeConfig
from initiator.practice.target import Target
from initiator.protocol.errors import ConnectionLost, LoginError
from tests.practice.conftest import OPEN, build
from tests.practice.peer import NAME
from tests.practice.test_engine import apply
from tests.until import until


class Worker:
    """A stack and what it told."""

    def __init__(self, portals: tuple[Portal, ...]) -> None:
        self.routes = tuple(Route(number, portal, f"8000000000{number:02x}") for number, portal in enumerate(portals))
        self.said: list[str] = []
        self.stack = TargetStack(WorkerConfig(1, OPEN, NAME, self.routes), self._tell)

    def _tell(self, subject: str, text: str, severity: Severity) -> None:
        self.said.append(text)

    def count(self, text: str) -> int:
        return sum(text in each for each in self.said)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried or looked at again is so at once."""
    monkeypatch.setattr(options, "_RETRY_REFUSED_S", 0.02)
    monkeypatch.setattr(stack, "_LOOK_AGAIN", 0.05)


@pytest.fixture
def whole(own_folders: Path) -> RangeConfig:
    return build(own_folders)


@pytest.fixture
def starting(whole: RangeConfig) -> RangeConfig:
    """A target that does not know its own name yet, as one that has just been started."""
    return dataclasses.replace(whole, targets=whole.targets[1:])


@contextlib.asynccontextmanager
async def serving(config: RangeConfig) -> AsyncIterator[Target]:
    target = Target(config)
    await target.start()
    try:
        yield target
    finally:
        await target.close()


@contextlib.asynccontextmanager
async def working(portals: tuple[Portal, ...]) -> AsyncIterator[Worker]:
    worker = Worker(portals)
    try:
        yield worker
    finally:
        await worker.stack.close()


async def test_a_first_login_takes_the_target_at_its_word(starting: RangeConfig) -> None:
    async with serving(starting) as target, working(target.config.portals) as worker:
        with pytest.raises(LoginError, match="no such target"):
            await worker.stack.login(worker.routes, 0.0)


async def test_after_a_takeover_a_refusal_is_tried_again_until_the_target_knows_itself(
    whole: RangeConfig, starting: RangeConfig
) -> None:
    async with contextlib.AsyncExitStack() as later:
        async with serving(starting) as target:
            portals = target.config.portals
            worker = await later.enter_async_context(working(portals))
            login = asyncio.create_task(worker.stack.login(worker.routes, 60.0))
            refused = [f"no session over {portal}" for portal in portals]
            await until(lambda: all(worker.count(text) > 2 for text in refused))
            assert not login.done()
        await later.enter_async_context(serving(dataclasses.replace(whole, portals=portals)))
        assert await login == ()
        await until(lambda: all(session.luns == (0, 1) for session in worker.stack.report().sessions))


async def test_patience_has_an_end_and_says_what_the_target_said(starting: RangeConfig) -> None:
    async with serving(starting) as target, working(target.config.portals) as worker:
        with pytest.raises(ConnectionLost, match=r"within 0\.3 s: .*no such target"):
            await worker.stack.login(worker.routes, 0.3)


async def test_a_path_whose_lun_comes_late_joins_the_disk(whole: RangeConfig) -> None:
    async with serving(whole) as target, working(target.config.portals) as worker:
        first, second = worker.routes
        await worker.stack.login((first,), 0.0)
        device = (await worker.stack.open(0, False, None)).device
        apply(target, "vanish", "data")
        await worker.stack.login((second,), 0.0)
        assert worker.count(f"LUN 0 is not there over {second.portal}") == 1
        assert [path.name for path in device.paths] == [str(first.portal)]
        apply(target, "vanish", "data", "off")
        await until(lambda: len(device.paths) == 2)
        await until(lambda: all(path.state is PathState.ACTIVE for path in device.paths))
        assert worker.count("is not there over") == 1, "it is looked for often, and said once"
