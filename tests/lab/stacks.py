"""The stacks that `make lab-long` fills, removes and kills, each on disks of its own."""

from __future__ import annotations

from tests.lab.disks import BOTH, EXT4, MIB, ONE, Look, Stand

_HALF = 48 * MIB
_PARTS = "printf 'start=1MiB,size=40MiB\\nstart=48MiB,size=40MiB\\n' | sfdisk -q {0} && udevadm settle -t 240 &&"
_PART = "P=$(lsblk -nlpo NAME {0} | sed -n 2p); Q=$(lsblk -nlpo NAME {0} | sed -n 3p); [ -b $Q ] &&"
_TWO = _PARTS.format("$D") + " " + _PART.format("$D")
_CLEAN = "fsck.ext4 -fn $L >&2 && mount -o ro $L $M"
_OPEN = "echo pass | cryptsetup open /dev/vgkluks/crypt secretk --key-file=-"
_LUKS = "luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000"

PLAIN = Stand("kplain", ONE, EXT4.format("$D"), _CLEAN)
XFS = Stand(
    "kxfs", BOTH, "mkfs.xfs -q $D && mount -o noatime,nodev $D $M",
    "xfs_repair -n $L >&2 && mount -o ro,norecovery,nouuid $L $M", size=384 * MIB,
)  # fmt: skip
LVM = Stand(
    "klvm", BOTH,
    f"{_TWO} pvcreate -q --dataalignment 1m $P $Q && vgcreate -q vgklvm $P $Q &&"
    " lvcreate -q -Wn -n data -l 8 vgklvm $P && lvextend -q -l +8 vgklvm/data $Q && " + EXT4.format("/dev/vgklvm/data"),
    "printf '0 65536 linear %s 0\\n65536 65536 linear %s 0\\n' $L $K | dmsetup create -r looked &&"
    " fsck.ext4 -fn /dev/mapper/looked >&2 && mount -o ro /dev/mapper/looked $M",
    "dmsetup remove --retry looked", above="vgklvm", looks=(Look(offset=2 * MIB), Look(offset=49 * MIB)),
)  # fmt: skip
"""Two physical volumes with half of the logical volume on each."""
LUKS = Stand(
    "kluks", ONE,
    "pvcreate -q --dataalignment 1m $D && vgcreate -q vgkluks $D && lvcreate -q -Wn -n crypt -L 64M vgkluks &&"
    f" echo pass | cryptsetup {_LUKS} /dev/vgkluks/crypt - && {_OPEN} && " + EXT4.format("/dev/mapper/secretk"),
    "echo pass | cryptsetup open --readonly $L looked --key-file=- && fsck.ext4 -fn /dev/mapper/looked >&2 &&"
    " mount -o ro /dev/mapper/looked $M",
    "cryptsetup close looked", above="vgkluks", looks=(Look(offset=MIB, limit=64 * MIB),), unlock=_OPEN,
)  # fmt: skip
MD = Stand(
    "kmd", ONE,
    "mdadm -q --create /dev/md41 --run --level=1 --metadata=1.0 --size=64M --assume-clean --raid-devices=2 $D $E &&"
    " udevadm settle -t 240 && " + EXT4.format("/dev/md41"),
    "fsck.ext4 -fn $L >&2 && fsck.ext4 -fn $K >&2 && cmp $L $K && mount -o ro $L $M",
    above="md41", looks=(Look(limit=64 * MIB), Look(1, limit=64 * MIB)), twin=True,
)  # fmt: skip
SWAP = Stand(
    "kswap", ONE, f"{_TWO} mkswap -q $Q && swapon $Q && " + EXT4.format("$P"), _CLEAN, looks=(Look(offset=MIB),)
)
BTRFS = Stand(
    "kbtrfs", ONE, "mkfs.btrfs -q -f -d raid0 -m raid1 $D $E && mount -o noatime $D $M",
    "btrfs check --readonly $L >&2 && mount -t btrfs -o ro,rescue=nologreplay,device=$L,device=$K $L $M",
    "btrfs device scan --forget", size=160 * MIB, luns=2, looks=(Look(), Look(1)),
)  # fmt: skip
NESTED = Stand(
    "knested", ONE,
    f"{_TWO} mkfs.ext4 -q $P && mkfs.ext4 -q $Q && mount -o noatime $P $M && mkdir -p $M/inner $M/sub $M-bind &&"
    " mount -o nodev $Q $M/inner && mount --bind $M/sub $M-bind &&"
    " (setsid unshare -m --propagation slave sleep 1000000 >/dev/null 2>&1 </dev/null &)",
    "fsck.ext4 -fn $L >&2 && fsck.ext4 -fn $K >&2 && mount -o ro $L $M && mount -o ro $K $M/inner",
    looks=(Look(offset=MIB), Look(offset=_HALF)), folders=("", "inner"),
)  # fmt: skip
"""Two file systems, one in the other, a bind mount, and a namespace (a container's) that sees all of them."""
EVERY = (PLAIN, XFS, LVM, LUKS, MD, SWAP, BTRFS, NESTED)
