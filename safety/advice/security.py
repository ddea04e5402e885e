"""Who may log in, who may read the secrets, and over which network."""

from __future__ import annotations

from collections.abc import Iterator

from initiator.host.nodes import NodeRecord
from initiator.model import Session, Severity, Source
from safety.advice.rule import Answer, Family, Hit, Host, Unsure, command

FAMILY = Family("security")

_ALGORITHMS = "node.session.auth.chap_algs"
_WEAK = frozenset(("MD5", "SHA1"))


def _cabled(host: Host) -> list[Session]:
    """The sessions that others could listen to or imitate: all but those over loopback."""
    return [session for session, _ in host.wired] + list(host.unplaced)


def _chap_known(session: Session) -> bool:
    """The kernel shows the name of CHAP to root only, and an empty one reads like none."""
    return session.source is Source.ENGINE or session.chap_user is not None or "chap_user_in" in session.details


def _records(host: Host, session: Session) -> tuple[NodeRecord, ...] | None:
    """The records that a session can have come from; None where they cannot be read."""
    if host.facts.records is None:
        return None
    return tuple(
        record
        for record in host.by_target[session.target][0]
        if record.portal.host in (session.portal.host, _persistent(session))
    )


def _persistent(session: Session) -> str:
    return session.details.get("persistent_portal", "").rpartition(":")[0].strip("[]")


def _method(host: Host, session: Session) -> str | None:
    """CHAP or None, as the kernel shows it or the record has it."""
    if session.chap_user is not None:
        return "CHAP"
    if session.source is Source.ENGINE:
        return "None"
    records = _records(host, session)
    methods = {record.settings.get("node.session.auth.authmethod", "None") for record in records or ()}
    return methods.pop() if len(methods) == 1 else None


def _untold(host: Host) -> Iterator[Unsure]:
    """The sessions of which nobody tells how they were proved."""
    for session in _cabled(host):
        if _method(host, session) is None:
            yield Unsure(session.name, f"neither the kernel nor a record tells: {host.facts.why('records')}")


@FAMILY.rule(
    "chap-missing",
    Severity.WARN,
    "A session was made without CHAP",
    "Without CHAP the target believes whoever uses this host's name, and a name is no secret: anybody in the storage"
    " network can read and write this disk.",
    "set a CHAP name and secret at the target, then log in again with: mooring login TARGET --chap-user NAME",
)
def chap_missing(host: Host) -> Iterator[Answer]:
    """What the kernel shows, else the node record."""
    yield from _untold(host)
    for session in _cabled(host):
        if _method(host, session) == "None":
            yield Hit(session.name, "AuthMethod None", about=session.id)


@FAMILY.rule(
    "chap-one-way",
    Severity.NOTE,
    "CHAP proves this host to the target, but not the target to this host",
    "Somebody who answers at the target's address gets your writes, and can give you any data he likes. With mutual"
    " CHAP the target has to know a secret too.",
    "set a second, different secret at the target (mutual or bidirectional CHAP), then log in with --chap-target-user",
)
def chap_one_way(host: Host) -> Iterator[Answer]:
    """Sessions with CHAP and no name of the target."""
    yield from _untold(host)
    for session in _cabled(host):
        if _method(host, session) not in ("None", None) and "chap_user_in" not in session.details:
            yield Hit(session.name, f"CHAP as {session.chap_user or 'the record has it'}, no name of the target")


