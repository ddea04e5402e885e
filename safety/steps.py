"""Every kind of step: what it checks first, does, proves and takes back.

A plan's step names its kind; `KINDS` finds it here. Kinds hold no state: what they need is in the step's parameters
and in `Work`. Proof is what the kernel or the target shows afterwards, never an exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from safety import steps_engine, steps_local
from safety.kind import Kind

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "identify": steps_local.Identify(),
        "lock": steps_local.Lock(),
        "unmount": steps_local.Unmount(),
        "claim": steps_local.ClaimDevice(),
        "fsync": steps_local.Fsync(),
        "flush": steps_engine.Flush(),
        "detach": steps_local.Detach(),
        "release": steps_local.Release(),
        "offline": steps_engine.Offline(),
        "logout": steps_engine.Logout(),
        "watch": steps_engine.Watch(),
    }
)
"""Kinds of steps by their names in plans. Another transport adds its own here and nowhere else."""
