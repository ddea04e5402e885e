"""Every example of docs/library.md runs as it stands there, against a real target."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from initiator.practice.target import Target
from tests.practice.conftest import LOCKED, OPEN, SECRET
from tests.until import until

TEXT = (Path(__file__).parents[2] / "docs/library.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def names(target: Target) -> dict[str, Any]:
    """What the examples take from their reader, and what earlier examples have imported."""
    portals = [str(portal) for portal in target.config.portals]
    found: dict[str, Any] = {
        "portal": portals[0],
        "portals": portals,
        "target_name": OPEN,
        "locked_name": LOCKED,
        "secret": SECRET,
    }
    exec("from initiator.api import *", found)
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=[text.splitlines()[0] for text in EXAMPLES])
async def test_an_example_runs_and_leaves_no_session(target: Target, example: str) -> None:
    code = compile(example, "docs/library.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if inspect.CO_COROUTINE & code.co_flags:
        await eval(code, names(target))
    else:  # the target lives in this loop, so what blocks has to be elsewhere
        run: Callable[..., None] = exec
        await asyncio.to_thread(run, code, names(target))
    await until(lambda: not any(portal.links for portal in target.server.portals), what="the end of its sessions")


def test_there_are_examples_of_every_part() -> None:
    text = "".join(EXAMPLES)
    for name in ("discover(", "Session.login(", "Disk.open(", "blocking", "reserve(", "compare_and_write(", "execute("):
        assert name in text
