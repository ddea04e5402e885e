"""Steps on what stands on a disk of the kernel's initiator: swap, file systems, LVM, encryption, arrays, partitions."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

from initiator.host.run import HelperFailed
from initiator.model import BlockNode, Swap
from safety import lanes, remount, stand
from safety.kind import Kind
from safety.plan import Step
from safety.restore_kernel import bring_back, ground, resolve, standing_now
from safety.steps_local import Unmount, who_uses
from safety.work import Work
from safety.world import Busy, StepError, Unreadable

_SETTLE_S = 15.0
_PASSING_S = 4.0


class UnmountKernel(Unmount):
    """Write a file system back, unmount it, and see that it is gone everywhere."""

    def undo(self, work: Work, step: Step) -> str:
        """Mount again at the same place with the same options."""
        return remount.mount_again(work, step, ground)

    def _confirm(self, work: Work) -> None:
        lanes.confirm(work)

    def _devs(self, work: Work, step: Step) -> set[str]:
        """Of what still stands on the disk; and a btrfs's own number."""
        now = {node.dev for node in lanes.stack(work)}
        return now | ({step.params["dev"]} if step.params["dev"].startswith("0:") else set())

    def _alive(self, work: Work) -> list[str]:
        own = {node.kname for node in lanes.stack(work)}
        return [name for name in work.world.superblocks() if name in own]

    def _trouble(self, work: Work, step: Step) -> tuple[str, ...]:
        return tuple(line for kname in step.params["knames"] for line in work.world.trouble(kname))


class SwapOff(Kind):
    """Have the kernel read back what is in a swap area, and leave it."""

    def precheck(self, work: Work, step: Step) -> None:
        """Still the planned disk."""
        lanes.confirm(work)

    def apply(self, work: Work, step: Step) -> None:
        """Switch it off."""
        area = self._area(work, step)
        if area is None:
            return
        try:
            work.world.kernel.swap_off(area.path, step.deadline_s)
        except HelperFailed as error:
            text = f"Swap in {area.path} could not be switched off: {error}."
            raise StepError(text, code="swap", fix="free memory, then try again") from error

    def verify(self, work: Work, step: Step) -> str:
        """/proc/swaps tells."""
        path = step.params["path"]
        work.until(lambda: f"Swap is still on in {path}." if self.standing(work, step) is None else None, _SETTLE_S)
        return f"/proc/swaps does not list {path}"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is off."""
        return None if self._area(work, step) is not None else f"/proc/swaps does not list {step.params['path']}"

    def undo(self, work: Work, step: Step) -> str:
        """Switch it on again, wherever it lies now."""
        bring_back(work)
        name = path = step.params["path"]
        if self._on_device(step):
            node = resolve(work, step.params["stand"])
            # the kernel makes /dev/dm-3 itself; the name under /dev/mapper comes later, from udev
            name, path = stand.path_of(node), f"/dev/{node.kname}"
        if self._area(work, step) is None:
            work.world.kernel.swap_on(path, step.deadline_s)
        return f"swap is on in {name}"

    def _area(self, work: Work, step: Step) -> Swap | None:
        """The area while it is on; a device is known by what it is, as its name may be another one's by now.

        Raises:
            Unreadable: it is not found, and swap is on under its name on these disks.
        """
        path, areas = step.params["path"], work.world.kernel.swaps()
        if not self._on_device(step):
            return next((area for area in areas if area.path == path), None)
        node = standing_now(work, step.params["stand"])
        own = {each.dev for each in lanes.stack(work)} if node is None else frozenset()
        if any(area.path == path and area.dev in own for area in areas):
            text = f"Swap is on in {path} on {work.name}, and it is not known whether it is the planned one."
            raise Unreadable(text, fix="look: swapon --show; switch it off, then resume; or undo")
        for area in areas:
            if area.path == path if area.dev is None else node is not None and area.dev == node.dev:
                return area
        return None

    def _on_device(self, step: Step) -> bool:
        return step.params["kind"] == "partition" and step.params["stand"] is not None


class _Close(Kind):
    """A device above the disk that a tool closes."""

    def precheck(self, work: Work, step: Step) -> None:
        """Still the planned disk, and nothing stands on the device."""
        lanes.confirm(work)
        for node in self.nodes(work, step):
            own = {each.kname for each in self.nodes(work, step)}
            if set(node.holders) - own:
                text = f"{node.dm_name or node.kname} is held by {', '.join(sorted(set(node.holders) - own))}."
                raise Busy(text, fix="look at the new plan: mooring plan")

    def apply(self, work: Work, step: Step) -> None:
        """Close it; udev, which looks at devices in passing, gets a moment to leave."""
        end = work.world.now() + _PASSING_S
        while self.nodes(work, step):
            try:
                self.close(work, step)
            except (StepError, HelperFailed) as error:
                if not self.nodes(work, step):
                    return
                if work.world.now() >= end:
                    raise Busy(f"{step.title}: {error}{who_uses(work)}", fix="end what uses it, then resume") from error
                work.world.pause(0.5)
            else:
                return

    def verify(self, work: Work, step: Step) -> str:
        """The kernel does not list it."""
        work.until(lambda: self._left(work, step), _SETTLE_S)
        return "the kernel lists no such device any more"

    def standing(self, work: Work, step: Step) -> str | None:
        """Whether it is gone."""
        return None if self.nodes(work, step) else "the kernel lists no such device any more"

    def _left(self, work: Work, step: Step) -> str | None:
        left = self.nodes(work, step)
        return f"{left[0].dm_name or left[0].kname} is still there." if left else None

    @abc.abstractmethod
    def nodes(self, work: Work, step: Step) -> tuple[BlockNode, ...]:
        """What is there of it now."""

    @abc.abstractmethod
    def close(self, work: Work, step: Step) -> None:
        """Close it."""


class CloseGroup(_Close):
    """Deactivate a volume group."""

    def nodes(self, work: Work, step: Step) -> tuple[BlockNode, ...]:
        """Every device of the group, hidden ones too."""
        prefix = f"LVM-{step.params['uuid']}"
        return tuple(node for node in work.world.kernel.nodes() if (node.dm_uuid or "").startswith(prefix))

    def close(self, work: Work, step: Step) -> None:
        """By LVM's own tool."""
        work.world.kernel.command(("vgchange", "--activate", "n", step.params["name"]), step.deadline_s)

    def untouched(self, work: Work, step: Step) -> bool:
        """Whether every device is there: vgchange closes those volumes that it can, and fails for the others."""
        now = {node.dm_uuid for node in self.nodes(work, step)}
        planned = step.params.get("devices")  # plans of an earlier Mooring do not say
        return planned is not None and now.issuperset(planned)

    def undo(self, work: Work, step: Step) -> str:
        """Activate the volumes that were active."""
        bring_back(work)
        active = [str(name) for name in step.params["active"]]
        if active:
            _again(work, ("lvchange", "--activate", "y", "--yes", *active), step.deadline_s)
            work.until(lambda: None if self.nodes(work, step) else "No volume of the group is active.", _SETTLE_S)
        return f"active again: {', '.join(active) or 'nothing was'}"


