"""What it costs to watch: `python -m tests.bench.health [SESSIONS]...`.

A recorded tree (tests/host/kerneltree.py) with four links, four disks to a session over four ways each, a multipathd
that answers. Every second every disk has done I/O, every connection has another round trip and every link has moved
bytes; each look reads the host, what lies around it, the recent past, and judges. CPU time of the looking thread and as
a share of one core at one look a second; the share of judging alone beside it. 16 sessions may take 2 %.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from initiator.host.kernelsessions import TcpKey
    from initiator.model import TcpInfo
    from tests.host.kerneltree import KernelTree

SIZES = (4, 8, 16, 32, 64)
LUNS = 4
LOOKS = 40
WARM = 5
LIMIT = 2.0
"""Percent of a core for 16 sessions."""


def main() -> int:
    """Prints the table; tells whether it holds what it must."""
    sizes = tuple(int(word) for word in sys.argv[1:]) or SIZES
    print(f"{'sessions':>8} {'paths':>6} {'ms a look':>10} {'% of a core':>12} {'judging ms':>11} {'us a path':>10}")
    found = {}
    for sessions in sizes:
        look, judge = measure(sessions)
        found[sessions] = look / 10
        paths = sessions * LUNS
        print(f"{sessions:8} {paths:6} {look:10.2f} {look / 10:12.2f} {judge:11.2f} {look * 1000 / paths:10.0f}")
    return 1 if found.get(16, 0.0) > LIMIT else 0


def measure(sessions: int) -> tuple[float, float]:
    """Median CPU milliseconds of one look, and of the judging in it."""
    from initiator.health import assess
    from initiator.history import History
    from initiator.host.fabric import FabricReader
    from initiator.inventory import Inventory
    from initiator.lookout import Lookout
    from initiator.model import TcpInfo
    from tests.host.fakemultipathd import FakeMultipathd
    from tests.host.kerneltree import answers, big

    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="mooring-bench-", dir=memory))
    turn = 0

    def tcp() -> Mapping[TcpKey, TcpInfo]:
        ports = ((f"10.{way + 1}.0.{target + 1}", 3260) for target in range(sessions // 4) for way in range(4))
        return {
            (47964, host, port): TcpInfo("established", 200 + turn, 20, 204_000, 0, 0, 10 + turn, 10**9, 10, 0)
            for host, port in ports
        }

    try:
        tree = big(folder / "host", sessions, sessions * LUNS)
        links = _links(tree)
        maps, listed = answers(sessions, sessions * LUNS)
        with (
            FakeMultipathd(tree.root, maps, listed),
            Inventory(tree.root, addresses=links, tcp=tcp) as inventory,
        ):
            networks = {name: (f"{address.rpartition('.')[0]}.0/24",) for name, (address,) in links.items()}
            fabric = FabricReader(tree.root, networks, None, None)
            lookout = Lookout(inventory.read, fabric.read, history=History())
            whole, judging = [], []
            for turn in range(LOOKS + WARM):
                _work(tree, turn)
                began = time.thread_time()
                look = lookout.look()
                ended = time.thread_time()
                assess(look.snapshot, look.fabric, look.trends)
                whole.append((ended - began) * 1000)
                judging.append((time.thread_time() - ended) * 1000)
            assert len(look.snapshot.paths) == sessions * LUNS
            assert {each.verdict.value for each in look.health.judgements.values()} == {"ok"}
            assert look.snapshot.sessions[0].connections[0].tcp is not None
        return statistics.median(whole[WARM:]), statistics.median(judging[WARM:])
    finally:
        shutil.rmtree(folder)


def _links(tree: KernelTree) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for way in range(4):
        tree.net(f"eth{way}", speed="10000", duplex="full", mtu="9000", ifindex=str(way + 2))
        found[f"eth{way}"] = (f"10.{way + 1}.255.1",)
    return found


def _work(tree: KernelTree, turn: int) -> None:
    """A second of I/O on every disk, and of traffic on every link."""
    stats = tree.root / "proc/diskstats"
    lines = [" ".join(line.split()[:3]) for line in stats.read_text().splitlines()]
    done = f"{1000 + 100 * turn} 0 {8000 + 800 * turn} {500 + 30 * turn} 9 0 72 3 0 1 1"
    stats.write_text("".join(f"{line} {done}\n" for line in lines))
    for way in range(4):
        for name in ("rx_bytes", "tx_bytes"):
            tree.write(f"sys/class/net/eth{way}/statistics/{name}", f"{turn * 10**8}\n")


if __name__ == "__main__":
    sys.exit(main())
