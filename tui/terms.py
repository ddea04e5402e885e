"""The words behind the fields, states and columns of the dashboard; `tui.glossary` has those of iSCSI itself."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """One word."""

    name: str
    text: str


IDENTITIES: tuple[Term, ...] = (
    Term(
        "disk",
        "A logical unit of a target as this host sees it, over one path or several. Its name can change from boot to"
        " boot, its WWID does not: check the WWID before anything that cannot be taken back.",
    ),
    Term(
        "alias",
        "A name that the target gives itself for people. Nothing keeps two targets from having the same one, so never"
        " choose a disk by it: the IQN and the WWID are what counts.",
    ),
    Term(
        "product",
        "Vendor, model and firmware as the disk tells them (SCSI INQUIRY). multipathd chooses its settings by them, so"
        " an array with new firmware can be treated differently: compare before and after an update.",
    ),
    Term(
        "serial number",
        "The number that the target gives a disk (SCSI page 80h). It helps to find the disk on the array's own pages;"
        " the WWID is the surer identity.",
    ),
    Term(
        "size",
        "How much the disk or file system holds. A size that differs from path to path, or from what the array says,"
        " means that a rescan is missing or that it is another disk: do not write to it before that is clear.",
    ),
    Term(
        "device",
        "The node below /dev through which programs reach it. With several paths always use the map's device; the"
        " devices of single paths beneath it are for Mooring and multipathd alone.",
    ),
    Term(
        "cache",
        "Whether the disk keeps writes in memory before they are on stable storage. What is in there is lost if the"
        " array loses power without a battery; a flush empties it, and a removal always makes one.",
    ),
    Term(
        "source",
        "Who holds it: the kernel's own initiator (open-iscsi), or Mooring's engine, which needs no kernel module. It"
        " decides which tools see it: iscsiadm knows nothing of the engine's sessions.",
    ),
    Term(
        "interface",
        "The record of open-iscsi (iface) that binds a session to a network card or address. Without a binding the"
        " routes decide, and two sessions may leave through the same cable.",
    ),
    Term(
        "MAC address",
        "The hardware address of a network interface, by which a switch knows it. Use it to find the port of a switch"
        " that a cable ends in.",
    ),
    Term(
        "path number",
        "Host, channel, target and LUN as the kernel counts them (H:C:T:L). It names one path of one disk until the"
        " next login, and not beyond: never write it into a configuration.",
    ),
)

FLOW: tuple[Term, ...] = (
    Term(
        "latency",
        "How long a command takes from this host to the target and back. When one path of a disk is several times"
        " slower than its mates, its cable, switch or controller deserves a look before it fails.",
    ),
    Term(
        "last minute",
        "The latency of each of the last sixty readings as a small graph, the newest at the right. A gap means that the"
        " path did not work at that moment.",
    ),
    Term(
        "read and write counters",
        "Commands and bytes since the path came up. The rates tell which path really carries the load: a path that"
        " should and does not is often a wrong setting of multipath.",
    ),
    Term(
        "in flight",
        "Commands that were sent and are not answered yet. If the number stays and nothing moves, the disk hangs: look"
        " at the state of its session before starting anything else on it.",
    ),
    Term(
        "I/O error",
        "A command that ended in an error. The kernel tries again or another path, so programs may not have noticed;"
        " a number that grows means data is in danger: find the cause now.",
    ),
    Term(
        "time-out",
        "A command that was not answered in time and was given up. Each costs seconds in which programs stand still;"
        " several point to a target, switch or cable in trouble.",
    ),
    Term(
        "path failure",
        "How often multipath took a path out of use. One is an accident; several within an hour are a flapping path,"
        " which is worse than one that is down: have its cable and port looked at.",
    ),
    Term(
        "round-trip time",
        "How long TCP takes for a segment and its acknowledgement (RTT). It is the floor under every latency of the"
        " disk; within one hall it is well below a millisecond.",
    ),
    Term(
        "retransmission",
        "Segments that TCP had to send again. A few are normal, a stream of them is a bad cable, a full switch buffer"
        " or an MTU that does not fit. Most cost a round trip; one that only TCP's timer notices stalls a write for"
        " 200 ms and more.",
    ),
    Term(
        "unacknowledged",
        "Segments that were sent and whose receipt the other side has not told. If the number stands still, nobody"
        " answers any more, long before the session is given up.",
    ),
    Term(
        "delivery rate",
        "How fast TCP saw data arrive at the other end lately. It is what this connection can do, not what the link"
        " could: a value far below the speed of the link points to losses or a full target.",
    ),
    Term(
        "reconnect",
        "How often a session had to log in again since it was made. Commands wait meanwhile; a number that grows is a"
        " network or target that does not hold, even if all looks well right now.",
    ),
    Term(
        "speed",
        "What the network interface agreed on with its switch. A link that came up slower than its mates is a damaged"
        " cable or a wrong port; duplex has to be full.",
    ),
    Term(
        "traffic",
        "Bytes that went over the link, all of them and not only iSCSI's. Storage that shares its link with other"
        " traffic is slow whenever the others are busy.",
    ),
    Term(
        "damaged packet",
        "Packets that the network card threw away because their checksum was wrong or they did not fit (errors). Each"
        " is sent again and costs time; more than none is a cable, plug or port to be changed.",
    ),
    Term(
        "dropped packet",
        "Packets that were whole and were thrown away for want of room. The host or switch is overrun: flow control or"
        " a network of its own for storage helps.",
    ),
    Term(
        "carrier",
        "Whether the network card senses a partner at the other end of the cable. Each change is a cable that was"
        " pulled, a switch that was restarted, or a plug that is loose.",
    ),
    Term(
        "address",
        "The IP addresses of a network interface. A session leaves from one of them; two links in one network are a"
        " trap, since the kernel may send everything through one of them.",
    ),
)

LAYERS: tuple[Term, ...] = (
    Term(
        "path selector",
        "The rule by which a map spreads I/O over the paths of its group: in turn (round-robin), by the shortest queue,"
        " or by the shortest service time. It matters for speed, not for safety.",
    ),
    Term(
        "priority",
        "How much multipath prefers a group of paths, from what the array says (ALUA). I/O goes to the working group"
        " with the highest number.",
    ),
    Term(
        "target port group",
        "Ports of an array that always have the same state for a disk, mostly those of one controller. Paths that all"
        " lead to one group are lost together with that controller.",
    ),
    Term(
        "independent path",
        "Paths that share no portal, link, network, switch or controller. Only these protect each other: four paths"
        " through one switch are one path.",
    ),
    Term(
        "route",
        "The way that packets take to the portal, as the kernel's routing table says. Storage should be reached"
        " directly; a gateway in between is one more thing that can fail, and slower.",
    ),
    Term(
        "switch",
        "What the cable ends in, as the switch itself tells (LLDP). Where nothing is told, nobody can say whether two"
        " cables hang on one switch.",
    ),
    Term(
        "file system",
        "How files lie on a disk: ext4, xfs, btrfs and others. None of these may be mounted writable by two hosts at"
        " once: that destroys it. Only cluster file systems can.",
    ),
    Term(
        "mount point",
        "The folder in which a file system appears. As long as it is mounted, data waits in memory for being written:"
        " unmount before anything is done to its disk.",
    ),
    Term(
        "label",
        "A name in the file system itself, set by whoever made it. Copies and snapshots have the same one, so with two"
        " of them nobody knows which is mounted by it.",
    ),
    Term(
        "UUID",
        "The number that a file system was born with; fstab mounts by it, whatever the device is called. A copy of a"
        " disk has the same one: never have original and copy on one host without care.",
    ),
    Term(
        "subtree",
        "The folder of the file system that appears here, where it is not the whole: a bind mount or a subvolume. All"
        " mounts of one file system have to go before its disk can.",
    ),
    Term(
        "mount options",
        "How the file system is mounted. ro keeps programs from writing, noexec from starting; _netdev and nofail"
        " matter for whether the host boots without its storage.",
    ),
    Term(
        "usage",
        "How much of the file system is taken. Programs fail and lose what they wanted to write when it is full; above"
        " 95 % it is time to grow it or to make room.",
    ),
    Term(
        "read-only",
        "Mounted so that nothing can be written, which is safe to look at. If nobody asked for it, the kernel did so"
        " after an error: look into its log, and check the file system before it is written again.",
    ),
    Term(
        "negotiated values",
        "What initiator and target agreed on at login: sizes of bursts, digests, who may send when. They decide speed"
        " and checks, and hold until the session ends.",
    ),
    Term(
        "start-up",
        "Whether a session is logged in to at boot (node.startup): automatic, manual, or onboot by the initial RAM"
        " disk. A removal sets it to manual, so that the disk does not come back by itself.",
    ),
)

STATES: tuple[Term, ...] = (
    Term(
        "state",
        "How it is now, by the kernel's or the engine's own word: a sign, a word and a colour. What nobody can tell is"
        " shown as unknown and never as good.",
    ),
    Term(
        "ok",
        "Everything that was looked at is as it should be. What could not be looked at is named beside it.",
    ),
    Term(
        "degraded",
        "It works, and something that should help to keep it working does not: a path, a link, a member of a bond. The"
        " data is not in danger yet; mend it before the next fault.",
    ),
    Term(
        "at risk",
        "It works, and the next fault ends it: one path left, or all paths through one cable or switch. Do nothing that"
        " could take the rest away, and bring back what is missing first.",
    ),
    Term(
        "down",
        "It does not work. I/O to it waits or fails; what programs wrote and was not flushed is still only in memory."
        " Do not restart the host now if that can be avoided: mend the way to the disk.",
    ),
    Term(
        "unknown",
        "Nobody can tell how it is. Mooring treats it as not good: a guard that needs to know forbids the removal.",
    ),
    Term("attached", "A block device of this host; programs can use it."),
    Term(
        "available",
        "A session sees the disk, and it is not a block device here. Nothing on this host can have unwritten data"
        " on it.",
    ),
    Term(
        "no path",
        "None of its paths works. With queueing, programs wait; without, their writes fail and data is lost that"
        " was not yet written. Bring a path back before anything else.",
    ),
    Term(
        "dead",
        "Nothing serves the disk any more, and it will not come back by itself. What was not written is lost; a removal"
        " with --abandon takes away what is left of it.",
    ),
    Term("active", "A path that works and may carry I/O."),
    Term("standby", "A path that works, while another one is better or in use. It takes over when that one fails."),
    Term(
        "failed",
        "It does not answer, or lost its connection. I/O goes on over other paths if there are any; look at the link,"
        " the switch and the target, in this order.",
    ),
    Term("logged in", "The session stands and can carry commands."),
    Term("logging in", "The session is being made, or made again after a loss. Commands wait meanwhile."),
    Term(
        "given up",
        "The session was lost for longer than the recovery time-out, and its commands fail now. It is tried"
        " further; the target or the network between has to come back.",
    ),
    Term("logged out", "The session was ended in order. Nothing is carried by it."),
    Term("suspended", "The map holds all I/O back until somebody resumes it (dmsetup resume). Programs wait."),
    Term("mounted", "The file system is in use here; unmount it before its disk goes."),
    Term("up", "The link has a carrier and is switched on."),
    Term("bad", "Data is in danger or already out of reach: look at it first."),
    Term("warning", "It works, and the next fault may hurt, or safety is less than it should be."),
    Term("note", "Worth knowing; nothing has to be done at once."),
    Term("failing", "Disks of this target have no path, or are dead."),
    Term("no session", "This host is logged in to none of the target's portals."),
    Term("attention", "Something of it is offline, or nobody can tell how it is."),
    Term("removed", "Every step of the removal was proved; the disk is gone from this host and safe to take away."),
    Term("undone", "The removal was taken back: disk and mounts are where they were."),
    Term("refused", "A guard said no before anything was changed."),
    Term("stopped", "The removal stopped part-way. Resume it, or undo it: until then the disk is between two states."),
    Term(
        "not known",
        "Nobody can say, for want of a reading or of an answer. A removal that ended so has to be looked at by"
        " hand: its journal names the step.",
    ),
    Term("under way", "A removal is being made now, by a process of its own."),
    Term("died", "The process that made the removal is gone, and its last step is open. Resume it, or undo it."),
)

TOLD: tuple[Term, ...] = (
    Term("finding", "What a rule of best practice or a guard found, with what it saw, why it matters, and what to do."),
    Term("evidence", "What was read, and where. A finding without it would be an opinion."),
    Term("reason", "What stands behind a state, as the kernel, the engine or the target tells it."),
    Term(
        "event",
        "A change that Mooring saw, with its time. Events are kept while the dashboard is open; the kernel's log and"
        " mooring record keep them longer.",
    ),
    Term(
        "journal",
        "The file of a removal: each step is written before it begins and after it was proved. It is what resume and"
        " undo go by, and what mooring report tells from.",
    ),
    Term("removal", "Taking a disk away safely: dismount, flush, offline, logout, each proved before the next."),
    Term(
        "step",
        "One part of a removal, with what it does, what proves it, and what takes it back. A step that is not proved"
        " stops the removal.",
    ),
    Term(
        "what is carried",
        "The disks whose paths go over a session, or the sessions over a link. It is what suffers when that is lost.",
    ),
    Term(
        "what is lost with it",
        "What would stop working if this portal, link or switch failed now. If a disk is named, it has a single"
        " point of failure: give it a way that does not depend on this.",
    ),
    Term(
        "probe",
        "A session of Mooring's own beside a kernel session, over the same way, that only asks whether the"
        " target is there (NOP-Out) and the disk ready (TEST UNIT READY). It tells within a second of a fault that the"
        " kernel would notice after many.",
    ),
    Term(
        "maintenance",
        "Work on one path of a disk: a cable, a port, a controller. The path is taken out of its map first, flushed and"
        " closed, so that the disk goes on over the others and nothing has to time out; undo brings it back.",
    ),
)

AGREED: tuple[Term, ...] = (
    Term("HeaderDigest", "Whether the header of each message carries a checksum (CRC32C), or none."),
    Term(
        "DataDigest",
        "Whether the data of each message carries a checksum (CRC32C), or none. With it, what a faulty switch or card"
        " changes on the way is found before it reaches the disk.",
    ),
    Term("MaxRecvDataSegmentLength", "The most data, in bytes, that one message may carry to this side."),
    Term("MaxBurstLength", "The most data, in bytes, in one burst that was asked for. Larger is faster on long ways."),
    Term("FirstBurstLength", "How much of a write may be sent before the target asks for it, in bytes."),
    Term("InitialR2T", "Whether the target has to ask for the first data of a write. No saves a round trip for each."),
    Term("ImmediateData", "Whether a write may bring its first data along with the command. Yes saves a round trip."),
    Term("MaxOutstandingR2T", "How many requests for data of one write may be open at once."),
    Term("DataPDUInOrder", "Whether the parts of a burst come in the order of their offsets."),
    Term("DataSequenceInOrder", "Whether the bursts of a command come in the order of their offsets."),
    Term(
        "ErrorRecoveryLevel",
        "How a session recovers from a fault: 0 logs in again and repeats what was open, 1 repairs single messages, 2"
        " moves to another connection. Most use 0, which is safe.",
    ),
    Term("DefaultTime2Wait", "Seconds to wait after a lost connection before logging in again."),
    Term("DefaultTime2Retain", "Seconds for which the target keeps the open commands of a lost connection."),
    Term("MaxConnections", "How many TCP connections one session may have. Almost everybody uses one."),
    Term("TargetPortalGroupTag", "The number of the group of portals that may share one session."),
)

EVERY: tuple[Term, ...] = (*IDENTITIES, *FLOW, *LAYERS, *STATES, *TOLD, *AGREED)
