"""`python -m tests.fuzz TARGET --runs N`: exit code 0 if N inputs brought up nothing wrong.

TARGET is one of the names in tests/fuzz/targets.py, or `all` for all of them in one process. An input that breaks
something is written into the folder that is named in the end, and can be tried again with `--input FILE`. The corpus is
thrown away at the end unless `--corpus FOLDER` says where to keep it.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

_MEMORY = 768 << 20
"""Bytes of address space beyond what is there at the start: a parser that wants more is broken."""
_TIMEOUT_S = 10


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
        atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], target.run)
        atheris.Fuzz()
    return 0


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))


if __name__ == "__main__":
    sys.exit(main())
