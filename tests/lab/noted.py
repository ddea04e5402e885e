"""Objects of `mooring list --json` that note which of their fields the tests look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from initiator import model

CLASSES: dict[str, type] = {
    "snapshot": model.Snapshot,
    "sessions": model.Session,
    "connections": model.Connection,
    "disks": model.Disk,
    "paths": model.Path,
    "maps": model.Map,
    "volumes": model.Volume,
    "links": model.Link,
    "block": model.BlockNode,
    "swaps": model.Swap,
}
"""By the name of the list that objects are in."""


class Noted(dict[str, Any]):
    """One object. `looked_at` has the fields of each kind that anybody has asked for."""

    looked_at: dict[str, set[str]] = {}  # noqa: RUF012 - of all objects together

    def __init__(self, kind: str, fields: dict[str, Any]) -> None:
        super().__init__({name: _noted(kind, name, value) for name, value in fields.items()})
        self._kind = kind

    def __getitem__(self, name: str) -> Any:
        self._note(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._note(name)
        return super().get(name, default)

    def _note(self, name: str) -> None:
        self.looked_at.setdefault(self._kind, set()).add(name)


def _noted(kind: str, name: str, value: Any) -> Any:
    if name in CLASSES and isinstance(value, list):
        return [Noted(name, each) if isinstance(each, dict) else each for each in value]
    if name == "details":
        return Noted(f"{kind} details", value)
    return value


def by(items: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """The objects by one of their fields."""
    return {item[key]: item for item in items}