@FAMILY.rule(
    "chap-weak",
    Severity.NOTE,
    "CHAP may use MD5 or SHA-1 only",
    "Whoever records such a login can try millions of secrets a second on his own machine. SHA-256 and SHA3-256 (IANA's"
    " numbers 7 and 8; open-iscsi since 2.1) make it slower, and a long random secret makes it hopeless.",
    "iscsiadm -m node -T TARGET -o update -n node.session.auth.chap_algs -v SHA3-256,MD5,SHA256 (the target takes the"
    " first that it knows; leave MD5 out only where a login without it was seen to work); use a random secret of 16"
    " characters or more",
)
def chap_weak(host: Host) -> Iterator[Answer]:
    """The algorithms that the record offers; MD5 alone where it names none."""
    for session in _cabled(host):
        if session.source is not Source.KERNEL or _method(host, session) == "None":
            continue
        records = _records(host, session)
        if not records:
            why = host.facts.why("records") if records is None else "it has no record"
            yield Unsure(session.name, f"which algorithms it offered: {why}")
            continue
        offered = {name.strip() for name in records[0].settings.get(_ALGORITHMS, "MD5").split(",")}
        if offered <= _WEAK:
            yield Hit(session.name, f"{_ALGORITHMS} = {', '.join(sorted(offered))}", about=session.id)


@FAMILY.rule(
    "same-secret",
    Severity.BAD,
    "Both directions of CHAP have the same secret",
    "Then anybody can pose as the target: he sends your own question back to you and uses your answer (RFC 7143,"
    " 9.2.1). Good targets refuse such a login.",
    "give the target a secret of its own",
)
def same_secret(host: Host) -> Iterator[Answer]:
    """Compared where they are read; the secrets themselves go nowhere."""
    if host.facts.secrets is None:
        yield Unsure("secrets", host.facts.why("secrets" if host.facts.records else "records"))
        return
    for file in host.facts.secrets:
        for name in file.same_both_ways:
            yield Hit(file.path, f"{name} and {name}_in are equal")


@FAMILY.rule(
    "secrets-readable",
    Severity.BAD,
    "Others than root can read CHAP secrets",
    "A secret that every user of this host can read is none: with it he logs in from anywhere and reads the disk past"
    " all file permissions.",
    "chmod 600 FILE; then change the secret, here and at the target",
)
def secrets_readable(host: Host) -> Iterator[Answer]:
    """The permissions of each file that has a secret in it."""
    if host.facts.secrets is None:
        yield Unsure("secrets", host.facts.why("secrets" if host.facts.records else "records"))
        return
    for file in host.facts.secrets:
        if file.mode & 0o077:
            yield Hit(
                file.path,
                f"mode {file.mode:04o}",
                f"{command('chmod', '600', file.path)}; then change the secret, here and at the target",
            )


@FAMILY.rule(
    "discovery-open",
    Severity.NOTE,
    "Discovery asks for no proof",
    "A portal that tells everybody which targets it has shows an attacker where to try, and one that nobody has proved"
    " can send this host to a target of his.",
    "switch on CHAP for discovery at the target, then set discovery.sendtargets.auth.* in that record",
)
def discovery_open(host: Host) -> Iterator[Answer]:
    """Discovery records."""
    if host.facts.records is None:
        yield Unsure("discovery records", host.facts.why("records"))
        return
    for record in host.facts.records.discoveries:
        if record.kind == "send_targets":
            method = record.settings.get("discovery.sendtargets.auth.authmethod", "None")
            if method == "None":
                yield Hit(record.address, f"authmethod {method} in {record.path}")


@FAMILY.rule(
    "other-network",
    Severity.WARN,
    "A target can be reached through a link that is not for storage",
    "A target that also listens in the office network can be attacked from there, and a login can slip onto the wrong"
    " cable when the right one is down.",
    "take that portal out of the target's portal group, and its record away: iscsiadm -m node -T TARGET -p PORTAL -o"
    " delete",
)
def other_network(host: Host) -> Iterator[Answer]:
    """Portals in the records, against the links of sessions and default routes."""
    if host.facts.records is None or host.facts.ways is None or host.facts.default_links is None:
        source = "records" if host.facts.records is None else "ways"
        yield Unsure("portals", host.facts.why(source))
        return
    storage = {link.name for link in host.storage_links}
    for record in host.facts.records.nodes:
        link = host.facts.ways.get(record.portal.host)
        if link is not None and link in host.facts.default_links - storage:
            yield Hit(record.target, f"portal {record.portal} is reached through {link}, as the default route is")
