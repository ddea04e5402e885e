"""The steps that dismount one file system and leave its disk where it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from initiator.model import BlockNode
from safety import plan_common, plan_kernel
from safety.scene import Scene
from safety.scope import Scope
from safety.sequence import Phase
from safety.step import Options, Step


def steps(scene: Scene, scope: Scope, options: Options) -> Iterator[Step]:
    """From knowing the disk to seeing that nothing of the file system is mounted."""
    yield plan_common.identify(scene, scope)
    yield plan_common.lock(scene, scope)
    yield from plan_common.endings(scene)
    for step in plan_kernel.stops(scene):
        yield dataclasses.replace(step, kind="swapoff-file")
    yield from plan_common.unmounts_there(scene, options)
    standing = {mount.dev: plan_common.standing(scene, mount) for mount in scene.own_mounts}
    for step in plan_common.unmounts(scene, options):
        params = {**step.params, **standing[step.params["dev"]]}
        yield dataclasses.replace(step, kind="unmount-volume", params=params)
    yield from plan_common.automounts(scene)
    yield _unmounted(scene, scope, options)


def _unmounted(scene: Scene, scope: Scope, options: Options) -> Step:
    nodes: list[dict[str, Any]] = [
        {"device": f"/dev/{node.kname}", "dev": node.dev, "diskseq": node.diskseq}
        for node in (*scene.parts, *_bare(scene))
    ]
    devices = ", ".join(str(node["device"]) for node in nodes) or "its device"
    return Step(
        id="unmounted",
        kind="unmounted",
        phase=Phase.UNMOUNTED,
        title=f"See that nothing of {scope.name} is mounted any more",
        command=f"read the mounts of every namespace for {options.watch_s:g} s, then open {devices} with O_EXCL once",
        proof="no mount namespace lists it, nothing of it is alive, and the kernel lets its device be opened alone",
        undo="",
        deadline_s=options.watch_s + 30.0,
        expected_s=options.watch_s,
        params={
            "seconds": options.watch_s,
            "devs": sorted(scene.devs),
            "knames": sorted(node.kname for node in scene.nodes),
            "nodes": nodes,
        },
        disks=plan_common.members(scene),
    )


def _bare(scene: Scene) -> Iterator[BlockNode]:
    """Disks that carry the file system themselves, without a partition or anything else in between."""
    for unit in scene.units:
        if unit.node is not None and unit.node.dev in unit.devs:
            yield unit.node
