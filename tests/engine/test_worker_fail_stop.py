"""A callback that raises ends the worker, so that it is replaced and no request stays unanswered."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import asyncio
from initiator.engine import worker

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(worker._fail_stop)
    {what}
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    print("lives")

asyncio.run(main())
"""


def run(what: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(what=what)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


def test_a_callback_that_raises_ends_the_process_and_says_why() -> None:
    done = run("loop.call_soon(lambda: 1 / 0)")
    assert done.returncode == os.EX_SOFTWARE
    assert "ZeroDivisionError" in done.stderr
    assert "lives" not in done.stdout


def test_a_mere_warning_of_the_loop_does_not() -> None:
    done = run("loop.call_exception_handler({'message': 'something minor'})")
    assert done.returncode == 0
    assert "lives" in done.stdout
    assert "something minor" in done.stderr
