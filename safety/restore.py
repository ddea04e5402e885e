"""Bringing a disk back that was taken offline or logged out."""

from __future__ import annotations

from initiator.model import Disk, DiskState, Snapshot
from safety.work import LIVING, Work
from safety.world import StepError

_ATTACH_S = 60.0


def bring_back(work: Work) -> str:
    """Have the disks as block devices again: each over the sessions that are still there, or by logging in again.

    Doing it twice does no harm. When only some of the sessions are left, the others are logged out first, so that the
    disk comes back with all its paths; nothing can be lost by that, as it is flushed and offline.

    Raises:
        StepError: the engine failed, or another disk answers in its place.
        NotProven: the device does not show.
    """
    return "; ".join(_bring_back(one) for one in work.each())


def _bring_back(work: Work) -> str:
    snapshot = work.awake()
    disk = work.find(snapshot)
    if disk is not None and _served(work, disk):
        return f"{disk.name} is attached as {disk.device}"
    left = _sessions_left(work, snapshot)
    wanted = [step.params["session"] for step in work.steps("logout")]
    if disk is not None and left and left == wanted:
        if disk.state is not DiskState.OFFLINE:
            # Its device is gone, but the gate was not closed yet: close it, so that opening it starts from nothing.
            work.engine("offline", None, _ATTACH_S, disk=disk.id)
        work.engine("online", None, _ATTACH_S, disk=disk.id)
    else:
        for session in left:
            work.note(f"Logging out {session} too, so that the disk comes back with all its paths.")
            work.engine("logout", None, _ATTACH_S, session=session)
        _attach(work)
    work.until(lambda: None if _back(work) else f"{work.identity.name} did not come back.", _ATTACH_S)
    found = work.confirm(device=False)
    return f"{found.name} is attached as {found.device}"


def _attach(work: Work) -> None:
    given = dict(work.member.attach)
    own, mutual, secrets = given.get("chap_user"), given.get("chap_target_user"), work.secrets
    if own and secrets.own is not None:
        given["chap_secret"] = secrets.own
    if mutual and secrets.target is not None:
        given["chap_target_secret"] = secrets.target
    try:
        work.engine("attach", None, _ATTACH_S, **given)
    except StepError as error:
        text = str(error).rstrip(".")
        if mutual and None in (secrets.own, secrets.target):
            text = f"{text}. This host and the target prove to each other who they are; no journal holds the secrets."
            fix = "undo again with --chap-secret-file and --chap-target-secret-file; the dashboard asks for both"
            raise StepError(text, code="secrets-needed", fix=fix) from error
        if own and secrets.own is None:
            text = f"{text}. The target asks for a CHAP secret, which no journal holds."
            fix = "undo again with --chap-secret-file FILE; the dashboard asks for it"
            raise StepError(text, code="secret-needed", fix=fix) from error
        raise


def _sessions_left(work: Work, snapshot: Snapshot) -> list[str]:
    """The sessions of the plan that are still listed, in the order of the plan."""
    listed = set() if work.rebooted else {session.id for session in snapshot.sessions}
    wanted = [step.params["session"] for step in work.steps("logout")]
    return [session for session in wanted if session in listed]


def _back(work: Work) -> bool:
    disk = work.find(work.snapshot())
    return disk is not None and _served(work, disk)


def _served(work: Work, disk: Disk) -> bool:
    """Whether the engine says that it serves the disk, and the kernel agrees."""
    if disk.state not in LIVING or disk.device is None or disk.dev is None:
        return False
    state = work.world.loop(disk.dev)
    return state is not None and state.backing_file is not None and state.diskseq == disk.diskseq
