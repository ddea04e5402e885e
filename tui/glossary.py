"""The words of iSCSI in plain sentences: what it is, why it matters for the data, what to do. No Textual here."""

from __future__ import annotations

from tui import terms
from tui.terms import Term
from tui.world import Kind

TERMS: tuple[Term, ...] = (
    Term(
        "initiator",
        "This host: the side that asks for data. Targets know it by its iSCSI name and decide by that name what it may"
        " see, so two hosts must never share one.",
    ),
    Term(
        "target",
        "The other side: a storage array or server that offers disks under one iSCSI name. One target can be reached"
        " at several portals.",
    ),
    Term(
        "portal",
        "An IP address and TCP port at which a target listens, usually port 3260. Two portals on separate networks are"
        " what makes a second path worth having.",
    ),
    Term(
        "IQN",
        "An iSCSI name, such as iqn.2026-11.com.example:disk1: the year and month in which somebody owned the domain,"
        " the domain backwards, then a name of their choice. It stays the same when addresses change.",
    ),
    Term(
        "LUN",
        "The number of a disk within one target. Another target, or another host, can use another number for the same"
        " disk, so a LUN alone never says which disk it is: the WWID does.",
    ),
    Term(
        "WWID",
        "The identity that the target gives a disk (SCSI page 83h). It is the same over every path. Mooring compares it"
        " before each step of a removal and stops when it changed.",
    ),
    Term(
        "session",
        "A login of this initiator at one target. It has at least one TCP connection. Logging out while a disk of the"
        " session is in use is like pulling the plug: what was not yet written is lost.",
    ),
    Term(
        "connection",
        "One TCP connection of a session. Its round-trip time and the segments sent again tell how well the network"
        " under a path does.",
    ),
    Term(
        "ISID",
        "The initiator's half of a session's identity. When a connection breaks, logging in again with the same ISID"
        " takes over the old session instead of opening a second one.",
    ),
    Term(
        "path",
        "One route to a disk: a link of this host, a session, a portal. With two paths a pulled cable costs speed;"
        " with one it costs the disk.",
    ),
    Term(
        "MPIO",
        "Multipath I/O: several paths joined into one device, so that I/O goes on over another path when one fails."
        " Always use the joined device; writing to a single path beneath it can corrupt the data.",
    ),
    Term(
        "map",
        "The device that joins the paths of one disk. While at least one of its paths works, programs notice nothing.",
    ),
    Term(
        "active/active",
        "An array that serves a disk equally well on every path. In an active/passive array only one controller serves"
        " it at a time, and using the other is slow or not possible.",
    ),
    Term(
        "ALUA",
        "How an array says which of its ports are the good ones for a disk: active/optimized is the direct way,"
        " active/non-optimized a detour, standby answers but moves no data.",
    ),
    Term(
        "path group",
        "Paths of the same quality. I/O uses the best group that works and moves to the next one when the whole group"
        " is lost.",
    ),
    Term(
        "link",
        "A network interface of this host. If all paths of a disk leave through one link, its cable is a single point"
        " of failure, however many portals there are.",
    ),
    Term(
        "bond",
        "Several links used as one. It protects against a pulled cable, but for iSCSI two separate links with a"
        " session each are usually the better choice: multipath notices more kinds of failure.",
    ),
    Term(
        "VLAN",
        "A separate network on a shared cable, told apart by a number. Storage traffic belongs in one of its own.",
    ),
    Term(
        "CHAP",
        "Proof of a shared secret at login, without sending it. It keeps strangers from logging in; it does not"
        " encrypt the data.",
    ),
    Term(
        "mutual CHAP",
        "CHAP in both directions: the target proves its identity too, so that nobody can pose as your storage.",
    ),
    Term(
        "digest",
        "A checksum (CRC32C) over the headers or the data of each message. TCP's own checksum misses some errors of"
        " faulty hardware; a digest finds them before they reach a disk.",
    ),
    Term(
        "discovery",
        "Asking a portal which targets it knows (SendTargets). It logs in to none of them, but open-iscsi makes a node"
        " record of each that is new: where iscsid.conf says node.startup = automatic, the next boot logs in to all of"
        " these. Mooring's own engine keeps nothing of the answer.",
    ),
    Term(
        "attach",
        "To make a disk that a session sees into a block device of this host, with a name under /dev that can be"
        " formatted and mounted.",
    ),
    Term(
        "volume",
        "A file system that is mounted. Data written to it waits in memory for a while: unmounting is what makes sure"
        " that all of it is on the disk.",
    ),
    Term(
        "dismount",
        "To unmount everything on a disk before it is touched. It is never forced: a program with an open file stops"
        " it, and so does a mount in a container unless the plan was told to unmount there too (--other-namespaces)."
        " One volume alone is dismounted by U on its row; its disk stays attached, so its cable must stay where it is.",
    ),
    Term(
        "look",
        "To mount a volume read-only in a folder of Mooring's own (v on a disk), without a byte being written: no"
        " journal is replayed, and the kernel takes the device for read-only as long. So what the last host had not"
        " finished writing may be missing or look broken. U on its row in view 7 ends it.",
    ),
    Term(
        "claim",
        "An exclusive open of the device. From then on nothing can mount it, swap on it or build on it, so what was"
        " found unused stays so until the removal is over. A plain open still succeeds: whoever did that is looked for"
        " before the disk goes offline.",
    ),
    Term(
        "flush",
        "To ask the target to put everything from its write cache on stable storage (SYNCHRONIZE CACHE). Mooring goes"
        " on only when the target answers that it has.",
    ),
    Term(
        "offline",
        "Closed for new commands. A removal takes a disk offline after the flush, so that nothing can be written"
        " between the flush and the logout. It can be undone.",
    ),
    Term(
        "logout",
        "The orderly end of a session. Mooring logs a session out only after its disk was dismounted, flushed and"
        " taken offline, in that order.",
    ),
    Term(
        "settle time",
        "How long a path has to work without a break before it is trusted again. It keeps a loose cable from moving"
        " the I/O back and forth.",
    ),
    Term(
        "mount namespace",
        "A view of the mounts, as containers have their own. A disk can be mounted in one that you do not see;"
        " Mooring looks into all of them.",
    ),
    Term(
        "iSNS",
        "A directory service for iSCSI: targets register themselves, and initiators ask it instead of each portal.",
    ),
    Term(
        "discovery domain",
        "A group in an iSNS server. An initiator is shown only the targets of groups that it is in.",
    ),
    Term(
        "MTU",
        "The largest packet that a link sends. It has to be the same at both ends and at every switch between: a packet"
        " that is too large is dropped without a word, so small requests pass and large writes hang.",
    ),
    Term(
        "jumbo frame",
        "An Ethernet frame larger than the usual 1500 bytes, mostly 9000. It saves work under load, and only helps"
        " where everything on the way takes it.",
    ),
    Term(
        "flow control",
        "Pause frames (802.3x): a switch port that fills up asks the sender to wait instead of dropping frames.",
    ),
    Term(
        "LLDP",
        "How a switch tells its name to what is plugged in. With it Mooring sees whether two cables end at one switch.",
    ),
    Term(
        "persistent reservation",
        "A note at the disk itself of who uses it (registered keys), and who may write. It is how clusters keep two"
        " hosts from mounting one file system, which would destroy it.",
    ),
    Term(
        "recovery time-out",
        "How long the kernel holds commands back when a session is lost (recovery_tmo, replacement_timeout). Short with"
        " multipath, so that another path is used at once; long without, so that a switch can restart.",
    ),
    Term(
        "queue_if_no_path",
        "What a map does when all its paths are lost: keep requests and wait, instead of failing them. It needs a limit"
        " (no_path_retry), else everything that touches the disk hangs until a path comes back.",
    ),
    Term(
        "node record",
        "open-iscsi's note how to log in to one target at one portal: name, password, timers, and whether to do it at"
        " boot (node.startup).",
    ),
    Term(
        "_netdev",
        "A mount option in fstab that says: this file system needs the network. It is mounted after the login and"
        " unmounted before the logout.",
    ),
    *terms.EVERY,
)