class CloseCrypt(_Close):
    """Close an encrypted volume."""

    def nodes(self, work: Work, step: Step) -> tuple[BlockNode, ...]:
        """The mapping."""
        return tuple(node for node in work.world.kernel.nodes() if node.dm_uuid == step.params["uuid"])

    def close(self, work: Work, step: Step) -> None:
        """By cryptsetup."""
        work.world.kernel.command(("cryptsetup", "close", step.params["name"]), step.deadline_s)

    def undo(self, work: Work, step: Step) -> str:
        """Nobody here has the key."""
        bring_back(work)
        name = step.params["name"]
        if not self.nodes(work, step):
            text = f"The encrypted volume {name} has to be opened by somebody who has its passphrase or key."
            raise StepError(text, code="key-needed", fix=f"cryptsetup open DEVICE {name}; then undo again")
        return f"{name} is open"


class StopArray(_Close):
    """Stop an array."""

    def nodes(self, work: Work, step: Step) -> tuple[BlockNode, ...]:
        """The array, under whatever name it has now."""
        uuids = work.world.kernel.array_uuids()
        wanted = {"is": "md", "uuid": step.params["uuid"], "kname": step.params["kname"]}
        nodes = work.world.kernel.nodes()
        found = stand.find(wanted, [node for node in nodes if node.slaves], None, uuids)
        return (found,) if found is not None else ()

    def close(self, work: Work, step: Step) -> None:
        """By mdadm."""
        node = self.nodes(work, step)[0]
        work.world.kernel.command(("mdadm", "--stop", f"/dev/{node.kname}"), step.deadline_s)

    def undo(self, work: Work, step: Step) -> str:
        """Assemble it from the members of today, unless udev does: it begins as soon as it sees the first of them."""
        bring_back(work)
        if self._lacks(work, step) is not None:
            members = [stand.path_of(resolve(work, place)) for place in step.params["members"]]
            argv = ("mdadm", "--assemble", f"/dev/{step.params['kname']}", *members)
            _again(work, argv, step.deadline_s, lambda: self._lacks(work, step))
        return f"the array {self.nodes(work, step)[0].kname} runs"

    def _lacks(self, work: Work, step: Step) -> str | None:
        found, wanted = self.nodes(work, step), len(step.params["members"])
        if not found:
            return "The array does not show."
        if len(found[0].slaves) < wanted:
            return f"The array {found[0].kname} has {len(found[0].slaves)} of its {wanted} members."
        return None if found[0].size_bytes else f"The array {found[0].kname} does not run."


class ClosePart(_Close):
    """Remove the device of a partition on a map."""

    def nodes(self, work: Work, step: Step) -> tuple[BlockNode, ...]:
        """The device."""
        return tuple(node for node in work.world.kernel.nodes() if node.dm_uuid == step.params["uuid"])

    def close(self, work: Work, step: Step) -> None:
        """By the device mapper itself."""
        work.world.kernel.remove_map(step.params["uuid"], step.deadline_s)

    def undo(self, work: Work, step: Step) -> str:
        """udev makes it with the map; where it did not, kpartx does."""
        bring_back(work)
        for one in work.each():
            node = lanes.ground(one)
            if not self.nodes(work, step) and node is not None:
                _again(work, ("kpartx", "-a", stand.path_of(node)), step.deadline_s)
        work.until(lambda: None if self.nodes(work, step) else f"{step.params['name']} does not show.", _SETTLE_S)
        return f"{step.params['name']} is there"


def _again(work: Work, argv: Sequence[str], deadline: float, lacks: Callable[[], str | None] | None = None) -> None:
    """Run a tool that brings something back; it may come too early, while udev still looks at the new device.

    Args:
        lacks: What is not as it should be yet. Where nothing is, somebody else was faster, whatever the tool says.

    Raises:
        NotProven: after some time the tool still fails, or something still lacks.
    """

    def attempt() -> str | None:
        try:
            work.world.kernel.command(argv, deadline)
        except StepError as error:
            return None if lacks is not None and lacks() is None else str(error)
        return lacks() if lacks is not None else None

    work.until(attempt, _SETTLE_S)
