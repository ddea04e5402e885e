"""How long what an attribute says can be relied on, as data: it decides what is read again, and when.

Whatever the table says, each object is also read whole in its turn, some at each reading, and on a host with few
objects all are at each one. So an entry that is wrong makes a change late, never invisible.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Lifetime(enum.Enum):
    """When a value can change."""

    OBJECT = "fixed for the life of the kernel object; a new one is known by the inode of its link in /sys/class"
    LOGIN = "set by iscsid at a login, again at one after a lost connection: the state or the local port tells of it"
    FOLLOWED = "can change at any time and matters at once: looked at in every reading (initiator.host.watched)"
    SOON = "can change at any time; on a host with hundreds of sessions it may be three readings old"
    TURN = "can change at any time; it may be some readings old on a large host, unless something else has changed"


_OBJECT, _LOGIN, _FOLLOWED, _SOON, _TURN = (
    Lifetime.OBJECT,
    Lifetime.LOGIN,
    Lifetime.FOLLOWED,
    Lifetime.SOON,
    Lifetime.TURN,
)

SESSION: Mapping[str, Lifetime] = {
    "state": _FOLLOWED,
    "target_state": _SOON,  # UNBOUND: a logout by another hand that is half done; its LUNs have gone by then
    "recovery_tmo": _SOON,  # root may write it, and multipathd does
    "targetname": _OBJECT,
    "targetalias": _LOGIN,
    "tpgt": _LOGIN,
    "isid": _OBJECT,
    "tsid": _LOGIN,
    "ifacename": _OBJECT,
    "initiatorname": _OBJECT,
    "username": _LOGIN,
    "username_in": _LOGIN,
    "abort_tmo": _LOGIN,  # these three are read-only in sysfs (drivers/scsi/scsi_transport_iscsi.c)
    "lu_reset_tmo": _LOGIN,
    "tgt_reset_tmo": _LOGIN,
    "first_burst_len": _LOGIN,
    "max_burst_len": _LOGIN,
    "immediate_data": _LOGIN,
    "initial_r2t": _LOGIN,
    "max_outstanding_r2t": _LOGIN,
    "boot_target": _OBJECT,
}
CONNECTION: Mapping[str, Lifetime] = {
    "state": _LOGIN,  # libiscsi moves it together with the state of the session
    "local_port": _SOON,  # another one for each TCP connection, so also for a login between two readings
    "address": _LOGIN,
    "port": _LOGIN,
    "persistent_address": _LOGIN,
    "persistent_port": _LOGIN,
    "local_ipaddr": _LOGIN,
    "header_digest": _LOGIN,
    "data_digest": _LOGIN,
    "max_recv_dlength": _LOGIN,
    "max_xmit_dlength": _LOGIN,
    "ping_tmo": _LOGIN,
    "recv_tmo": _LOGIN,
}
ISCSI_HOST: Mapping[str, Lifetime] = {
    "ipaddress": _LOGIN,
    "hwaddress": _LOGIN,
    "netdev": _LOGIN,
    "initiatorname": _LOGIN,
}
SCSI_HOST: Mapping[str, Lifetime] = {"state": _TURN, "proc_name": _OBJECT}
LUN: Mapping[str, Lifetime] = {
    "state": _FOLLOWED,  # root may write it
    "access_state": _SOON,  # the kernel's ALUA handler itself asks the target only now and then
    "ioerr_cnt": _TURN,  # read too whenever one of the two above has changed, or something of the session
    "iotmo_cnt": _TURN,
    "inquiry": _TURN,  # a rescan reads both anew: behind the same device there may be another disk
    "wwid": _TURN,
}
COUNTED: Mapping[str, Lifetime] = {"iorequest_cnt": _TURN, "iodone_cnt": _TURN}
"""Of LUNs that are no block device; /proc/diskstats tells more of those."""
OLD_LUN: Mapping[str, Lifetime] = {"type": _TURN, "vendor": _TURN, "model": _TURN, "rev": _TURN}
"""Of LUNs without `inquiry`."""
SCSI_DISK: Mapping[str, Lifetime] = {
    "cache_type": _SOON,  # root may write it
    "thin_provisioning": _TURN,
}
BLOCK: Mapping[str, Lifetime] = {
    "uevent": _OBJECT,  # device number and sequence number
    "size": _TURN,  # but a change shows in /proc/partitions, which is read each time
    "ro": _SOON,  # blockdev --setro sends no event; not of what another device holds: it is used through that one
}
STACKED: Mapping[str, Lifetime] = {"dm/name": _TURN, "dm/uuid": _TURN}
"""Of device mapper devices; dmsetup renames them, and the kernel tells of it (drivers/md/dm-ioctl.c)."""
LOOP: Mapping[str, Lifetime] = {"loop/backing_file": _FOLLOWED, "diskseq": _FOLLOWED}
"""Of loop devices, which take up another file and stay the same object."""


class Looks(NamedTuple):
    """The attributes of an object that are looked at without a reason."""

    always: tuple[str, ...] = ()
    """In each reading."""
    soon: tuple[str, ...] = ()


def looks(table: Mapping[str, Lifetime], there: Iterable[str] | None = None) -> Looks:
    """What is looked at of the attributes in a table.

    Args:
        table: One of the above.
        there: The attributes that such an object has in this kernel; None for all.
    """
    names = tuple(table) if there is None else tuple(there)
    always, soon = [tuple([name for name in names if table.get(name) is kind]) for kind in (_FOLLOWED, _SOON)]
    return Looks(always, soon)
