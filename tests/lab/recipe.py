"""What the lab's guest is made of. The image is cached by the hash of this file, its neighbours and the lock."""

from __future__ import annotations

import hashlib
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]

SUITE = "bookworm"
IMAGE_SIZE = "6G"
"""Of the sparse file system image; scenarios put their disks into it."""

PACKAGES = (
    # a system that boots, with the same init and device manager as real hosts
    "systemd-sysv", "udev", "dbus", "kmod", "linux-image-amd64", "procps", "psmisc", "util-linux", "fdisk", "iproute2",
    # the kernel's initiator and what stands on its disks
    "open-iscsi", "multipath-tools", "lvm2", "cryptsetup-bin", "mdadm", "e2fsprogs", "xfsprogs", "btrfs-progs",
    "bcache-tools", "sg3-utils", "lsscsi", "dmsetup",
    # what else tells of links
    "ethtool", "lldpd",
    # what exports it again
    "nfs-kernel-server",
    # targets (LIO is in the kernel and set up through configfs)
    "tgt",
    # Mooring
    "python3", "python3-venv", "tmux",
)  # fmt: skip

MASKED = (
    "tgt.service",  # takes port 3260
    "lldpd.service",  # runs where a scenario wants it
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "serial-getty@ttyS0.service",
    "getty@tty1.service",
    "lvm2-monitor.service",
    # exports are scenarios of their own; starting all this at each boot costs seconds
    "nfs-server.service",
    "nfs-blkmap.service",
    "rpcbind.service",
    "rpcbind.socket",
    "rpc-statd.service",
)

FILES = {
    "etc/hostname": "lab\n",
    "etc/hosts": "127.0.0.1 localhost lab\n",
    # Maps for every disk with more than one path; what single-path scenarios need they blacklist themselves.
    "etc/multipath.conf": "defaults {\n  user_friendly_names yes\n  find_multipaths yes\n  polling_interval 2\n}\n",
    "etc/systemd/system/lab-agent.service": (
        "[Unit]\nDescription=Runs the lab's orders\nAfter=multi-user.target\n"
        "[Service]\nExecStart=/usr/bin/python3 /opt/lab/agent.py\nOOMScoreAdjust=-900\n"
        "[Install]\nWantedBy=multi-user.target\n"
    ),
}


def fingerprint() -> str:
    """Twelve hexadecimal digits that change when the image would."""
    digest = hashlib.sha256()
    for path in (Path(__file__), HERE / "image.py", HERE / "guest" / "agent.py", CHECKOUT / "requirements.lock"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
