"""What several commands need: reading the host, credentials, printing."""

from __future__ import annotations

import argparse
import getpass
import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initiator.engine.client import EngineClient
from initiator.errors import BadInputError, NotPermittedError
from initiator.model import Portal, Snapshot
from initiator.names import clean
from tui.exits import Exit
from tui.export import dumps, human_size, table

if TYPE_CHECKING:
    from initiator.engine.session_config import SessionConfig


def snapshot() -> Snapshot:
    """One reading of this host and its engine."""
    from initiator import inventory

    return inventory.read(engine=EngineClient())


def emit(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(dumps(value), flush=True)


def preview(arguments: argparse.Namespace, lines: Sequence[str]) -> int:
    """What `--dry-run` prints: what would be done."""
    if arguments.json:
        emit({"schema": 1, "dry_run": True, "would": list(lines)})
    else:
        print("\n".join(f"would {clean(line, 400)}" for line in lines))
    return Exit.DONE


def print_targets(portal: Portal, found: Iterable[Mapping[str, Any]]) -> None:
    """What a discovery found, for a person."""
    rows = ((target["name"], ", ".join(target["portals"])) for target in found)
    print(table(f"Targets at {portal}", ("TARGET", "PORTALS"), rows))


def print_disks(found: Snapshot, target: str) -> None:
    """What a login brought, for a person."""
    rows = (
        (disk.name, disk.state, disk.lun, human_size(disk.size_bytes), disk.device, disk.wwid)
        for disk in found.disks
        if disk.target == target
    )
    print(table(f"Disks of {target}", ("NAME", "STATE", "LUN", "SIZE", "DEVICE", "WWID"), rows))


def need_root(what: str) -> None:
    """Stop unless the effective user is root.

    Raises:
        NotPermittedError: with what needed it.
    """
    if os.geteuid() != 0:
        raise NotPermittedError(f"{what} needs root", fix="run it with sudo", code="not-permitted")


def at_terminal() -> bool:
    """Whether there is a person to ask: a process may have been started without any input."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str) -> str:
    """What a person types, without the spaces around it; nothing where the input ends (Ctrl+D).

    The question goes to stderr, as all narration does: stdout may be a file that a program reads.
    """
    print(question, end="", file=sys.stderr, flush=True)
    typed = sys.stdin.readline()
    if not typed:
        print(file=sys.stderr, flush=True)
    return typed.strip()


_HASHES = {"md5": 5, "sha1": 6, "sha256": 7, "sha3-256": 8}
"""CHAP algorithms by their names; the numbers are IANA's."""


def credentials(arguments: argparse.Namespace) -> dict[str, Any]:
    """CHAP names, secrets and algorithms as the engine wants them; empty without `--chap-user`.

    Secrets come from files or are asked for; they are never arguments, because every user can read those.
    """
    chosen: dict[str, Any] = {}
    if arguments.initiator:
        from initiator.names import parse_name

        chosen["initiator"] = str(parse_name(arguments.initiator))
    secret = chap_secret(arguments.chap_user, arguments.chap_secret_file, "--chap")
    if secret is None and arguments.chap_target_user:
        raise BadInputError("--chap-target-user needs --chap-user", fix="mutual CHAP goes in both directions")
    theirs = chap_secret(arguments.chap_target_user, arguments.chap_target_secret_file, "--chap-target")
    if secret is not None and secret == theirs:
        raise BadInputError("both directions of mutual CHAP have the same secret", fix="give them different ones")
    if arguments.chap_algorithms:
        chosen["options"] = {"chap_algorithms": chap_algorithms(arguments.chap_algorithms)}
    if secret is not None:
        chosen.update(chap_user=arguments.chap_user, chap_secret=secret)
    if theirs is not None:
        chosen.update(chap_target_user=arguments.chap_target_user, chap_target_secret=theirs)
    return chosen


def chap_algorithms(text: str) -> list[int]:
    """The numbers of algorithms that are named, in their order.

    Raises:
        BadInputError: an unknown name, a repetition, or no md5, which every target must know (RFC 7143, 12.1.3).
    """
    from initiator.protocol.chap import check_order

    try:
        numbers = [_HASHES[name.strip().lower()] for name in text.split(",")]
        check_order(numbers)
    except (KeyError, BadInputError):
        raise BadInputError(
            f"--chap-algorithms {clean(text)} is no list of hashes with md5 in it",
            fix=f"name some of {', '.join(_HASHES)}, each once",
        ) from None
    return numbers


def login_config(arguments: argparse.Namespace, target: str) -> SessionConfig:
    """What a session of this process is told: `--portal`, CHAP, `--initiator`."""
    from initiator import places
    from initiator.engine import options
    from initiator.engine.session_config import SessionConfig
    from initiator.engine.whoami import initiator_name
    from initiator.names import parse_name, parse_portal
    from initiator.protocol.chap import DEFAULT_ORDER

    chosen = credentials(arguments)
    return SessionConfig(
        target=str(parse_name(target)),
        portal=parse_portal(arguments.portal),
        initiator=chosen.get("initiator") or initiator_name(places.state_dir()),
        chap=options.chap(chosen),
        chap_algorithms=tuple(chosen.get("options", {}).get("chap_algorithms", DEFAULT_ORDER)),
    )


def chap_secret(user: str | None, file: str | None, option: str) -> str | None:
    """The secret of a CHAP user, from a file or by asking; None without a user.

    Args:
        option: How the two options begin that give user and file.
    """
    if file and not user:
        raise BadInputError(f"{option}-secret-file needs {option}-user", fix="name the CHAP user")
    if not user:
        return None
    if file:
        return secret_from(Path(file))
    fix = f"use {option}-secret-file FILE"
    if not at_terminal():
        raise BadInputError("there is no terminal to ask for the CHAP secret", fix=fix)
    try:
        return getpass.getpass(f"CHAP secret of {clean(user)}: ")
    except EOFError as error:
        raise BadInputError("no CHAP secret was typed", fix=fix) from error


def secret_from(path: Path) -> str:
    """The first line of a private file.

    Raises:
        BadInputError: it cannot be read, is empty, or others can read it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise BadInputError(
                    f"{path} can be read by others (mode {stat.S_IMODE(mode):04o})", fix=f"chmod 600 {path}"
                )
            secret = file.readline().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadInputError(f"cannot read the CHAP secret from {path}: {reason}") from error
    if not secret:
        raise BadInputError(f"the first line of {path} is empty", fix="put the CHAP secret on it")
    return secret
