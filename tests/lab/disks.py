"""Disks to be removed: each a target of its own, what is built on it, and how its bytes are read afterwards.

What a scenario wrote is looked for where it has to be in the end: in the file that the target keeps the disk in.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable
from typing import Any

from tests.lab.machine import Machine, Ran

NAME = "iqn.2026-11.io.mooring.removal"
MIB = 1 << 20
ONE, BOTH = ("10.9.1.2:3270",), ("10.9.1.2:3270", "10.9.2.2:3270")


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """A part of a file of the target, to be looked at through a loop device that cannot be written to."""

    file: int = 0
    offset: int = 0
    limit: int = 0
    """Bytes; 0 for all. udev must see no label of LVM or md: it would build on it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stand:
    """One disk, or some, and what stands on it.

    In the scripts `$D` is the device of the disk, `$E` that of a second one, and `$M` the folder that it is mounted at.
    """

    name: str
    portals: tuple[str, ...]
    build: str
    """Makes everything and mounts it at `$M`, if it is mounted."""
    reopen: str
    """With `$L` (and `$K`), loop devices on the target's files: mounts what was built at `$M`, and writes nothing."""
    reclose: str = ""
    size: int = 96 * MIB
    luns: int = 1
    above: str = "nothing"
    """How device mapper and md devices above the disk begin with their names."""
    looks: tuple[Look, ...] = (Look(),)
    twin: bool = False
    """Whether there is a second target like the first."""
    folders: tuple[str, ...] = ("",)
    """Where in `$M` each file system begins."""
    unlock: str = ""
    """What a person does who is asked for the key of an encrypted volume."""

    @property
    def target(self) -> str:
        return self.targets[0]

    @property
    def targets(self) -> tuple[str, ...]:
        first = f"{NAME}:{self.name}"
        return (first, f"{first}-twin") if self.twin else (first,)

    @property
    def paths(self) -> int:
        return len(self.portals) * self.luns * len(self.targets)

    @property
    def mountpoint(self) -> str:
        return f"/mnt/removal-{self.name}"

    def files(self) -> list[str]:
        return [f"{self.name}{number}" for number in range(self.luns * len(self.targets))]


EXT4 = "mkfs.ext4 -q {0} && mount -o noatime {0} $M"
PLAIN = Stand("plain", ONE, EXT4.format("$D"), "fsck.ext4 -fn $L >&2 && mount -o ro $L $M")
XFS = Stand(
    "xfs", BOTH, "mkfs.xfs -q $D && mount -o noatime,nodev $D $M",
    "xfs_repair -n $L >&2 && mount -o ro,norecovery,nouuid $L $M", size=384 * MIB,
)  # fmt: skip
LVM = Stand(
    "lvm", BOTH,
    "pvcreate -q --dataalignment 1m $D && vgcreate -q vgrem $D && lvcreate -q -Wn -n data -L 64M vgrem &&"
    " lvcreate -q -Wn -n spare -L 8M vgrem && " + EXT4.format("/dev/vgrem/data"),
    "mount -o ro $L $M", above="vgrem-", looks=(Look(offset=MIB),),
)  # fmt: skip
LUKS = Stand(
    "luks", ONE,
    "echo pass | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $D - &&"
    " echo pass | cryptsetup open $D secretrem --key-file=- && " + EXT4.format("/dev/mapper/secretrem"),
    "echo pass | cryptsetup open --readonly $L looked --key-file=- && mount -o ro /dev/mapper/looked $M",
    "cryptsetup close looked", above="secretrem",
)  # fmt: skip
SWAP = Stand("swap", ONE, "mkswap -q $D && swapon $D", "true")
PAIR = Stand("pair", ONE, EXT4.format("$D"), "fsck.ext4 -fn $L >&2 && mount -o ro $L $M", luns=2)
BUSY = Stand("busy", ONE, EXT4.format("$D"), "fsck.ext4 -fn $L >&2 && mount -o ro $L $M")
KILLED = Stand("killed", BOTH, EXT4.format("$D"), "fsck.ext4 -fn $L >&2 && mount -o ro $L $M")
EVERY = (PLAIN, XFS, LVM, LUKS, SWAP, PAIR, BUSY, KILLED)


