"""Attributes that are looked at in every reading, for one system call each: their files stay open.

A sysfs attribute is made anew whenever it is read from its beginning, also through a descriptor that has been open for
long; once its object is gone the descriptor answers ENODEV, even if another object has taken over the name
(fs/kernfs/file.c). An open attribute costs the kernel about 5 KiB, so there is a limit; what is beyond it is opened,
read and closed each time, which is slower and says the same.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Collection, Iterable, Mapping

from initiator.host.attributes import FILE, MOSTLY, PAGE, read_one, tolerable
from initiator.host.lifetimes import Looks

MOST = 16384
"""Descriptors that are kept at most, whatever the process may have."""
FEW = 1024
"""Attributes that one reading looks at without a thought."""
SHARE = 4
"""Of what may be some readings old, one attribute in so many is looked at in each reading of a large host."""


class Descriptors:
    """How many descriptors may still be kept open, shared by all who keep some.

    Args:
        limit: How many in all; None for three quarters of what the process may have, and `MOST` at most.
    """

    def __init__(self, limit: int | None = None) -> None:
        if limit is None:
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            limit = MOST if soft == resource.RLIM_INFINITY else min(MOST, soft * 3 // 4)
        self.left = limit


def raise_limit(wanted: int = 2 * MOST) -> None:
    """Lets this process have more descriptors, as far as it may decide that; for one that reads for long."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Watch:
    """Tells of which objects one of the followed attributes is not what it was.

    Args:
        descriptors: Where descriptors are taken from.
        share: Of more than `FEW` attributes only one in so many is looked at each time, all of them in so many times.
    """

    def __init__(self, descriptors: Descriptors | None = None, share: int = 1) -> None:
        self._descriptors = descriptors or Descriptors()
        self._share = share
        self._next = 0
        self._owners: list[str] = []
        self._paths: list[str] = []
        self._handles: list[int] = []
        self._last: list[bytes | None] = []
        self._gone: set[str] = set()

    def follow(self, owner: str, folder: str, names: Iterable[str], values: Mapping[str, bytes]) -> None:
        """Follows attributes of an object from now on.

        Args:
            owner: What `changed` calls the object.
            folder: Where the attributes are.
            names: Which ones.
            values: What they said when the object was read; what is missing here could not be read.
        """
        if owner in self._gone:
            self._sweep()
        for name in names:
            self._owners.append(owner)
            self._paths.append(f"{folder}/{name}")
            self._handles.append(-1)
            self._last.append(values.get(name))

    def forget(self, owners: Collection[str]) -> None:
        """Follows nothing of these objects any more."""
        self._gone.update(owners)

    def changed(self) -> set[str]:
        """Looks at the attributes; gives the objects of which one has changed since the last look."""
        self._sweep()
        pread, last = os.pread, self._last  # this loop runs some ten thousand times in one reading of a large host
        count = len(last) if len(last) <= FEW else -(-len(last) // self._share)
        begin = self._next if self._next < len(last) else 0
        self._next = begin + count
        found = set()
        pairs = zip(self._handles[begin : begin + count], last[begin : begin + count], strict=True)
        for slot, (handle, was) in enumerate(pairs, begin):
            try:
                now = pread(handle, MOSTLY, 0) if handle >= 0 else self._look(slot)
                if now is not None and len(now) == MOSTLY:
                    now = pread(handle, PAGE, 0)
            except OSError as error:
                if not tolerable(error):
                    raise
                now = None
                if error.errno == errno.ENODEV:  # the object is gone, perhaps there is another one under its name
                    self._release(slot)
            if now != was:
                last[slot] = now
                found.add(self._owners[slot])
        return found

    def _look(self, slot: int) -> bytes | None:
        """Reads an attribute whose file is not open, and leaves it open if there is room."""
        if self._descriptors.left <= 0:
            return read_one(self._paths[slot])
        handle = os.open(self._paths[slot], FILE)
        self._descriptors.left -= 1
        self._handles[slot] = handle
        return os.pread(handle, PAGE, 0)

    def _release(self, slot: int) -> None:
        os.close(self._handles[slot])
        self._handles[slot] = -1
        self._descriptors.left += 1

    def _sweep(self) -> None:
        """Takes out what belongs to forgotten objects."""
        if not self._gone:
            return
        kept = [slot for slot, owner in enumerate(self._owners) if owner not in self._gone]
        if len(kept) < len(self._owners):
            for slot, owner in enumerate(self._owners):
                if owner in self._gone and self._handles[slot] >= 0:
                    self._release(slot)
            self._owners = [self._owners[slot] for slot in kept]
            self._paths = [self._paths[slot] for slot in kept]
            self._handles = [self._handles[slot] for slot in kept]
            self._last = [self._last[slot] for slot in kept]
        self._gone.clear()

    def close(self) -> None:
        """Follows nothing any more."""
        self.forget(set(self._owners))
        self._sweep()


class Follower:
    """Tells of which objects an attribute has changed whose lifetime says that it is looked at.

    Args:
        descriptors: Where descriptors are taken from.
    """

    def __init__(self, descriptors: Descriptors | None = None) -> None:
        descriptors = descriptors or Descriptors()
        self._always = Watch(descriptors)
        self._soon = Watch(descriptors, SHARE)

    def follow(self, owner: str, folder: str, looks: Looks, values: Mapping[str, bytes]) -> None:
        """Follows attributes of an object from now on.

        Args:
            owner: What `changed` calls the object.
            folder: Where the attributes are.
            looks: Which ones.
            values: What they said when the object was read; what is missing here could not be read.
        """
        self._always.follow(owner, folder, looks.always, values)
        self._soon.follow(owner, folder, looks.soon, values)

    def forget(self, owners: Collection[str]) -> None:
        """Follows nothing of these objects any more."""
        self._always.forget(owners)
        self._soon.forget(owners)

    def changed(self) -> set[str]:
        """The objects of which something has changed."""
        return self._always.changed() | self._soon.changed()

    def close(self) -> None:
        """Follows nothing any more."""
        self._always.close()
        self._soon.close()


def share(names: Collection[str], start: int) -> tuple[Iterable[str], int]:
    """Which of `names` a reading looks at if they may be some readings old, and where the next reading begins."""
    if len(names) <= FEW:
        return names, 0
    end = min(start + -(-len(names) // SHARE), len(names))
    return list(names)[start:end], end % len(names)


def in_turn(names: list[str], start: int, count: int) -> tuple[set[str], int]:
    """Which of `names` it is the turn of, and where the next turn begins."""
    if len(names) <= count:
        return set(names), 0
    start %= len(names)
    chosen = names[start : start + count]
    chosen += names[: count - len(chosen)]
    return set(chosen), start + count
