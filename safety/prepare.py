"""Makes a plan from the host as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from initiator import inventory
from initiator.engine.client import EngineClient
from initiator.model import Snapshot
from safety.evidence import read_facts
from safety.plan import Options, Plan, make
from safety.scope import Scope


def prepare(
    wanted: Scope | Callable[[Snapshot], Scope],
    engine: EngineClient,
    options: Options | None = None,
    *,
    root: Path = Path("/"),
) -> Plan:
    """Read the host and plan a removal; changes nothing.

    Args:
        wanted: What to be rid of, or what finds it on the host as it is.
        engine: The engine's client.
        options: What the person chose.
        root: Where `proc` and `sys` are.

    Raises:
        BadInputError: there is no such thing.
    """
    snapshot = inventory.read(root, engine)
    scope = wanted if isinstance(wanted, Scope) else wanted(snapshot)
    return make(snapshot, read_facts(root, scope.on(snapshot)), scope, options)
