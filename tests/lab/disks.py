"""Disks to be removed: each a target of its own, what is built on it, and how its bytes are read afterwards.

What a scenario wrote is looked for where it has to be in the end: in the file that the target keeps the disk in.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable

from tests.lab.machine import Machine, Ran

NAME = "iqn.2026-11.io.mooring.removal"
MIB = 1 << 20
ONE, BOTH = ("10.9.1.2:3270",), ("10.9.1.2:3270", "10.9.2.2:3270")


@dataclasses.dataclass(frozen=True, slots=True)
class Stand:
    """One disk and what stands on it.

    In the scripts `$D` is the device of the disk, and `$M` the folder that it is mounted at.
    """

    name: str
    portals: tuple[str, ...]
    build: str
    """Makes everything and mounts it at `$M`, if it is mounted."""
    reopen: str
    """With `$L`, a loop device on the target's file: mounts what was built at `$M`, without writing to it."""
    reclose: str = ""
    size: int = 96 * MIB
    luns: int = 1
    above: str = "nothing"
    """How device mapper devices above the disk begin with their names."""
    offset: int = 0
    """Where in the file `$L` begins."""

    @property
    def target(self) -> str:
        return f"{NAME}:{self.name}"

    @property
    def mountpoint(self) -> str:
        return f"/mnt/removal-{self.name}"

    def files(self) -> list[str]:
        return [f"{self.name}{number}" for number in range(self.luns)]


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
    "mount -o ro $L $M", above="vgrem-", offset=MIB,
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
    """

    def __init__(self, guest: Machine, stands: Iterable[Stand] = EVERY) -> None:
        self.guest = guest
        spec: dict[str, dict[str, object]] = {"disks": {}, "targets": {}}
        self.serials: dict[str, str] = {}
        for number, stand in enumerate(stands):
            self.serials[stand.name] = f"b{number:04x}"
            for lun, name in enumerate(stand.files()):
                spec["disks"][name] = {"size": stand.size, "serial": f"{self.serials[stand.name]}{lun:03x}"}
            spec["targets"][stand.target] = {"luns": stand.files(), "portals": list(stand.portals)}
        guest.run(
            "modprobe -a iscsi_tcp dm-multipath dm-crypt loop; "
            "ip netns list | grep -qw san || sh /opt/lab/cables.sh make; "
            f"echo {shlex.quote(json.dumps(spec))} | nsenter --net=/run/netns/san python3 /opt/lab/lio.py make && "
            "iscsiadm -m discovery -t sendtargets -p 10.9.1.2:3270 -o new"
        )

    def build(self, stand: Stand) -> str:
        """Log in and build; gives the device of the (first) disk."""
        node = f"iscsiadm -m node -T {stand.target}"
        self.guest.run(f"{node} -o update -n node.startup -v automatic && {node} --login >/dev/null")
        self.wait(f"[ $({self._names(stand)} | wc -l) = {len(stand.portals) * stand.luns} ]")
        self.guest.run("udevadm settle -t 60")
        if len(stand.portals) > 1:
            held = f"for n in $({self._names(stand)}); do ls /sys/block/$n/holders; done | wc -l"
            self.wait(f"[ $({held}) = {len(stand.portals) * stand.luns} ]")
        device = self.device(stand)
        self.guest.run(
            f"D={device}; M={stand.mountpoint}; mkdir -p $M; wipefs -qaf $D; {{ {stand.build}; }} || exit 1; "
            "udevadm settle -t 60"
        )
        return device

    def device(self, stand: Stand) -> str:
        """The device of the first disk as it is now."""
        found = self.guest.run(
            f"n=$({self._names(stand)} | sort -V | head -n 1); h=$(ls /sys/block/$n/holders | head -n 1); "
            'u=$(cat /sys/block/$h/dm/uuid 2>/dev/null); case "$u" in mpath-*) '
            "echo /dev/mapper/$(cat /sys/block/$h/dm/name);; *) echo /dev/$n;; esac"
        )
        return found.out.strip()

    def _names(self, stand: Stand) -> str:
        """A script that prints the kernel names of a stand's paths."""
        return (
            f"for s in $(grep -lx '{stand.target}' /sys/class/iscsi_session/*/targetname 2>/dev/null); do "
            "ls $(dirname $s)/device/target*/*/block 2>/dev/null | grep -o 'sd[a-z]*$'; done"
        )

    def fill(self, stand: Stand, name: str = "file") -> str:
        """Write a file and leave it dirty; gives its checksum."""
        place = f"{stand.mountpoint}/{name}"
        return self.guest.run(
            f"dd if=/dev/urandom of={place} bs=1M count=6 status=none && sha256sum < {place}"
        ).out.split()[0]

    def on_the_target(self, stand: Stand, name: str = "file") -> str:
        """The checksum of a file as it is in the target's own file; the file system there has to be clean."""
        image = f"/lab/{stand.files()[0]}.img"
        close = f"umount /mnt/look; {stand.reclose or 'true'}; losetup -d $L"
        return self.guest.run(
            f"M=/mnt/look; mkdir -p $M; L=$(losetup -rf -o {stand.offset} --show {image}) || exit 9; "
            f"{{ {stand.reopen}; }} || {{ {close}; exit 8; }}; sha256sum < $M/{name}; {close}"
        ).out.split()[0]

    def remove(self, name: str, *, check: bool = True) -> Ran:
        """`mooring remove`, and its journal's end as JSON."""
        return self.guest.mooring("remove", name, "--confirm", name, "--watch", "1", "--json", seconds=300, check=check)

    def left(self, stand: Stand) -> str:
        """What is left of a stand: sessions, paths, maps, mounts, as text; empty if nothing is."""
        uuid = f"mpath-36001405{self.serials[stand.name]}"
        return self.guest.run(
            f"grep -lx '{stand.target}' /sys/class/iscsi_session/*/targetname 2>/dev/null; {self._names(stand)}; "
            f"findmnt -n {stand.mountpoint}; grep -h '{uuid}' /sys/block/dm-*/dm/uuid 2>/dev/null; "
            f"dmsetup ls | grep '^{stand.above}'; true"
        ).out

    def wait(self, condition: str, seconds: int = 60) -> None:
        """Wait until a condition in the guest holds."""
        self.guest.run(f"for n in $(seq {seconds * 4}); do {condition} && exit 0; sleep 0.25; done; {condition}")

    def forget(self, stand: Stand) -> None:
        """After a scenario that kept the disk: unmount it and log out by hand."""
        self.guest.run(
            f"umount {stand.mountpoint} 2>/dev/null; multipath -f {self.device(stand)} 2>/dev/null; "
            f"iscsiadm -m node -T {stand.target} --logout; true"
        )
