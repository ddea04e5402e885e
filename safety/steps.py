"""Every kind of step: what it checks first, does, proves and takes back.

A plan's step names its kind; `KINDS` finds it here. Kinds hold no state: what they need is in the step's parameters
and in `Work`. Proof is what the kernel or the target shows afterwards, never an exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from safety import (
    steps_dead,
    steps_engine,
    steps_identify,
    steps_kernel,
    steps_local,
    steps_map,
    steps_session,
    steps_stack,
    steps_units,
    steps_volume,
    steps_watch,
)
from safety.kind import Kind

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "identify": steps_identify.Identify(),
        "lock": steps_local.Lock(),
        "unmount": steps_local.Unmount(),
        "end-users": steps_units.EndUsers(),
        "unmount-there": steps_units.UnmountThere(),
        "mask-mount": steps_units.MaskMount(),
        "stop-automount": steps_units.StopAutomount(),
        "claim": steps_local.ClaimDevice(),
        "fsync": steps_local.Fsync(),
        "flush": steps_engine.Flush(),
        "detach": steps_local.Detach(),
        "release": steps_local.Release(),
        "offline": steps_engine.Offline(),
        "logout": steps_engine.Logout(),
        "startup": steps_session.Startup(),
        "swapoff": steps_stack.SwapOff(),
        "unmount-kernel": steps_stack.UnmountKernel(),
        "close-vg": steps_stack.CloseGroup(),
        "close-crypt": steps_stack.CloseCrypt(),
        "close-md": steps_stack.StopArray(),
        "close-part": steps_stack.ClosePart(),
        "leave-map": steps_map.LeaveMap(),
        "claim-map": steps_map.ClaimMap(),
        "fsync-map": steps_map.FsyncMap(),
        "hand-over": steps_map.HandOver(),
        "claim-paths": steps_kernel.ClaimPaths(),
        "flush-paths": steps_kernel.FlushPaths(),
        "silent": steps_kernel.Silent(),
        "offline-path": steps_kernel.OfflinePath(),
        "delete-path": steps_kernel.DeletePath(),
        "fail-queue": steps_dead.FailQueue(),
        "unmount-lost": steps_dead.UnmountLost(),
        "claim-dead": steps_dead.ClaimDead(),
        "drop-map": steps_dead.DropMap(),
        "give-up": steps_dead.GiveUp(),
        "dead-path": steps_dead.DeadPath(),
        "delete-dead": steps_dead.DeleteDead(),
        "logout-dead": steps_dead.LogoutDead(),
        "logout-kernel": steps_session.LogoutKernel(),
        "watch": steps_watch.Watch(),
        "swapoff-file": steps_volume.SwapOffFile(),
        "unmount-volume": steps_volume.UnmountVolume(),
        "unmounted": steps_volume.Unmounted(),
    }
)
"""Kinds of steps by their names in plans. Another transport adds its own here and nowhere else."""
