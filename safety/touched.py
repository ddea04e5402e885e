"""How far a removal reaches: every session that it touches, counted by the kernel's or the engine's own number."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

from initiator.model import DiskState, Session
from safety.scene import Scene
from safety.sequence import Phase
from safety.step import Step


@dataclasses.dataclass(frozen=True, slots=True)
class TouchedSession:
    """One session that loses paths, or ends."""

    id: str
    name: str
    target: str
    portal: str
    link: str | None
    ends: bool
    paths: tuple[str, ...]
    """Names of its paths that go."""
    stays_for: tuple[str, ...]
    """What else it carries, for the sake of which it stays."""

    @property
    def number(self) -> str:
        """The session's own number."""
        return self.id.rpartition(":")[2]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the same field names."""
        return {**dataclasses.asdict(self), "paths": list(self.paths), "stays_for": list(self.stays_for)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError: fields are missing or of the wrong kind.
        """
        fields = {field.name: data[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**fields, "paths": tuple(fields["paths"]), "stays_for": tuple(fields["stays_for"])})


def touched(scene: Scene, steps: Iterable[Step]) -> tuple[TouchedSession, ...]:
    """The sessions of a removal with these steps."""
    out = {step.params["session"] for step in steps if step.phase is Phase.LOGOUT}
    links = {link.id: link.name for link in scene.snapshot.links}
    return tuple(
        TouchedSession(
            id=session.id,
            name=session.name,
            target=session.target,
            portal=str(session.portal),
            link=links.get(session.link or "", session.link),
            ends=session.id in out,
            paths=tuple(path.name for unit in scene.units for path in unit.paths if path.session == session.id),
            stays_for=_others(scene, session),
        )
        for session in scene.sessions
    )


def _others(scene: Scene, session: Session) -> tuple[str, ...]:
    """What else a session carries: other units of the kernel, or other disks that the engine has attached."""
    facts = scene.facts.kernel
    number = session.id.rpartition(":")[2]
    if facts is not None and session.id == f"kernel:s:{number}":
        return tuple(f"LUN {path.lun} ({path.kname or path.kind})" for path in facts.stays(int(number)))
    own = {path.id for unit in scene.units for path in unit.paths}
    found = {path.disk for path in scene.snapshot.paths if path.session == session.id and path.id not in own}
    attached = (disk for disk in scene.snapshot.disks if disk.id in found and disk.state is not DiskState.AVAILABLE)
    return tuple(disk.name for disk in attached)