class Ground:
    """Targets for all stands, in the guest.

    Args:
        guest: The machine.
        stands: What to make; once for each boot.
        first: Number of the first disk's serial; another one for every ground in the same boot.
    """

    def __init__(self, guest: Machine, stands: Iterable[Stand] = EVERY, first: int = 0) -> None:
        self.guest = guest
        spec: dict[str, dict[str, object]] = {"disks": {}, "targets": {}}
        self.serials: dict[str, list[str]] = {}
        for number, stand in enumerate(stands, first):
            serials = self.serials[stand.name] = []
            for name in stand.files():
                serials.append(f"b{number:04x}{len(serials):03x}")
                spec["disks"][name] = {"size": stand.size, "serial": serials[-1]}
            for place, target in enumerate(stand.targets):
                own = stand.files()[place * stand.luns :][: stand.luns]
                spec["targets"][target] = {"luns": own, "portals": list(stand.portals)}
        guest.run(
            "modprobe -a iscsi_tcp dm-multipath dm-crypt loop raid1 btrfs; "
            "ip netns list | grep -qw san || sh /opt/lab/cables.sh make; "
            f"echo {shlex.quote(json.dumps(spec))} | nsenter --net=/run/netns/san python3 /opt/lab/lio.py make && "
            "iscsiadm -m discovery -t sendtargets -p 10.9.1.2:3270 -o new"
        )

    def build(self, stand: Stand) -> str:
        """Log in and build; gives the device of the (first) disk."""
        for target in stand.targets:
            node = f"iscsiadm -m node -T {target}"
            self.guest.run(f"{node} -o update -n node.startup -v automatic && {node} --login >/dev/null")
        self.wait(f"[ $({self.names(stand)} | wc -l) = {stand.paths} ]")
        self.guest.run("udevadm settle -t 240")
        if len(stand.portals) > 1:
            held = f"for n in $({self.names(stand)}); do ls /sys/block/$n/holders; done | wc -l"
            self.wait(f"[ $({held}) = {stand.paths} ]")
        devices = self.devices(stand)
        self.guest.run(
            f"D={devices[0]}; E={devices[-1]}; M={stand.mountpoint}; mkdir -p $M; wipefs -qaf {' '.join(devices)}; "
            # udev looks at what was wiped, and mdadm and LVM take no device that somebody has open
            f"udevadm settle -t 240; {{ {stand.build}; }} || exit 1; udevadm settle -t 240",
            seconds=300,
        )
        return devices[0]

    def device(self, stand: Stand) -> str:
        """The device of the first disk that is there now."""
        return self.devices(stand)[0]

    def devices(self, stand: Stand) -> list[str]:
        """The device of each disk that is there now, in the order of the target's files."""
        found = self.guest.run(
            f"for s in {' '.join(self.serials[stand.name])}; do "
            "n=$(grep -l naa.6001405$s /sys/block/sd*/device/wwid 2>/dev/null | head -n 1 | cut -d/ -f4); "
            '[ -n "$n" ] || continue; h=$(ls /sys/block/$n/holders | head -n 1); '
            'u=$(cat /sys/block/$h/dm/uuid 2>/dev/null); case "$u" in mpath-*) '
            "echo /dev/mapper/$(cat /sys/block/$h/dm/name);; *) echo /dev/$n;; esac; done"
        )
        return found.out.split()

    def names(self, stand: Stand) -> str:
        """A script that prints the kernel names of a stand's paths."""
        return (
            f"for s in $(grep -lxE '{stand.target}(-twin)?' /sys/class/iscsi_session/*/targetname 2>/dev/null); do "
            "ls $(dirname $s)/device/target*/*/block 2>/dev/null | grep -o 'sd[a-z]*$'; done"
        )

    def fill(self, stand: Stand, name: str = "file") -> str:
        """Write a file and leave it dirty; gives its checksum."""
        place = f"{stand.mountpoint}/{name}"
        return self.guest.run(
            f"dd if=/dev/urandom of={place} bs=1M count=6 status=none && sha256sum < {place}"
        ).out.split()[0]

    def on_the_target(self, stand: Stand, *names: str) -> str:
        """The checksums of files as they are in the target's own files; the file system there has to be clean."""
        loops = []
        for variable, look in zip("LK", stand.looks, strict=False):
            given = f"-o {look.offset}" + (f" --sizelimit {look.limit}" if look.limit else "")
            loops.append(f"{variable}=$(losetup -rf {given} --show /lab/{stand.files()[look.file]}.img) || exit 9; ")
        close = f"umount -R /mnt/look; {stand.reclose or 'true'}; losetup -d $L $K"
        files = " ".join(shlex.quote(name) for name in names or ("file",))
        told = self.guest.run(
            f"M=/mnt/look; mkdir -p $M; {''.join(loops)}"
            f"{{ {stand.reopen}; }} || {{ {close}; exit 8; }}; cd $M && sha256sum -- {files}; cd /; {close}"
        )
        return "\n".join(line.split()[0] for line in told.out.splitlines())

    def plan(self, *names: str, **options: float) -> dict[str, Any]:
        """The plan of a removal; one that no guard forbids is in a journal of its own."""
        for _ in range(6):
            ran = self.guest.warm({"do": "plan", "names": names, "options": {"watch_s": 1.0, **options}})
            assert ran.code in (0, 3), str(ran)
            made: dict[str, Any] = json.loads(ran.out)
            # what a reader's deadline is too short for on a busy machine: to try again is the way out that is told
            if {each["code"] for each in made["findings"] if each["level"] == "block"} != {"unknown"}:
                break
        return made

    def remove(self, name: str) -> Ran:
        """A removal as `mooring remove` does it, without the time that Python takes to start."""
        made = self.plan(name)
        if made["blocked"]:
            return Ran(f"remove {name}", 3, json.dumps(made), "")
        return self.guest.warm({"do": "run", "journal": made["journal"]})

    def left(self, stand: Stand) -> str:
        """What is left of a stand: sessions, paths, maps, arrays, mounts, as text; empty if nothing is."""
        uuids = "|".join(f"mpath-36001405{serial}" for serial in self.serials[stand.name])
        return self.guest.run(
            f"grep -lxE '{stand.target}(-twin)?' /sys/class/iscsi_session/*/targetname 2>/dev/null; "
            f"{self.names(stand)}; grep -F {stand.mountpoint} /proc/self/mountinfo; "
            f"grep -hE '{uuids}' /sys/block/dm-*/dm/uuid 2>/dev/null; "
            f"{{ dmsetup ls; ls /sys/block; }} | grep '^{stand.above}'; true"
        ).out

    def whole(self, stand: Stand) -> bool:
        """Whether it is as it was built: mounted, with every session, path and record."""
        records = " ".join(f"/etc/iscsi/nodes/{target}" for target in stand.targets)
        conditions = (
            f"mountpoint -q {stand.mountpoint}",
            f"[ $({self.names(stand)} | wc -l) = {stand.paths} ]",
            f'[ "$({self.states(stand)} | sort -u)" = LOGGED_IN ]',
            f'[ -z "$(grep -rLx "node.startup = automatic" {records} || echo none)" ]',
        )
        return self.guest.run(" && ".join(conditions), check=False).code == 0

    def wait(self, condition: str, seconds: int = 180) -> None:
        """Wait until a condition in the guest holds; the shell itself sleeps, as each program costs under emulation."""
        script = f"for n in $(seq {seconds * 2}); do {condition} && exit 0; read -rt 0.5 -u 9; done; {condition}"
        self.guest.run(f"exec 9<> <(:); {script}", seconds=seconds * 2)

    def states(self, stand: Stand) -> str:
        """A script that prints the states of a stand's sessions."""
        names = f"grep -lxE '{stand.target}(-twin)?' /sys/class/iscsi_session/*/targetname"
        return f"cat $({names} | sed s/targetname/state/)"

    def wait_for_sessions(self, stand: Stand) -> None:
        """Until all are logged in again; iscsid tries every few seconds."""
        self.wait(f'[ "$({self.states(stand)} | sort -u)" = LOGGED_IN ]', seconds=240)

    def forget(self, stand: Stand) -> None:
        """After a scenario that kept the disk: unmount it and log out by hand."""
        flush = "; ".join(f"multipath -f {device} 2>/dev/null" for device in self.devices(stand))
        out = "; ".join(f"iscsiadm -m node -T {target} --logout" for target in stand.targets)
        self.guest.run(f"umount -R {stand.mountpoint} 2>/dev/null; {flush or 'true'}; {out}; true")

    def clear(self, stand: Stand) -> None:
        """After a scenario that may have gone wrong: take everything down by hand, so that others can go on."""
        out = "; ".join(f"iscsiadm -m node -T {target} --logout" for target in stand.targets)
        self.guest.run(
            f"pkill -f '[s]leep 1000000'; umount -R {stand.mountpoint}-bind {stand.mountpoint};"
            f"for n in $({self.names(stand)}); do lsblk -nrpo NAME,TYPE /dev/$n; done | tac |"
            " while read device kind; do"
            "  swapoff $device; case $kind in"
            "    raid*) mdadm --stop $device;; lvm | crypt | mpath | part) dmsetup remove --retry $device;;"
            f" esac; done; {out}; true",
            seconds=400,
        )
