"""Makes a plan from the host as it is."""

from __future__ import annotations

from pathlib import Path

from initiator import inventory
from initiator.engine.client import EngineClient
from safety.evidence import read_facts
from safety.plan import Options, Plan, make
from safety.scene import find_disk


def prepare(disk_id: str, engine: EngineClient, options: Options | None = None, *, root: Path = Path("/")) -> Plan:
    """Read the host and plan the removal of a disk; changes nothing.

    Args:
        disk_id: Id of the disk in the snapshot.
        engine: The engine's client.
        options: What the person chose.
        root: Where `proc` and `sys` are.

    Raises:
        BadInputError: there is no such disk.
    """
    snapshot = inventory.read(root, engine)
    facts = read_facts(root, find_disk(snapshot, disk_id))
    return make(snapshot, facts, disk_id, options)
