"""`python -m tests.fuzz TARGET --runs N`: exit code 0 if N inputs brought up nothing wrong.

TARGET is one of the names in tests/fuzz/targets.py, or `all` for all of them in one process. An input that breaks
something is written into the folder that is named in the end, and can be tried again with `--input FILE`. The corpus is
thrown away at the end unless `--corpus FOLDER` says where to keep it.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MEMORY = 768 << 20
"""Bytes of address space beyond what is there at the start: a parser that wants more is broken."""
_TIMEOUT_S = 300
"""By the clock, which on a machine with other work says little: for what sleeps. What works without end: `Watch`."""
_WORK_S = 10.0


class Watch:
    """Runs inputs, and ends one that takes more than `seconds` (and surely one that takes twice that) of our processor.

    The input is told from the one before it by counting, so that an input costs nothing.
    """

    def __init__(self, run: Callable[[bytes], None], seconds: float = _WORK_S) -> None:
        self._run, self._seconds = run, seconds
        self._count, self._seen = 0, -1

    def __enter__(self) -> Watch:
        self._before = signal.signal(signal.SIGPROF, self._look)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, self._seconds, self._seconds)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, self._before)

    def __call__(self, data: bytes) -> None:
        self._count += 1
        self._run(data)

    def _look(self, number: int, frame: object) -> None:
        if self._count == self._seen:
            raise RuntimeError(f"an input took more than {self._seconds} s of processor time")
        self._seen = self._count


def main() -> int:
    """The command line; libFuzzer ends the process itself."""
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: pip install -e '.[fuzz]'", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=0, help="end after so long, whatever --runs says")
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer's dice; 0 for another one each time")
    parser.add_argument("--corpus", type=Path, help="kept there, and taken up again the next time")
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()), help="folder for what breaks")
    parser.add_argument("--input", type=Path, help="only try this one, without the fuzzer")
    given = parser.parse_args()
    with atheris.instrument_imports(include=["initiator"]):
        targets: Any = importlib.import_module("tests.fuzz.targets")
    known = {**targets.TARGETS, "all": targets.ALL}
    if given.target not in known:
        parser.error(f"there is no target {given.target!r} among {', '.join(known)}")
    target = known[given.target]
    if given.input:
        target.run(given.input.read_bytes())
        return 0
    with tempfile.TemporaryDirectory(prefix="mooring-fuzz-") as folder:
        corpus = given.corpus or Path(folder)
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        _limit_memory()
        options = [f"-runs={given.runs}", f"-seed={given.seed}", f"-max_len={target.most}", f"-timeout={_TIMEOUT_S}"]
        options += [f"-max_total_time={given.seconds}", f"-artifact_prefix={given.findings}/{given.target}-"]
        with Watch(target.run) as watched:
            atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], watched)
            atheris.Fuzz()
    return 0


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))


if __name__ == "__main__":
    sys.exit(main())