OF_KIND: dict[Kind, tuple[str, ...]] = {
    Kind.TARGET: ("target", "portal", "IQN", "discovery"),
    Kind.DISK: ("WWID", "LUN", "attach", "MPIO", "map", "flush", "look"),
    Kind.VOLUME: ("volume", "dismount", "mount namespace"),
    Kind.PATH: ("path", "MPIO", "ALUA", "portal", "session"),
    Kind.SESSIONS: ("session", "logout", "CHAP"),
    Kind.SESSION: ("session", "connection", "ISID", "CHAP", "digest", "logout", "probe"),
    Kind.LINKS: ("link", "bond", "VLAN"),
    Kind.LINK: ("link", "bond", "VLAN"),
    Kind.TROUBLE: ("path", "session", "link"),
    Kind.CHECK: ("MPIO", "path", "CHAP", "digest"),
    Kind.EVENT: ("path", "session", "link"),
    Kind.REMOVAL: ("dismount", "flush", "logout", "settle time"),
}
"""The terms that matter for what is selected."""

_BY_NAME = {term.name.casefold(): term for term in TERMS}


def find(name: str) -> Term | None:
    """The term with this name, whatever the case."""
    return _BY_NAME.get(name.casefold())


def for_kind(kind: Kind | None) -> tuple[tuple[Term, ...], tuple[Term, ...]]:
    """The terms for what is selected, and the rest of them by name."""
    wanted = OF_KIND.get(kind, ()) if kind else ()
    first = tuple(_BY_NAME[name.casefold()] for name in wanted)
    rest = sorted((term for term in TERMS if term not in first), key=lambda term: term.name.casefold())
    return first, tuple(rest)
