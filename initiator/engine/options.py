"""Options of a login, checked and put where they belong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from initiator.engine.attached import Route, WorkerConfig
from initiator.engine.device import DeviceOptions
from initiator.engine.selector import SELECTORS
from initiator.engine.session_config import OFFER, SessionConfig
from initiator.errors import BadInputError
from initiator.protocol.chap import DEFAULT_ORDER, Chap
from initiator.protocol.keys import CRC32C, NONE

_SESSION_TIMES = (
    "ping_interval",
    "suspect_after",
    "lost_after",
    "login_timeout",
    "task_timeout",
    "replacement_timeout",
    "backoff",
    "backoff_limit",
)
_DEVICE_TIMES = ("queue_timeout", "io_timeout", "flush_timeout")
_RETRY_REFUSED_S = 5.0
"""Seconds. A target that restarts refuses at first as one that never will (tgt: "not found"); a disk outlasts that."""
_DIGESTS = {
    "none": ((NONE,), (NONE,)),
    "header": ((CRC32C, NONE), (NONE,)),
    "required": ((CRC32C,), (CRC32C,)),
}
_NAMES = {*_SESSION_TIMES, *_DEVICE_TIMES, "digests", "chap_algorithms", "allow_short_secret", "selector"}


def check(options: Mapping[str, Any]) -> None:
    """Refuse what is no option.

    Options are `digests` (`none`, `header` or `required`), `chap_algorithms` (a list of numbers, best first),
    `selector` (a name of `SELECTORS`), `allow_short_secret`, and times in seconds as `SessionConfig` and
    `DeviceOptions` name them.

    Raises:
        BadInputError: a name or a value is wrong.
    """
    for name, value in options.items():
        if name not in _NAMES:
            raise BadInputError(f"there is no option {name!r}", fix=f"known are {', '.join(sorted(_NAMES))}")
        timed = name in _SESSION_TIMES or name in _DEVICE_TIMES
        if timed and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6):
            raise BadInputError(f"{name} has to be a number of seconds")
    if options.get("digests", "none") not in _DIGESTS:
        raise BadInputError(f"digests are one of {', '.join(sorted(_DIGESTS))}")
    if options.get("selector", "failover") not in SELECTORS:
        raise BadInputError(f"selectors are {', '.join(SELECTORS)}")
    algorithms = options.get("chap_algorithms", [])
    if not isinstance(algorithms, list | tuple) or not all(isinstance(each, int) for each in algorithms):
        raise BadInputError("chap_algorithms has to be a list of numbers")


CHAP_NAMES = ("chap_user", "chap_secret", "chap_target_user", "chap_target_secret")


def chap(given: Mapping[str, Any], *, allow_short: bool = False) -> Chap | None:
    """Names and secrets by the names of `CHAP_NAMES`; the last two ask the target to prove who it is, too.

    Raises:
        BadInputError: half of a pair is missing, or a name or secret cannot be used.
    """
    user, secret, target_user, target_secret = (given.get(name) for name in CHAP_NAMES)
    if user is None and secret is None and target_user is None and target_secret is None:
        return None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise BadInputError("CHAP needs a name and a secret", code="chap")
    if target_user is None and target_secret is None:
        return Chap(user, secret, allow_short=allow_short)
    if not isinstance(target_user, str) or not isinstance(target_secret, str):
        raise BadInputError("mutual CHAP needs the target's name and its secret", code="chap")
    return Chap(user, secret, target_user, target_secret, allow_short=allow_short)


def _short(options: Mapping[str, Any]) -> bool:
    return bool(options.get("allow_short_secret"))


def session_config(config: WorkerConfig, route: Route) -> SessionConfig:
    """What one session of a worker is told.

    Raises:
        BadInputError: the name or secret cannot be used for CHAP.
    """
    options = config.options
    offer = OFFER
    if "digests" in options:
        header, data = _DIGESTS[options["digests"]]
        offer = dataclasses.replace(offer, header_digest=header, data_digest=data)
    given: dict[str, Any] = {name: float(options[name]) for name in _SESSION_TIMES if name in options}
    return SessionConfig(
        target=config.target,
        portal=route.portal,
        initiator=config.initiator,
        isid=bytes.fromhex(route.isid),
        chap=chap({name: getattr(config, name) for name in CHAP_NAMES}, allow_short=_short(options)),
        chap_algorithms=tuple(options.get("chap_algorithms") or DEFAULT_ORDER),
        offer=offer,
        retry_refused=_RETRY_REFUSED_S,
        require_digests=options.get("digests") == "required",
        **given,
    )


def device_options(config: WorkerConfig) -> DeviceOptions:
    """What the multipath device of a worker is told."""
    given: dict[str, Any] = {name: float(config.options[name]) for name in _DEVICE_TIMES if name in config.options}
    if "selector" in config.options:
        given["selector"] = config.options["selector"]
    return dataclasses.replace(DeviceOptions(), **given)
