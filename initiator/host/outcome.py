"""How iscsiadm ended, in plain words."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from initiator.errors import MooringError, OutcomeUnknownError
from initiator.host.chaprecord import Credentials
from initiator.host.nodes import NodeRecord
from initiator.host.run import Finished, Stuck
from initiator.names import clean

EXISTS = 15
NO_SUCH = 21
REFUSED_FOR_GOOD = 19
REFUSED_CREDENTIALS = 24
TIMED_OUT = 8
NO_ANSWER = 11
MEANINGS = {
    2: "there is no such session",
    3: "not enough memory",
    4: "the connection to the portal failed",
    5: "the login failed",
    6: "the database of node records failed",
    7: "an argument was refused",
    TIMED_OUT: "the login did not get through in the time that iscsid tries",
    9: "iscsid had an internal error",
    10: "the logout failed",
    NO_ANSWER: "the portal takes connections, but did not answer in time",
    12: "there is no such transport",
    13: "access was refused",
    14: "the transport cannot do it",
    EXISTS: "the session exists already",
    18: "iscsid does not answer",
    REFUSED_FOR_GOOD: "the target refused the login for good",
    20: "iscsid does not run",
    NO_SUCH: "there is no such record",
    22: "sysfs could not be read",
    REFUSED_CREDENTIALS: "the target refused the credentials (CHAP)",
    28: "the session is in use",
    29: "the operation should be tried again",
    32: "the session is not connected",
    33: "the request timed out",
}
"""Exit codes of iscsiadm(8)."""
_HOW = "mooring login TARGET --chap-user USER --chap-secret-file FILE"


class ActionFailed(MooringError):  # noqa: N818 - says what happened
    """An order was not carried out.

    Attributes:
        exit_code: iscsiadm's.
    """

    code = "iscsiadm-failed"

    def __init__(self, what: str, done: Finished, reason: str = "", fix: str = "") -> None:
        meaning = reason or MEANINGS.get(done.returncode, f"iscsiadm ended with {done.returncode}")
        detail = _said(done.stderr)
        super().__init__(
            f"{what}: {meaning}{f' (iscsiadm: {detail})' if detail else ''}", fix=fix or "look at: journalctl -u iscsid"
        )
        self.exit_code = done.returncode


def _said(stderr: str) -> str:
    """iscsiadm's own reason: the line with the number of the error where there is one, else its first."""
    lines = [line.removeprefix("iscsiadm: ") for line in stderr.splitlines() if line.startswith("iscsiadm: ")]
    line = next((line for line in lines if "reported error" in line), lines[0] if lines else "")
    return clean(line.strip(), 200)


def not_finished(what: str, stuck: Stuck, fix: str = "") -> OutcomeUnknownError:
    """What is known of an order whose iscsiadm had to be ended: who hung, and waiting for what."""
    fate = "cannot be killed and was left behind" if stuck.left_behind else "was ended"
    return OutcomeUnknownError(
        f"{what} is not finished after {stuck.seconds:g} s: iscsiadm (process {stuck.pid}) waited"
        f" {waits_for(stuck.wchan)} and {fate}",
        fix=fix or "look at the state again before going on; why it hangs: journalctl -u iscsid",
    )


def waits_for(wchan: str) -> str:
    """The kernel function that a process sleeps in, with what that means for iscsiadm where it is known."""
    if not wchan:
        return "for something that the kernel does not tell"
    if "unix" in wchan or "poll" in wchan:
        return f"for iscsid's answer (in {wchan})"
    if "tcp" in wchan or "inet" in wchan or "sk_wait" in wchan:
        return f"for the portal's answer (in {wchan})"
    return f"in {wchan}"


def why_no_entry(records: Sequence[NodeRecord], chap: Credentials | None) -> tuple[str, str]:
    """Why a target refused the credentials of a login, and the way out."""
    if chap is not None:
        return f"wrong CHAP user or secret: the target refused those of {clean(chap.user)}", (
            "check both at the target; nothing of them was kept here"
        )
    user = next((each.chap_user for each in records if each.settings.get("node.session.auth.authmethod") == "CHAP"), "")
    if user:
        return f"wrong CHAP user or secret: the target refused those in the node record, of {user}", (
            f"give others: {_HOW}"
        )
    return "the target asks for CHAP and this host has no credentials for it", f"give them: {_HOW}"


def why_not_found(offered: Collection[str]) -> tuple[str, str]:
    """That a portal does not offer a target, and the way out.

    iscsid tries for two minutes at a target that is not there, since it may be on its way.
    """
    there = ", ".join(clean(name) for name in sorted(offered)[:8]) or "none at all"
    return f"target not found: the portal does not offer it to this host; it offers {there}", (
        "check the target's name, and at the target that this host's initiator name is let in"
    )
