"""Why a guard of a removal says what it says: each code of a finding in plain words. No Textual here."""

from __future__ import annotations

from collections.abc import Mapping

_WHY: Mapping[str, str] = {
    "not-attached|not-a-disk|device-unknown": (
        "A removal takes away a block device of this host, whose state it can prove. Where there is none, or nobody"
        " can say which it is, there is nothing that could be proved."
    ),
    "identity-unknown|identity-changed|identity-twice": (
        "The WWID says which disk this is; names and numbers go to others. Where it is missing, has changed, or two"
        " things have the same one, the removal might hit another disk."
    ),
    "unknown|unexamined|not-permitted": (
        "Something that the guards need to know could not be read. Unknown means no: what was not seen may be the"
        " very thing that loses data."
    ),
    "engine-silent|iscsid-dead|multipathd-silent": (
        "A service that has to take part does not answer. What it holds or is about to do is not known, and its part"
        " of the removal would hang half-way."
    ),
    "dead|no-path|path-not-running|offline|session-failed|queueing|map-suspended": (
        "What memory holds cannot be written to a disk that does not take it. Unmounting now would hang or lose it;"
        " bring a path back first, or give it up."
    ),
    "lost": ("The disk is given up: what was not written yet is lost with it."),
    "not-dead": (
        "Giving up is for disks that nobody can reach any more. This one answers, so it can be removed without losing"
        " anything."
    ),
    "last-path|last-live-path|one-path-left": (
        "The other paths do not carry the disk. When this one goes, or fails meanwhile, programs lose the disk: bring"
        " the others back first."
    ),
    "unsettled|settle-unknown": (
        "A path that came back a moment ago may go again. It counts only after it has held for the settle time, else"
        " a loose cable could take the disk away in the middle."
    ),
    "unit-unknown|engine-path": (
        "It cannot be told what a single path stands for here, so it cannot be taken out alone."
    ),
    "open": (
        "A program has a file or folder open in it. Unmounting would fail, and ending the program by force could lose"
        " what it has not written: end it in its own way."
    ),
    "ended": ("You chose to have these processes ended: they are asked to end (SIGTERM) and can write what they hold."),
    "mounted": ("It is unmounted by the plan, which writes back what memory holds."),
    "mounted-elsewhere|mounted-invisibly": (
        "A container or another mount namespace has the file system mounted too. As long as one mount is left, data"
        " waits in memory and the disk is in use."
    ),
    "mounted-copy|overlay|mount-inside": (
        "Something else stands on a folder of this file system, so that it stays in use after its own mount is gone."
        " That has to go first."
    ),
    "swap|swapped": (
        "Memory is swapped out to this disk. When it goes, programs end with it; swap is switched off first, which"
        " needs room in memory."
    ),
    "memory-pressure": (
        "Writing back and switching swap off need memory. With little of it left, the host can hang in the middle."
    ),
    "loop|holder": (
        "Another device stands on this one or on a file inside it. It holds data of its own that has to be closed"
        " first."
    ),
    "exported": (
        "Other machines use it over the network. They would lose it without a warning: stop the export first."
    ),
    "system-disk": ("The running system stands on it. Without it this host stops."),
    "owner|automount": (
        "A cluster, an agent or an automounter has this disk in its care and would mount it again, or call its"
        " absence a fault. Tell that one first."
    ),
    "boot-entry": (
        "A file of the boot names it. The next boot would wait for it, or mount it again when it comes back."
    ),
    "reserved": (
        "This host holds a reservation on the disk: a cluster counts on it. Taken away, another host might write at"
        " the same time or be locked out."
    ),
    "other-hosts": (
        "Other hosts are registered with this disk. It goes on for them; make sure that none of them counts on this"
        " one."
    ),
    "closed|crypt-key": (
        "Volumes on it are closed by the plan. An encrypted one can be opened again only by who has its passphrase or"
        " key."
    ),
    "lvm-unknown|vg-spans|vg-twice": (
        "A volume group is closed as a whole. Where it reaches other disks, or nobody can tell how far it reaches,"
        " closing it would take away more than was asked for."
    ),
    "md-unknown|md-spans|md-degraded|md-busy": (
        "An array is stopped as a whole, and only while it is complete and quiet: a degraded one lives on this very"
        " disk, a rebuild would be cut off."
    ),
    "fs-spans": (
        "One file system lies on several disks. Without one of them it is broken: remove all of them in one plan."
    ),
    "shared-session|other-lun|session-stays|session-twice": (
        "A session carries other disks, or there are two to one place. Logging out would pull their cable too, so the"
        " session stays for what still needs it."
    ),
    "session-unknown|session-unbound|kernel-session": (
        "It is not known which session carries a path. Without that nobody can tell what a logout would take away."
    ),
    "boot-session": ("This host booted from this session. Ending it takes the system disk away."),
    "no-record|records-differ|discoveryd": (
        "Whether something would log in again by itself is not certain. A disk that comes back unasked may be mounted"
        " while somebody takes it away."
    ),
    "no-map|multipath-unknown|path-outside-map|paths-changed|path-no-device": (
        "The paths and the map do not fit together. Data could still go over a path that the plan does not know."
    ),
    "in-flight": ("Requests are under way to it. They have to end before it can be called quiet."),
    "second-runner|unfinished": (
        "Another removal of it is under way or stopped part-way. Two at once would work against each other: end that"
        " one first."
    ),
}
WHY: Mapping[str, str] = {code: text for codes, text in _WHY.items() for code in codes.split("|")}
"""By the code of a finding."""
