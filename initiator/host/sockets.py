"""TCP's view of the connections that the kernel's initiator holds, in the form that `KernelReader` asks for."""

from __future__ import annotations

from initiator.host.tcp import read_tcp
from initiator.model import TcpInfo


def kernel_connections() -> dict[tuple[int, str, int], TcpInfo]:
    """Every TCP connection of this network namespace by local port, peer and peer's port; iscsid owns the kernel's.

    Empty where the kernel has no inet_diag: then nothing is known of them.
    """
    try:
        return {(seen.local.port, seen.peer.host, seen.peer.port): seen.info for seen in read_tcp()}
    except OSError:
        return {}
