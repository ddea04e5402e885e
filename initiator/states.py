"""The states of things, as words: they are what screens show, JSON has, and filters match."""

from __future__ import annotations

import enum


class Source(enum.StrEnum):
    """Who holds a session: the kernel (open-iscsi and its transports) or Mooring's own engine."""

    KERNEL = "kernel"
    ENGINE = "engine"


class SessionState(enum.StrEnum):
    """State of a session, in the kernel's words where the kernel has one."""

    LOGGING_IN = "logging-in"
    LOGGED_IN = "logged-in"
    FAILED = "failed"
    """The connection is lost and the initiator tries to come back; commands wait."""
    FREE = "free"
    """Recovery was given up; commands fail at once."""
    LOGGED_OUT = "logged-out"
    UNKNOWN = "unknown"


class PathState(enum.StrEnum):
    """Whether a path can carry I/O now."""

    ACTIVE = "active"
    STANDBY = "standby"
    """Works, but belongs to a path group that is not in use."""
    FAILED = "failed"
    OFFLINE = "offline"
    """Taken out of service on purpose."""
    UNKNOWN = "unknown"


class Access(enum.StrEnum):
    """Asymmetric access state of a target port group (SPC-4, 5.15.2.4)."""

    OPTIMIZED = "active/optimized"
    NON_OPTIMIZED = "active/non-optimized"
    STANDBY = "standby"
    UNAVAILABLE = "unavailable"
    TRANSITIONING = "transitioning"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class DiskState(enum.StrEnum):
    """What can be done with a disk now."""

    AVAILABLE = "available"
    """A session sees it; it is no block device of this host."""
    ATTACHED = "attached"
    DEGRADED = "degraded"
    """Attached, and at least one of its paths does not work."""
    NO_PATH = "no-path"
    """Attached, and none of its paths works: I/O waits or fails."""
    OFFLINE = "offline"
    """Attached, and closed for new commands, as a removal leaves it until its end."""
    DEAD = "dead"
    """The block device is still there, but nothing serves it any more."""
    UNKNOWN = "unknown"


class MapState(enum.StrEnum):
    """State of a multipath device, summed up over its paths."""

    OK = "ok"
    DEGRADED = "degraded"
    NO_PATH = "no-path"
    SUSPENDED = "suspended"
    UNKNOWN = "unknown"


class VolumeState(enum.StrEnum):
    """State of a mounted file system."""

    MOUNTED = "mounted"
    READ_ONLY = "read-only"
    UNKNOWN = "unknown"


class LinkState(enum.StrEnum):
    """State of a network interface: `up` means it has a carrier and is switched on."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class Severity(enum.StrEnum):
    """How much an event or a finding matters."""

    NOTE = "note"
    WARN = "warn"
    BAD = "bad"
